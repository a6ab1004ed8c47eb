"""Tasks that have pools of their own, and processes that have somebody else's."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import wait
from typing import Any

import zexec
from tests.helpers import tasks


def pool_in_task(what: tuple[str, int]) -> list[int]:
    method, n = what
    with zexec.Pool(2, context=multiprocessing.get_context(method)) as pool:
        return pool.map(tasks.double, range(n))


def levels(n: int) -> int:
    if n == 0:
        return 0
    with zexec.Executor(1, mp_context=multiprocessing.get_context("fork")) as ex:
        deeper: int = ex.submit(levels, n - 1).result(20)
    return deeper + 1


def stdlib_pool_in_task() -> list[int]:
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(tasks.double, range(3))


def refused(kind: str) -> str:
    ctx = multiprocessing.get_context("fork")
    try:
        with ctx.Pool(1) if kind == "stdlib" else zexec.Pool(1, context=ctx) as pool:
            return str(pool.map(tasks.double, range(3)))
    except BaseException as e:
        return f"{type(e).__name__}: {e}"


_left_open: Any = None


def pool_left_open() -> list[int]:
    global _left_open
    _left_open = zexec.Pool(2, context=multiprocessing.get_context("fork"))
    return [w.pid for w in _left_open._pool]


def own_pool(answer: Any) -> None:
    with zexec.Pool(2, context=multiprocessing.get_context("fork")) as pool:
        answer.send(pool.map(tasks.double, range(3)))
    pool.join()


NOT_OURS = "belongs to the process that made it; after a fork, make one of your own"

EXPECTED_IN_FORK: list[Any] = [
    ("submit to the pool", "RuntimeError", NOT_OURS),
    ("submit to the executor", "RuntimeError", NOT_OURS),
    ("get", "RuntimeError", NOT_OURS),
    ("wait", "RuntimeError", NOT_OURS),
    ("futures.wait", "RuntimeError", NOT_OURS),
    ("next", "RuntimeError", NOT_OURS),
    ("get of what is there", "value", "2"),
    ("terminate", "value", "None"),
    ("shutdown", "value", "None"),
]


def ask_in_fork(answer: Any, pool: Any, executor: Any, held: Any, done: Any, it: Any) -> None:
    """In a fork of the client: what each call says."""
    calls: dict[str, Any] = {
        "submit to the pool": lambda: pool.apply_async(tasks.double, (1,)),
        "submit to the executor": lambda: executor.submit(tasks.double, 1),
        "get": lambda: held.get(20),
        "wait": lambda: held.wait(20),
        "futures.wait": lambda: wait([held], 20),
        "next": lambda: next(it),
        "get of what is there": lambda: done.get(20),
        "terminate": pool.terminate,
        "shutdown": lambda: executor.shutdown(wait=False),
    }
    said = []
    for name, call in calls.items():
        try:
            said.append((name, "value", str(call())))
        except BaseException as e:
            text = str(e)
            said.append((name, type(e).__name__, NOT_OURS if NOT_OURS in text else text))
    answer.send(said)
    os._exit(0)
