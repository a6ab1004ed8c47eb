"""What real programs and libraries look at behind a Pool's interface."""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
from typing import Any

import pytest

import zexec
from tests.e2e.conftest import MakePool
from tests.helpers import tasks

FORK = multiprocessing.get_context("fork")


def test_isinstance(pool: zexec.Pool) -> None:
    assert isinstance(pool, multiprocessing.pool.Pool)
    assert not isinstance(pool, multiprocessing.pool.ThreadPool)


def test_sizes(both: MakePool) -> None:
    p = both(3)
    assert p._processes == 3
    assert len(p._pool) == 3
    assert [type(w) for w in p._pool] == [FORK.Process] * 3
    assert all(w.is_alive() and w.exitcode is None for w in p._pool)
    pids = {w.pid for w in p._pool}
    assert {r.get(10) for r in [p.apply_async(tasks.pid) for _ in range(60)]} <= pids
    assert p._ctx.get_start_method() == "fork"
    assert p._maxtasksperchild is None


def test_default_size(both: MakePool) -> None:
    p = both()
    assert p._processes == (getattr(os, "process_cpu_count", None) or os.cpu_count)()


def test_identity_name_and_daemon_of_engines(ctx: Any, flag: Any) -> None:
    with ctx.Pool(2) as theirs, zexec.Pool(2, context=ctx) as mine:
        expected = sorted(theirs.starmap(tasks.meet, [(flag("theirs"), 2)] * 2, 1))
        got = sorted(mine.starmap(tasks.meet, [(flag("mine"), 2)] * 2, 1))
    theirs.join()
    assert len(got) == 2
    (start,) = {name.rpartition("-")[0] for _, name, _ in got}
    assert {name.rpartition("-")[0] for _, name, _ in expected} == {start}
    assert [str(identity[-1]) == name.rpartition("-")[2] for identity, name, _ in got] == [True, True]
    # The identities go on where the stdlib's left off.
    assert [i[0][0] for i in got] == [expected[-1][0][0] + n for n in (1, 2)]
    # Not daemons: they may have children.
    assert [daemon for _, _, daemon in got] == [False, False]


def test_the_parent_is_this_process(ctx: Any) -> None:
    with zexec.Pool(1, context=ctx) as pool:
        assert pool.apply(tasks.parent_pid) == os.getpid()
        assert pool._pool[0].pid == pool.apply(tasks.pid)


def test_tasks_run_in_the_main_thread(both: MakePool) -> None:
    assert both(1).apply(tasks.in_main_thread)


def test_engines_of_the_pool_are_active_children(both: MakePool) -> None:
    p = both(2)
    assert {w.pid for w in multiprocessing.active_children()} >= {w.pid for w in p._pool}


class CustomPool(zexec.Pool):
    """As joblib and others do it: more arguments, hooks around the calls."""

    def __init__(self, processes: int | None = None, mark: str = "", **kwargs: Any) -> None:
        self.mark = mark
        super().__init__(processes, **kwargs)

    def apply_async(
        self, func: Any, args: Any = (), kwds: Any = None, callback: Any = None, error_callback: Any = None
    ) -> Any:
        return super().apply_async(_marked, (self.mark, func, args), kwds, callback, error_callback)


def _marked(mark: str, func: Any, args: Any) -> Any:
    return mark, func(*args)


def test_subclass() -> None:
    with CustomPool(2, mark="!", context=FORK) as pool:
        assert pool.apply_async(tasks.double, (2,)).get(10) == ("!", 4)
        assert pool.apply(tasks.double, (2,)) == ("!", 4)
        assert pool.map(tasks.double, [1]) == [2]
    pool.join()


def test_replaced_engines_show_up_in_pool(pool: zexec.Pool) -> None:
    before = {w.pid for w in pool._pool}
    os.kill(pool._pool[0].pid, 9)
    assert tasks.until(lambda: len(pool._pool) == 2 and {w.pid for w in pool._pool} != before)
    pool._repopulate_pool()
    assert pool.map(tasks.double, [1, 2]) == [2, 4]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_maxtasksperchild(both: MakePool, chunksize: int) -> None:
    """Counts chunks, as the stdlib does."""
    p = both(1, maxtasksperchild=2)
    pids = p.map(tasks.pid, range(12), chunksize)
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [2 * chunksize] * (6 // chunksize)


def test_maxtasksperchild_one(ctx: Any) -> None:
    with zexec.Pool(2, maxtasksperchild=1, context=ctx) as pool:
        pids = [r.get(30) for r in [pool.apply_async(tasks.pid) for _ in range(6)]]
        assert len(set(pids)) == 6
        pool.close()
        pool.join()


def test_maxtasksperchild_runs_the_initializer_in_each(both: MakePool) -> None:
    p = both(1, tasks.remember, ("set",), maxtasksperchild=1)
    assert p.map(tasks.recall, range(3), 1) == ["set"] * 3


def test_inherits_what_the_parent_has_at_the_start(both: MakePool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "state", "inherited")
    monkeypatch.setenv("ZEXEC_TEST", "environment")
    p = both(1)
    assert p.apply(tasks.recall) == "inherited"
    assert p.apply(os.getenv, ("ZEXEC_TEST",)) == "environment"
    assert p.apply(os.getcwd) == os.getcwd()
