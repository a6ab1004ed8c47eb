"""Client: engines by number, and views of them. The public one.

Not to be confused with ``zexec.client.Client``, which pickles and submits for everybody and is called the *connection*
here. This one belongs to users: it makes views, and remembers what they have submitted. Several may share a connection.

It keeps results alive only while they are open. What has ended is found by its id for as long as somebody holds its result.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from time import monotonic, sleep
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakValueDictionary

from zexec import errors
from zexec.client import Client as Connection
from zexec.executor import ProcessPoolExecutor
from zexec.messages import MAP, Function
from zexec.options import Options
from zexec.pool import Pool
from zexec.views.book import Sink, Targets
from zexec.views.memory import Memory
from zexec.views.queries import Queries
from zexec.views.results import ViewResult, _seconds
from zexec.views.rites import Rites
from zexec.views.shipping import Shipper

if TYPE_CHECKING:
    from zexec.views.balanced import LoadBalancedView
    from zexec.views.direct import DirectView
    from zexec.views.lazy import ViewExecutor

#: Seconds between two looks whether engines have come.
LOOK = 0.05
#: results by the ids of their tasks, for each connection
_registry: WeakKeyDictionary[Connection, WeakValueDictionary[str, ViewResult]] = WeakKeyDictionary()
_rites: WeakKeyDictionary[Connection, Rites] = WeakKeyDictionary()
_memories: WeakKeyDictionary[Connection, Memory] = WeakKeyDictionary()


class Client(Queries):
    """Engines of a pool or an executor, one by one.

    ``client[0]``, ``client[-1]``, ``client[::2]`` and ``client[0, 2]`` are DirectViews of engines; ``client[:]`` is one of all.

    Args:
        owner: a Pool or an Executor, another Client, or a cluster: a zexec.Cluster, its name or its connection file.

    Attributes:
        block: what views of it start with.
        history: ids of all tasks that its views have submitted, oldest first.
    """

    def __init__(self, owner: Any) -> None:
        #: the executor is this client's own, and ends with it
        self._is_own = False
        if isinstance(owner, Client):
            owner = owner._owner
        elif isinstance(owner, str | os.PathLike) or hasattr(owner, "card"):
            owner = ProcessPoolExecutor(cluster=owner)
            self._is_own = True
        if not isinstance(owner, Pool | ProcessPoolExecutor):
            raise TypeError(f"a Client is made of a Pool, an Executor or a Client, or of a cluster, not of {owner!r}")
        self._owner: Pool | ProcessPoolExecutor = owner
        self._connection: Connection = owner._client if isinstance(owner, Pool) else owner._started()
        self.shipper = Shipper(self._connection.main)
        self._closed = False
        self.block: bool = False
        self.history: list[str] = []
        #: results by the ids of their tasks, also those of other clients of the same pool or executor
        self._results = _registry.setdefault(self._connection, WeakValueDictionary())
        self._rites = _rites.setdefault(self._connection, Rites())
        self._memory = _memories.setdefault(self._connection, Memory())
        #: those that are open, so that they are not dropped
        self._open: dict[int, ViewResult] = {}
        #: tasks that ended well or not, by engine
        self._completed: dict[int, int] = {}
        self._gate = threading.Lock()
        if "IPython" in sys.modules:
            from zexec.ipython import offer

            offer(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {len(self)} engines of a {self._connection.face.name}>"

    # -- engines -----------------------------------------------------------------------------------------------------

    @property
    def ids(self) -> list[int]:
        """The engines' numbers. The replacement of one that dies gets the same; those that were shut down are not there."""
        return self._connection.places()

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[DirectView]:
        """A view of each engine."""
        for id in self.ids:
            yield self[id]

    def __getitem__(self, key: int | slice | Iterable[int]) -> DirectView:
        """A DirectView of one engine, or several.

        Raises:
            IndexError: there is no such engine.
        """
        if isinstance(key, slice | int):
            return self.direct_view(self.ids[key] if isinstance(key, slice) else self._place(key))
        if isinstance(key, str):
            raise TypeError(f"engines are indexed by number, slice or list of numbers, not by {key!r}")
        return self.direct_view(list(key))

    def _place(self, key: int) -> int:
        ids = self.ids
        if key >= 0 and key in ids:
            return key
        try:
            if key < 0:
                return ids[key]
        except IndexError:
            pass
        raise IndexError(f"no engine {key}: {_which(ids)}")

    def resolve(self, targets: Targets) -> list[int]:
        """Numbers of engines.

        Raises:
            IndexError: there is no such engine; the message says which there are.
            TypeError: that is no way to name engines.
        """
        if targets is None or targets == "all":
            return self.ids
        if isinstance(targets, slice):
            return self.ids[targets]
        if isinstance(targets, int) and not isinstance(targets, bool):
            return [self._place(targets)]
        if isinstance(targets, str) or not isinstance(targets, Iterable):
            raise TypeError(f"targets must be an engine's number, several, a slice or 'all', not {targets!r}")
        found = []
        for id in targets:
            if isinstance(id, bool) or not isinstance(id, int):
                raise TypeError(f"targets must be numbers of engines, not {id!r}")
            found.append(self._place(id))
        if not found:
            raise ValueError(f"targets must name at least one engine: {_which(self.ids)}")
        return found

    # -- views -------------------------------------------------------------------------------------------------------

    def direct_view(self, targets: Targets = "all", **flags: Any) -> DirectView:
        """A view that runs calls on each of its engines.

        Args:
            targets: engines; "all" is looked up at each call, everything else now.
            flags: as for ``set_flags`` of the view.
        """
        from zexec.views.direct import DirectView

        if targets is None:
            targets = "all"
        if targets != "all":
            found = self.resolve(targets)
            targets = found[0] if isinstance(targets, int) else found
        return DirectView(self, targets=targets, **flags)

    def broadcast_view(self, targets: Targets = "all", **flags: Any) -> DirectView:
        """As ``direct_view``: what goes to many engines is pickled once anyway."""
        return self.direct_view(targets, **flags)

    def load_balanced_view(self, targets: Targets = None, **flags: Any) -> LoadBalancedView:
        """A view that runs each call on one engine, whichever has time.

        Args:
            targets: the engines to choose from; None for all.
            flags: as for ``set_flags`` of the view.
        """
        from zexec.views.balanced import LoadBalancedView

        everywhere = targets is None or targets == "all"
        return LoadBalancedView(self, targets=None if everywhere else self.resolve(targets), **flags)

    # -- submitting, for views ---------------------------------------------------------------------------------------

    def submit(
        self, result: ViewResult, function: Function, payloads: Sequence[Any], options: Sequence[Options]
    ) -> None:
        """Submit a result's parts: the parcel of each, and its options or one set of them for all.

        Raises:
            RuntimeError: this client, or its pool, was closed.
        """
        if self._closed:
            raise RuntimeError("this client is closed")
        with self._submitting(result) as ids:
            # What goes to several engines is packed once.
            packed = {
                which: self.shipper.payload(parcel) for which, parcel in {id(each): each for each in payloads}.items()
            }
            chunks = [(index, packed[id(parcel)]) for index, parcel in enumerate(payloads)]
            result.borrow(packed.values())
            submit = self._connection.submit_chunks
            sink = Sink(self, result, id(result), function, dict(chunks) if result._rite is not None else {})
            if len(options) == 1:
                submit(function, MAP, chunks, sink, options[0], ids, packed=True)
            else:
                for chunk, chosen in zip(chunks, options, strict=True):
                    submit(function, MAP, [chunk], sink, chosen, ids, packed=True)

    def activate(self, targets: Targets = "all", suffix: str = "") -> DirectView:
        """Have IPython's ``%px`` run code on these engines, see ``zexec.ipython``.

        Args:
            targets: engines, as for ``direct_view``.
            suffix: for magics of other names: ``activate(0, "0")`` gives ``%px0``.

        Returns:
            the view that it runs code on.

        Raises:
            RuntimeError: this program does not run in IPython.
        """
        view = self.direct_view(targets, block=True)
        view.activate(suffix)
        return view

    # -- control -----------------------------------------------------------------------------------------------------

    def clear(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Empty the engines' namespaces."""
        return self.direct_view(targets).clear(block=self.block if block is None else block)

    def executor(self, targets: Targets = None) -> ViewExecutor:
        """An Executor whose calls are those of a balanced view: ``with client.executor() as ex: ex.submit(f, x)``."""
        return self.load_balanced_view(targets).executor

    def send_signal(self, sig: int | str, targets: Targets = None, block: bool | None = None) -> None:
        """Send a signal to engines' processes.

        An interrupt (SIGINT) raises KeyboardInterrupt in the task that an engine runs, and nothing in an engine that runs none.

        Args:
            sig: its number, or its name such as "SIGTERM"; 0 does nothing.
            targets: engines; all by default.
            block: kept; whatever it does, it does by itself.

        Raises:
            ValueError: there is no such signal here.
        """
        number = _signal_number(sig)
        ids = self.resolve(targets)
        if number:
            self._connection.signal(ids, number)

    def interrupt(self, targets: Targets = None, block: bool | None = None) -> None:
        """Raise KeyboardInterrupt in the tasks that engines run: ``send_signal("SIGINT", targets)``."""
        self.send_signal(signal.SIGINT, targets, block)

    def wait_for_engines(
        self, n: int | None = None, *, timeout: float | None = -1, block: bool = True, interactive: bool = False
    ) -> Future[None] | None:
        """Wait until there are so many engines.

        Args:
            n: how many; all that the pool or executor has, by default.
            timeout: seconds to wait at most; None and what is below 0 mean for ever.
            block: wait here; otherwise return a future, at once.
            interactive: kept; nothing is shown.

        Raises:
            TimeoutError: there are fewer.
        """
        left = _seconds(timeout)
        until = None if left is None else monotonic() + left
        future: Future[None] = Future()

        def look() -> None:
            while len(self) < (n or 0):
                if self._closed or self._connection.over:
                    future.set_exception(RuntimeError("the client was closed"))
                    return
                if until is not None and monotonic() >= until:
                    future.set_exception(
                        errors.TimeoutError(f"there are {len(self)} engines, not {n}, after {timeout} s")
                    )
                    return
                sleep(LOOK)
            future.set_result(None)

        if block or len(self) >= (n or 0):
            look()
        else:
            threading.Thread(target=look, name="zexec-wait-for-engines", daemon=True).start()
        return future.result() if block else future

    # -- ends --------------------------------------------------------------------------------------------------------

    def shutdown(
        self, targets: Targets = "all", restart: bool = False, hub: bool = False, block: bool | None = None
    ) -> None:
        """Have engines leave, each when it has finished the task that it runs. Nobody takes their places.

        What was only for them fails with NoEngineError. Without engines a pool or an executor is of no use: where all are named
        it ends, whatever runs. A cluster goes on, unless the hub is named.

        Args:
            targets: engines; all by default.
            restart: others take their places, with the names that were pushed there.
            hub: end the pool, the executor or the cluster, with all engines.
            block: wait until the engines' processes have ended; as the client's ``block``, by default.

        Raises:
            IndexError: there is no such engine.
            ValueError: both ``hub`` and ``restart``.
        """
        if hub and restart:
            raise ValueError("a hub that is shut down is not restarted: give hub or restart, not both")
        ids = self.ids if hub else self.resolve(targets)
        ask = self._connection.ask
        # A cluster goes on without engines: others may come.
        if not hub and (restart or ask is not None or set(ids) != set(self.ids)):
            current = self._connection.processes()
            leaving = [current[id] for id in ids if id in current]
            self._connection.drain(ids, restart)
            if self.block if block is None else block:
                self._wait_until_gone(leaving)
            return
        self._closed = True
        if ask is not None:
            ask("shutdown", "a client has shut it down")
        if isinstance(self._owner, Pool):
            self._owner.terminate()
            self._owner.join()
        else:
            self._owner.shutdown(wait=True, cancel_futures=True)

    def _wait_until_gone(self, leaving: list[Any]) -> None:
        """Wait until these engines' processes have ended."""
        from multiprocessing.connection import wait as wait_for_processes

        here = {process.sentinel for process in leaving if hasattr(process, "sentinel")}
        while here:
            here -= set(wait_for_processes(list(here)))
        # Of engines of another process's hub only that can tell; it is asked now and then.
        elsewhere = {process.pid for process in leaving if not hasattr(process, "sentinel")}
        while elsewhere & {process.pid for process in self._connection.processes().values()}:
            sleep(LOOK)

    @property
    def is_over(self) -> bool:
        """Whether it was closed, or its pool or executor has ended."""
        return self._closed or self._connection.over

    def close(self, detach: bool = False) -> None:
        """Accept no more calls. The pool or executor goes on, unless this client was made of a cluster.

        Args:
            detach: with a cluster: leave what is open to go on there; ``get_result`` of its ids finds it again, also in
                another process.

        Raises:
            ValueError: ``detach`` without a cluster.
        """
        self._closed = True
        if detach or self._is_own:
            if isinstance(self._owner, Pool):
                self._owner.close(detach=detach)
            else:
                self._owner.shutdown(detach=detach)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        self.close()


def _which(ids: list[int]) -> str:
    gaps = ids and ids[-1] - ids[0] + 1 != len(ids)
    if len(ids) > 20 and not gaps:
        return f"there are {ids[0]} to {ids[-1]}"
    return f"there are {', '.join(map(str, ids))}" if ids else "there are none"


def _signal_number(sig: int | str) -> int:
    try:
        if isinstance(sig, str):
            return int(sig) if sig.isdigit() else int(signal.Signals[sig])
        return 0 if sig == 0 else int(signal.Signals(sig))
    except (KeyError, ValueError):
        names = ", ".join(sorted(each.name for each in signal.Signals))
        raise ValueError(f"no signal {sig!r}: there are {names}") from None


__all__ = ["Client"]
