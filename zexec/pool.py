"""Pool: ``multiprocessing.Pool`` on zexec. Translation only: every method ends in the client's submit.

A subclass of the stdlib's Pool, so that ``isinstance`` says what libraries expect; nothing of it is used.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.pool
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.util import Finalize
from types import FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from zexec.chunks import as_sequence
from zexec.client import Client, ClosedError
from zexec.imap import ImapIterator
from zexec.local import local_client
from zexec.map_result import MapResult
from zexec.options import DEFAULT, Options
from zexec.outcomes import Face
from zexec.result import AsyncResult

if TYPE_CHECKING:
    import zexec.views.client as views

T = TypeVar("T")

RUN, CLOSE, TERMINATE = "RUN", "CLOSE", "TERMINATE"


class _Text(str):
    """A string that is its own repr: MaybeEncodingError makes a repr of what it is given."""

    def __repr__(self) -> str:
        return str(self)


def _unpicklable(exc: BaseException | None, error: str, value: str, text: str) -> BaseException:
    made: BaseException = multiprocessing.pool.MaybeEncodingError(_Text(error), _Text(value))  # type: ignore[attr-defined]
    return made


FACE = Face("pool", multiprocessing.pool.RemoteTraceback, _unpicklable)  # type: ignore[attr-defined]


def cpu_count() -> int:
    """CPUs that this process may use, as the newest stdlib counts them."""
    count = getattr(os, "process_cpu_count", os.cpu_count)()
    return count or 1


def speaks_as(name: str) -> Callable[[type[T]], type[T]]:
    """Have Python's own complaints about arguments name the class that users know, not the base that holds the methods."""

    def rename(cls: type[T]) -> type[T]:
        for attribute in vars(cls).values():
            if isinstance(attribute, FunctionType):
                attribute.__qualname__ = f"{name}.{attribute.__name__}"
        return cls

    return rename


@speaks_as("Pool")
class _Calls:
    """The calls of a Pool, with options bound to them."""

    _client: Client
    _options: Options

    def _check_running(self) -> None:
        raise NotImplementedError

    def _chunksize(self, items: int, chunksize: int | None) -> int:
        raise NotImplementedError

    def apply(self, func: Callable[..., T], args: Iterable[Any] = (), kwds: dict[str, Any] | None = None) -> T:
        """Call ``func(*args, **kwds)`` on an engine and wait for what it returns."""
        result: T = self.apply_async(func, args, kwds).get()
        return result

    def apply_async(
        self,
        func: Callable[..., Any],
        args: Iterable[Any] = (),
        kwds: dict[str, Any] | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """As ``apply``, without waiting.

        Args:
            func, args, kwds: the call.
            callback: called with the value when it is there, in the callback thread.
            error_callback: called with the exception instead.

        Raises:
            ValueError: the pool is closed.
        """
        self._check_running()
        try:
            return self._client.submit(func, tuple(args), kwds or {}, self._options, callback, error_callback)
        except ClosedError:
            raise ValueError("Pool not running") from None

    def map(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[T]:
        """``[func(x) for x in iterable]``, on the engines.

        Args:
            func: called with one item.
            iterable: drawn at once.
            chunksize: items to a task; by default such that each engine gets about four tasks.
            return_exceptions: put an item's exception where its value would be, rather than raise the first (ours).
        """
        result: list[T] = self._map(func, iterable, chunksize, False, None, None, return_exceptions).get()
        return result

    def map_async(
        self,
        func: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
        *,
        return_exceptions: bool = False,
    ) -> MapResult:
        """As ``map``, without waiting."""
        return self._map(func, iterable, chunksize, False, callback, error_callback, return_exceptions)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        *,
        return_exceptions: bool = False,
    ) -> list[T]:
        """``[func(*x) for x in iterable]``, on the engines; arguments as for ``map``."""
        result: list[T] = self._map(func, iterable, chunksize, True, None, None, return_exceptions).get()
        return result

    def starmap_async(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
        *,
        return_exceptions: bool = False,
    ) -> MapResult:
        """As ``starmap``, without waiting."""
        return self._map(func, iterable, chunksize, True, callback, error_callback, return_exceptions)

    def imap(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """As ``map``, lazily: values in order, as they arrive.

        Args:
            func: called with one item.
            iterable: drawn at the pace at which items complete, in a thread of its own.
            chunksize: items to a task.
            buffersize: draw at most so many items ahead of those that have been taken from the iterator; they are drawn
                in the thread that takes them.
            return_exceptions: yield an item's exception rather than raise it (ours).
        """
        return self._imap(func, iterable, chunksize, buffersize, return_exceptions, ordered=True)

    def imap_unordered(
        self,
        func: Callable[[Any], T],
        iterable: Iterable[Any],
        chunksize: int = 1,
        *,
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """As ``imap``, but values in the order in which they arrive."""
        return self._imap(func, iterable, chunksize, buffersize, return_exceptions, ordered=False)

    def _map(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callable[[Any], Any] | None,
        error_callback: Callable[[BaseException], Any] | None,
        return_exceptions: bool,
    ) -> MapResult:
        self._check_running()
        items = as_sequence(iterable)
        size = self._chunksize(len(items), chunksize)
        if self._options.timeout is not None:
            size = 1  # a time-out is per item
        try:
            return self._client.submit_map(
                func, items, size, star, self._options, return_exceptions, callback, error_callback
            )
        except ClosedError:
            raise ValueError("Pool not running") from None

    def _imap(
        self,
        func: Callable[..., Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        return_exceptions: bool,
        ordered: bool,
    ) -> Iterator[Any]:
        self._check_running()
        if chunksize < 1:
            raise ValueError(f"Chunksize must be 1+, not {chunksize:n}")
        if buffersize is not None:
            if isinstance(buffersize, bool) or not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        if self._options.timeout is not None:
            chunksize = 1
        try:
            return ImapIterator(
                self._client, func, iterable, chunksize, buffersize, ordered, return_exceptions, self._options
            )
        except ClosedError:
            raise ValueError("Pool not running") from None


class _Bound(_Calls):
    """A pool's calls with options; made by ``Pool.options``."""

    def __init__(self, pool: Pool, options: Options) -> None:
        self._pool = pool
        self._client = pool._client
        self._options = options

    def _check_running(self) -> None:
        self._pool._check_running()

    def _chunksize(self, items: int, chunksize: int | None) -> int:
        return self._pool._chunksize(items, chunksize)


# The stubs have an AsyncResult of their own there, which nobody can be and a Future as well.
class Pool(_Calls, multiprocessing.pool.Pool):  # type: ignore[misc]
    """A pool of engines. Everything that ``multiprocessing.Pool`` has, as it has it.

    Args:
        processes: number of engines, by default the CPUs this process may use.
        initializer: called in each engine before its first task.
        initargs: its arguments.
        maxtasksperchild: tasks (chunks, of a map) after which an engine is replaced; None for never.
        context: multiprocessing context that starts the engines.
        on_engine_death: "replace": the task that it ran fails with EngineDied, the pool goes on (ours);
            "break": everything that is open fails, as in the stdlib's executor.
        max_memory: bytes of memory of its own from which on an engine is replaced, between two tasks; None for any number (ours).
            If it has so much before its first task, nothing can run and every call says so.
        cluster: a zexec.Cluster, its name or its connection file (ours): run on its engines, which this pool shares with
            others. ``processes`` then only says how maps are cut, ``context`` is of no meaning. By default the cluster that
            the environment names in ZEXEC_CLUSTER, if it names one.

    Raises:
        ClusterError: there is no such cluster.
    """

    _options = DEFAULT
    #: for ``__del__``, which runs also where ``__init__`` could not even start
    _state = "INIT"
    _owner = -1

    def __init__(
        self,
        processes: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: Iterable[Any] = (),
        maxtasksperchild: int | None = None,
        context: Any = None,
        *,
        on_engine_death: str = "replace",
        max_memory: int | None = None,
        cluster: Any = None,
    ) -> None:
        self._ctx = context or multiprocessing.get_context()
        if cluster is not None and (
            maxtasksperchild is not None or max_memory is not None or on_engine_death != "replace"
        ):
            raise ValueError(
                "the engines of a cluster are everybody's: maxtasksperchild, max_memory and on_engine_death are not possible"
            )
        cluster = cluster if cluster is not None else os.environ.get("ZEXEC_CLUSTER") or None
        if processes is None and cluster is None:
            processes = default_processes()
        if processes is not None and processes < 1:
            raise ValueError("Number of processes must be at least 1")
        if maxtasksperchild is not None and (not isinstance(maxtasksperchild, int) or maxtasksperchild <= 0):
            raise ValueError("maxtasksperchild must be a positive int or None")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._maxtasksperchild = maxtasksperchild
        self._initializer = initializer
        self._initargs = tuple(initargs)
        self._owner = os.getpid()
        if cluster is not None:
            from zexec.cluster.connect import cluster_client

            self._client = cluster_client(FACE, cluster, initializer, self._initargs)
            processes = processes or len(self._client.places()) or 1
        else:
            assert processes is not None
            self._client = local_client(
                FACE,
                self._ctx,
                processes,
                initializer,
                self._initargs,
                maxtasksperchild,
                on_demand=False,
                begin=True,
                on_engine_death=on_engine_death,
                max_memory=max_memory,
                rename=lambda name: name.replace("Process", "PoolWorker"),
            )
        self._processes = processes
        self._client.belongs_to(self)
        self._terminate = Finalize(self, Client.terminate, args=(self._client,), exitpriority=15)
        self._state = RUN

    @property
    def _pool(self) -> list[Any]:
        """The engines' processes. Real libraries read it."""
        processes = self._client.processes()
        return [processes[id] for id in sorted(processes)]

    def _repopulate_pool(self) -> None:
        """Nothing to do: the hub replaces engines by itself."""

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
        """Bind options to calls: ``pool.options(timeout=5).map(f, xs)``.

        Args:
            timeout: seconds that each item may run. An item that runs longer fails with TimeoutError: its engine is
                interrupted, and replaced if that does not help.
            retries: further attempts after a failure: an exception, a time-out or an engine's death.
            priority: tasks with a higher one start first.
            targets: numbers of the engines that may run it, 0 to ``processes - 1``.
            after: results, or a Dependency, that it waits for: by default it runs when all of them are there and well, and fails
                with ImpossibleDependency otherwise.
            follow: as ``after``, and it runs on an engine that ran those.
            patience: seconds that it waits for these, after which it fails with DependencyTimeout.
            shared: an engine may unpickle the function once, with all that it holds (a bound method's object, a partial's
                arguments), and use that for every task. Otherwise each task has its own, as in the stdlib, which matters
                only if tasks change it.

        Raises:
            TypeError, ValueError: a value that is no such thing.
        """
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

    @property
    def client(self) -> views.Client:
        """A Client of it: engines one by one, data on them, views (ours)."""
        from zexec.views.client import Client

        return Client(self)

    def story(self, result: AsyncResult) -> list[tuple[float, str]]:
        """What happened to a call so far: pairs of a time (``time.monotonic()``) and a sentence (ours)."""
        return self._client.story(result)

    def dump(self, file: TextIO | None = None) -> None:
        """Print what it waits for: each engine and what it does, with the stacks of its threads, and tasks that wait (ours).

        Args:
            file: where to, by default standard error. See also ``zexec.dump_on_signal``.
        """
        print(self._client.dump(), file=file or sys.stderr)

    def close(self, *, detach: bool = False) -> None:
        """Accept no more work; engines leave when they have done what is open.

        Args:
            detach: on a cluster: leave what is open to go on there. ``zexec.Client(cluster).get_result(ids)`` gets its results,
                from whatever process; ``result.metadata.msg_id`` is the id, or the list of ids of a map (ours).

        Raises:
            ValueError: ``detach`` without a cluster.
        """
        if self._state == RUN:
            if detach:
                self._client.detach()
            self._state = CLOSE
            self._client.close()

    def terminate(self) -> None:
        """Stop at once: what is open fails with TerminatedError."""
        if self._state != "INIT":
            self._state = TERMINATE
            self._terminate()

    def join(self) -> None:
        """Wait until all engines have left. Call ``close`` or ``terminate`` first.

        Raises:
            ValueError: the pool still runs.
        """
        if self._state == RUN:
            raise ValueError("Pool is still running")
        if self._state not in (CLOSE, TERMINATE):
            raise ValueError("In unknown state")
        self._client.join()

    def __enter__(self) -> Pool:
        self._check_running()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.terminate()

    def __repr__(self) -> str:
        cls = type(self)
        return f"<{cls.__module__}.{cls.__qualname__} state={self._state} pool_size={len(self._pool)}>"

    def __reduce__(self) -> Any:
        raise NotImplementedError("pool objects cannot be passed between processes or pickled")

    def __del__(self, _warn: Any = warnings.warn, _run: str = RUN, _getpid: Any = os.getpid) -> None:
        if self._state == _run and self._owner == _getpid():
            _warn(f"unclosed running multiprocessing pool {self!r}", ResourceWarning, source=self)

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")

    def _chunksize(self, items: int, chunksize: int | None) -> int:
        if chunksize is not None:
            if chunksize < 1:
                raise ValueError(f"chunksize must be 1 or more, not {chunksize}")
            return chunksize
        size, extra = divmod(items, self._processes * 4)
        return size + bool(extra) or 1


#: what ``python -m zexec run -n`` sets: engines of a pool for which the program names no number
_default_processes: int | None = None


def default_processes() -> int:
    """Engines of a pool for which no number is given."""
    return _default_processes or cpu_count()
