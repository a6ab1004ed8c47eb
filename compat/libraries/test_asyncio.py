"""asyncio: run_in_executor, wrap_future, gather, as_completed, cancelling."""

from __future__ import annotations

import asyncio
import time

import pytest

import zexec
from compat.libraries.work import fail, here, square


def nap(seconds: float) -> float:
    here()
    time.sleep(seconds)
    return seconds


def test_run_in_executor(executor: zexec.Executor) -> None:
    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, square, n) for n in range(200)))

    assert asyncio.run(main()) == [n * n for n in range(200)]


def test_wrap_future_of_executor_and_pool(executor: zexec.Executor, pool: zexec.Pool) -> None:
    async def main() -> list[int]:
        futures = [executor.submit(square, 3), pool.apply_async(square, (4,)), pool.map_async(square, range(3))]
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    assert asyncio.run(main()) == [9, 16, [0, 1, 4]]


def test_exceptions(executor: zexec.Executor) -> None:
    async def main() -> list[object]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, fail, n) for n in range(5)]
        return await asyncio.gather(*calls, return_exceptions=True)

    values = asyncio.run(main())
    assert [type(value) for value in values] == [int, int, int, LookupError, int]


def test_the_loop_runs_on_meanwhile(executor: zexec.Executor) -> None:
    async def main() -> int:
        call = asyncio.wrap_future(executor.submit(nap, 0.5))
        ticks = 0
        while not call.done():
            ticks += 1
            await asyncio.sleep(0.01)
        return ticks

    assert asyncio.run(main()) > 20


def test_cancelling_reaches_what_has_not_started(executor: zexec.Executor) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        busy = [loop.run_in_executor(executor, nap, 0.5) for _ in range(2)]
        await asyncio.sleep(0.2)
        future = executor.submit(nap, 10)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0.1)
        assert future.cancelled()
        await asyncio.gather(*busy)

    asyncio.run(main())


def test_as_completed(executor: zexec.Executor) -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(executor, nap, seconds) for seconds in (0.4, 0.01)]
        return [await call for call in asyncio.as_completed(calls)]

    assert asyncio.run(main()) == [0.01, 0.4]


def test_as_the_default_executor_is_refused(executor: zexec.Executor) -> None:
    """As with the stdlib's: asyncio wants threads there, and says so by the executor's class."""

    async def main() -> None:
        asyncio.get_running_loop().set_default_executor(executor)

    executor.submit(square, 1).result()
    with pytest.raises(TypeError):
        asyncio.run(main())
