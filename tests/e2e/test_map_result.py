"""A map's result knows its items, however they were chunked."""

from __future__ import annotations

import sys
from concurrent.futures import CancelledError
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

CHUNKS = [None, 1, 3, 100]


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_len_and_progress_count_items(pool: zexec.Pool, chunksize: int | None) -> None:
    r = pool.map_async(tasks.double, range(10), chunksize)
    assert len(r) == 10
    assert 0 <= r.progress <= 10
    r.wait()
    assert r.progress == 10
    assert len(r) == 10


def test_progress_grows(pool: zexec.Pool, flag: Any) -> None:
    release = flag("release")
    r = pool.map_async(tasks.hold_or_return, [(None, 1), (None, 2), (release, 3)], 1)
    assert tasks.until(lambda: r.progress == 2)
    tasks.touch(release)
    r.wait()
    assert r.progress == 3


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_iteration_in_order(pool: zexec.Pool, chunksize: int | None) -> None:
    r = pool.map_async(tasks.double, range(10), chunksize)
    assert list(r) == list(range(0, 20, 2))
    assert list(r) == r.get()


def test_iteration_as_items_arrive(pool: zexec.Pool, flag: Any) -> None:
    release = flag("release")
    it = iter(pool.map_async(tasks.hold_or_return, [(None, 1), (None, 2), (release, 3)], 1))
    assert next(it) == 1
    assert next(it) == 2
    tasks.touch(release)
    assert list(it) == [3]


def test_iteration_raises_at_the_item(pool: zexec.Pool) -> None:
    it = iter(pool.map_async(tasks.fail_if_odd, range(4), 1))
    assert next(it) == 0
    with pytest.raises(ValueError, match="1 is odd"):
        next(it)


@pytest.mark.parametrize("chunksize", CHUNKS)
def test_return_exceptions(pool: zexec.Pool, chunksize: int | None) -> None:
    def shown(values: Any) -> list[Any]:
        return [str(v) if isinstance(v, ValueError) else v for v in values]

    expected = [0, "1 is odd", 2, "3 is odd", 4, "5 is odd"]
    r = pool.map_async(tasks.fail_if_odd, range(6), chunksize, return_exceptions=True)
    assert shown(r.get(10)) == expected
    assert shown(r) == expected
    assert r.successful()
    assert r.exception() is None
    assert shown(pool.map(tasks.fail_if_odd, range(6), chunksize, return_exceptions=True)) == expected
    assert (
        shown(pool.starmap(tasks.fail_if_odd, [(i,) for i in range(6)], chunksize, return_exceptions=True)) == expected
    )
    size = chunksize or 1
    assert shown(pool.imap(tasks.fail_if_odd, range(6), size, return_exceptions=True)) == expected
    got = shown(pool.imap_unordered(tasks.fail_if_odd, range(6), size, return_exceptions=True))
    assert sorted(got, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize("chunksize", [1, 3, 100])
def test_return_exceptions_of_an_executors_map(executor: zexec.Executor, chunksize: int) -> None:
    got = list(executor.map(tasks.fail_if_odd, range(6), chunksize=chunksize, return_exceptions=True))
    assert [str(v) if isinstance(v, ValueError) else v for v in got] == [0, "1 is odd", 2, "3 is odd", 4, "5 is odd"]


@pytest.mark.parametrize("chunksize", [1, 4, 100])
def test_the_exception_says_which_item_it_was(pool: zexec.Pool, chunksize: int) -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        pool.map(tasks.reciprocal, [1, 2, 3, 4, 5, 0, 7], chunksize)
    notes = getattr(caught.value, "__notes__", [])
    if sys.version_info >= (3, 11):
        assert notes == ["zexec: raised for item 5 of the map"]
    assert "in reciprocal" in str(caught.value.__cause__)


def test_each_exception_says_which_item_it_was(pool: zexec.Pool) -> None:
    got = pool.map(tasks.fail_if_odd, range(8), 3, return_exceptions=True)
    if sys.version_info >= (3, 11):
        for i in (1, 3, 5, 7):
            assert got[i].__notes__ == [f"zexec: raised for item {i} of the map"]
    it = pool.imap(tasks.fail_if_odd, range(8), 3, return_exceptions=True)
    if sys.version_info >= (3, 11):
        assert [e.__notes__ for e in list(it)[1::2]] == [
            [f"zexec: raised for item {i} of the map"] for i in (1, 3, 5, 7)
        ]


def test_the_first_of_several_is_raised(pool: zexec.Pool) -> None:
    """By place, not by time: the same program fails the same way each time."""
    for _ in range(20):
        with pytest.raises(ValueError, match="1 is odd"):
            pool.map(tasks.fail_if_odd, range(20), 2)


def test_an_item_that_cannot_be_pickled_fails_alone(pool: zexec.Pool) -> None:
    import threading

    got = pool.map(tasks.echo, [1, threading.Lock(), 3], 1, return_exceptions=True)
    assert got[0] == (1,)
    assert isinstance(got[1], TypeError)
    assert got[2] == (3,)


def test_a_map_of_nothing(pool: zexec.Pool) -> None:
    r = pool.map_async(tasks.double, [])
    assert r.ready()
    assert r.successful()
    assert len(r) == r.progress == 0
    assert list(r) == r.get() == []


def test_cancelling_a_map(pool: zexec.Pool, flag: Any) -> None:
    release = flag("release")
    held = [pool.apply_async(tasks.hold, (flag("started"), release)) for _ in range(2)]
    assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    r = pool.map_async(tasks.double, range(10))
    assert r.cancel()
    assert r.cancelled()
    assert r.progress == 10
    with pytest.raises(CancelledError):
        r.get(10)
    tasks.touch(release)
    for h in held:
        h.get(10)


def test_cancelling_a_map_that_has_begun_says_no(pool: zexec.Pool, flag: Any) -> None:
    """Some items run to their end; what has not started does not start."""
    release, started = flag("release"), flag("started")
    r = pool.starmap_async(tasks.hold, [(started, release, i) for i in range(10)], 1)
    assert tasks.until(lambda: len(tasks.lines(started)) == 2)
    assert not r.cancel()
    assert r.progress == 8
    tasks.touch(release)
    r.wait(10)
    assert len(tasks.lines(started)) == 2


def test_cancelling_a_map_that_has_ended_says_no(pool: zexec.Pool) -> None:
    r = pool.map_async(tasks.double, [1])
    r.wait()
    assert not r.cancel()
    assert r.get(0) == [2]


def test_cancelling_running_items_too(pool: zexec.Pool, flag: Any) -> None:
    release, started = flag("release"), flag("started")
    r = pool.starmap_async(tasks.hold, [(started, release, i) for i in range(10)], 1)
    assert tasks.until(lambda: len(tasks.lines(started)) == 2)
    assert r.cancel(running=True)
    with pytest.raises(CancelledError):
        r.get(0)
    assert pool.map(tasks.double, [1]) == [2]


def test_metadata(pool: zexec.Pool) -> None:
    r = pool.map_async(tasks.nap, [0.01] * 6, 1)
    r.wait()
    m = r.metadata
    assert m.status == "ok"
    assert m.submitted <= m.started + 0.001 <= m.completed
    assert m.completed - m.started >= 0.02
    assert set(m.engine_id) <= {0, 1}
    assert len(m.msg_id) == 6
