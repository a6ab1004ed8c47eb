"""Every exception that zexec raises.

Each is also an instance of what the stdlib raises in its place, so that existing ``except`` clauses keep working.
"""

from __future__ import annotations

import builtins
import concurrent.futures
import multiprocessing.context
from concurrent.futures.process import BrokenProcessPool
from typing import Any


class ZexecError(Exception):
    """Base of everything that only zexec raises."""


class ProtocolError(ZexecError):
    """Bytes from a peer that are no message; theirs is the fault."""


if issubclass(concurrent.futures.TimeoutError, builtins.TimeoutError):

    class TimeoutError(multiprocessing.context.TimeoutError, builtins.TimeoutError):
        """A result was not there in time, or a task ran longer than its time-out.

        Caught by ``except`` of ``multiprocessing.TimeoutError``, ``concurrent.futures.TimeoutError`` and the builtin.
        """

else:  # Python 3.10, where concurrent.futures has a class of its own

    class TimeoutError(  # type: ignore[no-redef]
        multiprocessing.context.TimeoutError, concurrent.futures.TimeoutError, builtins.TimeoutError
    ):
        """A result was not there in time, or a task ran longer than its time-out."""


class NotReadyError(ValueError, AssertionError):
    """``successful()`` was asked before the result was there.

    A ValueError as in today's multiprocessing, and an AssertionError as in IPython's parallel package.
    """


class RemoteError(ZexecError):
    """An exception on an engine that cannot be had here as itself.

    Args:
        ename: name of the exception's class.
        evalue: its arguments, as text.
        traceback: the engine's traceback, as text.
        engine_info: plain facts about where it happened.
    """

    def __init__(self, ename: str, evalue: str, traceback: str = "", engine_info: dict[str, Any] | None = None) -> None:
        super().__init__(ename, evalue, traceback, engine_info)
        self.ename = ename
        self.evalue = evalue
        self.traceback = traceback
        self.engine_info = engine_info or {}

    def __str__(self) -> str:
        text = f"{self.ename}({self.evalue})"
        return f"{text}\n{self.traceback}" if self.traceback else text


class UnpicklingError(RemoteError, BrokenProcessPool):
    """Function, arguments or result could not be rebuilt on the other side.

    The stdlib's executor breaks where this happens, hence its base class; zexec loses the one task.
    """


class EngineDied(BrokenProcessPool, ZexecError):
    """The engine died while it ran the task.

    Attributes:
        engine_id: number of the engine.
        pid: its process id.
        host: where it ran.
        exitcode: as in multiprocessing (negative: a signal), None where unknown.
    """

    def __init__(
        self,
        message: str,
        engine_id: int = -1,
        pid: int = -1,
        host: str = "",
        exitcode: int | None = None,
    ) -> None:
        super().__init__(message, engine_id, pid, host, exitcode)
        self.engine_id = engine_id
        self.pid = pid
        self.host = host
        self.exitcode = exitcode

    def __str__(self) -> str:
        return str(self.args[0])


class BrokenClusterError(BrokenProcessPool, ZexecError):
    """No task can run any more: engines do not start, or the policy is to break when one dies."""


class InitializerError(BrokenClusterError):
    """The initializer raised on an engine; its exception is the cause."""


class TerminatedError(ZexecError):
    """The pool was terminated while the task was open."""


class NoEngineError(ZexecError, ValueError):
    """None of the engines that a task is for exists."""
