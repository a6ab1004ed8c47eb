"""What a task raises to steer Python is the task's own affair: it fails, and the engine lives on."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

import zexec
from tests.helpers import saboteurs, tasks

FORK = multiprocessing.get_context("fork")

EXITS: dict[Any, type[BaseException]] = {
    saboteurs.system_exit: SystemExit,
    saboteurs.keyboard_interrupt: KeyboardInterrupt,
    saboteurs.generator_exit: GeneratorExit,
    saboteurs.odd_exception: saboteurs.Odd,
}


@pytest.mark.parametrize("task", EXITS)
def test_a_call(pool: zexec.Pool, executor: zexec.Executor, task: Any) -> None:
    """The stdlib's pool hangs at SystemExit; its executor passes all of these on."""
    pids = {w.pid for w in pool._pool}
    with pytest.raises(EXITS[task]) as caught:
        pool.apply(task)
    assert task.__name__ in str(caught.value.__cause__)
    with pytest.raises(EXITS[task]):
        executor.submit(task).result(20)
    assert type(executor.submit(task).exception(20)) is EXITS[task]
    assert pool.map(tasks.double, [1, 2]) == [2, 4]
    assert {w.pid for w in pool._pool} == pids


@pytest.mark.parametrize("task", EXITS)
@pytest.mark.parametrize("chunksize", [1, 2])
def test_a_map(pool: zexec.Pool, task: Any, chunksize: int) -> None:
    with pytest.raises(EXITS[task]):
        pool.map(task, range(4), chunksize)
    got = pool.map(task, range(4), chunksize, return_exceptions=True)
    assert [type(e) for e in got] == [EXITS[task]] * 4
    it = pool.imap(task, range(2), chunksize)
    for _ in range(2):
        with pytest.raises(EXITS[task]):
            next(it)


def test_the_exit_code_is_kept(pool: zexec.Pool) -> None:
    with pytest.raises(SystemExit) as caught:
        pool.apply(saboteurs.system_exit)
    assert caught.value.code == 3


def test_generators_and_coroutines_as_tasks(pool: zexec.Pool) -> None:
    assert pool.apply(list, (range(3),)) == [0, 1, 2]
    with pytest.raises(Exception, match=r"generator|coroutine"):
        pool.apply(tasks.counting, (3, []))


def test_a_task_that_recurses_without_end(pool: zexec.Pool) -> None:
    with pytest.raises(RecursionError):
        pool.apply(saboteurs.recurse)
    assert pool.apply(tasks.double, (1,)) == 2


@pytest.mark.parametrize(
    "task",
    [
        saboteurs.close_all_descriptors,
        saboteurs.change_directory,
        saboteurs.ignore_signals,
        saboteurs.start_a_thread_that_stays,
        saboteurs.fork_a_child,
        saboteurs.close_standard_streams,
        saboteurs.set_a_nasty_recursion_limit,
    ],
)
def test_a_task_that_spoils_its_process(task: Any) -> None:
    """What it spoils may cost the engine, never the pool, and never the end."""
    with zexec.Pool(2, context=FORK) as pool:
        r = pool.apply_async(task)
        try:
            assert r.get(20) == "done"
        except zexec.EngineDied:
            pass
        # An engine may turn out to be spoilt by what it is given next.
        pool.map(tasks.double, range(20), 1, return_exceptions=True)
        assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))
        pool.close()
        pool.join()
