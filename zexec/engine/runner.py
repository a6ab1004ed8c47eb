"""Runs one task: unpickles its call, makes it, pickles what came of it. Never raises, whatever the task does."""

from __future__ import annotations

import pickle
import signal
import threading
from collections.abc import Sequence
from itertools import starmap
from time import monotonic, time
from typing import Any, ClassVar

from zexec.messages import ARGUMENTS, CALL, ERROR, KEEP_GOING, OK, PARTIAL, RESULT, STARMAP, UNMET
from zexec.wire.bundles import LARGE, Bundle
from zexec.wire.pickling import PLAIN, PROTOCOL, SIZED, dump_report, dumps

#: (status, payload, started, seconds): the second half of a ResultRecord
Ran = tuple[int, Any, float, float]


class TaskInterrupted(KeyboardInterrupt):
    """Raised in a task that the hub wants to end: it ran out of time, or was cancelled while it ran."""


class time_limit:
    """Interrupts what a runner runs inside another task, in the main thread, when it takes too long. A context manager.

    Args:
        runner: whose.
        seconds: how long it may take; None: for ever.
    """

    #: those whose time is over, until the main thread has seen it
    due: ClassVar[list[time_limit]] = []

    def __init__(self, runner: Runner, seconds: float | None) -> None:
        self.is_over = False
        self._runner = runner
        self._timer = None if seconds is None else threading.Timer(seconds, self._fire)

    def __enter__(self) -> time_limit:
        if self._timer is not None:
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer.join()
            if self in self.due:
                self.due.remove(self)

    def _fire(self) -> None:
        if self._runner.in_task:
            self.is_over = True
            self.due.append(self)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    @classmethod
    def look(cls) -> None:
        """In the main thread, at the signal. Raises TaskInterrupted in a task whose time is over."""
        due, cls.due[:] = list(cls.due), []
        if any(each._runner.in_task for each in due):
            raise TaskInterrupted("the task was interrupted")


class Runner:
    """Knows functions by their digest and runs tasks with them. Lives in the engine's main thread."""

    def __init__(self) -> None:
        #: by digest: [payload, shared, loaded function or None]
        self._functions: dict[bytes, list[Any]] = {}
        #: true while user code runs, and only inside the ``try`` around it: an interrupt may raise then
        self.in_task = False

    def learn(self, functions: Sequence[tuple[bytes, Any, bool]], forget: Sequence[bytes]) -> None:
        """Take in what the hub says of functions, before the tasks that use them."""
        for digest in forget:
            self._functions.pop(digest, None)
        for digest, payload, shared in functions:
            self._functions[digest] = [payload, shared, None]

    def run(self, digest: bytes, kind: int, payload: Any) -> Ran:
        """Run one task to its end."""
        # The wall clock says when; how long is for the scheduler, and must not jump when the clock is set.
        started, begin = time(), monotonic()
        try:
            entry = self._functions[digest]
            f = entry[2]
            if f is None:
                f = entry[0].load(again=True) if type(entry[0]) is Bundle else pickle.loads(entry[0])
                if entry[1]:
                    entry[2] = f
            call = payload.load() if type(payload) is Bundle else pickle.loads(payload)
        except BaseException as e:
            return ARGUMENTS, dump_report(e, skip=1, where=_here(e)), started, monotonic() - begin
        if kind != CALL:
            return self._run_chunk(f, kind, call, started, begin)
        try:
            self.in_task = True
            args, kwargs = call
            del call
            value = f(*args, **kwargs) if kwargs else f(*args)
            self.in_task = False
        except BaseException as e:
            self.in_task = False
            return _failed(e), dump_report(e, skip=1), started, monotonic() - begin
        del args, kwargs
        return self._pack(value, started, begin)

    def _run_chunk(self, f: Any, kind: int, items: list[Any], started: float, begin: float) -> Ran:
        values: list[Any] = []
        failures: list[tuple[int, bytes]] = []
        size = len(items)
        calls = starmap(f, items) if kind & STARMAP else map(f, items)
        while True:
            try:
                self.in_task = True
                if size == 1:
                    values.append(f(*tuple(items[0])) if kind & STARMAP else f(items[0]))
                else:
                    # At C speed; an item that raises leaves the values before it in the list and the iterator behind it.
                    values.extend(calls)
                self.in_task = False
                if len(values) < size:
                    # An item raised this, and ``extend`` took it for the end.
                    raise StopIteration
                break
            except BaseException as e:
                self.in_task = False
                if not values and _failed(e) == UNMET:
                    return UNMET, dump_report(e, skip=1), started, monotonic() - begin
                failures.append((len(values), dump_report(e, skip=1)))
                values.append(None)
                if len(values) == size or not kind & KEEP_GOING or isinstance(e, TaskInterrupted):
                    break
        del items, calls
        if not failures:
            return self._pack(values, started, begin)
        return self._pack_partial(values, failures, started, begin)

    def _pack(self, value: Any, started: float, begin: float, failures: Any = None) -> Ran:
        try:
            kind = type(value)
            if kind in PLAIN or (kind in SIZED and len(value) < LARGE):
                data: Any = pickle.dumps(value, PROTOCOL)
            else:
                data = dumps(value if failures is None else (value, failures))
        except BaseException as e:
            return RESULT, dump_report(e, skip=1, value=_show(value), error=_show(e)), started, monotonic() - begin
        return OK, data, started, monotonic() - begin

    def _pack_partial(self, values: list[Any], failures: list[tuple[int, bytes]], started: float, begin: float) -> Ran:
        status, data, _, seconds = self._pack(values, started, begin, failures)
        return PARTIAL if status == OK else status, data, started, seconds


def _failed(error: BaseException) -> int:
    return UNMET if is_unmet(error) else ERROR


def is_unmet(error: BaseException) -> bool:
    """Whether it says that this engine cannot run the task."""
    try:
        return bool(getattr(error, "zexec_unmet", False))
    except BaseException:
        return False  # its class has a way of its own with attributes


def _show(obj: Any) -> str:
    try:
        return repr(obj)
    except BaseException:
        return object.__repr__(obj)


def _here(error: BaseException) -> str:
    """Where something could not be found: what the engine is, and where it looked."""
    if not isinstance(error, ImportError | AttributeError):
        return ""
    import platform
    import socket
    import sys

    numpy = sys.modules.get("numpy")
    version = "" if numpy is None else f", numpy {numpy.__version__}"
    paths = ", ".join(map(repr, sys.path))
    return f" on {socket.gethostname()} ({sys.executable}, Python {platform.python_version()}{version}; it looks in {paths})"
