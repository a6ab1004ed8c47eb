"""Every exception that zexec raises.

Each is also an instance of what the stdlib raises in its place, so that existing ``except`` clauses keep working.
"""

from __future__ import annotations

import builtins
import concurrent.futures
import multiprocessing.context
import sys
from collections.abc import Sequence
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


class _WithCause(ZexecError):
    """An exception whose cause is what it stands for: so that goes along when this is pickled, which causes do not, if it can."""

    def __reduce__(self) -> Any:
        state = dict(self.__dict__)
        if self.__cause__ is not None:
            import pickle

            try:
                state["_cause"] = pickle.dumps(self.__cause__)
            except Exception:
                pass  # it cannot be pickled
        return type(self), self.args, state

    def __setstate__(self, state: Any) -> None:
        state = dict(state or {})
        cause = state.pop("_cause", None)
        self.__dict__.update(state)
        if cause is not None:
            import pickle

            try:
                self.__cause__ = pickle.loads(cause)
            except Exception:
                pass  # its class is not there


class RemoteError(_WithCause):
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
        if self.engine_info:
            return "\n".join([f"{self._where()} {self.ename}: {self.evalue}", self.traceback]).rstrip()
        text = f"{self.ename}({self.evalue})"
        return f"{text}\n{self.traceback}" if self.traceback else text

    @property
    def engine_id(self) -> int | None:
        """Number of the engine that it was raised on, where that is known."""
        return self.engine_info.get("engine_id")

    @property
    def host(self) -> str | None:
        """The host of that engine."""
        return self.engine_info.get("host")

    def _where(self) -> str:
        if not self.engine_info:
            return "[engine unknown]"
        pid = f", pid {self.engine_info['pid']}" if "pid" in self.engine_info else ""
        host = f" on {self.host}" if self.host else ""
        return f"[engine {self.engine_id}{pid}{host}]"

    def render_traceback(self) -> list[str]:
        """The engine's traceback, as lines; the first says where."""
        method = f":{self.engine_info['method']}" if "method" in self.engine_info else ""
        return [self._where() + method, *(self.traceback or "no traceback available").splitlines()]

    def print_traceback(self, excid: int | None = None) -> None:
        """Print the engine's traceback."""
        sys.stdout.write("\n".join(self.render_traceback()) + "\n")

    def raise_exception(self, excid: int = 0) -> None:
        """Raise the exception itself if it could be had here, or else this."""
        raise self.__cause__ if self.__cause__ is not None else self

    def _render_traceback_(self) -> list[str]:
        """What IPython shows instead of the traceback here."""
        return self.render_traceback()


class CompositeError(RemoteError):
    """Exceptions of several engines, or one of several calls.

    Args:
        message: what was called.
        errors: one for each call that failed.

    Attributes:
        elist: for each: (name of its class, its text, traceback, engine_info).
    """

    #: tracebacks that are shown
    tb_limit = 4

    def __init__(self, message: str, errors: Sequence[BaseException]) -> None:
        text = "\n".join(getattr(error, "traceback", "") for error in errors)
        super().__init__("CompositeError", message, text)
        self.args = (message, list(errors))
        self.message = message
        self.errors = list(errors)

    @property
    def elist(self) -> list[tuple[str, str, str, dict[str, Any]]]:
        return [
            (error.ename, error.evalue, error.traceback, error.engine_info)
            if isinstance(error, RemoteError)
            else (type(error).__name__, str(error), "", {})
            for error in self.errors
        ]

    def __repr__(self) -> str:
        return f"CompositeError({len(self.errors)})"

    def __str__(self) -> str:
        lines = [self.message]
        for error in self.errors[: self.tb_limit]:
            where = f"{error._where()} " if isinstance(error, RemoteError) else ""
            name, text = (
                (error.ename, error.evalue) if isinstance(error, RemoteError) else (type(error).__name__, str(error))
            )
            lines.append(f"{where}{name}: {text}")
        if len(self.errors) > self.tb_limit:
            lines.append(f"... and {len(self.errors) - self.tb_limit} more exceptions")
        return "\n".join(lines)

    def render_traceback(self, excid: int | None = None) -> list[str]:
        """The tracebacks, or the one of ``errors[excid]``, as lines."""
        chosen = self.errors[: self.tb_limit] if excid is None else [self._error(excid)]
        lines: list[str] = []
        for error in chosen:
            lines += error.render_traceback() if isinstance(error, RemoteError) else [repr(error)]
        if excid is None and len(self.errors) > self.tb_limit:
            lines.append(f"... and {len(self.errors) - self.tb_limit} more exceptions")
        return lines

    def print_traceback(self, excid: int | None = None) -> None:
        """Print the tracebacks, or the one of ``errors[excid]``."""
        sys.stdout.write("\n".join(self.render_traceback(excid)) + "\n")

    def raise_exception(self, excid: int = 0) -> None:
        """Raise ``errors[excid]``."""
        raise self._error(excid)

    def _error(self, excid: int) -> BaseException:
        try:
            return self.errors[excid]
        except IndexError:
            raise IndexError(f"no exception {excid}: there are {len(self.errors)}") from None


class AlreadyDisplayedError(RemoteError):
    """Stands for an exception whose traceback has been shown already, while the task ran.

    Attributes:
        original_error: that.
    """

    def __init__(self, original_error: RemoteError) -> None:
        super().__init__(original_error.ename, original_error.evalue, original_error.traceback)
        self.args = (original_error,)
        self.original_error = original_error
        self.__cause__ = original_error.__cause__

    def __str__(self) -> str:
        return "\n".join(self.render_traceback())

    def render_traceback(self, excid: int | None = None) -> list[str]:
        """One line: the rest has been shown."""
        error = self.original_error
        count = len(error.errors) if isinstance(error, CompositeError) else 1
        return [f"{count} errors" if count != 1 else "1 error"]


class UnmetDependency(ZexecError):
    """Raised by a function before it does anything, this engine cannot run it: another is tried. See ``depend``."""

    #: what an engine looks for, which need not import this module
    zexec_unmet = True


class ImpossibleDependency(ZexecError):
    """What the task was to wait for can never be: a task that it needed has failed, say."""


class InvalidDependency(ImpossibleDependency, KeyError):
    """Nothing is known of a task that another was to wait for."""

    def __str__(self) -> str:
        return str(self.args[0])


class DependencyTimeout(TimeoutError, ZexecError):
    """What the task was to wait for did not come in time."""


class TaskAborted(ZexecError, concurrent.futures.CancelledError):
    """The task was aborted before it started."""


class SegmentLostError(ZexecError, OSError):
    """Large data cannot be read: the shared memory that held it is gone, or cannot be reached from this process."""


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
        peak_memory: the most memory that it had, in bytes, None where unknown.
    """

    def __init__(
        self,
        message: str,
        engine_id: int = -1,
        pid: int = -1,
        host: str = "",
        exitcode: int | None = None,
        peak_memory: int | None = None,
    ) -> None:
        super().__init__(message, engine_id, pid, host, exitcode, peak_memory)
        self.engine_id = engine_id
        self.pid = pid
        self.host = host
        self.exitcode = exitcode
        self.peak_memory = peak_memory

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def signal(self) -> str | None:
        """The name of the signal that killed it, if one did."""
        if self.exitcode is None or self.exitcode >= 0:
            return None
        import signal

        try:
            return signal.Signals(-self.exitcode).name
        except ValueError:
            return str(-self.exitcode)


class BrokenClusterError(BrokenProcessPool, ZexecError):
    """No task can run any more: engines do not start, or the policy is to break when one dies."""


class InitializerError(BrokenClusterError, _WithCause):
    """The initializer raised on an engine; its exception is the cause."""


class TerminatedError(ZexecError):
    """The pool was terminated while the task was open."""


class StoreError(ZexecError):
    """A hub's store cannot be used, or cannot take a task in: the message says which store, and why. Ours."""


class ClusterError(ZexecError, OSError):
    """A cluster cannot be reached, does not let anybody in, or cannot be started. The message says which and why."""


class NoEngineError(ZexecError, ValueError):
    """None of the engines that a task is for exists."""
