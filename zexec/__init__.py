"""zexec runs code written for ``multiprocessing.Pool`` or a ``concurrent.futures`` Executor, unchanged, on a cluster.

General layout, from the user down:
  pool, executor   translate the stdlib's interfaces to ``client``; ``result`` and ``imap`` are what their calls return
  client           pickles calls, gives tasks to a hub, settles results
  hub              accepts tasks, performs what ``core`` decides; hosted by a thread of the client
  core             every scheduling decision, pure
  engine           the process that runs tasks
  wire, net        bytes <-> messages and objects; sockets
  launch           how engines come to be
  cli              ``python -m zexec``
"""

from __future__ import annotations

from zexec._version import __version__

TYPE_CHECKING = False  # as in typing, whose import would cost every program 4 ms
if TYPE_CHECKING:
    from concurrent.futures import as_completed, wait
    from typing import Any

    from zexec.errors import (
        BrokenClusterError,
        EngineDied,
        InitializerError,
        NotReadyError,
        RemoteError,
        TerminatedError,
        TimeoutError,
        UnpicklingError,
        ZexecError,
    )
    from zexec.executor import Executor, ProcessPoolExecutor
    from zexec.pool import Pool
    from zexec.result import AsyncResult, MapResult

# Loaded when first asked for: importing zexec costs next to nothing until somebody makes a pool.
_WHERE = {
    "AsyncResult": "zexec.result",
    "BrokenClusterError": "zexec.errors",
    "EngineDied": "zexec.errors",
    "Executor": "zexec.executor",
    "InitializerError": "zexec.errors",
    "MapResult": "zexec.result",
    "NotReadyError": "zexec.errors",
    "Pool": "zexec.pool",
    "ProcessPoolExecutor": "zexec.executor",
    "RemoteError": "zexec.errors",
    "TerminatedError": "zexec.errors",
    "TimeoutError": "zexec.errors",
    "UnpicklingError": "zexec.errors",
    "ZexecError": "zexec.errors",
    "as_completed": "concurrent.futures",
    "wait": "concurrent.futures",
}

__all__ = [
    "AsyncResult",
    "BrokenClusterError",
    "EngineDied",
    "Executor",
    "InitializerError",
    "MapResult",
    "NotReadyError",
    "Pool",
    "ProcessPoolExecutor",
    "RemoteError",
    "TerminatedError",
    "TimeoutError",
    "UnpicklingError",
    "ZexecError",
    "__version__",
    "as_completed",
    "wait",
]


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(where), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
