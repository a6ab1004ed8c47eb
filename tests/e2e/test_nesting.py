"""Pools within tasks, within daemons, within threads and forks."""

from __future__ import annotations

import multiprocessing
import os
import threading
from typing import Any

import pytest

import zexec
from tests.helpers import nested, tasks

FORK = multiprocessing.get_context("fork")


@pytest.mark.parametrize("inner", ["fork", "spawn"])
def test_a_pool_in_a_task(ctx: Any, inner: str) -> None:
    with zexec.Pool(2, context=ctx) as pool:
        assert pool.map(nested.pool_in_task, [(inner, 2), (inner, 3)], 1) == [[0, 2], [0, 2, 4]]


def test_three_levels(pool: zexec.Pool) -> None:
    assert pool.apply(nested.levels, (3,)) == 3


def test_the_stdlibs_pool_in_a_task(pool: zexec.Pool) -> None:
    """Its own workers are daemons, which may not have children; ours are none."""
    assert pool.apply(nested.stdlib_pool_in_task) == [0, 2, 4]


def test_ours_in_a_worker_of_the_stdlibs() -> None:
    """Workers of the stdlib's are daemons: it refuses its own pool there, and so it does ours."""
    with FORK.Pool(1) as pool:
        theirs = pool.apply(nested.refused, ("stdlib",))
        ours = pool.apply(nested.refused, ("zexec",))
    pool.join()
    assert theirs == "AssertionError: daemonic processes are not allowed to have children"
    assert ours in (theirs, "[0, 2, 4]")


def test_the_engines_pool_ends_with_the_engine(pool: zexec.Pool) -> None:
    """A task that leaves its pool open: everything goes when the engine does."""
    pids = pool.apply(nested.pool_left_open)
    assert len(pids) == 2
    pool.terminate()


def test_one_pool_used_from_many_threads(pool: zexec.Pool) -> None:
    got: dict[int, Any] = {}

    def use(n: int) -> None:
        got[n] = [
            pool.map(tasks.double, range(n, n + 20), 1),
            [pool.apply(tasks.double, (i,)) for i in range(20)],
            list(pool.imap(tasks.double, range(20))),
            [r.get(20) for r in [pool.apply_async(tasks.double, (i,)) for i in range(50)]],
        ]

    threads = [threading.Thread(target=use, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    twenty = list(range(0, 40, 2))
    assert got == {n: [[2 * i for i in range(n, n + 20)], twenty, twenty, list(range(0, 100, 2))] for n in range(8)}


def test_one_executor_used_from_many_threads(executor: zexec.Executor) -> None:
    sums: list[int] = []
    threads = [
        threading.Thread(target=lambda: sums.append(sum(executor.map(tasks.double, range(200))))) for _ in range(8)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sums == [2 * sum(range(200))] * 8


def test_made_in_a_thread_used_and_ended_in_others() -> None:
    made: list[zexec.Pool] = []
    t = threading.Thread(target=lambda: made.append(zexec.Pool(2, context=FORK)))
    t.start()
    t.join()
    assert made[0].map(tasks.double, [1]) == [2]
    t = threading.Thread(target=made[0].terminate)
    t.start()
    t.join()
    made[0].join()


def test_ended_by_another_thread_while_waited_for(flag: Any) -> None:
    pool = zexec.Pool(2, context=FORK)
    r = pool.apply_async(tasks.nap, (60,))
    t = threading.Thread(target=pool.terminate)
    t.start()
    with pytest.raises(zexec.TerminatedError):
        r.get(20)
    t.join()
    pool.join()


def test_closed_while_others_submit() -> None:
    """Each submit is either refused or carried out."""
    for _ in range(10):
        pool = zexec.Pool(2, context=FORK)
        taken: list[Any] = []
        refused: list[str] = []

        def submit(pool: zexec.Pool = pool, taken: list[Any] = taken, refused: list[str] = refused) -> None:
            try:
                while True:
                    taken.append(pool.apply_async(tasks.double, (1,)))
            except ValueError as e:
                refused.append(str(e))

        threads = [threading.Thread(target=submit) for _ in range(3)]
        for t in threads:
            t.start()
        assert tasks.until(lambda taken=taken: len(taken) > 20)
        pool.close()
        for t in threads:
            t.join()
        pool.join()
        assert refused == ["Pool not running"] * 3
        assert [r.get(0) for r in taken] == [2] * len(taken)


def test_a_fork_of_the_client_knows_that_it_has_no_pool(pool: zexec.Pool, executor: zexec.Executor, flag: Any) -> None:
    """The child gets a clear error at once, the parent goes on."""
    held = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 1))
    done = pool.apply_async(tasks.double, (1,))
    done.wait(20)
    f = executor.submit(tasks.double, 4)
    it = pool.imap(tasks.hold_or_return, [(flag("release"), 5)])
    says: list[Any] = []
    here, there = FORK.Pipe()
    pid = os.fork()
    if pid == 0:
        try:
            nested.ask_in_fork(there, pool, executor, held, done, it)
        finally:
            os._exit(0)
    assert here.poll(20)
    says = here.recv()
    os.waitpid(pid, 0)
    here.close()
    there.close()
    tasks.touch(flag("release"))
    assert held.get(20) == 1
    assert f.result(20) == 8
    assert list(it) == [5]
    assert says == nested.EXPECTED_IN_FORK


def test_a_fork_may_have_a_pool_of_its_own(pool: zexec.Pool) -> None:
    here, there = FORK.Pipe()
    process = FORK.Process(target=nested.own_pool, args=(there,))
    process.start()
    assert here.poll(20)
    assert here.recv() == [0, 2, 4]
    process.join()
    here.close()
    there.close()
    assert pool.map(tasks.double, [1]) == [2]


def test_a_pool_in_a_process_of_multiprocessing(ctx: Any) -> None:
    here, there = ctx.Pipe()
    process = ctx.Process(target=nested.own_pool, args=(there,))
    process.start()
    assert here.poll(20)
    assert here.recv() == [0, 2, 4]
    process.join()
    assert process.exitcode == 0
    here.close()
    there.close()
