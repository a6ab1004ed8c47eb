"""Memory: engines that leak are replaced between tasks; one that the system kills says how much it had, and why it was killed."""

from __future__ import annotations

import os
import resource
from collections import Counter
from typing import Any

import pytest

import zexec
from tests.helpers import saboteurs, tasks
from tests.helpers.hosts import Flag, Host
from zexec.engine import memory as engine_memory
from zexec.launch import memory

MIB = 1 << 20


def test_an_engine_that_leaks_is_replaced_between_tasks(host: Host) -> None:
    """No task fails, and none starts in a process that is over the limit."""
    limit = engine_memory.used() + 200 * MIB
    pool = host.pool(max_memory=limit)
    got = pool.map(saboteurs.leak, [100 * MIB] * 12, 1)
    assert max(before for _, before in got) <= 4, "an engine went on although it had more than it may"
    assert len({pid for pid, _ in got}) >= 3
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))


def test_five_hundred_megabytes_per_call(fork: Host) -> None:
    executor = fork.executor(max_memory=engine_memory.used() + 100 * MIB)
    got = [executor.submit(saboteurs.leak, 500 * MIB).result(30) for _ in range(4)]
    assert len({pid for pid, _ in got}) == 4
    assert {before for _, before in got} == {0}


def test_what_it_held_and_had_not_started_runs_once_elsewhere(fork: Host, flag: Flag) -> None:
    """Short tasks come in bulks: most of one are still waiting in the engine when its memory is full."""
    pool = fork.pool(max_memory=engine_memory.used() + 64 * MIB)
    log = flag("log")
    pool.map(tasks.double, range(2000), 1)
    results = [pool.apply_async(saboteurs.leak, (4 * MIB, log)) for _ in range(200)]
    pids = Counter(r.get(30)[0] for r in results)
    assert Counter(map(int, tasks.lines(log))) == pids
    assert len(pids) >= 5


def test_a_limit_that_no_engine_can_keep(host: Host) -> None:
    """Nothing could ever run: every call says so, rather than engine after engine being started."""
    pool = host.pool(max_memory=MIB)
    with pytest.raises(zexec.InitializerError, match="max_memory is 1048576 bytes, but an engine has"):
        pool.apply(tasks.double, (1,))


@pytest.mark.parametrize(("value", "error"), [("1GB", TypeError), (1.5, TypeError), (True, TypeError), (0, ValueError)])
@pytest.mark.parametrize("cls", [zexec.Pool, zexec.Executor])
def test_impossible_limits(cls: Any, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_memory must be"):
        cls(2, max_memory=value)


def test_a_death_names_the_peak(anywhere: Host) -> None:
    """As the system counts it: what the process had at most, long before it died perhaps."""
    pool = anywhere.pool(1)
    assert pool.apply(saboteurs.need_for_a_moment, (300 * MIB,)) == 300 * MIB
    with pytest.raises(zexec.EngineDied) as caught:
        pool.apply(saboteurs.kill)
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    assert "memory was at its limit" in str(caught.value) or "somebody killed it" in str(caught.value)
    if anywhere.method != "fork" and ours > 300 * MIB:
        # The system does not tell the peak of an executed process from its parent's, if that was higher. (Nor a cluster's from
        # that of whoever started its hub.)
        assert caught.value.peak_memory is None
    else:
        assert caught.value.peak_memory is not None
        assert caught.value.peak_memory >= 300 * MIB
        assert f"with {caught.value.peak_memory / MIB:.0f} MiB of memory at its peak" in str(caught.value)


def test_no_memory_for_an_allocation(shared: Host) -> None:
    """Where the system says no instead of killing: an exception like any other."""
    pool = shared.pool()
    pids = {process.pid for process in pool._pool}
    with pytest.raises(MemoryError):
        pool.apply(bytes, (1 << 60,))
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))
    assert {process.pid for process in pool._pool} == pids


class System:
    """A system that says what it is told to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, kills: int | None, limit: int | None) -> None:
        monkeypatch.setattr(memory, "kills", lambda: kills)
        monkeypatch.setattr(memory, "limit", lambda: limit)


@pytest.mark.parametrize(
    ("before", "now", "peak", "limit", "says"),
    [
        (3, 4, None, None, "memory was at its limit: the system's memory killer has struck"),
        (3, 3, 90 * MIB, 100 * MIB, "memory was at its limit of 100 MiB"),
        (None, 3, 90 << 30, 100 << 30, "memory was at its limit of 100.0 GiB"),
        (3, 3, 10 * MIB, 100 * MIB, "somebody killed it"),
        (3, None, None, None, "somebody killed it"),
    ],
)
def test_the_likely_cause_of_a_kill(
    monkeypatch: pytest.MonkeyPatch, before: int | None, now: int | None, peak: int | None, limit: int | None, says: str
) -> None:
    System(monkeypatch, now, limit)
    assert memory.cause(peak, before).startswith(says)


def test_the_likely_cause_stands_in_the_exception(fork: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system whose killer strikes between the engine's start and its death."""
    kills = iter(range(100))
    monkeypatch.setattr(memory, "kills", lambda: next(kills))
    pool = fork.pool()
    with pytest.raises(zexec.EngineDied, match=r"killed by signal SIGKILL .memory was at its limit"):
        pool.apply(saboteurs.kill)


def test_what_the_system_says_here() -> None:
    """On this machine, whatever it is: numbers that can be."""
    limit, kills = memory.limit(), memory.kills()
    assert limit is None or engine_memory.used() < limit <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert kills is None or kills >= 0
