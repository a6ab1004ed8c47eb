"""zexec runs code written for ``multiprocessing.Pool`` or a ``concurrent.futures`` Executor, unchanged, on a cluster.

General layout, from the user down:
  pool, executor   translate the stdlib's interfaces to ``client``; ``result`` and ``imap`` are what their calls return
  views            engines one by one: an extension, loaded when asked for
  client           pickles calls, gives tasks to a hub, settles results
  hub              accepts tasks, performs what ``core`` decides; hosted by a thread of the client, or by a process
  cluster          clients of a hub process: the link to it, and Cluster
  core             every scheduling decision, pure
  engine           the process that runs tasks
  wire, net        bytes <-> messages and objects, shared memory; sockets
  launch           how engines come to be
  cli              ``python -m zexec``
  ipython          magics, by ``%load_ext zexec``
"""

from __future__ import annotations

from zexec._version import __version__

TYPE_CHECKING = False  # as in typing, whose import would cost every program 4 ms
if TYPE_CHECKING:
    from concurrent.futures import as_completed, wait
    from typing import Any

    from zexec.arrays import asshared, empty, zeros
    from zexec.cluster.cluster import Cluster
    from zexec.dependency import Dependency, depend, require
    from zexec.diagnosis import dump, dump_on_signal
    from zexec.engine.outputs import publish_data
    from zexec.errors import (
        AlreadyDisplayedError,
        BrokenClusterError,
        ClusterError,
        CompositeError,
        DependencyTimeout,
        EngineDied,
        ImpossibleDependency,
        InitializerError,
        InvalidDependency,
        NoEngineError,
        NotReadyError,
        RemoteError,
        SegmentLostError,
        StoreError,
        TaskAborted,
        TerminatedError,
        TimeoutError,
        UnmetDependency,
        UnpicklingError,
        ZexecError,
    )
    from zexec.executor import Executor, ProcessPoolExecutor
    from zexec.map_result import MapResult
    from zexec.pool import Pool
    from zexec.result import AsyncResult
    from zexec.serializers import register_serializer
    from zexec.views.balanced import LoadBalancedView
    from zexec.views.client import Client
    from zexec.views.direct import DirectView
    from zexec.views.functions import ParallelFunction, RemoteFunction, parallel, remote
    from zexec.views.partition import register_splitter
    from zexec.views.reference import Reference
    from zexec.views.results import ViewResult
    from zexec.views.shipping import interactive

# Loaded when first asked for: importing zexec costs next to nothing until somebody makes a pool.
_WHERE = {
    "AlreadyDisplayedError": "zexec.errors",
    "AsyncResult": "zexec.result",
    "BrokenClusterError": "zexec.errors",
    "Client": "zexec.views.client",
    "Cluster": "zexec.cluster.cluster",
    "ClusterError": "zexec.errors",
    "CompositeError": "zexec.errors",
    "Dependency": "zexec.dependency",
    "DependencyTimeout": "zexec.errors",
    "DirectView": "zexec.views.direct",
    "EngineDied": "zexec.errors",
    "Executor": "zexec.executor",
    "ImpossibleDependency": "zexec.errors",
    "InitializerError": "zexec.errors",
    "InvalidDependency": "zexec.errors",
    "LoadBalancedView": "zexec.views.balanced",
    "MapResult": "zexec.map_result",
    "NoEngineError": "zexec.errors",
    "NotReadyError": "zexec.errors",
    "ParallelFunction": "zexec.views.functions",
    "Pool": "zexec.pool",
    "ProcessPoolExecutor": "zexec.executor",
    "Reference": "zexec.views.reference",
    "RemoteError": "zexec.errors",
    "RemoteFunction": "zexec.views.functions",
    "SegmentLostError": "zexec.errors",
    "StoreError": "zexec.errors",
    "TaskAborted": "zexec.errors",
    "TerminatedError": "zexec.errors",
    "TimeoutError": "zexec.errors",
    "UnmetDependency": "zexec.errors",
    "UnpicklingError": "zexec.errors",
    "ViewResult": "zexec.views.results",
    "ZexecError": "zexec.errors",
    "as_completed": "concurrent.futures",
    "asshared": "zexec.arrays",
    "depend": "zexec.dependency",
    "dump": "zexec.diagnosis",
    "dump_on_signal": "zexec.diagnosis",
    "empty": "zexec.arrays",
    "interactive": "zexec.views.shipping",
    "parallel": "zexec.views.functions",
    "publish_data": "zexec.engine.outputs",
    "register_serializer": "zexec.serializers",
    "register_splitter": "zexec.views.partition",
    "remote": "zexec.views.functions",
    "require": "zexec.dependency",
    "wait": "concurrent.futures",
    "zeros": "zexec.arrays",
}

__all__ = [
    "AlreadyDisplayedError",
    "AsyncResult",
    "BrokenClusterError",
    "Client",
    "Cluster",
    "ClusterError",
    "CompositeError",
    "Dependency",
    "DependencyTimeout",
    "DirectView",
    "EngineDied",
    "Executor",
    "ImpossibleDependency",
    "InitializerError",
    "InvalidDependency",
    "LoadBalancedView",
    "MapResult",
    "NoEngineError",
    "NotReadyError",
    "ParallelFunction",
    "Pool",
    "ProcessPoolExecutor",
    "Reference",
    "RemoteError",
    "RemoteFunction",
    "SegmentLostError",
    "StoreError",
    "TaskAborted",
    "TerminatedError",
    "TimeoutError",
    "UnmetDependency",
    "UnpicklingError",
    "ViewResult",
    "ZexecError",
    "__version__",
    "as_completed",
    "asshared",
    "depend",
    "dump",
    "dump_on_signal",
    "empty",
    "interactive",
    "parallel",
    "publish_data",
    "register_serializer",
    "register_splitter",
    "remote",
    "require",
    "wait",
    "zeros",
]


def __getattr__(name: str) -> Any:
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value = getattr(importlib.import_module(where), name)
    globals()[name] = value
    return value


def load_ipython_extension(shell: Any) -> None:
    """What ``%load_ext zexec`` calls: there are ``%px`` and its kin, see ``zexec.ipython``."""
    from zexec.ipython import load

    load(shell)


def unload_ipython_extension(shell: Any) -> None:
    """What ``%unload_ext zexec`` calls."""
    from zexec.ipython import unload

    unload(shell)


def __dir__() -> list[str]:
    return sorted({*globals(), *_WHERE})
