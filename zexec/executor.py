"""Executor: ``concurrent.futures.ProcessPoolExecutor`` on zexec. Translation only.

A subclass of the stdlib's ProcessPoolExecutor, so that ``isinstance`` says what libraries expect; nothing of it is used.
"""

from __future__ import annotations

import concurrent.futures.process as stdlib
import logging
import multiprocessing
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from zexec import errors
from zexec.chunks import as_sequence
from zexec.client import NOT_YOURS, Client, ClosedError
from zexec.local import check_policies, local_client
from zexec.map_result import MapResult
from zexec.options import DEFAULT, Options
from zexec.outcomes import Face, broken, set_cause
from zexec.pool import default_processes, speaks_as
from zexec.result import AsyncResult

if TYPE_CHECKING:
    import zexec.views.client as views

T = TypeVar("T")

LOGGER = logging.getLogger("concurrent.futures")


def _cause(text: str) -> BaseException:
    return stdlib._RemoteTraceback(text)  # type: ignore[arg-type]  # the stubs want a traceback; it is its text


def _unpicklable(exc: BaseException | None, error: str, value: str, text: str) -> BaseException:
    if exc is None:
        return errors.RemoteError("PicklingError", error, text)
    set_cause(exc, _cause(text))
    return exc


FACE = Face("executor", _cause, _unpicklable)

#: clients whose work is to be finished before the interpreter exits
_unfinished: weakref.WeakSet[Client] = weakref.WeakSet()


def _finish_all() -> None:
    """Before the interpreter exits: executors finish their work, as in the stdlib."""
    for client in list(_unfinished):
        if not client.foreign:
            client.close()
            client.join()


# As the stdlib's executors: runs before threads are joined and before ``atexit``.
threading._register_atexit(_finish_all)  # type: ignore[attr-defined]


#: Kept by itself: under ``zexec run`` the module's name for it comes to mean ours.
_Stdlib = stdlib.ProcessPoolExecutor


@speaks_as("ProcessPoolExecutor")
class _Calls:
    """The calls of an Executor, with options bound to them."""

    _options: Options

    def _started(self) -> Client:
        raise NotImplementedError

    def _has_other_submit(self) -> bool:
        return False

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> AsyncResult:
        """Run ``fn(*args, **kwargs)`` on an engine.

        Returns:
            its Future, an AsyncResult.

        Raises:
            RuntimeError: the executor was shut down.
            BrokenProcessPool: it cannot run anything any more.
        """
        try:
            return self._started().submit(fn, args, kwargs, self._options)
        except ClosedError:
            raise RuntimeError("cannot schedule new futures after shutdown") from None

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """``map(fn, *iterables)`` on the engines.

        Args:
            fn: called with one item of each iterable.
            iterables: drawn at once, or as far as ``buffersize`` allows.
            timeout: seconds from now until each result must have arrived.
            chunksize: items to a task. The default of 1 costs no message per item: tasks travel in bulk.
            buffersize: draw at most so many items ahead of those that have been taken from the iterator.
            return_exceptions: yield an item's exception rather than raise it (ours).

        Returns:
            an iterator over the values, in order.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if buffersize is not None:
            if isinstance(buffersize, bool) or not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        if self._options.timeout is not None:
            chunksize = 1  # a time-out is per item
        if buffersize is None and not return_exceptions and self._has_other_submit():
            # Somebody has put a submit of their own in its place, to count or to wrap calls, and expects map to use it.
            return _Stdlib.map(self, fn, *iterables, timeout=timeout, chunksize=chunksize)  # type: ignore[arg-type]
        deadline = None if timeout is None else monotonic() + timeout
        # Items of a single iterable need no tuples around them: a quarter of the bytes, and of the time.
        star = len(iterables) != 1
        iterable = zip(*iterables, strict=False) if star else iterables[0]
        submit = _Submitter(self, fn, star, chunksize, return_exceptions)
        if buffersize is None:
            return submit(as_sequence(iterable)).drain(deadline)
        return _buffered(submit, iter(iterable), buffersize, chunksize, deadline)


class _Submitter:
    """Submits a sequence of items, or with ``star`` of argument tuples, as one map."""

    def __init__(
        self, calls: _Calls, fn: Callable[..., Any], star: bool, chunksize: int, return_exceptions: bool
    ) -> None:
        self._calls = calls
        self._fn = fn
        self._star = star
        self._chunksize = chunksize
        self._return_exceptions = return_exceptions

    def __call__(self, items: Sequence[Any]) -> MapResult:
        try:
            client = self._calls._started()
            return client.submit_map(
                self._fn, items, self._chunksize, self._star, self._calls._options, self._return_exceptions
            )
        except ClosedError:
            raise RuntimeError("cannot schedule new futures after shutdown") from None


def _buffered(
    submit: _Submitter, items: Iterator[Any], buffersize: int, chunksize: int, deadline: float | None
) -> Iterator[Any]:
    """The first items are drawn now, the others as values are taken."""
    step = min(chunksize, buffersize)
    waiting: deque[MapResult] = deque()
    for _ in range(buffersize // step):
        chunk = list(islice(items, step))
        if chunk:
            waiting.append(submit(chunk))

    def generate() -> Iterator[Any]:
        try:
            while waiting:
                # The one being drained counts as taken from its last value on.
                yield from waiting[0].drain(deadline, before_last=refill)
                waiting.popleft()
        finally:
            for result in waiting:
                result.cancel_rest()

    def refill() -> None:
        chunk = list(islice(items, step))
        if chunk:
            waiting.append(submit(chunk))

    return generate()


class _Bound(_Calls):
    """An executor's calls with options; made by ``Executor.options``."""

    def __init__(self, executor: ProcessPoolExecutor, options: Options) -> None:
        self._executor = executor
        self._options = options

    def _started(self) -> Client:
        return self._executor._started()


class ProcessPoolExecutor(_Calls, _Stdlib):
    """An executor over engines. Everything that ``concurrent.futures.ProcessPoolExecutor`` has, as it has it.

    Args:
        max_workers: number of engines, by default the CPUs this process may use.
        mp_context: multiprocessing context that starts the engines.
        initializer: called in each engine before its first task.
        initargs: its arguments.
        max_tasks_per_child: tasks after which an engine is replaced. As in the stdlib the start method is then spawn unless
            ``mp_context`` says otherwise, and may not be fork.
        on_engine_death: "replace": the task that it ran fails with EngineDied (a BrokenProcessPool), the executor goes on
            (ours); "break": everything that is open fails and nothing can be submitted, as in the stdlib.
        max_memory: bytes of memory of its own from which on an engine is replaced, between two tasks; None for any number (ours).
            If it has so much before its first task, nothing can run and every call says so.
        cluster: a zexec.Cluster, its name or its connection file (ours): run on its engines, which this executor shares with
            others. ``max_workers`` and ``mp_context`` are then of no meaning. By default the cluster that the environment
            names in ZEXEC_CLUSTER, if it names one.
    """

    _options = DEFAULT

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: Any = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        *,
        max_tasks_per_child: int | None = None,
        on_engine_death: str = "replace",
        max_memory: int | None = None,
        cluster: Any = None,
    ) -> None:
        if cluster is not None and (
            max_tasks_per_child is not None or max_memory is not None or on_engine_death != "replace"
        ):
            raise ValueError(
                "the engines of a cluster are everybody's: max_tasks_per_child, max_memory and on_engine_death are not possible"
            )
        self._cluster = cluster if cluster is not None else os.environ.get("ZEXEC_CLUSTER") or None
        check_policies(on_engine_death, max_memory)
        if max_workers is None:
            max_workers = default_processes()
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if mp_context is None:
            if max_tasks_per_child is not None:
                mp_context = multiprocessing.get_context("spawn")
            else:
                mp_context = multiprocessing.get_context()
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if mp_context.get_start_method(allow_none=False) == "fork":
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method; "
                    "supply a different mp_context."
                )
        self._max_workers = max_workers
        self._mp_context = mp_context
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._max_tasks_per_child = max_tasks_per_child
        self._on_engine_death = on_engine_death
        self._max_memory = max_memory
        self._safe_to_dynamically_spawn_children = mp_context.get_start_method(allow_none=False) != "fork"
        self._shutdown_lock = threading.Lock()
        self._shutdown_thread = False
        self._client: Client | None = None
        #: the process that has started the engines, or is at it
        self._starter: int | None = None
        self._finalizer: Any = None

    def _has_other_submit(self) -> bool:
        return "submit" in self.__dict__ or type(self).submit is not _Calls.submit

    # -- what libraries and tests read -------------------------------------------------------------------------------

    @property
    def _processes(self) -> dict[int, Any] | None:  # type: ignore[override]  # an attribute there; nobody else sets it
        """The engines' processes by pid; None once shut down."""
        client = self._client
        if client is None:
            return None if self._shutdown_thread else {}
        if self._shutdown_thread and client.over:
            return None
        return {process.pid: process for process in client.processes().values()}

    @property
    def _executor_manager_thread(self) -> threading.Thread | None:  # type: ignore[override]
        """The thread that ends when everything has ended; None before the first call."""
        return self._client.thread if self._client is not None else None

    @property
    def _broken(self) -> Any:  # type: ignore[override]
        """Why nothing can run any more, or False."""
        client = self._client
        detail = client.broken if client is not None else None
        return str(broken(detail, FACE)) if detail is not None else False

    # -- calls -------------------------------------------------------------------------------------------------------

    def options(
        self,
        *,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        targets: int | Iterable[int] | None = None,
        after: Any = None,
        follow: Any = None,
        patience: float | None = None,
        shared: bool = False,
    ) -> _Bound:
        """Bind options to calls: ``executor.options(retries=2).submit(f, x)``. As ``Pool.options``."""
        return _Bound(
            self,
            Options.of(
                timeout=timeout,
                retries=retries,
                priority=priority,
                targets=targets,
                after=after,
                follow=follow,
                patience=patience,
                shared=shared,
            ),
        )

    def _started(self) -> Client:
        """The client, with engines starting; made at the first call, as in the stdlib."""
        client = self._client
        if client is None or self._shutdown_thread:
            if self._starter not in (None, os.getpid()):
                # An engine, forked while the lock was held and there was no client yet.
                raise RuntimeError(NOT_YOURS.format(FACE.name))
            with self._shutdown_lock:
                if self._shutdown_thread:
                    raise RuntimeError("cannot schedule new futures after shutdown")
                if sys.is_finalizing() or _is_shutting_down():
                    raise RuntimeError("cannot schedule new futures after interpreter shutdown")
                client = self._client
                if client is None:
                    self._starter = os.getpid()
                    # Whatever goes wrong from here on is told by the call's result, as in the stdlib.
                    client = self._client = self._start()
                    return client
        if client.broken is not None:
            raise broken(client.broken, FACE)
        return client

    def _start(self) -> Client:
        if self._cluster is not None:
            from zexec.cluster.connect import cluster_client

            client = cluster_client(FACE, self._cluster, self._initializer, self._initargs)
        else:
            forked = not self._safe_to_dynamically_spawn_children
            client = local_client(
                FACE,
                self._mp_context,
                self._max_workers,
                self._initializer,
                self._initargs,
                self._max_tasks_per_child,
                on_demand=not forked,
                begin=forked,
                on_engine_death=self._on_engine_death,
                max_memory=self._max_memory,
            )
        # An executor that is dropped finishes its work, as in the stdlib.
        self._finalizer = weakref.finalize(self, Client.close, client)
        self._finalizer.atexit = False
        _unfinished.add(client)
        return client

    @property
    def client(self) -> views.Client:
        """A Client of it: engines one by one, data on them, views (ours)."""
        from zexec.views.client import Client

        return Client(self)

    def story(self, result: AsyncResult) -> list[tuple[float, str]]:
        """What happened to a call so far: pairs of a time (``time.monotonic()``) and a sentence (ours)."""
        return [] if self._client is None else self._client.story(result)

    def dump(self, file: TextIO | None = None) -> None:
        """Print what it waits for: each engine and what it does, with the stacks of its threads, and tasks that wait (ours).

        Args:
            file: where to, by default standard error. See also ``zexec.dump_on_signal``.
        """
        print(
            self._client.dump() if self._client is not None else "no call yet, so no engines", file=file or sys.stderr
        )

    # -- ends --------------------------------------------------------------------------------------------------------

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, detach: bool = False) -> None:
        """Accept no more work.

        Args:
            wait: return only when everything that is open has ended and engines have left.
            cancel_futures: cancel what no engine has started.
            detach: on a cluster: leave what is open to go on there. ``zexec.Client(cluster).get_result(ids)`` gets its results,
                from whatever process; ``result.metadata.msg_id`` is the id (ours).

        Raises:
            ValueError: ``detach`` without a cluster.
        """
        with self._shutdown_lock:
            self._shutdown_thread = True
            client = self._client
        if client is None:
            return
        if cancel_futures:
            client.cancel_waiting()
        if detach:
            client.detach()
            _unfinished.discard(client)
            return
        client.close()
        if wait:
            client.join()
            _unfinished.discard(client)

    def terminate_workers(self) -> None:
        """End the engines' processes now (SIGTERM); what is open fails. The executor is shut down."""
        self._force_shutdown(force=False)

    def kill_workers(self) -> None:
        """As ``terminate_workers``, with SIGKILL."""
        self._force_shutdown(force=True)

    def _force_shutdown(self, force: bool) -> None:
        with self._shutdown_lock:
            self._shutdown_thread = True
            client = self._client
        if client is not None:
            client.break_off("its workers were ended on request", force)
            client.join()
            _unfinished.discard(client)


Executor = ProcessPoolExecutor


def _is_shutting_down() -> bool:
    return bool(getattr(threading, "_SHUTTING_DOWN", False))


__all__ = ["Executor", "MapResult", "ProcessPoolExecutor"]
