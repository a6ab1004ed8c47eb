"""Much data. By default a tenth of what ZEXEC_BIG=1 asks for: 3 GB at once, 10,000 arrays of 1 MB."""

from __future__ import annotations

import gc
import os

import numpy as np
import psutil
import pytest

import zexec
from tests.helpers import data, tasks
from zexec.wire.arena import doors

FULL = os.environ.get("ZEXEC_BIG") == "1"
ONE = 3 << 30 if FULL else 300 << 20
MANY = 10_000 if FULL else 1_000
MB = 1 << 20


def resident() -> int:
    return int(psutil.Process().memory_info().rss)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_large_array(pool: zexec.Pool) -> None:
    """There and back; the hub, which is in this process, has no copy of it afterwards."""
    one = pool.options(targets=0)
    a = np.zeros(ONE // 8)
    a[0], a[-1] = 1, 2
    assert one.apply(data.ends, (a,)) == (1, 2, ONE)
    del a
    before = resident()
    back = one.apply(data.ramp, (ONE // 8,))
    assert (back[0], back[-1], back.nbytes) == (0, ONE // 8 - 1, ONE)
    assert resident() - before < ONE * 1.1
    del back
    gc.collect()
    assert tasks.until(lambda: resident() - before < ONE * 0.1)
    arena = doors.arena()
    if arena is not None:
        assert tasks.until(lambda: arena.free == arena.taken)
        arena.trim(0)
        assert arena.taken == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [MB, MB - 4096])
def test_many_arrays(pool: zexec.Pool, size: int) -> None:
    """Drawn as they are needed, taken as they come: neither arena nor process grows with their number."""
    # A cluster's engines have been others' before.
    data.forget_peak()
    for id in range(2):
        pool.options(targets=id).apply(data.forget_peak)
    before = resident()
    total = 0.0
    for back in pool.imap(data.doubled, (np.full(size // 8, float(i)) for i in range(MANY)), 1):
        total += back[0]
    assert total == MANY * (MANY - 1)
    arena = doors.arena()
    grown = resident() - before - (0 if arena is None else arena.peak)
    assert grown < 300 * MB
    if arena is not None:
        assert arena.peak < 300 * MB
        assert pool.options(targets=0).apply(data.arena_peak) < 300 * MB


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_more_than_its_bound(nothing_left: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit travels in frames; all of it arrives."""
    monkeypatch.setenv("ZEXEC_SHM_BYTES", str(20 * MB))
    with zexec.Pool(2) as pool:
        arrays = [np.full(MB // 8, float(i)) for i in range(100)]
        kept = pool.map(data.doubled, arrays, 1)
        assert [back[0] for back in kept] == [2 * i for i in range(100)]
        arena = doors.arena()
        assert arena is not None
        assert 0 < arena.peak <= 20 * MB
        assert max(pool.map(data.peak_of, range(20), 1)) <= 20 * MB
    pool.join()
