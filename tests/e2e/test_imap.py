"""The lazy maps draw their input at the pace of completion."""

from __future__ import annotations

import itertools
import queue
import threading
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

NAMES = ["imap", "imap_unordered"]


@pytest.mark.parametrize("name", NAMES)
def test_endless_input(pool: zexec.Pool, name: str) -> None:
    it = getattr(pool, name)(tasks.double, itertools.count())
    got = [next(it) for _ in range(1000)]
    assert len(set(got)) == 1000
    if name == "imap":
        assert got == list(range(0, 2000, 2))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunksize", [1, 3])
def test_input_is_not_drawn_far_ahead_of_long_tasks(pool: zexec.Pool, name: str, chunksize: int, flag: Any) -> None:
    log: list[int] = []
    release = flag("release")
    items = ((release, i) for i in tasks.counting(1000, log))
    it = getattr(pool, name)(tasks.hold_or_return, items, chunksize)
    assert tasks.until(lambda: len(log) >= 4 * chunksize)
    with pytest.raises(zexec.TimeoutError):
        it.next(0.05)
    # Two chunks to an engine: one that runs, one that waits.
    assert len(log) <= 4 * chunksize + 1
    tasks.touch(release)
    assert sorted(it) == list(range(1000))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunksize", [1, 2, 5])
@pytest.mark.parametrize("buffersize", [1, 2, 3, 10, 100])
def test_buffersize_bounds_what_is_drawn(pool: zexec.Pool, name: str, chunksize: int, buffersize: int) -> None:
    log: list[int] = []
    it = getattr(pool, name)(tasks.double, tasks.counting(37, log), chunksize, buffersize=buffersize)
    got = []
    for taken in range(37):
        assert len(log) - taken <= buffersize
        got.append(next(it))
    assert sorted(got) == list(range(0, 74, 2))
    with pytest.raises(StopIteration):
        next(it)


def test_buffersize_draws_in_the_consumers_thread(pool: zexec.Pool) -> None:
    threads = set()

    def items() -> Any:
        for i in range(20):
            threads.add(threading.current_thread())
            yield i

    assert len(list(pool.imap(tasks.double, items(), buffersize=2))) == 20
    assert threads == {threading.current_thread()}


def test_without_buffersize_a_blocking_input_blocks_nobody_else(pool: zexec.Pool) -> None:
    gate = threading.Event()

    def items() -> Any:
        yield 1
        gate.wait(tasks.PATIENCE)
        yield 2

    it = pool.imap(tasks.double, items())
    assert next(it) == 2
    assert pool.map(tasks.double, [5]) == [10]
    assert pool.apply(tasks.double, (6,)) == 12
    other = pool.imap(tasks.double, [7])
    assert list(other) == [14]
    gate.set()
    assert list(it) == [4]


@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_waits_for_the_output(pool: zexec.Pool, name: str) -> None:
    """A feedback loop: what was drawn must be on its way, whatever the input does next."""
    values: queue.Queue[int] = queue.Queue()
    values.put(1)
    values.put(1)

    def items() -> Any:
        while (value := values.get(timeout=tasks.PATIENCE)) < 1000:
            yield value

    got = []
    for value in getattr(pool, name)(tasks.double, items()):
        got.append(value)
        values.put(value)
    assert {2, 4, 8, 16} <= set(got)


@pytest.mark.parametrize("buffersize", [None, 2])
@pytest.mark.parametrize("name", NAMES)
def test_an_input_that_fails(pool: zexec.Pool, name: str, buffersize: int | None) -> None:
    it = getattr(pool, name)(tasks.double, tasks.broken_after(5), buffersize=buffersize)
    got = []
    with pytest.raises(ZeroDivisionError, match="the input failed"):
        for value in it:
            got.append(value)
    assert sorted(got) == [0, 2, 4, 6, 8]
    with pytest.raises(StopIteration):
        next(it)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_input_that_fails_badly(pool: zexec.Pool, error: type[BaseException]) -> None:
    it = pool.imap(tasks.double, tasks.broken_after(1, error))
    assert next(it) == 0
    with pytest.raises(error):
        next(it)
    assert pool.map(tasks.double, [1]) == [2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("chunksize", [1, 2, 3, 100])
def test_items_that_fail_are_raised_one_by_one(pool: zexec.Pool, name: str, chunksize: int) -> None:
    """The stdlib gives a chunk's first failure once and drops its other items; here each item has its own."""
    it = getattr(pool, name)(tasks.fail_if_odd, range(7), chunksize)
    got: list[Any] = []
    while True:
        try:
            got.append(next(it))
        except StopIteration:
            break
        except ValueError as e:
            got.append(str(e))
    expected = [0, "1 is odd", 2, "3 is odd", 4, "5 is odd", 6]
    assert (got if name == "imap" else sorted(got, key=str)) == (
        expected if name == "imap" else sorted(expected, key=str)
    )


def test_many_at_once(pool: zexec.Pool) -> None:
    its = [pool.imap(tasks.double, range(50)) for _ in range(10)]
    assert [list(it) for it in its] == [list(range(0, 100, 2))] * 10


def test_consumed_from_many_threads(pool: zexec.Pool) -> None:
    it = pool.imap_unordered(tasks.double, range(500))
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(it)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(got) == list(range(0, 1000, 2))


def test_buffered_consumed_from_many_threads(pool: zexec.Pool) -> None:
    it = pool.imap_unordered(tasks.double, tasks.LockedCounter(300), buffersize=5)
    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.extend(it)) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(got) == list(range(0, 600, 2))


def test_nothing_is_kept_of_what_was_taken(pool: zexec.Pool) -> None:
    import weakref

    for value in pool.imap(set, [[1], [2], [3]]):
        ref = weakref.ref(value)
        del value
        assert ref() is None
