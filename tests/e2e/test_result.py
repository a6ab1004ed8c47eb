"""AsyncResult: a Future and multiprocessing's AsyncResult in one."""

from __future__ import annotations

import asyncio
import concurrent.futures
import multiprocessing
import threading
import time
from concurrent.futures import CancelledError
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

#: each interface's way to get one
STARTS: dict[str, Any] = {
    "apply_async": lambda pool, f, *a: pool.apply_async(f, a),
    "map_async": lambda pool, f, *a: pool.starmap_async(f, [a]),
}


def test_it_is_both(pool: zexec.Pool) -> None:
    r = pool.apply_async(tasks.double, (1,))
    m = pool.map_async(tasks.double, (1,))
    for each in (r, m):
        assert isinstance(each, concurrent.futures.Future)
        assert isinstance(each, zexec.AsyncResult)
    assert isinstance(m, zexec.MapResult)
    assert r.result(10) == r.get(10) == r.result() == r.get() == 2
    assert m.result(10) == m.get(10) == [2]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("method", ["result", "get", "exception"])
@pytest.mark.parametrize(
    "caught", [multiprocessing.TimeoutError, concurrent.futures.TimeoutError, TimeoutError, zexec.TimeoutError]
)
def test_too_early_is_caught_three_ways(pool: zexec.Pool, flag: Any, start: str, method: str, caught: Any) -> None:
    r = STARTS[start](pool, tasks.hold, flag("started"), flag("release"), 1)
    with pytest.raises(caught, match="hold"):
        getattr(r, method)(timeout=0.01)
    with pytest.raises(caught):
        getattr(r, method)(0)
    tasks.touch(flag("release"))
    assert getattr(r, method)(10) in (1, [1], None)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("caught", [ValueError, AssertionError])
def test_successful_too_early(pool: zexec.Pool, flag: Any, start: str, caught: Any) -> None:
    r = STARTS[start](pool, tasks.hold, flag("started"), flag("release"), 1)
    with pytest.raises(caught, match="not ready"):
        r.successful()
    tasks.touch(flag("release"))
    r.wait(10)
    assert r.successful()


def test_wait_with_and_without_an_end(pool: zexec.Pool, flag: Any) -> None:
    r = pool.apply_async(tasks.hold, (flag("started"), flag("release")))
    assert r.wait(0.01) is None
    assert not r.ready()
    assert not r.done()
    assert tasks.wait_for(flag("started"))
    assert tasks.until(r.running)
    tasks.touch(flag("release"))
    r.wait()
    assert r.ready()
    assert r.done()
    assert not r.running()


def test_wait_does_not_raise(pool: zexec.Pool) -> None:
    r = pool.apply_async(tasks.fail)
    r.wait()
    assert not r.successful()
    assert isinstance(r.exception(), ValueError)


def test_as_completed(pool: zexec.Pool, executor: zexec.Executor) -> None:
    rs = [pool.apply_async(tasks.nap, (0.01 * (i % 3),)) for i in range(10)]
    fs = [executor.submit(tasks.nap, 0.01 * (i % 3)) for i in range(10)]
    assert set(concurrent.futures.as_completed([*rs, *fs], timeout=20)) == {*rs, *fs}
    assert set(zexec.as_completed(rs)) == set(rs)


def test_as_completed_gives_them_as_they_complete(pool: zexec.Pool, flag: Any) -> None:
    slow = pool.apply_async(tasks.hold, (flag("started"), flag("release")))
    fast = pool.apply_async(tasks.double, (1,))
    it = concurrent.futures.as_completed([slow, fast], timeout=20)
    assert next(it) is fast
    tasks.touch(flag("release"))
    assert next(it) is slow


def test_wait_for_several(executor: zexec.Executor, flag: Any) -> None:
    slow = executor.submit(tasks.hold, flag("started"), flag("release"))
    fast = executor.submit(tasks.double, 1)
    done, rest = zexec.wait([slow, fast], return_when=concurrent.futures.FIRST_COMPLETED)
    assert (done, rest) == ({fast}, {slow})
    done, rest = zexec.wait([slow, fast], timeout=0.01)
    assert (done, rest) == ({fast}, {slow})
    bad = executor.submit(tasks.fail)
    done, rest = zexec.wait([slow, bad], return_when=concurrent.futures.FIRST_EXCEPTION)
    assert (done, rest) == ({bad}, {slow})
    tasks.touch(flag("release"))
    done, rest = zexec.wait([slow, fast, bad], timeout=20)
    assert (done, rest) == ({slow, fast, bad}, set())


def test_mixed_with_the_stdlibs_own(executor: zexec.Executor) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        both = [executor.submit(tasks.double, 1), threads.submit(tasks.double, 2)]
        assert sorted(f.result() for f in concurrent.futures.as_completed(both)) == [2, 4]


def test_asyncio(pool: zexec.Pool, executor: zexec.Executor) -> None:
    async def main() -> list[Any]:
        loop = asyncio.get_running_loop()
        with pytest.raises(ValueError, match="as told"):
            await asyncio.wrap_future(pool.apply_async(tasks.fail))
        return await asyncio.gather(
            asyncio.wrap_future(pool.apply_async(tasks.double, (1,))),
            asyncio.wrap_future(pool.map_async(tasks.double, [1, 2])),
            loop.run_in_executor(executor, tasks.double, 2),
            loop.run_in_executor(executor, lambda: 7),
        )

    assert asyncio.run(main()) == [2, [2, 4], 4, 7]


def test_asyncio_cancels(executor: zexec.Executor, flag: Any) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            executor.submit(tasks.hold, flag("started"), flag("release"))
        inner = executor.submit(tasks.double, 1)
        outer = asyncio.wrap_future(inner)
        outer.cancel()
        with pytest.raises(asyncio.CancelledError):
            await outer
        del loop
        return inner

    inner = asyncio.run(main())
    assert tasks.until(inner.cancelled)
    tasks.touch(flag("release"))


def test_done_callbacks(pool: zexec.Pool, flag: Any) -> None:
    seen: list[Any] = []
    done = threading.Event()
    r = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 3))
    r.add_done_callback(lambda f: seen.append(f.result()))
    r.add_done_callback(lambda f: 1 / 0)
    r.add_done_callback(seen.append)
    r.add_done_callback(lambda f: done.set())
    assert seen == []
    tasks.touch(flag("release"))
    assert done.wait(20)
    assert seen == [3, r]
    r.add_done_callback(lambda f: seen.append("at once"))
    assert seen[-1] == "at once"


def test_settling_is_the_engines_alone(pool: zexec.Pool) -> None:
    r = pool.apply_async(tasks.double, (1,))
    for spoil in (lambda: r.set_result(1), lambda: r.set_exception(ValueError()), r.set_running_or_notify_cancel):
        with pytest.raises(concurrent.futures.InvalidStateError):
            spoil()
    assert r.get(10) == 2


def test_metadata(pool: zexec.Pool) -> None:
    before = time.time()
    r = pool.apply_async(tasks.nap, (0.05,))
    assert r.metadata["submitted"] >= before - 0.001
    r.wait()
    after = time.time()
    m = r.metadata
    assert before - 0.001 <= m["submitted"] <= m["started"] + 0.001
    assert m["completed"] - m["started"] == pytest.approx(0.05, abs=0.04)
    assert m["completed"] - 0.001 <= m["received"] <= after + 0.001
    assert m["engine_id"] in (0, 1)
    assert m["status"] == "ok"
    bad = pool.apply_async(tasks.fail)
    bad.wait()
    assert bad.metadata["status"] == "error"


def test_metadata_by_attribute(pool: zexec.Pool) -> None:
    r = pool.apply_async(tasks.double, (1,))
    r.wait()
    assert r.metadata.status == "ok"
    assert r.metadata.engine_id == r.metadata["engine_id"]
    with pytest.raises(AttributeError):
        r.metadata.nothing


def test_cancelled_error(executor: zexec.Executor, flag: Any) -> None:
    held = [executor.submit(tasks.hold, flag("started"), flag("release")) for _ in range(2)]
    f = executor.submit(tasks.double, 1)
    assert f.cancel()
    assert f.cancelled()
    assert f.done()
    assert not f.running()
    for ask in (f.result, f.exception, f.get):
        with pytest.raises(CancelledError):
            ask(0)
    assert "state=cancelled" in repr(f)
    assert f.cancel()
    tasks.touch(flag("release"))
    assert [h.result(10) for h in held] == [None, None]


def test_story(pool: zexec.Pool) -> None:
    r = pool.apply_async(tasks.double, (1,))
    r.wait()
    times, sentences = zip(*pool.story(r), strict=True)
    assert sentences[0] == "submitted"
    assert sentences[-1].startswith("ran on engine ")
    assert list(times) == sorted(times)


def test_many_threads_wait_for_one_result(pool: zexec.Pool, flag: Any) -> None:
    r = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 9))
    got: list[Any] = []
    threads = [threading.Thread(target=lambda: got.append(r.get(20))) for _ in range(8)]
    for t in threads:
        t.start()
    tasks.touch(flag("release"))
    for t in threads:
        t.join()
    assert got == [9] * 8
