"""Where pools and executors under test have their hub and their engines."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from typing import Any

import zexec

#: Under forkserver engines are reached and watched as under spawn; ``e2e`` has that third method wherever it may matter.
METHODS = ("fork", "spawn")

#: makes the path of a file by which processes tell each other things
Flag = Callable[[str], str]


class Host:
    """Makes pools and executors of two engines, with a hub in this process."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.context = multiprocessing.get_context(method)
        self._made: list[Any] = []

    def pool(self, processes: int = 2, **kwargs: Any) -> zexec.Pool:
        pool = zexec.Pool(processes, context=self.context, **kwargs)
        self._made.append(pool.terminate)
        self._made.append(pool.join)
        return pool

    def executor(self, max_workers: int = 2, **kwargs: Any) -> zexec.Executor:
        executor = zexec.Executor(max_workers, mp_context=self.context, **kwargs)
        self._made.append(lambda: executor.shutdown(wait=True, cancel_futures=True))
        return executor

    def end(self) -> None:
        for end in self._made:
            end()
        self._made.clear()
