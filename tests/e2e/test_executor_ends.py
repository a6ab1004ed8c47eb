"""How an executor ends. It finishes its work, unless told not to; nothing is left, which conftest sees to."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError, process
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

FORK = multiprocessing.get_context("fork")

Make = Callable[..., Any]


def test_shutdown_waits_for_open_work(both_executors: Make) -> None:
    ex = both_executors(2)
    fs = [ex.submit(tasks.nap, 0.01) for _ in range(20)]
    ex.shutdown()
    assert all(f.done() for f in fs)
    assert [f.result(0) for f in fs] == [0.01] * 20


def test_with_waits_for_open_work(both_executors: Make) -> None:
    with both_executors(2) as ex:
        fs = [ex.submit(tasks.nap, 0.01) for _ in range(20)]
    assert all(f.done() for f in fs)


def test_shutdown_without_waiting(both_executors: Make, flag: Any) -> None:
    ex = both_executors(1)
    f = ex.submit(tasks.hold, flag("started"), flag("release"), 5)
    assert tasks.wait_for(flag("started"))
    ex.shutdown(wait=False)
    assert not f.done()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        ex.submit(tasks.double, 1)
    tasks.touch(flag("release"))
    assert f.result(10) == 5


def test_cancel_futures(both_executors: Make, flag: Any) -> None:
    ex = both_executors(2)
    release = flag("release")
    fs = [ex.submit(tasks.hold, flag("started"), release, i) for i in range(20)]
    assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    ex.shutdown(wait=False, cancel_futures=True)
    # The stdlib cannot take back what it has put into its call queue.
    assert tasks.until(lambda: sum(f.cancelled() for f in fs) >= 15)
    tasks.touch(release)
    ex.shutdown(wait=True)
    cancelled = [f for f in fs if f.cancelled()]
    for f in fs:
        if f in cancelled:
            with pytest.raises(CancelledError):
                f.result(0)
        else:
            assert f.result(10) == fs.index(f)


def test_cancel_futures_takes_back_all_that_have_not_started(executor: zexec.Executor, flag: Any) -> None:
    release = flag("release")
    fs = [executor.submit(tasks.hold, flag("started"), release, i) for i in range(20)]
    assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    executor.shutdown(wait=False, cancel_futures=True)
    assert tasks.until(lambda: sum(f.cancelled() for f in fs) == 18)
    tasks.touch(release)


def test_shutdown_may_be_repeated(both_executors: Make) -> None:
    ex = both_executors(1)
    ex.submit(tasks.double, 1)
    for wait in (False, True, True, False):
        ex.shutdown(wait=wait)


def test_shutdown_of_one_that_was_never_used(both_executors: Make) -> None:
    ex = both_executors(1)
    ex.shutdown()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        ex.submit(tasks.double, 1)


def test_a_dropped_executor_finishes_its_work(both_executors: Make, flag: Any) -> None:
    cls = type(both_executors(1))
    ex = cls(2, mp_context=FORK)
    fs = [ex.submit(tasks.hold, flag("started"), flag("release"), i) for i in range(6)]
    del ex
    gc.collect()
    tasks.touch(flag("release"))
    assert [f.result(10) for f in fs] == list(range(6))


def test_a_dropped_map_iterator_of_a_dropped_executor(flag: Any) -> None:
    it = zexec.Executor(2, mp_context=FORK).map(tasks.double, range(10))
    gc.collect()
    assert list(it) == list(range(0, 20, 2))


@pytest.mark.parametrize(("end", "sign"), [("terminate_workers", signal.SIGTERM), ("kill_workers", signal.SIGKILL)])
def test_forced_ends(ctx: Any, flag: Any, end: str, sign: int) -> None:
    """On every Python, as the stdlib's from 3.14 on."""
    ex = zexec.Executor(2, mp_context=ctx)
    fs = [ex.submit(tasks.hold, flag("started"), flag("never")) for _ in range(5)]
    assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    assert ex._processes is not None
    workers = list(ex._processes.values())
    getattr(ex, end)()
    for f in fs:
        with pytest.raises(process.BrokenProcessPool):
            f.result(10)
    assert [w.exitcode for w in workers] == [-sign] * len(workers)
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        ex.submit(tasks.double, 1)
    getattr(ex, end)()


@pytest.mark.parametrize("end", ["terminate_workers", "kill_workers"])
def test_forced_end_of_one_that_was_never_used(end: str) -> None:
    ex = zexec.Executor(2, mp_context=FORK)
    getattr(ex, end)()
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        ex.submit(tasks.double, 1)


def test_max_tasks_per_child(flag: Any) -> None:
    with zexec.Executor(1, max_tasks_per_child=2) as ex:  # spawn, then, as in the stdlib
        pids = [ex.submit(tasks.pid).result(30) for _ in range(6)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2, 2, 2]


def test_max_tasks_per_child_with_work_queued() -> None:
    ctx = multiprocessing.get_context("forkserver")
    with zexec.Executor(2, mp_context=ctx, max_tasks_per_child=1) as ex:
        pids = [f.result(30) for f in [ex.submit(tasks.pid) for _ in range(5)]]
    assert len(set(pids)) == 5
