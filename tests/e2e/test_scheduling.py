"""Who runs what when, seen from outside: nothing waits behind a long task while another engine idles."""

from __future__ import annotations

import heapq
import multiprocessing
from concurrent.futures import CancelledError
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

FORK = multiprocessing.get_context("fork")

#: a mix of short and long, in tenths of a second
DURATIONS = [1, 2, 1, 10, 3, 1, 4, 10, 1, 3, 2, 10]
#: what greedy list scheduling gives may be exceeded by so much
TOLERANCE = 0.1


def greedy(durations: list[float], engines: int) -> float:
    """When the last of them ends if each is started, in order, by whoever is free first."""
    free = [0.0] * engines
    for d in durations:
        heapq.heapreplace(free, free[0] + d)
    return max(free)


def span(runs: list[tuple[float, float, int]]) -> float:
    """From the first start to the last end: how busy the machine was before does not count."""
    return max(end for _, end, _ in runs) - min(start for start, _, _ in runs)


@pytest.mark.parametrize("known", [False, True])
def test_durations_as_submits(known: bool) -> None:
    durations = [d / 10 for d in DURATIONS]
    with zexec.Executor(4, mp_context=FORK) as ex:
        ex.submit(tasks.timed_nap, 0.001 if known else 0.2).result(20)  # makes them look short, or long
        runs = [f.result(20) for f in [ex.submit(tasks.timed_nap, d) for d in durations]]
    assert span(runs) <= greedy(durations, 4) * (1 + TOLERANCE)


@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered", "executor"])
def test_durations_as_a_map(call: str) -> None:
    durations = [d / 10 for d in DURATIONS]
    if call == "executor":
        with zexec.Executor(4, mp_context=FORK) as ex:
            runs = list(ex.map(tasks.timed_nap, durations))
    else:
        with zexec.Pool(4, context=FORK) as pool:
            runs = list(getattr(pool, call)(tasks.timed_nap, durations, 1))
    assert span(runs) <= greedy(durations, 4) * (1 + TOLERANCE)


def test_short_tasks_are_taken_back_from_behind_a_long_one(flag: Any) -> None:
    """Tasks that look short are held in numbers; when one turns out long, those behind it go elsewhere."""
    with zexec.Pool(2, context=FORK) as pool:
        pool.map(tasks.echo, [(None, 0)] * 2000, 1)
        pool.map(tasks.hold_or_return, [(None, 0)] * 2000, 1)
        rs = [pool.apply_async(tasks.hold_or_return, ((flag("release") if i == 10 else None, i),)) for i in range(400)]
        for i, r in enumerate(rs):
            if i != 10:
                assert r.get(20) == i
        assert not rs[10].ready()
        tasks.touch(flag("release"))
        assert rs[10].get(20) == 10


def test_both_engines_get_some(pool: zexec.Pool, flag: Any) -> None:
    assert len(set(pool.starmap(tasks.meet, [(flag("here"), 2)] * 2, 1))) == 2


def test_order_of_arrival_on_one_engine(flag: Any) -> None:
    with zexec.Pool(1, context=FORK) as pool:
        rs = [pool.apply_async(tasks.append, (flag("log"), str(i))) for i in range(300)]
        for r in rs:
            r.get(20)
    assert tasks.lines(flag("log")) == [str(i) for i in range(300)]


def test_all_that_have_not_started_can_be_cancelled(executor: zexec.Executor, flag: Any) -> None:
    """20 futures on 2 busy engines."""
    fs = [executor.submit(tasks.hold, flag("started"), flag("release"), i) for i in range(22)]
    assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    assert [f.cancel() for f in reversed(fs)] == [True] * 20 + [False] * 2
    assert [f.running() for f in fs[:2]] == [True, True]
    tasks.touch(flag("release"))
    assert [f.result(20) for f in fs[:2]] == [0, 1]
    for f in fs[2:]:
        with pytest.raises(CancelledError):
            f.result(0)
    assert len(tasks.lines(flag("started"))) == 2


def test_short_ones_that_were_sent_ahead_can_be_cancelled(flag: Any) -> None:
    with zexec.Executor(1, mp_context=FORK) as ex:
        list(ex.map(tasks.hold_or_return, [(None, 0)] * 3000))  # now an engine is given many at once
        fs = [ex.submit(tasks.hold_or_return, (flag("release"), i)) for i in range(50)]
        assert tasks.until(fs[0].running)
        assert all(f.cancel() for f in fs[1:])
        assert not fs[0].cancel()
        tasks.touch(flag("release"))
        assert fs[0].result(20) == 0


def test_cancelled_tasks_leave_room(executor: zexec.Executor, flag: Any) -> None:
    held = [executor.submit(tasks.hold, flag("started"), flag("release")) for _ in range(2)]
    for _ in range(3):
        fs = [executor.submit(tasks.double, i) for i in range(50)]
        assert all(f.cancel() for f in fs)
    after = executor.submit(tasks.double, 5)
    tasks.touch(flag("release"))
    assert after.result(20) == 10
    assert [h.result(20) for h in held] == [None, None]


def test_cancel_of_one_that_runs(pool: zexec.Pool, flag: Any) -> None:
    r = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 1))
    assert tasks.wait_for(flag("started"))
    assert r.cancel() is False
    tasks.touch(flag("release"))
    assert r.get(20) == 1
    assert r.cancel() is False


def test_cancel_by_force(pool: zexec.Pool) -> None:
    pids = {w.pid for w in pool._pool}
    r = pool.apply_async(tasks.nap, (60,))
    assert tasks.until(r.running)
    assert r.cancel(running=True)
    assert r.cancelled()
    assert {w.pid for w in pool._pool} == pids
    assert pool.map(tasks.double, [1, 2]) == [2, 4]


def test_cancel_by_force_of_one_that_does_not_react(pool: zexec.Pool) -> None:
    r = pool.apply_async(tasks.deaf)
    assert tasks.until(r.running)
    assert r.cancel(running=True)
    assert pool.map(tasks.double, [1, 2]) == [2, 4]


def test_cancel_by_force_while_arguments_are_unpickled(pool: zexec.Pool, flag: Any) -> None:
    """The interrupt is not lost: it comes when the call has begun, and no engine has to be replaced."""
    from threading import Thread

    pids = {w.pid for w in pool._pool}
    r = pool.apply_async(tasks.nap_long, (tasks.SlowToArrive(flag("started"), flag("release")),))
    assert tasks.until(lambda: tasks.lines(flag("started")))
    thread = Thread(target=r.cancel, kwargs={"running": True})
    thread.start()
    scheduler = pool._client._link.hub.scheduler
    assert tasks.until(lambda: "was told to stop" in scheduler.explain(r._task_id))
    tasks.touch(flag("release"))
    thread.join(20)
    assert r.cancelled()
    assert {w.pid for w in pool._pool} == pids


def test_cancel_while_a_callback_runs_does_not_wait(pool: zexec.Pool) -> None:
    import threading
    from time import monotonic

    gate, entered = threading.Event(), threading.Event()

    def callback(value: Any) -> None:
        entered.set()
        gate.wait(tasks.PATIENCE)

    r = pool.apply_async(tasks.double, (1,), callback=callback)
    assert entered.wait(20)
    then = monotonic()
    assert r.cancel() is False
    assert monotonic() - then < 0.5
    gate.set()
    assert r.get(20) == 2


def test_cancel_races_with_completion(pool: zexec.Pool) -> None:
    """Whatever ``cancel`` says is what happened."""
    for _ in range(300):
        r = pool.apply_async(tasks.double, (1,))
        if r.cancel():
            with pytest.raises(CancelledError):
                r.get(0)
        else:
            assert r.get(20) == 2
