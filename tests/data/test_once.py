"""What a map's function holds is pickled once per map and sent once to each engine; and still each task has its own."""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zexec
from tests.helpers import data
from tests.helpers.scripts import Scripts

N = 200_000


@pytest.fixture
def big() -> data.Counted:
    """Counts how often it is pickled, here, and unpickled, there."""
    return data.Counted(np.zeros(N))


FUNCTIONS: dict[str, Callable[[data.Counted], Callable[[int], Any]]] = {
    "a bound method": lambda big: big.add,
    "a partial": lambda big: functools.partial(data.add, big),
    "a partial of a method": lambda big: functools.partial(big.add_two, 0),
    "an object": lambda big: big,
    "a lambda": lambda big: lambda i: big.add(i),
    "a partial of a lambda": lambda big: functools.partial(lambda b, i: b.add(i), big),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_pickled_once(pool: zexec.Pool, big: data.Counted, name: str) -> None:
    f = FUNCTIONS[name](big)
    assert [i for i, *_ in pool.map(f, range(100), 1)] == list(range(100))
    assert big.pickled == 1
    assert [i for i, *_ in pool.imap(f, range(100))] == list(range(100))
    assert big.pickled == 2
    pool.apply(f, (1,))
    assert big.pickled == 3


@pytest.mark.parametrize("name", FUNCTIONS)
def test_each_task_has_its_own(pool: zexec.Pool, big: data.Counted, name: str) -> None:
    """Each adds 1 to what it has: it finds what nobody else added to. Items of a chunk share theirs, as in the stdlib."""
    f = FUNCTIONS[name](big)
    with multiprocessing.get_context("fork").Pool(2) as oracle:
        for chunksize in (1, 5):
            expected = pool.map(f, range(20), chunksize)
            found = [total for _, total, _ in expected]
            assert found == [1 + i % chunksize for i in range(20)]
            if "lambda" not in name:
                assert found == [total for _, total, _ in oracle.map(f, range(20), chunksize)]
    assert not big.array.any()


def test_shared_on_request(pool: zexec.Pool, big: data.Counted) -> None:
    """Each engine loads it once; what tasks change stays."""
    found = pool.options(shared=True).map(big.add, range(40), 1)
    by_engine: dict[int, list[float]] = {}
    for _, total, pid in found:
        by_engine.setdefault(pid, []).append(total)
    for totals in by_engine.values():
        assert sorted(totals) == list(range(1, len(totals) + 1))
    assert big.pickled == 1
    # And without asking, the same function is not that one.
    assert {total for _, total, _ in pool.map(big.add, range(10), 1)} == {1}


def test_shared_must_be_a_truth_value(pool: zexec.Pool) -> None:
    with pytest.raises(TypeError, match="shared"):
        pool.options(shared=1)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["thread"])
def test_sent_once_to_each_engine(shared: zexec.Pool, big: data.Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    from zexec.hub import hub

    sent: list[tuple[int, int]] = []
    channel = shared._client._link.hub.channel  # type: ignore[attr-defined]
    send = channel.send

    def note(letter: bytes, serial: int, message: Any) -> bool:
        sent.extend((serial, len(payload)) for _, payload, _ in getattr(message, "functions", ()) if len(payload) > N)
        return bool(send(letter, serial, message))

    monkeypatch.setattr(channel, "send", note)
    shared.map(big.add, range(200), 1)
    assert len(sent) == len({serial for serial, _ in sent}) <= 2
    # More than it is trusted to remember: it is told to forget, and gets what it needs again.
    monkeypatch.setattr(hub, "REMEMBER_BYTES", 10 * N)
    others = [data.Counted(np.zeros(N)) for _ in range(5)]
    for _ in range(3):
        for other in others:
            assert [total for _, total, _ in shared.map(other.add, range(4), 1)] == [1] * 4
    known = shared._client._link.hub._functions.values()  # type: ignore[attr-defined]
    assert all(each.size <= 10 * N + 8 * N for each in known)


def test_in_a_script(scripts: Scripts) -> None:
    """Classes of __main__ are pickled once as well, as soon as it is known that there are any."""
    out = scripts.good(
        """
        import functools
        import numpy as np
        import zexec

        class Big:
            pickled = 0
            def __init__(self):
                self.array = np.zeros(200_000)
            def __getstate__(self):
                Big.pickled += 1
                return {"array": self.array}
            def add(self, i):
                return i + self.array.sum()

        if __name__ == "__main__":
            big = Big()
            with zexec.Pool(2) as pool:
                for f in (big.add, functools.partial(Big.add, big), lambda i: big.add(i)):
                    Big.pickled = 0
                    assert pool.map(f, range(10), 1) == list(range(10))
                    print(Big.pickled)
        """
    )
    assert out.split() == ["1", "1", "1"]
