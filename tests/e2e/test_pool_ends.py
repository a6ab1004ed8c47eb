"""How a pool ends: close, terminate, with, garbage collection; never with anything left, which conftest sees to."""

from __future__ import annotations

import functools
import gc
import itertools
import multiprocessing
import pickle
import threading
import warnings
import weakref
from time import monotonic
from typing import Any

import pytest

import zexec
from tests.e2e.conftest import MakePool
from tests.helpers import tasks

FORK = multiprocessing.get_context("fork")


def test_close_lets_open_work_end(both: MakePool) -> None:
    p = both(2)
    results = [p.apply_async(tasks.nap, (0.01,)) for _ in range(20)]
    m = p.map_async(tasks.double, range(100), 1)
    p.close()
    p.join()
    assert [r.get(0) for r in results] == [0.01] * 20
    assert m.get(0) == [2 * i for i in range(100)]


def test_terminate_does_not(both: MakePool) -> None:
    p = both(2)
    p.map_async(tasks.nap, [60] * 20, 1)
    then = monotonic()
    p.terminate()
    p.join()
    assert monotonic() - then < 5


def test_what_was_open_at_terminate_fails(pool: zexec.Pool) -> None:
    """The stdlib's ``get`` would wait for ever."""
    one = pool.apply_async(tasks.nap, (60,))
    many = pool.map_async(tasks.nap, [60, 60])
    lazy = pool.imap(tasks.nap, [60])
    pool.terminate()
    with pytest.raises(zexec.TerminatedError, match="the pool was terminated before nap had ended"):
        one.get(10)
    with pytest.raises(zexec.TerminatedError):
        many.get(10)
    with pytest.raises(zexec.TerminatedError):
        next(lazy)


def test_with_terminates(both: MakePool) -> None:
    then = monotonic()
    with both(2) as p:
        p.map_async(tasks.nap, [60] * 4, 1)
    assert monotonic() - then < 5
    p.join()


def test_an_exception_passes_through_with(both: MakePool) -> None:
    with pytest.raises(KeyError), both(1) as p:
        raise KeyError
    p.join()


def test_ends_may_be_repeated_in_any_order(both: MakePool) -> None:
    p = both(1)
    for end in (p.close, p.close, p.join, p.close, p.join, p.terminate, p.join, p.terminate, p.close, p.join):
        end()


def test_terminate_without_join_leaves_nothing() -> None:
    zexec.Pool(2, context=FORK).terminate()


def test_close_without_join_leaves_nothing() -> None:
    pool = zexec.Pool(2, context=FORK)
    r = pool.apply_async(tasks.double, (1,))
    pool.close()
    assert r.get(10) == 2


def test_terminating_at_once(ctx: Any) -> None:
    pool = zexec.Pool(2, context=ctx)
    pool.terminate()
    pool.join()


def test_closing_at_once(ctx: Any) -> None:
    pool = zexec.Pool(2, context=ctx)
    pool.close()
    pool.join()


def test_unclosed_pool_warns(both: MakePool) -> None:
    p = both(1)
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):
        p.__del__()
    p.terminate()


def test_collected_pool_warns_and_leaves_nothing() -> None:
    pool = zexec.Pool(2, context=FORK)
    r = pool.apply_async(tasks.double, (1,))
    assert r.get(10) == 2
    client = pool._client
    tasks.until(
        lambda: client._kept is None
    )  # the hub's thread lets go of the pool a moment after it has told of the result
    with pytest.warns(ResourceWarning, match=r"unclosed running multiprocessing pool <zexec\.pool\.Pool state=RUN"):  # noqa: PT031
        del pool
        gc.collect()


@pytest.mark.parametrize("call", ["apply_async", "map_async"])
def test_collected_at_once_though_the_submit_was_slower_than_the_task(
    call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = zexec.Pool(1, context=FORK)
    client = pool._client
    link: Any = client._link

    def slow(submit: Any) -> Any:
        def submits(what: Any) -> None:
            submit(what)
            tasks.until(lambda: not client._open)

        return submits

    for name in ("submit", "submit_bulk"):
        monkeypatch.setattr(link, name, slow(getattr(link, name)))
    r = getattr(pool, call)(tasks.double, *([(1,)] if call == "apply_async" else [[1], 1]))
    assert r.get(10) in (2, [2])
    tasks.until(lambda: client._kept is None)
    monkeypatch.undo()
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):  # noqa: PT031
        del pool
        gc.collect()


class Dropped:
    """Makes pools that the test drops, and waits for their end: the hub's thread may be the last to hold one, and what its
    ``__del__`` warns of must fall into the test that expects it."""

    def __init__(self) -> None:
        self._gone: list[threading.Event] = []

    def pool(self) -> zexec.Pool:
        pool = zexec.Pool(1, context=FORK)
        gone = threading.Event()
        self._gone.append(gone)
        weakref.finalize(pool, gone.set)
        return pool

    def wait(self) -> bool:
        return all(gone.wait(20) for gone in self._gone)


@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool")
@pytest.mark.parametrize("call", ["apply_async", "map_async", "imap", "imap_unordered"])
def test_open_work_keeps_a_dropped_pool_alive(call: str, flag: Any) -> None:
    """As in the stdlib, which now and then hangs at the end of this."""
    dropped = Dropped()
    pool = dropped.pool()
    started, release = flag("started"), flag("release")
    if call == "apply_async":
        r = pool.apply_async(tasks.hold, (started, release, 7))
    else:
        r = getattr(pool, call)(tasks.hold_or_return, [(release, 7)] * 3)
    del pool
    gc.collect()
    tasks.touch(release)
    assert (list(r) if call.startswith("imap") else r.get(10)) in (7, [7, 7, 7])
    del r
    assert dropped.wait()


@pytest.mark.filterwarnings("ignore:unclosed running multiprocessing pool")
def test_a_pool_nobody_holds() -> None:
    dropped = Dropped()
    assert dropped.pool().map(tasks.double, [1, 2]) == [2, 4]
    assert dropped.pool().map_async(tasks.double, [1, 2]).get(10) == [2, 4]
    assert list(dropped.pool().imap(tasks.double, iter([1, 2]))) == [2, 4]
    assert dropped.wait()


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_collected_after_the_end_does_not_warn(both: MakePool, end: str) -> None:
    p = both(1)
    getattr(p, end)()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        p.__del__()
        del p
        gc.collect()


def test_a_pool_that_was_never_made_does_not_warn() -> None:
    with pytest.raises(ValueError):
        zexec.Pool(0)
    gc.collect()


def test_a_closed_pool_may_be_dropped_before_its_work_is_done() -> None:
    pool = zexec.Pool(2, context=FORK)
    r = pool.map_async(tasks.nap, [0.02] * 10, 1)
    pool.close()
    del pool
    gc.collect()
    assert r.get(10) == [0.02] * 10


@pytest.mark.parametrize("chunksize", [1, 3])
@pytest.mark.parametrize("call", ["imap", "imap_unordered"])
def test_close_lets_an_input_be_drawn_to_its_end(both: MakePool, call: str, chunksize: int, flag: Any) -> None:
    """Whether or not anybody takes the values."""
    p = both(2)
    log = flag("log")
    kept = getattr(p, call)(functools.partial(tasks.log_and_return, log), iter(range(500)), chunksize)
    getattr(p, call)(functools.partial(tasks.log_and_return, log), iter(range(500, 1000)), chunksize)
    p.close()
    p.join()
    assert sorted(map(int, tasks.lines(log))) == list(range(1000))
    assert sorted(kept) == list(range(500))


def test_close_lets_a_buffered_input_be_drawn_to_its_end(pool: zexec.Pool) -> None:
    it = pool.imap(tasks.double, iter(range(50)), buffersize=3)
    pool.close()
    assert list(it) == list(range(0, 100, 2))
    pool.join()


def test_dropping_a_buffered_iterator_gives_its_input_up(pool: zexec.Pool) -> None:
    it = pool.imap(tasks.double, itertools.count(), buffersize=3)
    assert next(it) == 0
    pool.close()
    del it
    pool.join()


def test_terminate_ends_the_drawing(pool: zexec.Pool) -> None:
    it = pool.imap(tasks.double, itertools.count())
    assert next(it) == 0
    pool.terminate()
    with pytest.raises(zexec.TerminatedError):
        for _ in it:
            pass


def test_cannot_be_pickled(both: MakePool) -> None:
    with pytest.raises(NotImplementedError, match="pool objects cannot be passed between processes or pickled"):
        pickle.dumps(both(1))


def test_repr(both: MakePool) -> None:
    p = both(2)
    assert repr(p).endswith("Pool state=RUN pool_size=2>")
    p.close()
    assert "state=CLOSE" in repr(p)
    p.join()
    p.terminate()
    assert "state=TERMINATE" in repr(p)


def test_many_pools_at_once() -> None:
    pools = [zexec.Pool(1, context=FORK) for _ in range(6)]
    assert [p.apply(tasks.double, (i,)) for i, p in enumerate(pools)] == [0, 2, 4, 6, 8, 10]
    for p in pools:
        p.close()
    for p in pools:
        p.join()


def test_many_pools_one_after_the_other() -> None:
    for i in range(20):
        with zexec.Pool(2, context=FORK) as pool:
            assert pool.map(tasks.double, [i]) == [2 * i]
