"""Client: a connection to a hub. Pool, Executor and the views translate to its ``submit`` and ``submit_map``.

It pickles calls in the caller's thread (so that errors and later changes of the arguments behave as the caller expects),
gives tasks to its link, and turns outcomes into settled results. The link is a seam: anything that accepts tasks and reports
outcomes will do: a hub in a thread of this process (``zexec.hub.thread``), or one in another (``zexec.cluster.link``).

Threads: outcomes arrive in the link's io thread, which runs no user code. Callbacks run in the callback thread, one after
the other, and results that have some settle there, right before them. One that blocks delays only other callbacks and those
results; one that waits for a result runs meanwhile what stands behind it.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from typing import Any, Protocol

from zexec.callbacks import Callbacks
from zexec.chunks import cut
from zexec.core.dependencies import End, Needs
from zexec.core.events import (
    Broke,
    CancelAll,
    CancelWanted,
    CancelWithdrawn,
    Closed,
    Drain,
    Event,
    ParentEnded,
    SubmittedAfter,
    Terminated,
)
from zexec.helping import Helper
from zexec.map_result import MapResult
from zexec.messages import (
    BROKEN,
    CALL,
    FAILED_REMOTELY,
    KEEP_GOING,
    MAP,
    OK,
    STARMAP,
    TERMINATED,
    Function,
    Outcome,
    Task,
)
from zexec.options import DEFAULT, Options
from zexec.outcomes import Face, without_frames
from zexec.result import LOGGER, AsyncResult
from zexec.wire.pickling import FunctionPickler, MainModule, dump_call, dump_chunk

#: Seconds that ``cancel`` waits for an engine's word before it says no. Answers take well under a millisecond; an engine
#: that is stopped or starved gives none.
CANCEL_WAIT = 1.0
#: what a fork of the process is told
NOT_YOURS = "this {} belongs to the process that made it; after a fork, make one of your own"


class Link(Protocol):
    """What a client needs of a hub, wherever that is."""

    over: threading.Event

    def start(self, begin: bool) -> None: ...
    def submit(self, task: Task) -> None: ...
    def submit_bulk(self, tasks: Iterable[Task]) -> None: ...
    def tell(self, event: Event) -> None: ...
    def is_running(self, task_id: int) -> bool: ...
    def whereabouts(self, task_ids: Iterable[int]) -> dict[int, int]: ...
    def story(self, task_id: int) -> list[tuple[float, str]]: ...
    def dump(self) -> str: ...
    def processes(self) -> dict[int, Any]: ...
    def kill_engines(self, force: bool) -> None: ...
    def signal(self, ids: Iterable[int], number: int) -> None: ...
    def places(self) -> list[int]: ...
    def fetch(self, task_ids: list[int]) -> list[int]: ...
    def detach(self) -> None: ...
    def remember(self, place: int, key: int, task: Task | None) -> None: ...
    def broken(self) -> Any: ...
    def join(self, timeout: float | None = None) -> None: ...
    @property
    def thread(self) -> threading.Thread: ...


class ClosedError(Exception):
    """Internal: a submit came after the end. The face turns it into what the stdlib raises."""


def _after_fork_in_child() -> None:
    for client in list(_clients):
        client._disown()


#: every client, to be told of a fork
_clients: weakref.WeakSet[Client] = weakref.WeakSet()
os.register_at_fork(after_in_child=_after_fork_in_child)


class _Answers:
    """What a thread waits for that cancels tasks: the word on each of them, be it yes or no."""

    def __init__(self, task_ids: Iterable[int]) -> None:
        self.missing = set(task_ids)
        self.all = threading.Event()
        if not self.missing:
            self.all.set()

    def hear(self, task_id: int) -> None:
        self.missing.discard(task_id)
        if not self.missing:
            self.all.set()


#: receives the outcome of one chunk: (offset of its first item, items in it, outcome)
ChunkSink = Callable[[int, int, Outcome], None]


class Client:
    """See the module.

    Args:
        face: the interface that this client serves, for exceptions and messages.
        forked: whether engines are forked from this process, and so have its ``__main__`` as it is now.
        main: what engines that are elsewhere know of ``__main__``.
    """

    def __init__(self, face: Face, forked: bool, main: MainModule | None = None) -> None:
        self.face = face
        self._forked = forked
        self._given_main = main
        self._link: Link
        self._functions: FunctionPickler
        self._main: MainModule
        self._ids = count(1)
        #: who waits for the outcome of each task: a result, or for a chunk (sink, start, size)
        self._open: dict[int, AsyncResult | tuple[ChunkSink, int, int]] = {}
        #: ids of tasks that others wait for: the hub is told of their ends again
        self._watched: set[int] = set()
        #: threads that wait for the word on cancels
        self._cancels: list[_Answers] = []
        # _gate makes "check that we are open, then give it to the link" one step against ``close``. Reentrant, because a
        # garbage collection at any point inside may end a pool.
        self._gate = threading.RLock()
        self._closed = False
        self._ended = False  #: terminated or broken off: feeders, too, must stop
        #: inputs that are still being drawn: what is open at ``close`` includes the rest of those
        self._feeders = 0
        #: this process is a fork of the one that made the client, and has neither its threads nor its engines
        self._foreign = False
        #: whom to keep alive while tasks are open, as the stdlib's results keep their pool
        self._owner: Callable[[], Any] = _nobody
        self._kept: Any = None
        #: what users want called when results are there, and the thread that does it
        self.callbacks = Callbacks()
        #: runs tasks that this process waits for, where it is an engine of the cluster that is to run them
        self.helper: Helper | None = None

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self, link: Link, begin: bool, first_id: int = 0) -> None:
        """Start the link, and with ``begin`` all engines. Tasks get ids above ``first_id``."""
        self._ids = count(first_id + 1)
        self._main = self._given_main or MainModule(self._forked)
        self._functions = FunctionPickler(self._main)
        self._link = link
        link.start(begin)
        _clients.add(self)

    def belongs_to(self, owner: Any) -> None:
        """Keep this object alive while tasks are open."""
        self._owner = weakref.ref(owner)

    def close(self) -> None:
        """Accept no more tasks; engines leave when those that are open have ended. Returns at once."""
        with self._gate:
            if self._closed:
                return
            self._closed = True
            if self._feeders:
                return  # the last of them says it
        self._link.tell(Closed())

    def begin_feeding(self) -> None:
        """Announce an input that will be submitted bit by bit, also after ``close``.

        Raises:
            ClosedError: the client was closed.
        """
        with self._gate:
            if self._closed:
                raise ClosedError
            self._feeders += 1
            self._kept = self._owner()

    def end_feeding(self) -> None:
        """That input is at its end."""
        with self._gate:
            self._feeders -= 1
            last = self._closed and not self._feeders
        if last and not self._foreign:
            self._link.tell(Closed())
        self._let_go()

    def terminate(self, timeout: float | None = None) -> None:
        """Settle everything that is open, end all engines, wait for that."""
        with self._gate:
            self._closed = self._ended = True
        if self._foreign:
            return
        if not self._link.over.is_set():
            self._link.tell(Terminated())
        self.join(timeout)

    def join(self, timeout: float | None = None) -> None:
        """Wait until all has ended: tasks, engines, callbacks, threads."""
        self.check_owned()
        self._link.join(timeout)
        if self._link.over.is_set():
            self.callbacks.join(timeout)

    def detach(self) -> None:
        """Leave a cluster with tasks open: they go on, and whoever knows their ids gets their results.

        Raises:
            ValueError: there is no cluster that would go on.
        """
        self.check_owned()
        self._link.detach()
        with self._gate:
            self._closed = self._ended = True
        self.join()

    def fetch(self, task_ids: Sequence[int], sink: ChunkSink) -> None:
        """Have the outcomes of tasks that are not ours given to a sink, each with its place in ``task_ids``.

        Raises:
            KeyError: nothing is known of one of them.
        """
        with self._gate:
            if self._closed:
                raise ClosedError
            # Before the question: outcomes may come before its answer.
            self._open.update((id, (sink, index, 1)) for index, id in enumerate(task_ids))
            self._kept = self._owner()
        known: Any = ()
        try:
            known = set(self._link.fetch(list(task_ids)))
        finally:
            unknown = [id for id in task_ids if id not in known]
            for id in unknown:
                self._open.pop(id, None)
            self._let_go()
        if unknown:
            raise KeyError(f"nothing is known of task {unknown[0]!r}: nobody has kept its result, or it never was")

    def break_off(self, reason: str, force: bool) -> None:
        """End the engines' processes now; what is open fails as broken."""
        with self._gate:
            self._closed = self._ended = True
        # In this order: told that it is broken, the hub would end the engines its own, polite way.
        self._link.kill_engines(force)
        self._link.tell(Broke(reason))
        self._link.tell(Closed())

    def check_owned(self) -> None:
        """Raise unless this process is the one that made the client.

        Raises:
            RuntimeError: it is a fork of that.
        """
        if self._foreign:
            raise RuntimeError(NOT_YOURS.format(self.face.name))

    def _disown(self) -> None:
        # Whoever held a lock at the fork is not here to release it.
        self._gate = threading.RLock()
        self._closed = self._foreign = True

    @property
    def foreign(self) -> bool:
        """Whether this process is a fork of the one that made the client."""
        return self._foreign

    @property
    def broken(self) -> Any:
        """Why nothing can run any more, or None."""
        return self._link.broken()

    @property
    def thread(self) -> threading.Thread:
        """The link's thread: it ends when everything else has."""
        return self._link.thread

    @property
    def over(self) -> bool:
        """Whether everything has ended."""
        return self._link.over.is_set()

    def processes(self) -> dict[int, Any]:
        """The engines' processes by engine id."""
        return self._link.processes()

    def kill_engines(self, force: bool) -> None:
        self._link.kill_engines(force)

    def places(self) -> list[int]:
        """Numbers of the engines that there are, or will be: an engine that is replaced keeps its own."""
        return self._link.places()

    def remember(self, place: int, key: int, function: Function, payload: Any) -> None:
        """Have whoever takes a place from now on run this before all else: as a map of one item."""
        self._link.remember(place, key, Task(0, function, MAP, payload))

    def forget(self, place: int, key: int) -> None:
        """Not any more."""
        self._link.remember(place, key, None)

    def resubmit(self, old: Sequence[int], sink: ChunkSink, ids: list[int]) -> None:
        """Have a hub that remembers tasks run some of them again, as other tasks: each one's outcome goes to ``sink``.

        Raises:
            ClosedError: the client was closed.
            ClusterError: the hub does not know one of them.
        """
        new = [next(self._ids) for _ in old]
        link: Any = self._link
        with self._gate:
            if self._closed:
                raise ClosedError
            self._open.update((id, (sink, at, 1)) for at, id in enumerate(new))
            self._kept = self._owner()
        ids += new
        link.expect(new)
        try:
            link.ask("resubmit", list(zip(old, new, strict=True)))
        except BaseException:
            for id in new:
                self._open.pop(id, None)
            link.unexpect(new)
            self._let_go()
            raise

    @property
    def ask(self) -> Callable[..., Any] | None:
        """Asks a hub that is a process of its own, and remembers tasks: a question's name, plain data. None for one in this."""
        return getattr(self._link, "ask", None)

    def drain(self, ids: Iterable[int], restart: bool) -> None:
        """Have engines leave when they have finished what they run, for good, or to be replaced."""
        for id in ids:
            self._link.tell(Drain(id, restart))

    def signal(self, ids: Iterable[int], number: int) -> None:
        """Send a signal to engines; an interrupt raises KeyboardInterrupt in the task that each of them runs."""
        self._link.signal(ids, number)

    # -- tasks -------------------------------------------------------------------------------------------------------

    def submit(
        self,
        f: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        options: Options = DEFAULT,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> AsyncResult:
        """Run ``f(*args, **kwargs)`` on an engine.

        What cannot be pickled fails the result, not the call, as in the stdlib.

        Raises:
            ClosedError: the client was closed.
        """
        if self._closed:
            self.check_owned()
            raise ClosedError
        try:
            function = self._functions.of(f, options.shared)
            payload = dump_call(args, kwargs, self._main)
        except Exception as e:
            failed = AsyncResult(self, self.face, getattr(f, "__qualname__", repr(f)), callback, error_callback)
            failed._finish(None, without_frames(e, self.face))
            return failed
        result = AsyncResult(self, self.face, function.name, callback, error_callback)
        task = Task(next(self._ids), function, CALL, payload)
        if options is not DEFAULT:
            _apply(options, task)
        result._task_id = task.id
        if self.helper is not None:
            self._wait_for_parents(options)
        with self._gate:
            if self._closed:
                raise ClosedError
            self._open[task.id] = result
            self._kept = self._owner()
            if options.after is None and options.follow is None:
                if self.helper is not None:
                    self.helper.submitted([task])
                self._link.submit(task)
            else:
                self._submit_after([task], options)
        if not self._open:
            self._let_go()
        if self.helper is not None and (callback is not None or error_callback is not None):
            self.help_later(result)
        return result

    def submit_map(
        self,
        f: Callable[..., Any],
        items: Sequence[Any],
        chunksize: int,
        star: bool,
        options: Options = DEFAULT,
        return_exceptions: bool = False,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> MapResult:
        """Run ``f`` on each item (or ``f(*item)`` with ``star``), ``chunksize`` items to a task."""
        if self._closed:
            self.check_owned()
            raise ClosedError
        name = getattr(f, "__qualname__", repr(f))
        result = MapResult(self, self.face, name, len(items), return_exceptions, callback, error_callback)
        if not items:
            result._complete()
            return result
        try:
            function = self._functions.of(f, options.shared)
        except Exception as e:
            result._left = 0
            result._finish(None, without_frames(e, self.face))
            return result
        kind = (STARMAP | MAP if star else MAP) | (KEEP_GOING if return_exceptions else 0)
        self.submit_chunks(function, kind, cut(items, chunksize), result._arrive_chunk, options, result._ids)
        if self.helper is not None and (callback is not None or error_callback is not None):
            self.help_later(result)
        return result

    def submit_chunks(
        self,
        function: Function,
        kind: int,
        chunks: Iterable[tuple[int, Any]],
        sink: ChunkSink,
        options: Options = DEFAULT,
        ids: list[int] | None = None,
        feeding: bool = False,
        packed: bool = False,
    ) -> None:
        """Submit chunks, pairs of the first item's index and the items. ``sink`` gets each one's outcome.

        With ``packed`` they have been made payloads already, of one item each.

        A chunk that cannot be pickled is reported to the sink at once, like any failure.

        Raises:
            ClosedError: the client was closed; between ``begin_feeding`` and ``end_feeding``: it was terminated.
        """
        tasks = []
        waiting = {}
        failed = []
        for start, chunk in chunks:
            size = 1 if packed else len(chunk)
            try:
                payload = chunk if packed else dump_chunk(chunk, self._main)
            except Exception as e:
                failed.append((start, size, e))
                continue
            task = Task(next(self._ids), function, kind, payload, size)
            if options is not DEFAULT:
                _apply(options, task)
            waiting[task.id] = (sink, start, size)
            tasks.append(task)
        if self.helper is not None:
            self._wait_for_parents(options)
        if ids is not None:
            ids.extend(waiting)
        with self._gate:
            if self._ended if feeding else self._closed:
                raise ClosedError
            if tasks:
                self._open.update(waiting)
                self._kept = self._owner()
                if options.after is None and options.follow is None:
                    if self.helper is not None:
                        self.helper.submitted(tasks)
                    self._link.submit_bulk(tasks)
                else:
                    self._submit_after(tasks, options)
        if not self._open:
            self._let_go()
        for start, size, error in failed:
            sink(start, size, local_failure(without_frames(error, self.face)))

    def _wait_for_parents(self, options: Options) -> None:
        """Where tasks may be taken back to be run here, nothing at the hub must wait for them: so wait for them here."""
        for each in (options.after, options.follow):
            for parent in each.results if each is not None else ():
                if parent._client is self:
                    parent.wait()

    def _submit_after(self, tasks: Sequence[Task], options: Options) -> None:
        from zexec.dependency import ends_of, task_ids

        if self.helper is not None:
            # ``submit`` has waited for those that it is to follow.
            followed = () if options.follow is None else options.follow.results
            self.helper.submitted(tasks, [end[1:] for parent in followed for end in ends_of(parent).values()])
        wanted = [each for each in (options.after, options.follow) if each is not None]
        parents = {id(parent): parent for each in wanted for parent in each.results}
        ended: dict[int, End] = {}
        pending = []
        for parent in parents.values():
            if parent.done():
                ended.update(ends_of(parent))
            elif parent._client is self or parent.done():
                pending.append(parent)
            else:
                for task in tasks:
                    del self._open[task.id]
                raise ValueError(f"{parent!r} is of another pool: a task can only wait for those of its own")
        after, follow = (None if each is None else each.condition() for each in (options.after, options.follow))
        needs = Needs(after, follow, options.patience)
        for task in tasks:
            self._link.tell(SubmittedAfter(task, needs, ended))
        # The hub sees their ends itself, unless it has seen them and the word is on its way to us just now: so it is told again
        # when that comes. ``deliver`` takes out of _open first and looks into _watched after that: whichever it has missed,
        # we do not find in _open.
        for parent in pending:
            ids = task_ids(parent)
            self._watched.update(ids)
            if not all(map(self._open.__contains__, ids)):
                parent.add_done_callback(self._tell_of_parent)

    def _tell_of_parent(self, parent: AsyncResult) -> None:
        from zexec.dependency import ends_of

        for task_id, end in ends_of(parent).items():
            self._watched.discard(task_id)
            if not self._ended:
                self._link.tell(ParentEnded(task_id, end))

    def function(self, f: Callable[..., Any], shared: bool = False) -> Function:
        """A callable as it travels. Raises what pickling it raises."""
        return self._functions.of(f, shared)

    def is_running(self, result: AsyncResult) -> bool:
        return self._link.is_running(result._task_id)

    def whereabouts(self, task_ids: Iterable[int]) -> dict[int, int]:
        """Which of these tasks are with an engine, and the engine's id."""
        return self._link.whereabouts(task_ids)

    @property
    def main(self) -> MainModule:
        """What the engines know of ``__main__``."""
        return self._main

    def story(self, result: AsyncResult) -> list[tuple[float, str]]:
        """What happened to a result's task: pairs of a time (``time.monotonic()``) and a sentence."""
        if isinstance(result, MapResult):
            tasks = [(id, self._link.story(id)) for id in result._ids]
            return sorted((when, f"task {id}: {what}") for id, story in tasks for when, what in story)
        return self._link.story(result._task_id)

    def dump(self) -> str:
        """What it waits for and why, in words: its own state, the hub's, and the stacks of its engines."""
        self.check_owned()
        feeders = f", {self._feeders} inputs are being drawn" if self._feeders else ""
        calls = self.callbacks.waiting
        waiting = f", {calls} callbacks wait for the one that runs" if calls else ""
        head = f"{self.face.name} of process {os.getpid()}: {len(self._open)} tasks are open{feeders}{waiting}"
        return f"{head}\n{self._link.dump()}"

    def cancel(self, result: AsyncResult, running: bool) -> None:
        """Ask for a task back; wait until it is cancelled or known to run."""
        ids = result._ids if isinstance(result, MapResult) else [result._task_id]
        answers = _Answers(ids)
        # Registered first and looked up in _open after that, while ``deliver`` takes out of _open first: no answer is missed.
        self._cancels.append(answers)
        for task_id in ids:
            if task_id in self._open:
                self._link.tell(CancelWanted(task_id, running))
            else:
                answers.hear(task_id)
        if not answers.all.wait(None if running else CANCEL_WAIT):
            for task_id in list(answers.missing):
                self._link.tell(CancelWithdrawn(task_id))
        self._cancels.remove(answers)

    def cancel_waiting(self) -> None:
        """Cancel every task that no engine has started."""
        self._link.tell(CancelAll())

    def help(self, result: AsyncResult, done: Callable[[], bool]) -> None:
        """Before a thread waits for a result, until ``done()``: see to it that it does not wait in vain."""
        if self.helper is not None:
            self.helper.help(result._ids if isinstance(result, MapResult) else [result._task_id], done)

    def help_later(self, result: AsyncResult) -> None:
        """The same for one that nobody waits for, but a callback."""
        if self.helper is not None:
            self.helper.help_later(result._ids if isinstance(result, MapResult) else [result._task_id], result.done)

    def withdraw(self, task_ids: Iterable[int]) -> None:
        """Cancel those of these tasks that no engine has started; do not wait for that."""
        for task_id in task_ids:
            if task_id in self._open:
                self._link.tell(CancelWanted(task_id))

    # -- what the link reports, in its io thread ---------------------------------------------------------------------

    def deliver(self, outcomes: list[Outcome], refused: list[int]) -> None:
        """Settle results."""
        if self.helper is not None:
            self.helper.refused(refused)
            outcomes = [outcome for outcome in outcomes if self.helper.ended(outcome)]
        pop = self._open.pop
        for outcome in outcomes:
            waiting = pop(outcome[0], None)
            if type(waiting) is AsyncResult:
                waiting._arrive(outcome)
            elif waiting is not None:
                sink, start, size = waiting  # type: ignore[misc]
                sink(start, size, outcome)
            elif outcome[0] < 0 and outcome[1] in FAILED_REMOTELY:
                LOGGER.warning("engine %d has taken another's place, but not all of its names", outcome[4])
        if self._watched:
            self._tell_of_ends(outcomes)
        self._let_go()
        if self._cancels:
            heard = [outcome[0] for outcome in outcomes] + refused
            for answers in list(self._cancels):
                for task_id in heard:
                    answers.hear(task_id)

    def _tell_of_ends(self, outcomes: list[Outcome]) -> None:
        from zexec.dependency import where

        for outcome in outcomes:
            if outcome[0] in self._watched:
                self._watched.discard(outcome[0])
                if not self._ended:
                    self._link.tell(ParentEnded(outcome[0], (outcome[1] == OK, *where(outcome))))

    def hear(self, said: list[tuple[int, Any]]) -> None:
        """Pass on what tasks that run say, to whoever receives their outcomes and has an ear for it."""
        for task_id, news in said:
            waiting = self._open.get(task_id)
            if type(waiting) is tuple:
                sink, start, _ = waiting
                listen = getattr(sink, "hear", None)
                if listen is not None:
                    listen(start, news)

    def _let_go(self) -> None:
        """Keep the owner alive no longer than tasks or inputs are open."""
        if self._open or self._feeders or self._kept is None:
            return
        # Whoever holds the gate now submits or ends something, and comes here after that: what it has submitted may have ended
        # before it lets go of the gate. To wait for them would have the io thread and a thread that submits hand the gate back
        # and forth: 46,000 submits a second, not 100,000.
        if not self._gate.acquire(blocking=False):
            return
        kept = None
        try:
            if not self._open and not self._feeders:
                kept, self._kept = self._kept, None
        finally:
            self._gate.release()
        # Outside the gate: this may be the owner's end.
        del kept

    def ended(self, crash: str | None) -> None:
        """The link has ended, orderly or with a reason why not: whatever is still open fails."""
        with self._gate:
            self._closed = self._ended = True
            status = TERMINATED if crash is None else BROKEN
            rest = [(task_id, status, None, crash, -1, 0.0, 0.0) for task_id in self._open]
        self.deliver(rest, [])
        self.callbacks.end()


def _nobody() -> None:
    return None


def local_failure(error: BaseException) -> Outcome:
    """The outcome for something that failed here, before it was submitted."""
    from zexec.messages import LOCAL

    return (-1, LOCAL, None, error, -1, 0.0, 0.0)


def _apply(options: Options, task: Task) -> None:
    task.timeout = options.timeout
    task.retries = options.retries
    task.priority = options.priority
    task.targets = options.targets
