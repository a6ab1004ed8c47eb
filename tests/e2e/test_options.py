"""options(): time-outs, retries, priorities, targets, on both interfaces."""

from __future__ import annotations

import multiprocessing
import os
import time
from typing import Any

import pytest

import zexec
from tests.helpers import saboteurs, tasks

FORK = multiprocessing.get_context("fork")


# -- time-outs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caught", [multiprocessing.TimeoutError, TimeoutError, zexec.TimeoutError])
def test_timeout(pool: zexec.Pool, executor: zexec.Executor, caught: Any) -> None:
    r = pool.options(timeout=0.05).apply_async(tasks.nap, (60,))
    f = executor.options(timeout=0.05).submit(tasks.nap, 60)
    with pytest.raises(caught, match=r"nap ran longer than its time-out of 0\.05 s"):
        r.get(20)
    with pytest.raises(caught, match=r"nap ran longer than its time-out of 0\.05 s"):
        f.result(20)


def test_timeout_is_of_the_run_not_of_the_wait(flag: Any) -> None:
    with zexec.Pool(1, context=FORK) as pool:
        first = pool.apply_async(tasks.hold, (flag("started"), flag("release")))
        second = pool.options(timeout=0.2).apply_async(tasks.double, (1,))
        with pytest.raises(zexec.TimeoutError):
            second.get(0.3)
        tasks.touch(flag("release"))
        first.get(10)
        assert second.get(10) == 2


def test_timeout_interrupts_and_keeps_the_engine(pool: zexec.Pool) -> None:
    pids = {w.pid for w in pool._pool}
    with pytest.raises(zexec.TimeoutError):
        pool.options(timeout=0.05).apply(tasks.nap, (60,))
    assert {w.pid for w in pool._pool} == pids
    assert pool.map(tasks.double, range(10)) == list(range(0, 20, 2))


def test_timeout_replaces_an_engine_that_does_not_react(pool: zexec.Pool) -> None:
    pids = {w.pid for w in pool._pool}
    with pytest.raises(zexec.TimeoutError):
        pool.options(timeout=0.05).apply(tasks.deaf)
    assert tasks.until(lambda: len({w.pid for w in pool._pool} & pids) == 1 and len(pool._pool) == 2)
    assert pool.map(tasks.double, range(10)) == list(range(0, 20, 2))


def test_timeout_is_per_item_and_siblings_are_unhurt(pool: zexec.Pool) -> None:
    got = pool.options(timeout=0.2).map(tasks.nap, [0.001, 60, 0.001, 60, 0.001], 3, return_exceptions=True)
    assert [type(v) for v in got] == [float, zexec.TimeoutError, float, zexec.TimeoutError, float]
    lazy = pool.options(timeout=0.2).imap(tasks.nap, [0.001, 60, 0.001], 3, return_exceptions=True)
    assert [type(v) for v in lazy] == [float, zexec.TimeoutError, float]


def test_timeout_per_item_of_an_executors_map(executor: zexec.Executor) -> None:
    got = executor.options(timeout=0.2).map(tasks.nap, [0.001, 60, 0.001], chunksize=3, return_exceptions=True)
    assert [type(v) for v in got] == [float, zexec.TimeoutError, float]


def test_timeout_of_a_task_that_catches_the_interrupt(pool: zexec.Pool, flag: Any) -> None:
    """It may clean up; what it returns afterwards does not count unless it came in time."""
    r = pool.options(timeout=0.05).apply_async(tasks.nap_and_clean_up, (flag("clean"),))
    with pytest.raises(zexec.TimeoutError):
        r.get(20)
    assert tasks.lines(flag("clean")) == ["cleaned up"]


def test_timeout_long_enough(pool: zexec.Pool) -> None:
    assert pool.options(timeout=30).map(tasks.double, range(100)) == list(range(0, 200, 2))
    assert pool.options(timeout=30).apply(tasks.double, (1,)) == 2


def test_interrupts_hit_only_the_task_they_are_meant_for(pool: zexec.Pool) -> None:
    """Many tasks that end about when their time does: each ends one way or the other, none is hit by another's."""
    rs = [pool.options(timeout=0.003).apply_async(tasks.nap, (0.003,)) for _ in range(100)]
    plain = [pool.apply_async(tasks.nap, (0.002,)) for _ in range(100)]
    for r in rs:
        try:
            assert r.get(20) == 0.003
        except zexec.TimeoutError:
            pass
    assert [r.get(20) for r in plain] == [0.002] * 100


# -- retries ---------------------------------------------------------------------------------------------------------


def test_retries_after_an_exception(pool: zexec.Pool, flag: Any) -> None:
    assert pool.options(retries=2).apply(tasks.fail_times, (flag("log"), 2)) == 3
    assert len(tasks.lines(flag("log"))) == 3


def test_retries_run_out(pool: zexec.Pool, flag: Any) -> None:
    with pytest.raises(ValueError, match="attempt 3"):
        pool.options(retries=2).apply(tasks.fail_times, (flag("log"), 5))
    assert len(tasks.lines(flag("log"))) == 3


@pytest.mark.parametrize("how", saboteurs.DEATHS)
def test_retries_after_a_death(executor: zexec.Executor, flag: Any, how: str) -> None:
    f = executor.options(retries=1).submit(saboteurs.act_once, how, flag("once"))
    assert f.result(20) == "alive"


def test_a_task_that_kills_every_engine_is_given_up(executor: zexec.Executor, flag: Any) -> None:
    f = executor.options(retries=3).submit(saboteurs.log_and_leave, flag("log"))
    with pytest.raises(zexec.EngineDied):
        f.result(20)
    assert len(tasks.lines(flag("log"))) == 4
    assert executor.submit(tasks.double, 1).result(20) == 2


def test_retries_after_a_timeout(pool: zexec.Pool, flag: Any) -> None:
    assert pool.options(retries=1, timeout=1.0).apply(tasks.slow_once, (flag("once"),)) == "second"


def test_retries_in_a_map(pool: zexec.Pool, flag: Any) -> None:
    items = [(flag(f"log{i}"), i % 3) for i in range(6)]
    assert pool.options(retries=2).starmap(tasks.fail_times, items, 1) == [1, 2, 3, 1, 2, 3]


def test_no_retries_by_default(pool: zexec.Pool, flag: Any) -> None:
    with pytest.raises(ValueError, match="attempt 1"):
        pool.apply(tasks.fail_times, (flag("log"), 1))


# -- priorities ------------------------------------------------------------------------------------------------------


def test_priority(flag: Any) -> None:
    with zexec.Pool(1, context=FORK) as pool:
        first = pool.apply_async(tasks.hold, (flag("started"), flag("release")))
        assert tasks.wait_for(flag("started"))
        rs = [
            pool.options(priority=p).apply_async(tasks.append, (flag("log"), f"{p}{name}"))
            for name in "ab"
            for p in (0, 5, -1, 3)
        ]
        tasks.touch(flag("release"))
        for r in [first, *rs]:
            r.get(20)
    order = tasks.lines(flag("log"))
    # What an engine was given before stays in its place: at most one task.
    late = [name for name in order if name != "0a"]
    assert late == ["5a", "5b", "3a", "3b", "0b", "-1a", "-1b"]


def test_priority_of_maps(flag: Any) -> None:
    with zexec.Executor(1, mp_context=FORK) as ex:
        first = ex.submit(tasks.hold, flag("started"), flag("release"))
        assert tasks.wait_for(flag("started"))
        low = ex.map(tasks.append, [flag("log")] * 3, ["l1", "l2", "l3"])
        high = ex.options(priority=1).map(tasks.append, [flag("log")] * 3, ["h1", "h2", "h3"])
        tasks.touch(flag("release"))
        assert [first.result(20), *high, *low] == [None] * 7
    order = tasks.lines(flag("log"))
    assert [n for n in order if n != "l1"] == ["h1", "h2", "h3", "l2", "l3"]


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0, 1])
def test_targets(pool: zexec.Pool, target: int) -> None:
    pid = pool._pool[target].pid
    assert set(pool.options(targets=target).map(tasks.pid, range(10), 1)) == {pid}
    r = pool.options(targets=[target]).apply_async(tasks.pid)
    assert r.get(20) == pid
    assert r.metadata.engine_id == target


def test_targets_wait_for_theirs_while_others_go_on(pool: zexec.Pool, flag: Any) -> None:
    held = pool.options(targets=0).apply_async(tasks.hold, (flag("started"), flag("release")))
    assert tasks.wait_for(flag("started"))
    waiting = pool.options(targets=0).apply_async(tasks.double, (1,))
    assert pool.map(tasks.double, range(10)) == list(range(0, 20, 2))
    assert not waiting.ready()
    tasks.touch(flag("release"))
    assert waiting.get(20) == 2
    held.get(20)


def test_targets_survive_the_death_of_theirs(pool: zexec.Pool) -> None:
    dead = pool.options(targets=1).apply_async(saboteurs.leave)
    after = pool.options(targets=1).apply_async(tasks.pid)
    with pytest.raises(zexec.EngineDied):
        dead.get(20)
    assert after.get(20) == pool._pool[1].pid


def test_targets_that_do_not_exist(pool: zexec.Pool) -> None:
    with pytest.raises(ValueError, match=r"no engine \[7\]: there are 0 to 1"):
        pool.options(targets=7).apply(tasks.double, (1,))


# -- in general ------------------------------------------------------------------------------------------------------


def test_options_enter_no_signature(executor: zexec.Executor, pool: zexec.Pool) -> None:
    assert executor.submit(tasks.echo, timeout=1, retries=2).result(20) == ((), {"timeout": 1, "retries": 2})
    assert pool.apply(tasks.echo, (), {"priority": 3}) == ((), {"priority": 3})


def test_all_calls_have_them(pool: zexec.Pool) -> None:
    bound = pool.options(priority=1)
    assert bound.apply(tasks.double, (1,)) == 2
    assert bound.apply_async(tasks.double, (1,)).get(20) == 2
    assert bound.map(tasks.double, [1]) == [2]
    assert bound.map_async(tasks.double, [1]).get(20) == [2]
    assert bound.starmap(tasks.double, [(1,)]) == [2]
    assert bound.starmap_async(tasks.double, [(1,)]).get(20) == [2]
    assert list(bound.imap(tasks.double, [1])) == [2]
    assert list(bound.imap_unordered(tasks.double, [1])) == [2]


def test_bound_calls_end_with_the_pool() -> None:
    pool = zexec.Pool(1, context=FORK)
    bound = pool.options(retries=1)
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        bound.apply(tasks.double, (1,))
    pool.join()


def test_timeouts_leave_the_clock_alone(pool: zexec.Pool) -> None:
    """A deadline far away does not keep anything awake or alive."""
    then = time.process_time()
    assert pool.options(timeout=1e6).apply(tasks.nap, (0.2,)) == 0.2
    assert time.process_time() - then < 0.1
    assert os.getpid()
