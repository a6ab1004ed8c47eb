"""Tasks that wait for tasks of the cluster that they run on."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import queue
import threading
from typing import Any

import zexec
from tests.helpers import tasks

WAYS = (
    *("map", "imap", "imap_unordered", "apply", "apply_async", "submit", "wait", "as_completed", "environment"),
    *("time-out", "own engine", "follow", "callback", "done callback", "asyncio", "view"),
)


def own_place() -> int:
    """The number of the engine that runs this."""
    from zexec.net import cards

    return cards.place[0]


async def gather(futures: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*map(asyncio.wrap_future, futures)))


def leaves(levels: int) -> Any:
    return "leaf" if levels == 0 else [leaves(levels - 1)] * 3


def tree(what: tuple[str, str, int]) -> Any:
    """Three tasks like this one, a level lower, and what they return."""
    cluster, how, levels = what
    if levels == 0:
        return "leaf"
    below = [(cluster, how, levels - 1)] * 3
    if how == "view":
        with zexec.Client(cluster) as client:
            found: list[Any] = client.load_balanced_view().map_sync(tree, below)
            return found
    if how in ("submit", "wait", "as_completed", "time-out", "own engine", "follow", "done callback", "asyncio"):
        with zexec.Executor(cluster=cluster) as executor:
            options: dict[str, Any] = {}
            if how == "time-out":
                options = {"timeout": tasks.PATIENCE}
            elif how == "own engine":
                options = {"targets": own_place()}
            elif how == "follow":
                options = {"follow": executor.submit(own_place)}
            futures = [executor.options(**options).submit(tree, b) for b in below]
            if how == "asyncio":
                return asyncio.run(gather(futures))
            if how == "done callback":
                ended: queue.SimpleQueue[Any] = queue.SimpleQueue()
                for future in futures:
                    future.add_done_callback(ended.put)
                return [ended.get(timeout=tasks.PATIENCE).result(0) for _ in futures]
            if how == "wait":
                done, pending = concurrent.futures.wait(futures)
                assert not pending
                return [f.result() for f in done]
            if how == "as_completed":
                return [f.result() for f in concurrent.futures.as_completed(futures)]
            return [f.result() for f in futures]
    if how == "environment":
        # Set for good: whoever waits runs other tasks meanwhile, and those look at it too.
        os.environ["ZEXEC_CLUSTER"] = cluster
        with zexec.Pool() as pool:
            return pool.map(tree, below, 1)
    with zexec.Pool(cluster=cluster) as pool:
        if how == "map":
            return pool.map(tree, below, 1)
        if how == "imap":
            return list(pool.imap(tree, below))
        if how == "imap_unordered":
            return list(pool.imap_unordered(tree, below))
        if how == "callback":
            values: queue.SimpleQueue[Any] = queue.SimpleQueue()
            for b in below:
                pool.apply_async(tree, (b,), callback=values.put)
            return [values.get(timeout=tasks.PATIENCE) for _ in below]
        if how == "apply":
            return [pool.apply(tree, (b,)) for b in below]
        return [r.get() for r in [pool.apply_async(tree, (b,)) for b in below]]


def chain(cluster: str, levels: int) -> int:
    if levels == 0:
        return 0
    with zexec.Executor(cluster=cluster) as executor:
        below: int = executor.submit(chain, cluster, levels - 1).result()
        return below + 1


def from_threads(cluster: str) -> list[int]:
    found: dict[int, int] = {}
    with zexec.Pool(cluster=cluster) as pool:

        def ask(i: int) -> None:
            found[i] = pool.apply(tasks.double, (i,))

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return [found[i] for i in range(8)]


def failing(cluster: str) -> list[str]:
    from tests.helpers import saboteurs

    names = []
    with zexec.Pool(cluster=cluster) as pool:
        for call in ((tasks.fail, ()), (tasks.reciprocal, (0,)), (saboteurs.system_exit, ())):
            names.append(type(pool.apply_async(*call).exception()).__name__)
    return names


def dependent(cluster: str) -> int:
    with zexec.Pool(cluster=cluster) as pool:
        first = pool.apply_async(tasks.double, (1,))
        second = pool.options(after=first).apply_async(tasks.double, (2,))
        result: int = second.get() + first.get()
        return result


def too_long(cluster: str, seconds: float, below: float) -> list[str]:
    """Wait for tasks that may not take so long, while no other engine is free; one of them waits for another."""
    with zexec.Executor(cluster=cluster) as executor:
        limited = executor.options(timeout=seconds)
        futures = [
            limited.submit(tasks.nap, 60),
            limited.submit(wait_for_a_nap, cluster, below),
            limited.submit(abs, -3),
        ]
        return [repr(future.exception() or future.result()) for future in futures]


def wait_for_a_nap(cluster: str, seconds: float) -> None:
    with zexec.Executor(cluster=cluster) as executor:
        executor.submit(tasks.nap, seconds).result()


def polling(cluster: str) -> int:
    """Look again and again, and never wait."""
    with zexec.Executor(cluster=cluster) as executor:
        future = executor.submit(abs, -3)
        tasks.until(future.done)
        return int(future.result(0))


def of_each_other(cluster: str, place: int, folder: str) -> int:
    """Wait for a task that only another engine may run, when that one does the same."""
    tasks.touch(f"{folder}/{own_place()}")
    tasks.wait_for(f"{folder}/{place}")
    with zexec.Executor(cluster=cluster) as executor:
        return int(executor.options(targets=place).submit(abs, -3).result())


def impatient(cluster: str, started: str, release: str) -> str:
    """Wait for something that another engine runs."""
    with zexec.Pool(cluster=cluster) as pool:
        try:
            pool.apply_async(tasks.hold, (started, release)).get(0.2)
        except zexec.TimeoutError as e:
            return type(e).__name__
    return "no error"


def own_pools(levels: int) -> list[Any]:
    if levels == 0:
        return ["bottom"]
    with zexec.Pool(1) as pool:
        found: list[Any] = pool.apply(own_pools, (levels - 1,))
        return found
