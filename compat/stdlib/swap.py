"""Put other classes in the places where the stdlib keeps Pool and ProcessPoolExecutor."""

from __future__ import annotations

import concurrent.futures
import concurrent.futures.process
import multiprocessing.pool
from collections.abc import Callable, Iterable
from typing import Any


def install(pool: type[multiprocessing.pool.Pool], executor: type[concurrent.futures.ProcessPoolExecutor]) -> None:
    """Make `pool` and `executor` what every later look-up in the stdlib finds.

    `multiprocessing.Pool` and the contexts' `Pool` are methods that look `multiprocessing.pool.Pool` up when called,
    and `multiprocessing.managers` registers it when it is imported: all of them follow from one assignment. This must
    therefore run before `multiprocessing.managers` is imported.
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
    multiprocessing.pool.Pool = pool  # type: ignore[misc]
    concurrent.futures.process.ProcessPoolExecutor = executor  # type: ignore[misc]
    concurrent.futures.ProcessPoolExecutor = executor  # type: ignore[misc]
