"""The stdlib's own classes under another name: what do the tests, the swap and this machine fail by themselves?"""

from __future__ import annotations

import concurrent.futures.process
import multiprocessing.pool


class Pool(multiprocessing.pool.Pool):
    """A Pool that is swapped in like zexec's."""


class ProcessPoolExecutor(concurrent.futures.process.ProcessPoolExecutor):
    """An Executor that is swapped in like zexec's."""
