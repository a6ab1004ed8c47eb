"""Every call of an Executor gives what the stdlib's gives: each test runs against ProcessPoolExecutor first."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

Make = Callable[..., Any]


@pytest.fixture
def ex(both_executors: Make) -> Any:
    return both_executors(2)


def test_submit(ex: Any) -> None:
    assert ex.submit(tasks.double, 2).result(10) == 4
    assert ex.submit(tasks.echo, 1, self=2, fn=3, timeout=4).result(10) == ((1,), {"self": 2, "fn": 3, "timeout": 4})


def test_submit_gives_a_future(ex: Any) -> None:
    f = ex.submit(tasks.double, 2)
    assert isinstance(f, concurrent.futures.Future)
    assert f.result(10) == 4
    assert f.done()
    assert not f.cancelled()
    assert not f.running()
    assert f.exception() is None
    assert "state=finished returned int>" in repr(f)
    assert f.cancel() is False


def test_exception(ex: Any) -> None:
    f = ex.submit(tasks.reciprocal, 0)
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        f.result(10)
    assert f.exception() is caught.value
    cause = caught.value.__cause__
    assert type(cause) is concurrent.futures.process._RemoteTraceback  # type: ignore[attr-defined]
    assert "in reciprocal" in str(cause)
    assert "state=finished raised ZeroDivisionError>" in repr(f)


@pytest.mark.parametrize("chunksize", [1, 2, 7, 1000])
@pytest.mark.parametrize("size", [0, 1, 20])
def test_map(ex: Any, size: int, chunksize: int) -> None:
    assert list(ex.map(tasks.double, range(size), chunksize=chunksize)) == [2 * i for i in range(size)]


@pytest.mark.parametrize("kind", [list, tuple, iter, set, str, lambda r: r])
def test_map_takes_any_iterable(ex: Any, kind: Any) -> None:
    assert list(ex.map(str, kind(range(5)), chunksize=2)) == [str(item) for item in kind(range(5))]


def test_map_has_drawn_a_list_when_it_returns(ex: Any) -> None:
    items = list(range(20))
    it = ex.map(tasks.double, items, chunksize=3)
    items.clear()
    assert list(it) == list(range(0, 40, 2))


def test_lists_that_iterate_over_something_else(ex: Any) -> None:
    assert list(ex.map(tasks.double, tasks.Doubles([1, 2, 3]), chunksize=2)) == [4, 8, 12]


def test_map_over_several(ex: Any) -> None:
    assert list(ex.map(pow, [1, 2, 3], [2, 2, 2])) == [1, 4, 9]
    assert list(ex.map(pow, range(10), iter([2, 2]))) == [0, 1]
    assert list(ex.map(tasks.nothing)) == []


def test_map_is_an_iterator_and_a_generator(ex: Any) -> None:
    it = ex.map(tasks.double, [1, 2])
    assert iter(it) is it
    assert next(it) == 2
    it.close()
    assert list(it) == []


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_raises_at_the_item(ex: Any, chunksize: int) -> None:
    it = ex.map(tasks.reciprocal, [1, 2, 0, 4], chunksize=chunksize)
    assert [next(it), next(it)] == [1, 0.5]
    with pytest.raises(ZeroDivisionError):
        next(it)
    with pytest.raises(StopIteration):
        next(it)


def test_map_submits_at_the_call(ex: Any, flag: Any) -> None:
    log = flag("log")
    ex.map(tasks.append, [log] * 3, "abc")
    assert tasks.until(lambda: sorted(tasks.lines(log)) == ["a", "b", "c"])


def test_map_times_out(ex: Any, flag: Any) -> None:
    release = flag("release")
    it = ex.map(tasks.hold_or_return, [(None, 1), (release, 2)], timeout=0.3)
    assert next(it) == 1
    with pytest.raises(concurrent.futures.TimeoutError):
        next(it)
    tasks.touch(release)


def test_map_with_an_input_that_fails(ex: Any) -> None:
    with pytest.raises(ZeroDivisionError, match="the input failed"):
        ex.map(tasks.double, tasks.broken_after(3))
    assert list(ex.map(tasks.double, [1])) == [2]


def test_map_draws_its_input_at_the_call(ex: Any) -> None:
    log: list[int] = []
    it = ex.map(tasks.double, tasks.counting(10, log))
    assert log == list(range(10))
    assert len(list(it)) == 10


def test_map_lets_go_of_what_it_has_handed_out(executor: zexec.Executor) -> None:
    for value in executor.map(set, [[1], [2], [3]]):
        ref = weakref.ref(value)
        del value
        assert ref() is None


def test_a_map_that_is_dropped_cancels_the_rest(executor: zexec.Executor, flag: Any) -> None:
    log, release = flag("log"), flag("release")
    it = executor.map(tasks.first_logs_others_wait, range(40), [log] * 40, [release] * 40)
    next(it)
    it.close()  # type: ignore[attr-defined]
    assert executor._client is not None
    assert tasks.until(lambda: len(executor._client._open) <= 2)  # those that run
    tasks.touch(release)
    executor.shutdown()
    assert len(tasks.lines(log)) <= 3


def test_buffersize(executor: zexec.Executor) -> None:
    log: list[int] = []
    it = executor.map(tasks.double, tasks.counting(10, log), buffersize=3)
    assert len(log) == 3
    assert next(it) == 0
    assert len(log) == 4
    assert next(it) == 2
    assert len(log) == 5
    assert list(it) == [4, 6, 8, 10, 12, 14, 16, 18]


@pytest.mark.parametrize("chunksize", [1, 2, 5])
@pytest.mark.parametrize("buffersize", [1, 2, 7, 100])
def test_buffersize_and_chunksize(executor: zexec.Executor, buffersize: int, chunksize: int) -> None:
    log: list[int] = []
    it = executor.map(tasks.double, tasks.counting(23, log), buffersize=buffersize, chunksize=chunksize)
    for taken in range(23):
        assert len(log) - taken <= max(buffersize, chunksize)
        assert next(it) == 2 * taken
    with pytest.raises(StopIteration):
        next(it)


def test_buffersize_with_endless_input(executor: zexec.Executor) -> None:
    import itertools

    it = executor.map(tasks.double, itertools.count(), buffersize=4)
    assert [next(it) for _ in range(20)] == [2 * i for i in range(20)]


def test_methods_of_unpicklable_and_picklable_objects(ex: Any) -> None:
    assert ex.submit(tasks.Adder(3).plus, 4).result(10) == 7
    assert ex.submit("abc".upper).result(10) == "ABC"


def test_what_libraries_look_at(both_executors: Make) -> None:
    ex = both_executors(3)
    assert isinstance(ex, concurrent.futures.Executor)
    assert isinstance(ex, concurrent.futures.ProcessPoolExecutor)
    assert ex._max_workers == 3
    assert ex._processes == {}
    assert ex._mp_context.get_start_method() == "fork"
    ex.submit(tasks.nothing).result(10)
    assert len(ex._processes) == 3  # forked: all at the first call
    assert all(process.pid == pid and process.is_alive() for pid, process in ex._processes.items())
    assert ex.submit(tasks.pid).result(10) in ex._processes
    assert not ex._broken
    assert not ex._shutdown_thread
    ex.shutdown()
    assert ex._processes is None
    assert ex._shutdown_thread


def test_default_size(both_executors: Make) -> None:
    assert both_executors()._max_workers == (getattr(os, "process_cpu_count", None) or os.cpu_count)()


def test_engines_start_on_demand(method: str) -> None:
    import multiprocessing

    ctx = multiprocessing.get_context(method)
    with zexec.Executor(3, mp_context=ctx) as ex:
        for _ in range(3):
            assert ex.submit(tasks.double, 1).result(30) == 2
        expected = 3 if method == "fork" else 1
        assert ex._processes is not None
        assert len(ex._processes) == expected


def test_nothing_starts_before_the_first_call(both_executors: Make) -> None:
    import multiprocessing

    both_executors(2)
    assert multiprocessing.active_children() == []


def test_it_is_exported_under_both_names() -> None:
    assert zexec.Executor is zexec.ProcessPoolExecutor
    assert zexec.as_completed is concurrent.futures.as_completed
    assert zexec.wait is concurrent.futures.wait


def test_a_callback_that_waits_for_a_result_with_callbacks() -> None:
    """What it waits for settles in the thread that it blocks."""
    inner: list[int] = []
    done = threading.Event()

    def call_back(f: Any) -> None:
        g = ex.submit(tasks.double, 21)
        g.add_done_callback(lambda g: inner.append(g.result()))
        inner.append(g.result(30))
        done.set()

    with zexec.Executor(2) as ex:
        ex.submit(tasks.double, 1).add_done_callback(call_back)
        assert done.wait(30)
    assert inner == [42, 42]
