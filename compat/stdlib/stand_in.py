"""The stdlib's own classes under another name: what do the tests, the harness and this machine fail by themselves?"""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing.pool
from collections.abc import Callable, Iterable
from typing import Any


class Pool(multiprocessing.pool.Pool):
    """A Pool that is swapped in like zexec's."""


class ProcessPoolExecutor(concurrent.futures.process.ProcessPoolExecutor):
    """An Executor that is swapped in like zexec's."""


def install() -> None:
    """Make these classes what every later look-up in the stdlib finds.

    `multiprocessing.Pool` and the contexts' `Pool` are methods that look `multiprocessing.pool.Pool` up when called,
    and `multiprocessing.managers` registers it when it is imported.
    """
    own_pool = multiprocessing.pool.Pool

    # ThreadPool's constructor calls `Pool.__init__` by the module's global name: it has to stay the base class's.
    def init_thread_pool(
        self: multiprocessing.pool.ThreadPool,
        processes: int | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: Iterable[Any] = (),
    ) -> None:
        own_pool.__init__(self, processes, initializer, initargs)

    multiprocessing.pool.ThreadPool.__init__ = init_thread_pool  # type: ignore[method-assign]
    multiprocessing.pool.Pool = Pool  # type: ignore[misc]
    concurrent.futures.process.ProcessPoolExecutor = ProcessPoolExecutor  # type: ignore[misc]
    concurrent.futures.ProcessPoolExecutor = ProcessPoolExecutor  # type: ignore[misc]
