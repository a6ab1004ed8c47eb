"""Objects <-> payloads.

The C pickler first, cloudpickle only where it must: a name that cannot be imported over there (lambda, closure, local class,
something typed into a prompt) goes by value. Types that multiprocessing taught its own pickler (connections, sockets, what
torch registers) are pickled its way, because plain pickle would copy a file descriptor's number and call it done.
"""

from __future__ import annotations

import copyreg
import io
import pickle
import sys
import traceback
import types
from hashlib import blake2b
from multiprocessing.reduction import ForkingPickler
from typing import Any

from zexec.messages import Function

PROTOCOL = 5

#: What a failing C pickler raises when it is the name that is missing, or a type it cannot do: cloudpickle may.
_TRY_BY_VALUE = (pickle.PicklingError, AttributeError, TypeError)

#: Types of arguments that certainly contain nothing special.
_PLAIN = frozenset({int, float, str, bytes, bool, type(None), complex})

_reducers: dict[type, Any] = {}
_known = (-1, -1)


def _dispatch_table() -> dict[type, Any]:
    """copyreg's table with multiprocessing's over it, made anew when either has grown."""
    global _reducers, _known
    extra = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    sizes = (len(copyreg.dispatch_table), len(extra))
    if sizes != _known:
        _reducers = {**copyreg.dispatch_table, **extra}
        _known = sizes
    return _reducers


def _dump_c(obj: Any) -> bytes:
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, PROTOCOL)
    pickler.dispatch_table = _dispatch_table()
    pickler.dump(obj)
    return buffer.getvalue()


def dumps(obj: Any) -> bytes:
    """Pickle an object, by value where its names cannot be imported.

    Raises:
        Exception: what the C pickler raised, if cloudpickle cannot do it either.
    """
    try:
        return _dump_c(obj)
    except _TRY_BY_VALUE as e:
        by_value = _dump_by_value(obj)
        if by_value is None:
            raise
        del e
        return by_value


def _dump_by_value(obj: Any) -> bytes | None:
    import cloudpickle

    try:
        data: bytes = cloudpickle.dumps(obj, PROTOCOL)
        return data
    except Exception:
        return None


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The payload of a CALL."""
    if not kwargs:
        for a in args:
            if type(a) not in _PLAIN:
                break
        else:
            return pickle.dumps((args, None), PROTOCOL)
        return dumps((args, None))
    return dumps((args, kwargs))


loads = pickle.loads


# -- functions -------------------------------------------------------------------------------------------------------


class MainModule:
    """Which names of ``__main__`` the engines have, so that functions in it go by reference to those and by value else.

    A forked engine has what ``__main__`` held when the first engine started, so a function is known there if its top-level
    name was bound to the same object then. A spawned engine imports the script again and has what that defines, unless
    there is no script: at a prompt or in a notebook everything in ``__main__`` goes by value.
    """

    def __init__(self, forked: bool) -> None:
        self._module = main = sys.modules.get("__main__")
        self._then: dict[str, Any] | None = dict(vars(main)) if forked and main is not None else None
        self._script = hasattr(main, "__file__") or getattr(main, "__spec__", None) is not None

    def has(self, obj: Any) -> bool:
        """Whether an engine finds this function or class of ``__main__`` under its name."""
        name = obj.__qualname__.partition(".")[0]
        now = vars(self._module).get(name) if self._module is not None else None
        if self._then is None:
            return self._script and now is not None
        return now is not None and self._then.get(name) is now


class FunctionPickler:
    """Turns callables into Functions, and remembers those that go by reference.

    Args:
        main: what the engines know of ``__main__``; None where they share nothing with this process.
    """

    #: Functions remembered before all are forgotten: bounds memory, costs a re-pickle.
    REMEMBER = 1_000

    def __init__(self, main: MainModule | None) -> None:
        self._main = main
        #: by id; the callable is kept so that its id stays its own
        self._known: dict[int, tuple[Any, Function]] = {}

    def of(self, f: Any) -> Function:
        """The Function for a callable.

        Raises:
            Exception: it cannot be pickled at all.
        """
        known = self._known.get(id(f))
        if known is not None:
            return known[1]
        if self._importable(f):
            try:
                function = _function(f, pickle.dumps(f, PROTOCOL), shared=True)
            except _TRY_BY_VALUE:
                pass
            else:
                if len(self._known) >= self.REMEMBER:
                    self._known.clear()
                self._known[id(f)] = (f, function)
                return function
        if isinstance(f, types.FunctionType):
            payload = _dump_by_value(f)
            if payload is not None:
                return _function(f, payload, shared=_is_stateless(f))
        return _function(f, dumps(f), shared=False)

    def _importable(self, f: Any) -> bool:
        if not isinstance(f, types.FunctionType | types.BuiltinFunctionType | type):
            return False
        if isinstance(f, types.BuiltinFunctionType):
            return isinstance(f.__self__, types.ModuleType | None)
        if f.__module__ == "__main__":
            return self._main is not None and self._main.has(f)
        return "<" not in f.__qualname__


def _function(f: Any, payload: bytes, shared: bool) -> Function:
    name = getattr(f, "__qualname__", None) or type(f).__qualname__
    return Function(blake2b(payload, digest_size=16).digest(), payload, name, shared)


def _is_stateless(f: types.FunctionType) -> bool:
    """Whether no call can leave anything behind in the function itself: no cells, defaults or globals of its own."""
    return (
        f.__closure__ is None
        and f.__defaults__ is None
        and f.__kwdefaults__ is None
        and not f.__dict__
        and not _uses_globals(f.__code__, f.__globals__)
    )


def _uses_globals(code: types.CodeType, names: dict[str, Any]) -> bool:
    return any(name in names for name in code.co_names) or any(
        isinstance(const, types.CodeType) and _uses_globals(const, names) for const in code.co_consts
    )


# -- exceptions ------------------------------------------------------------------------------------------------------


def dump_report(exc: BaseException, skip: int = 0, **facts: Any) -> bytes:
    """What the client needs to raise an exception there: the exception if it can be pickled, and its description if not.

    Args:
        exc: the exception, with its traceback.
        skip: frames to leave out at the top of the traceback: those of the engine itself.
        facts: plain data to go along.
    """
    tb = exc.__traceback__
    for _ in range(skip):
        if tb is not None:
            tb = tb.tb_next
    text = "".join(traceback.format_exception(type(exc), exc, tb))
    try:
        pickled: bytes | None = dumps(exc)
    except Exception:
        pickled = None
    try:
        args = ", ".join(map(repr, exc.args))
    except Exception:
        args = "..."
    return pickle.dumps((pickled, type(exc).__qualname__, args, text, facts), PROTOCOL)


def load_report(payload: Any) -> tuple[BaseException | None, str, str, str, dict[str, Any]]:
    """Take a report apart: the exception (None if it cannot be rebuilt here), class name, arguments, traceback, facts."""
    pickled, name, args, text, facts = pickle.loads(payload)
    exc: BaseException | None = None
    if pickled is not None:
        try:
            exc = pickle.loads(pickled)
        except Exception as e:
            args += f" [it could not be rebuilt here: {type(e).__name__}: {e}]"
        if not isinstance(exc, BaseException):
            exc = None
    return exc, name, args, text, facts
