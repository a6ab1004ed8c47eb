"""Outcomes -> values and exceptions: what the user gets for how a task ended.

Pool and Executor raise what the stdlib raises in the same place; a Face holds the differences.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

from zexec import errors
from zexec.messages import (
    ARGUMENTS,
    BROKEN,
    CANCELLED,
    DIED,
    ERROR,
    IMPOSSIBLE,
    LOCAL,
    NO_ENGINE,
    OK,
    PARTIAL,
    RESULT,
    TERMINATED,
    TIMEOUT,
    UNMET,
    UNSTORED,
    WAITED,
    Death,
    Outcome,
)
from zexec.wire.pickling import bare_traceback, load_report, loads


class Face(NamedTuple):
    """What differs between the interfaces when a task fails.

    Attributes:
        name: for messages to people.
        cause: makes the ``__cause__`` that shows the engine's traceback.
        unpicklable: makes the exception for a result that cannot be pickled, from the pickling error (None if that cannot be
            rebuilt), its repr, the value's repr and the traceback.
    """

    name: str
    cause: Callable[[str], BaseException]
    unpicklable: Callable[[BaseException | None, str, str, str], BaseException]


# A user's exceptions may have ways of their own with attributes. What stands here is set and called as the interpreter does it.
#: as ``raise error from cause`` sets it
set_cause: Callable[[BaseException, BaseException | None], None] = vars(BaseException)["__cause__"].__set__
_set_context: Callable[[BaseException, BaseException | None], None] = vars(BaseException)["__context__"].__set__


def bare(error: BaseException) -> BaseException:
    """It, without its traceback."""
    return BaseException.with_traceback(error, None)


def value_of(outcome: Outcome, face: Face) -> Any:
    """The value of a CALL or of a chunk that went well.

    Raises:
        UnpicklingError: it cannot be rebuilt here.
    """
    try:
        return loads(outcome[2])
    except BaseException as e:
        error = errors.UnpicklingError(type(e).__qualname__, f"the result could not be unpickled: {e}")
        raise error from without_frames(e, face)


def without_frames(error: BaseException, face: Face) -> BaseException:
    """An exception that was raised here, its traceback as the text of its cause: a result must not keep frames alive."""
    try:
        text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    except Exception as e:
        text = bare_traceback(error, error.__traceback__, e)
    set_cause(error, face.cause(text))
    _set_context(error, None)
    return bare(error)


def error_of(outcome: Outcome, face: Face, what: str) -> BaseException:
    """The exception for a task that did not end well.

    Args:
        outcome: how it ended.
        face: whose exceptions to use.
        what: the function's name, for messages.
    """
    status, payload, detail = outcome[1], outcome[2], outcome[3]
    if status in (ERROR, ARGUMENTS, RESULT, UNMET):
        return _reported(status, payload, face)
    if status == DIED:
        return died(detail, f"while it ran {what}")
    if status == TIMEOUT:
        return errors.TimeoutError(f"{what} ran longer than its time-out of {detail} s")
    if status == TERMINATED:
        return errors.TerminatedError(f"the {face.name} was terminated before {what} had ended")
    if status == NO_ENGINE:
        return errors.NoEngineError(str(detail))
    if status == IMPOSSIBLE:
        return errors.ImpossibleDependency(f"{what} was not run: {detail}")
    if status == WAITED:
        return errors.DependencyTimeout(f"{what} was not run: {detail}")
    if status == UNSTORED:
        return errors.StoreError(f"{what} was not accepted: {detail}")
    if status == BROKEN:
        return broken(detail, face)
    if status == LOCAL:
        error: BaseException = detail
        return error
    if status == CANCELLED:
        return CancelledError()
    return errors.ZexecError(f"{what} ended with unknown status {status}")


def items_of(outcome: Outcome, face: Face, what: str, size: int) -> tuple[list[Any], dict[int, BaseException]]:
    """A chunk's values, and the exceptions of items that failed by their offset in it."""
    status = outcome[1]
    try:
        if status == OK:
            return value_of(outcome, face), {}
        if status != PARTIAL:
            error = error_of(outcome, face, what)
            return [None] * size, dict.fromkeys(range(size), error)
        values, failures = loads(outcome[2])
    except BaseException as e:
        return [None] * size, dict.fromkeys(range(size), e)
    errors_ = {offset: _reported(ERROR, report, face) for offset, report in failures}
    if len(values) < size:
        # The chunk ended with its last failure: what comes after it never ran.
        last = max(errors_)
        errors_.update(dict.fromkeys(range(len(values), size), errors_[last]))
        values += [None] * (size - len(values))
    return values, errors_


def _reported(status: int, payload: Any, face: Face) -> BaseException:
    exc, name, args, text, facts = load_report(payload)
    if status == RESULT:
        return face.unpicklable(exc, facts["error"], facts["value"], text)
    if isinstance(exc, errors.InitializerError):
        # A client's initializer on an engine of a cluster: it runs when the first function arrives there.
        if exc.__cause__ is None:
            exc.__cause__ = errors.RemoteError(name, args, text)  # what it raised is not to be had here
        else:
            set_cause(exc.__cause__, face.cause(text))
        return exc
    if status == ARGUMENTS:
        where = "on the engine" + facts.get("where", "")
        error: BaseException = errors.UnpicklingError(
            name, f"function or arguments could not be unpickled {where}: {args}", text
        )
        error.__cause__ = exc
        return error
    if exc is None:
        return errors.RemoteError(name, args, text)
    set_cause(exc, face.cause(text))
    return exc


def died(death: Death, when: str) -> errors.EngineDied:
    """The exception for a task whose engine died."""
    message = f"{death.describe()} {when}"
    return errors.EngineDied(message, death.engine, death.pid, death.host, death.exitcode, death.peak)


def broken(detail: Any, face: Face) -> BaseException:
    """The exception for a cluster that cannot run anything."""
    if isinstance(detail, Death):
        return errors.BrokenClusterError(f"the {face.name} is broken: {detail.describe()}")
    if isinstance(detail, tuple) and detail[0] == "initializer":
        exc, name, args, text, _ = load_report(detail[1])
        error = errors.InitializerError(f"the {face.name} is broken: its initializer raised {name}({args})")
        if exc is not None:
            set_cause(exc, face.cause(text))
        error.__cause__ = exc if exc is not None else errors.RemoteError(name, args, text)
        return error
    return errors.BrokenClusterError(f"the {face.name} is broken: {detail}")


def describe_item(error: BaseException, start: int, offset: int, failures: dict[int, BaseException]) -> BaseException:
    """Note on an exception which item of a map it belongs to: the first, where it stands for several."""
    first = next(o for o, e in failures.items() if e is error)
    if first == offset and not isinstance(error, CancelledError):
        add_note(error, f"zexec: raised for item {start + offset} of the map")
    return error


def add_note(error: BaseException, note: str) -> BaseException:
    """Say more about an exception, where the Python has notes."""
    try:
        add = getattr(error, "add_note", None)
        if add is not None and note not in getattr(error, "__notes__", ()):
            add(note)
    except Exception:
        pass  # its class has a way of its own with attributes: then without
    return error
