"""callback and error_callback: which, when, where, and what their own failures do."""

from __future__ import annotations

import logging
import multiprocessing
import threading
from typing import Any

import pytest

import zexec
from tests.e2e.conftest import MakePool
from tests.helpers import tasks

CALLS: dict[str, Any] = {
    "apply_async": (lambda p, f, **k: p.apply_async(f, (3,), **k), lambda v: v),
    "map_async": (lambda p, f, **k: p.map_async(f, [3, 3], **k), lambda v: [v, v]),
    "starmap_async": (lambda p, f, **k: p.starmap_async(f, [(3,), (3,)], **k), lambda v: [v, v]),
}


@pytest.mark.parametrize("call", CALLS)
def test_callback_gets_the_value(both: MakePool, call: str) -> None:
    start, shape = CALLS[call]
    got: list[Any] = []
    r = start(both(2), tasks.double, callback=got.append, error_callback=lambda e: got.append("wrong"))
    r.wait()
    # As in the stdlib: ready only when the callback has returned.
    assert got == [shape(6)]
    assert r.get() == shape(6)


@pytest.mark.parametrize("call", CALLS)
def test_error_callback_gets_the_exception(both: MakePool, call: str) -> None:
    start, _ = CALLS[call]
    got: list[BaseException] = []
    r = start(both(2), tasks.fail_if_odd, callback=lambda v: got.append(KeyError("wrong")), error_callback=got.append)
    with pytest.raises(ValueError, match="3 is odd") as caught:
        r.get(10)
    assert got == [caught.value]


def test_map_async_of_nothing(both: MakePool) -> None:
    """The stdlib never calls back for an empty map; we do the same."""
    got: list[Any] = []
    r = both(1).map_async(tasks.double, [], callback=got.append)
    assert r.get(10) == []
    assert got in ([], [[]])


def test_all_run_in_one_thread_that_is_not_the_callers(both: MakePool) -> None:
    threads = []
    p = both(2)
    results = [
        p.apply_async(tasks.double, (i,), callback=lambda v: threads.append(threading.get_ident())) for i in range(20)
    ]
    for r in results:
        r.get(10)
    assert len(threads) == 20
    assert len(set(threads)) == 1
    assert threading.get_ident() not in threads


def test_one_that_raises_kills_nothing_and_is_reported(pool: zexec.Pool, caplog: pytest.LogCaptureFixture) -> None:
    def bad(value: Any) -> None:
        raise RuntimeError("a bad callback")

    with caplog.at_level(logging.ERROR, logger="concurrent.futures"):
        assert pool.apply_async(tasks.double, (1,), callback=bad).get(10) == 2
        with pytest.raises(ValueError, match="1 is odd"):
            pool.apply_async(tasks.fail_if_odd, (1,), error_callback=bad).get(10)
        got: list[Any] = []
        assert pool.map_async(tasks.double, [1], callback=got.append).get(10) == [2]
    assert got == [[2]]
    assert caplog.text.count("a bad callback") >= 2
    assert "tasks.double" in caplog.text or "double" in caplog.text


def test_one_that_raises_system_exit_kills_nothing(pool: zexec.Pool) -> None:
    def leave(value: Any) -> None:
        raise SystemExit(3)

    assert pool.apply_async(tasks.double, (1,), callback=leave).get(10) == 2
    got: list[Any] = []
    pool.apply_async(tasks.double, (2,), callback=got.append).wait()
    assert got == [4]


def test_one_may_use_the_pool(pool: zexec.Pool) -> None:
    """The stdlib's hangs here: its one result thread would have to deliver to itself."""
    got: list[Any] = []
    pool.apply_async(tasks.double, (1,), callback=lambda v: got.append(pool.apply(tasks.double, (v,)))).get(10)
    assert got == [4]


def test_one_that_blocks_does_not_block_results(pool: zexec.Pool) -> None:
    gate = threading.Event()
    slow = pool.apply_async(tasks.double, (1,), callback=lambda v: gate.wait(tasks.PATIENCE))
    assert pool.map(tasks.double, range(100)) == [2 * i for i in range(100)]
    assert not slow.ready()
    gate.set()
    assert slow.get(10) == 2


@pytest.mark.parametrize("end", ["close", "terminate"])
def test_one_may_end_the_pool(end: str) -> None:
    pool = zexec.Pool(2, context=multiprocessing.get_context("fork"))
    r = pool.apply_async(tasks.double, (1,), callback=lambda v: getattr(pool, end)())
    assert r.get(10) == 2
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(tasks.double, (1,))
    pool.join()


def test_one_may_end_and_join_the_pool() -> None:
    pool = zexec.Pool(2, context=multiprocessing.get_context("fork"))

    def end(value: Any) -> None:
        pool.close()
        pool.join()

    assert pool.apply_async(tasks.double, (1,), callback=end).get(10) == 2
    pool.join()


def test_close_waits_for_callbacks_at_join(both: MakePool) -> None:
    got: list[Any] = []
    p = both(2)
    for i in range(50):
        p.apply_async(tasks.double, (i,), callback=got.append)
    p.close()
    p.join()
    assert sorted(got) == [2 * i for i in range(50)]


def test_callbacks_of_chunks_come_in_order_of_arrival(pool: zexec.Pool) -> None:
    got: list[Any] = []
    results = [pool.apply_async(tasks.double, (i,), callback=got.append) for i in range(200)]
    for r in results:
        r.wait()
    assert sorted(got) == [2 * i for i in range(200)]
