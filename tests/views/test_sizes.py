"""Many engines, many items, long chains: right, whatever it takes."""

from __future__ import annotations

import os
from itertools import pairwise

import zexec
from tests.helpers import tasks


def test_a_view_of_64_engines() -> None:
    with zexec.Pool(64) as pool:
        view = pool.client[:]
        assert len(view) == 64
        assert len(set(view.apply_sync(os.getpid))) == 64
        view.scatter("part", range(6400), block=True)
        assert view.apply_sync(lambda: (len(part), part[0])) == [(100, 100 * i) for i in range(64)]  # type: ignore[name-defined]  # noqa: F821
        assert view.gather("part", block=True) == list(range(6400))
        view["block"] = bytes(1_000_000)
        assert view.pull("len(block)", block=True) == [1_000_000] * 64
        assert view.map_sync(tasks.double, range(1000)) == list(range(0, 2000, 2))
        failed = view.apply_async(lambda i: 1 // (i % 8), zexec.Reference("part[0] // 100"))
        values = failed.get(return_exceptions=True)
        assert [i for i, value in enumerate(values) if isinstance(value, zexec.RemoteError)] == list(range(0, 64, 8))
        assert sorted(failed.exception().errors, key=lambda e: e.engine_id)[-1].engine_id == 56
        assert sum(view["part"][0]) == sum(range(100))
        assert pool.client[40:].map_sync(tasks.double, range(100)) == list(range(0, 200, 2))
    pool.join()


def test_a_chain_of_many(client: zexec.Client) -> None:
    balanced = client.load_balanced_view()
    result = balanced.apply_async(tasks.double, 0)
    results = []
    for i in range(2_000):
        balanced.after = result
        result = balanced.apply_async(tasks.double, i)
        results.append(result)
    assert [r.get() for r in results] == [2 * i for i in range(2_000)]
    ends = [(r.started, r.completed) for r in results]
    assert all(before[1] <= after[0] for before, after in pairwise(ends))


def test_fan_in_of_many(client: zexec.Client) -> None:
    balanced = client.load_balanced_view()
    parents = [balanced.map_async(tasks.double, range(2_000), chunksize=1), client[:].apply_async(os.getpid)]
    with balanced.temp_flags(after=parents):
        child = balanced.apply_async(tasks.double, 21)
    assert child.get() == 42
    assert all(parent.done() for parent in parents)
