"""Whatever a task does to itself or to Python is told to whoever wants its result; the engine and everybody else go on."""

from __future__ import annotations

import os
import signal
from multiprocessing.pool import MaybeEncodingError
from typing import Any

import pytest

import zexec
from tests.helpers import saboteurs, tasks
from tests.helpers.hosts import Flag, Host
from tests.helpers.scripts import Scripts

RAISES: dict[Any, type[BaseException]] = {
    tasks.fail: ValueError,
    saboteurs.system_exit: SystemExit,
    saboteurs.keyboard_interrupt: KeyboardInterrupt,
    saboteurs.generator_exit: GeneratorExit,
    saboteurs.stop_iteration: StopIteration,
    saboteurs.odd_exception: saboteurs.Odd,
    saboteurs.recurse: RecursionError,
}


def check(pool: zexec.Pool, pids: set[int]) -> None:
    """Everything goes on, on the same engines."""
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))
    assert {process.pid for process in pool._pool} == pids


@pytest.fixture
def pool(shared: Host) -> zexec.Pool:
    return shared.pool()


@pytest.fixture
def pids(pool: zexec.Pool) -> set[int]:
    return {process.pid for process in pool._pool}


def test_raises(pool: zexec.Pool, pids: set[int]) -> None:
    for task, error in RAISES.items():
        with pytest.raises(error) as caught:
            pool.apply(task)
        assert task.__name__ in str(caught.value.__cause__), "the engine's traceback"
        got = pool.map(saboteurs.odd_exception, range(2), return_exceptions=True)
        assert [type(e) for e in got] == [saboteurs.Odd] * 2
    check(pool, pids)


def test_in_a_map_the_exception_names_its_item(pool: zexec.Pool, pids: set[int]) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(tasks.reciprocal, [1, 2, 0, 4], 2)
    if hasattr(caught.value, "__notes__"):
        assert caught.value.__notes__ == ["zexec: raised for item 2 of the map"]
    check(pool, pids)


def test_raises_what_can_hardly_be_looked_at(pool: zexec.Pool, pids: set[int]) -> None:
    """Exceptions are of the users' classes, and those may have their own ways."""
    assert type(pool.apply_async(saboteurs.raise_contrary).exception(30)) is saboteurs.Contrary
    error = pool.apply_async(saboteurs.raise_more_contrary).exception(30)
    assert isinstance(error, zexec.RemoteError)
    assert error.ename == "MoreContrary"
    assert "in raise_more_contrary" in error.traceback
    for chunk in (1, 3):
        got = pool.map(saboteurs.raise_contrary, range(3), chunk, return_exceptions=True)
        assert [type(e) for e in got] == [saboteurs.Contrary] * 3
        got = pool.map(saboteurs.raise_more_contrary, range(3), chunk, return_exceptions=True)
        assert [type(e) for e in got] == [zexec.RemoteError] * 3
    result = pool.apply_async(saboteurs.make, (saboteurs.ContraryAtPickle,)).exception(30)
    assert type(result) is MaybeEncodingError
    check(pool, pids)


def test_returns_what_is_nested_too_deep(pool: zexec.Pool, pids: set[int]) -> None:
    """Endless recursion in the pickler, rather than in the task."""
    with pytest.raises(Exception, match="recursion"):
        pool.apply(saboteurs.deepen, (100_000,))
    check(pool, pids)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_returns_what_raises_when_it_is_collected(pool: zexec.Pool, pids: set[int]) -> None:
    """On the engine, which drops its own, and here."""
    for _ in range(3):
        assert type(pool.apply(saboteurs.make, (saboteurs.RaisesWhenCollected,))) is saboteurs.RaisesWhenCollected
    check(pool, pids)


def test_keeps_the_interpreter_in_a_c_call(pool: zexec.Pool, pids: set[int]) -> None:
    """It answers nobody for as long as it likes, and is not taken for dead. What stood behind it runs elsewhere."""
    pool.map(tasks.double, range(2000), 1)  # short tasks: an engine takes many at once
    r = pool.apply_async(saboteurs.keep_the_interpreter, (2.0,))
    others = [pool.apply_async(tasks.double, (i,)) for i in range(100)]
    assert [o.get(30) for o in others] == list(range(0, 200, 2))
    assert r.get(30) == "done"
    check(pool, pids)


def test_fills_standard_output(scripts: Scripts) -> None:
    """More than any pipe holds, and whoever reads it takes its time."""
    out = scripts.good(
        """
        import zexec
        from tests.helpers import saboteurs, tasks

        if __name__ == "__main__":
            with zexec.Pool(2) as pool:
                assert pool.map(saboteurs.chatter, [1 << 18] * 4, 1) == ["done"] * 4
                assert pool.map(tasks.double, range(10)) == list(range(0, 20, 2))
        """
    )
    assert (out.count("x"), out.count("y")) == (4 << 18, 4 << 18)


def test_standard_output_takes_nothing(anywhere: Host) -> None:
    """What is lost is the text, not the engine. A task that looks after its own output sees that it fails."""
    pool = anywhere.pool()
    pids = {process.pid for process in pool._pool}
    assert pool.apply_async(saboteurs.stop_all_output).exception(30) is None
    with pytest.raises(OSError, match="No space left"):
        pool.map(saboteurs.print_and_flush, range(4), 1)
    check(pool, pids)


@pytest.mark.parametrize(
    "task",
    [
        saboteurs.change_directory,
        saboteurs.ignore_signals,
        saboteurs.fork_a_child,
        saboteurs.close_standard_streams,
    ],
)
def test_changes_its_process(shared: Host, task: Any) -> None:
    pool = shared.pool()
    pids = {process.pid for process in pool._pool}
    assert pool.apply(task) == "done"
    check(pool, pids)
    pool.close()
    pool.join()


@pytest.mark.parametrize("daemon", [True, False])
def test_starts_threads_that_outlive_it(shared: Host, flag: Flag, daemon: bool) -> None:
    """Ending the pool ends them with their engine; closing it lets those finish that are to finish."""
    pool = shared.pool()
    pids = {process.pid for process in pool._pool}
    assert pool.map(saboteurs.threads_that_outlive_2, [(daemon, flag("release"))] * 4, 1) == ["done"] * 4
    check(pool, pids)
    pool.close()
    tasks.touch(flag("release"))
    pool.join()


def test_ignores_the_signal_that_ends_engines(shared: Host) -> None:
    """Asked first, forced half a second later."""
    pool = shared.pool()
    pool.map(saboteurs.ignore_signals_1, range(8), 1)
    pool.terminate()
    pool.join()


def test_stops_by_a_signal_of_its_own(anywhere: Host) -> None:
    """SIGTERM to itself is a death like any other."""
    pool = anywhere.pool()
    with pytest.raises(zexec.EngineDied, match="killed by signal SIGTERM") as caught:
        pool.apply(saboteurs.signal_myself, (signal.SIGTERM,))
    assert caught.value.signal == "SIGTERM"
    assert caught.value.pid != os.getpid()
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))
