"""Tasks that wait for tasks of the cluster that they run on."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from typing import Any

import zexec
from tests.helpers import tasks

WAYS = ("map", "imap", "imap_unordered", "apply", "apply_async", "submit", "wait", "as_completed", "environment")


def leaves(levels: int) -> Any:
    return "leaf" if levels == 0 else [leaves(levels - 1)] * 3


def tree(what: tuple[str, str, int]) -> Any:
    """Three tasks like this one, a level lower, and what they return."""
    cluster, how, levels = what
    if levels == 0:
        return "leaf"
    below = [(cluster, how, levels - 1)] * 3
    if how in ("submit", "wait", "as_completed"):
        with zexec.Executor(cluster=cluster) as executor:
            futures = [executor.submit(tree, b) for b in below]
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
