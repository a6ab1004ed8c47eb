"""Engines as child processes of this one, started through a multiprocessing context.

fork, spawn and forkserver each behave as in the stdlib: inherited globals, ``initargs`` with locks and queues,
``current_process()``. Unlike the stdlib's workers these are no daemons, so that a task may open a pool of its own.
"""

from __future__ import annotations

import os
import pickle
import select
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.process import _children  # type: ignore[attr-defined]
from typing import Any

from zexec.engine.bootstrap import ByValue, serve
from zexec.engine.engine import EngineSpec
from zexec.engine.imports import note_programs, wait_for_others
from zexec.engine.ledger import Ledger
from zexec.launch import memory
from zexec.launch.stacks import collect, is_stopped
from zexec.messages import Death, ResultRecord
from zexec.net.channels import Ends
from zexec.wire.arena.doors import Rooms, home, rooms
from zexec.wire.pickling import dump_bytes, is_imported_again
from zexec.wire.reducers import registered

#: Seconds that a fork is put off for, at most, while another thread imports something.
IMPORTS = 0.2


class LocalEngine:
    """One engine process and what belongs to it."""

    def __init__(self, id: int, serial: int, process: Any, ledger: Ledger, rooms: Rooms | None) -> None:
        self.id = id
        self.serial = serial
        self.process = process
        self.ledger = ledger
        self.rooms = rooms
        #: readable when it has ended, and whether we have to close that
        self.sentinel = -1
        self.ours = False
        #: why we killed it, if we did
        self.killed = ""

    @property
    def pid(self) -> int:
        return int(self.process.pid)


class LocalLauncher:
    """Starts, watches and ends local engines.

    Args:
        context: the multiprocessing context to start processes with.
        initializer, initargs: run in each engine before its first task.
        allowance: tasks after which an engine leaves, None for never.
        rename: what to make of a process's name.
        max_memory: bytes from which on an engine is replaced, None for any number.
    """

    def __init__(
        self,
        context: Any,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        allowance: int | None = None,
        rename: Callable[[str], str] | None = None,
        max_memory: int | None = None,
    ) -> None:
        self._context = context
        self._initializer = initializer if context.get_start_method() == "fork" else portable(initializer)
        self._initargs = initargs
        self._allowance = allowance
        self._rename = rename
        self._max_memory = max_memory
        self._parent = None if context.get_start_method() == "forkserver" else os.getpid()
        #: processes that have not been reaped, by serial
        self.engines: dict[int, LocalEngine] = {}
        #: who fills each place now; replaced as a whole, so that other threads may read it
        self.current: dict[int, Any] = {}
        self._sentinels: dict[int, int] = {}
        #: how often the system had killed for want of memory when we started
        self._memory_kills = memory.kills()
        #: an executed process is said to have had the memory that its parent had: no peak below this is its own
        self._inherited_peak = 0
        note_programs()
        #: keeps this process's arena for as long as there may be engines
        self._home = home()

    def start(self, id: int, serial: int, ends: Ends) -> int:
        """Start an engine; its sentinel.

        Raises:
            Exception: what the context raises, for instance because initargs cannot be pickled.
        """
        ledger = Ledger()
        shared = rooms(self._home)
        try:
            spec = EngineSpec(
                ends, ledger, serial, id, self._allowance, self._parent, self._max_memory, shared, self._serializers()
            )
            process = self._context.Process(target=serve, args=(spec, self._initializer, self._initargs))
            if self._rename is not None:
                process.name = self._rename(process.name)
            # Whatever started this process, its engines may have children.
            process.daemon = False
            if self._context.get_start_method() == "fork":
                wait_for_others(IMPORTS)
            with _no_false_script(), self._no_ctrl_c():
                process.start()
        except BaseException:
            ledger.close()
            if shared is not None:
                shared.close()
            raise
        if self._context.get_start_method() == "spawn":
            self._inherited_peak = memory.own_peak()
        self.engines[serial] = engine = LocalEngine(id, serial, process, ledger, shared)
        self.current = {**self.current, id: process}
        engine.sentinel, engine.ours = _sentinel(process)
        self._sentinels[engine.sentinel] = serial
        return engine.sentinel

    def admit(self, token: Any, id: int, serial: int) -> None:
        """No engine of these comes by itself."""

    @contextmanager
    def _no_ctrl_c(self) -> Iterator[None]:
        """Keep Ctrl-C from an engine that is not ready for it: it would show a traceback. It inherits what is blocked here.

        A fork server would pass that on to everybody's processes, so there it stays as it is.
        """
        method = self._context.get_start_method()
        if method == "forkserver":
            yield
            return
        if method == "spawn":
            from multiprocessing import resource_tracker

            resource_tracker.ensure_running()  # starting it unblocks signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """There will be no more engines."""
        self._home = None

    def _serializers(self) -> bytes | None:
        """For an engine that inherits nothing."""
        known = registered()
        return dump_bytes(known) if known and self._context.get_start_method() != "fork" else None

    def shares_memory(self, serial: int) -> bool:
        """Whether an engine can reach this process's shared memory, and this process the engine's."""
        return self.engines[serial].rooms is not None

    def by_sentinel(self, fd: int) -> int | None:
        """The serial of the engine whose end this descriptor signals."""
        return self._sentinels.get(fd)

    def is_alive(self, serial: int) -> bool:
        engine = self.engines.get(serial)
        if engine is None:
            return False
        # To ask for its exit code would reap it, and ``reap`` wants to know what memory it had.
        return not _is_readable(engine.sentinel) if engine.ours else engine.process.exitcode is None

    def has_ended(self, serial: int) -> bool:
        """Whether an engine whose sentinel says so has really ended."""
        return not self.is_alive(serial)

    def reap(self, serial: int) -> tuple[Death, int, list[ResultRecord]]:
        """Clean up after an engine whose process has ended.

        Returns:
            why it did, the newest task it had started, and results that it may not have sent.
        """
        engine = self.engines.pop(serial)
        process = engine.process
        peak = self._wait(process)
        if process.exitcode is None:
            # Somebody else has waited for it, ``os.wait()`` in the program perhaps, and its exit status is lost. multiprocessing
            # would count it among its children for ever, and keep its descriptors.
            _children.discard(process)
        del self._sentinels[engine.sentinel]
        if engine.ours:
            os.close(engine.sentinel)
        started, results = engine.ledger.started, engine.ledger.results()
        engine.ledger.close()
        if engine.rooms is not None:
            engine.rooms.close()
        if self.current.get(engine.id) is process:
            self.current = {id: p for id, p in self.current.items() if p is not process}
        reason = engine.killed
        if process.exitcode == -signal.SIGKILL and not reason:
            reason = memory.cause(peak, self._memory_kills)
        death = Death(engine.id, process.pid, socket.gethostname(), process.exitcode, reason, peak)
        return death, started, results

    def _wait(self, process: Any) -> int | None:
        """Reap a process that has ended. The most memory that it had, in bytes, where the system says so."""
        popen: Any = getattr(process, "_popen", None)
        usage = None
        if getattr(popen, "returncode", 0) is None and self._context.get_start_method() in ("fork", "spawn"):
            try:
                _, status, usage = os.wait4(process.pid, 0)
                popen.returncode = os.waitstatus_to_exitcode(status)
            except ChildProcessError:
                pass  # somebody has asked all children how they are
        process.join()
        if usage is None or usage.ru_maxrss * 1024 <= self._inherited_peak:
            return None
        return usage.ru_maxrss * 1024

    def is_stopped(self, serial: int, before: int) -> bool:
        """Whether an engine's process is stopped, by a signal, and has not started the task of this number."""
        engine = self.engines.get(serial)
        return engine is not None and engine.ledger.started < before and is_stopped(engine.pid)

    def stacks(self) -> dict[int, str]:
        """The stacks of all threads of each engine, or why they are not to be had; by serial. From any thread."""
        return collect({serial: (engine.pid, engine.ledger) for serial, engine in list(self.engines.items())})

    def kill(self, serial: int, reason: str, force: bool = False) -> None:
        """End an engine's process. It is gone when its sentinel says so."""
        engine = self.engines.get(serial)
        if engine is None or not self.is_alive(serial):
            return
        engine.killed = engine.killed or reason
        try:
            # By its pid: a foreign context's processes need not have a ``kill``.
            os.kill(engine.process.pid, signal.SIGKILL if force else signal.SIGTERM)
            # A stopped process keeps a SIGTERM for later.
            os.kill(engine.process.pid, signal.SIGCONT)
        except ProcessLookupError:
            pass

    def signal(self, serial: int, number: int) -> bool:
        """Send a signal to an engine's process. False if it is not one of ours."""
        engine = self.engines.get(serial)
        if engine is None:
            return False
        try:
            if engine.process.exitcode is None:
                os.kill(engine.process.pid, number)
        except ProcessLookupError:
            pass
        return True


def _sentinel(process: Any) -> tuple[int, bool]:
    """What becomes readable when a process has ended, and whether that is ours to close.

    The stdlib's is a pipe that the process holds open: a task that closes all descriptors seems to be the end of it, and a
    child that a task has left behind puts that off.
    """
    try:
        return os.pidfd_open(process.pid), True
    except (AttributeError, OSError):
        return process.sentinel, False


def _is_readable(fd: int) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(0))


@contextmanager
def _no_false_script() -> Iterator[None]:
    """A program read from a pipe says that its file is ``<stdin>``; a spawned process would look for that and fail."""
    main = sys.modules.get("__main__")
    path = getattr(main, "__file__", None)
    if path is None or os.path.exists(path):
        yield
        return
    del main.__file__  # type: ignore[union-attr]
    try:
        yield
    finally:
        main.__file__ = path  # type: ignore[union-attr]


def portable(initializer: Callable[..., Any] | None) -> Callable[..., Any] | None:
    """An initializer that can be pickled: itself, or by value where its name cannot be imported."""
    if initializer is None:
        return None
    try:
        data = pickle.dumps(initializer)
    except Exception:
        return ByValue(initializer)
    if b"__main__" in data and not is_imported_again(sys.modules.get("__main__")):
        return ByValue(initializer)
    return initializer
