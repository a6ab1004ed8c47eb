"""Objects <-> payloads.

The C pickler first, cloudpickle only where it must: a name that cannot be imported over there (lambda, closure, local class,
something typed into a prompt) goes by value. Types that multiprocessing taught its own pickler (connections, sockets, what
torch registers) are pickled its way, because plain pickle would copy a file descriptor's number and call it done.
"""

from __future__ import annotations

import io
import os
import pickle
import sys
import traceback
import types
from collections import ChainMap
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from zexec.messages import Function
from zexec.wire.bundles import LARGE, Bundle, Sink
from zexec.wire.reducers import dispatch_table, registered

try:
    from _blake2 import blake2b  # hashlib's, without OpenSSL, which takes 3 ms to load
except ImportError:
    from hashlib import blake2b

PROTOCOL = 5

#: What a failing C pickler raises when it is the name that is missing, or a type it cannot do: cloudpickle may.
TRY_BY_VALUE = (pickle.PicklingError, AttributeError, TypeError)

#: What the program's module is called: where it was started, and in what multiprocessing spawns, which imports it again.
MAIN = ("__main__", "__mp_main__")
MAIN_BYTES = tuple(name.encode() for name in MAIN)
#: What ``functools.lru_cache`` makes: its pickle is its name.
CACHED = type(cache(len))

#: Types of which no value is special or large, and those whose values are large if they are long.
PLAIN = frozenset({int, float, bool, type(None), complex})
SIZED = frozenset({str, bytes})

#: Sequences of such, and how many items of one are looked at.
_SEQUENCES = frozenset({list, tuple, range})
FEW = 8

#: what travels: a pickle, or one with its large data apart
Payload = bytes | Bundle


def dump_c(obj: Any, file: Any, take: Callable[[pickle.PickleBuffer], Any] | None = None) -> None:
    """By the C pickler alone, which sends functions and classes by their names."""
    pickler = pickle.Pickler(file, PROTOCOL, buffer_callback=take)
    pickler.dispatch_table = dispatch_table()
    pickler.dump(obj)


def dumps(obj: Any, main: MainModule | None = None) -> Payload:
    """Pickle an object, by value where its names cannot be imported.

    Args:
        obj: the object.
        main: what the other side knows of ``__main__``; by default all that this side does.

    Raises:
        Exception: what the C pickler raised, if cloudpickle cannot do it either.
    """
    if main is not None and (main.is_used or registered()):
        # Once it is known that there are such things, everything is pickled once.
        watched = _dump_watching(obj, main)
        if watched is not None:
            return watched.payload()
    sink = Sink()
    try:
        dump_c(obj, sink, sink.take)
    except TRY_BY_VALUE:
        by_value = _dump_by_value(obj, main)
        if by_value is None:
            raise
        return by_value.payload()
    if main is not None and any(sink.mentions(name) for name in MAIN_BYTES):
        # It may hold functions or classes that are not there under their names.
        main.is_used = True
        return (_dump_watching(obj, main) or sink).payload()
    return sink.payload()


class _Watcher(pickle.Pickler):
    """The C pickler, but for what the other side does not have under its name: that goes by value.

    Unlike cloudpickle's it needs cloudpickle only when it comes upon such a thing. Unlike ``dumps``, which tries first,
    it pickles everything once.
    """

    main: MainModule | None
    _helper: Any = None

    def reducer_override(self, obj: Any) -> Any:
        if type(obj) is CACHED:
            return _take_apart(obj, self.main)
        if not isinstance(obj, types.FunctionType | type):
            return NotImplemented
        if obj.__module__ in MAIN:
            if self.main is None or self.main.has(obj):
                return NotImplemented
        elif "<" not in obj.__qualname__:
            return NotImplemented
        if self._helper is None:
            self._helper = value_pickler()(io.BytesIO(), self.main)
            self.dispatch_table = self._helper.dispatch_table
        return self._helper.reducer_override(obj)


def _dump_watching(obj: Any, main: MainModule | None) -> Sink | None:
    sink = Sink()
    watcher = _Watcher(sink, PROTOCOL, buffer_callback=sink.take)
    watcher.dispatch_table = dispatch_table()
    watcher.main = main
    try:
        watcher.dump(obj)
    except TRY_BY_VALUE:
        return _dump_by_value(obj, main)
    except Exception:
        return None  # the caller pickles it without us, and that raises what is to be said
    return sink


def _dump_by_value(obj: Any, main: MainModule | None = None) -> Sink | None:
    sink = Sink()
    try:
        value_pickler()(sink, main, sink.take).dump(obj)
    except Exception:
        return None
    return sink


def dump_bytes(obj: Any) -> bytes:
    """Pickle an object into one piece, however large it is."""
    buffer = io.BytesIO()
    try:
        dump_c(obj, buffer)
    except TRY_BY_VALUE:
        buffer = io.BytesIO()
        try:
            value_pickler()(buffer, None).dump(obj)
        except Exception:
            buffer = io.BytesIO()
        if not buffer.tell():
            raise
    return buffer.getvalue()


def loads(payload: Any) -> Any:
    """Unpickle a payload."""
    return payload.load() if type(payload) is Bundle else pickle.loads(payload)


def _take_apart(cached: Any, main: MainModule | None) -> Any:
    """How a function with a cache is pickled: by its name, or as a function that gets a cache of its own there."""
    elsewhere = "<" not in cached.__qualname__ if cached.__module__ not in MAIN else main is None or main.has(cached)
    return NotImplemented if elsewhere else (_cache_again, (cached.__wrapped__, cached.cache_parameters()))


def _cache_again(f: Callable[..., Any], parameters: dict[str, Any]) -> Any:
    return lru_cache(**parameters)(f)


@cache
def value_pickler() -> Any:
    """The class of pickler that goes by value where it must; made when first needed, for it needs cloudpickle."""
    import cloudpickle

    again = sys.modules.get(MAIN[1])
    if again is not None and again.__name__ == MAIN[1]:
        cloudpickle.register_pickle_by_value(again)

    class ValuePickler(cloudpickle.Pickler):  # type: ignore[misc]
        """By value what the other side does not have under its name, and nothing else."""

        def __init__(
            self,
            file: Any,
            main: MainModule | None,
            buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
        ) -> None:
            super().__init__(file, protocol=PROTOCOL, buffer_callback=buffer_callback)
            own: ChainMap[Any, Any] = cloudpickle.Pickler.dispatch_table
            self.dispatch_table = ChainMap(own.maps[0], dispatch_table(), *own.maps[1:])
            self._main = main

        def reducer_override(self, obj: Any) -> Any:
            if type(obj) is CACHED:
                return _take_apart(obj, self._main)
            if (
                self._main is not None
                and isinstance(obj, types.FunctionType | type)
                and getattr(obj, "__module__", None) in MAIN
                and self._main.has(obj)
            ):
                return NotImplemented
            return super().reducer_override(obj)

    return ValuePickler


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], main: MainModule | None = None) -> Payload:
    """The payload of a CALL."""
    if not kwargs:
        for a in args:
            if type(a) not in PLAIN and (type(a) not in SIZED or len(a) >= LARGE):
                break
        else:
            return pickle.dumps((args, None), PROTOCOL)
        return dumps((args, None), main)
    return dumps((args, kwargs), main)


def dump_chunk(items: Any, main: MainModule | None = None) -> Payload:
    """The payload of a MAP or STARMAP: a list of items, or another sequence of them."""
    # To look at many items costs as much as to pickle them, and that is done once for all of them.
    if len(items) <= FEW and type(items) in _SEQUENCES:
        for item in items:
            if type(item) not in PLAIN and (type(item) not in SIZED or len(item) >= LARGE):
                break
        else:
            return pickle.dumps(items, PROTOCOL)
    return dumps(items, main)


# -- functions -------------------------------------------------------------------------------------------------------


class MainModule:
    """Which names of ``__main__`` the engines have, so that functions in it go by reference to those and by value else.

    A forked engine has what ``__main__`` held when the first engine started, so a function is known there if its top-level
    name was bound to the same object then. A spawned engine imports the script again and has what that defines, unless
    there is no script: at a prompt or in a notebook everything in ``__main__`` goes by value.
    """

    def __init__(self, forked: bool) -> None:
        #: whether anything of it has ever been sent
        self.is_used = False
        self._module = main = sys.modules.get("__main__")
        #: only what can be asked for, so that nothing else is kept alive
        self._then = (
            {name: value for name, value in vars(main).items() if isinstance(value, types.FunctionType | type)}
            if forked and main is not None
            else None
        )
        self._imported = is_imported_again(main)

    def has(self, obj: Any) -> bool:
        """Whether an engine finds this function or class of ``__main__`` under its name."""
        name, *path = obj.__qualname__.split(".")
        here = top = vars(self._module).get(name) if self._module is not None else None
        for step in path:
            here = getattr(here, step, None)
        if here is not obj and getattr(here, "__func__", None) is not obj:
            return False
        return self._imported if self._then is None else self._then.get(name) is top


class ForeignMain(MainModule):
    """For engines that are no children of this process: they have nothing of its ``__main__``."""

    def __init__(self) -> None:
        super().__init__(forked=False)

    def has(self, obj: Any) -> bool:
        return False


def is_imported_again(main: types.ModuleType | None) -> bool:
    """Whether processes that are not forked import what is ``__main__`` here: multiprocessing's own rule."""
    name = getattr(getattr(main, "__spec__", None), "name", None)
    if name is not None:
        return name != "__main__" and not name.endswith(".__main__")
    path = getattr(main, "__file__", None)
    return path is not None and os.path.exists(path)


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

    def of(self, f: Any, shared: bool = False) -> Function:
        """The Function for a callable. It is pickled once.

        Args:
            f: the callable.
            shared: an engine may load it once and use that for all tasks, even if they change it.

        Raises:
            Exception: it cannot be pickled at all.
        """
        known = self._known.get(id(f))
        if known is not None:
            return known[1]
        if self._importable(f):
            try:
                function = _function(f, pickle.dumps(f, PROTOCOL), shared=True)
            except TRY_BY_VALUE:
                pass
            else:
                if len(self._known) >= self.REMEMBER:
                    self._known.clear()
                self._known[id(f)] = (f, function)
                return function
        if isinstance(f, types.FunctionType):
            sink = _dump_by_value(f, self._main)
            if sink is not None:
                return _function(f, sink.payload(), shared=shared or _is_stateless(f))
        sink = _dump_watching(f, self._main)
        return _function(f, dumps(f, self._main) if sink is None else sink.payload(), shared)

    def _importable(self, f: Any) -> bool:
        if not isinstance(f, types.FunctionType | types.BuiltinFunctionType | type):
            return False
        if isinstance(f, types.BuiltinFunctionType):
            return isinstance(f.__self__, types.ModuleType | None)
        if f.__module__ in MAIN:
            return self._main is not None and self._main.has(f)
        return "<" not in f.__qualname__


def _function(f: Any, payload: Payload, shared: bool) -> Function:
    name = getattr(f, "__qualname__", None) or type(f).__qualname__
    return Function(digest_of(payload, shared), payload, name, shared)


def digest_of(payload: Payload, shared: bool) -> bytes:
    """What a function is known by: the same for the same pickle. A bundle is known only as itself."""
    if isinstance(payload, Bundle):
        return os.urandom(16)
    return blake2b(payload, digest_size=16, person=b"shared" if shared else b"").digest()


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
    # Whatever a user's exception does while it is looked at: there has to be a report.
    try:
        text = "".join(traceback.format_exception(type(exc), exc, tb))
    except BaseException as e:
        text = bare_traceback(exc, tb, e)
    try:
        pickled: bytes | None = dump_bytes(exc)
    except BaseException:
        pickled = None  # then it is told in words
    try:
        args = ", ".join(map(repr, exc.args))
    except BaseException:
        args = "..."
    return pickle.dumps((pickled, type(exc).__qualname__, args, text, facts), PROTOCOL)


def bare_traceback(exc: BaseException, tb: Any, error: BaseException) -> str:
    """Where an exception was raised, if it cannot be shown itself because of another."""
    frames = "".join(traceback.format_tb(tb))
    why = f"it raised {type(error).__qualname__} when it was to be shown"
    return f"Traceback (most recent call last):\n{frames}{type(exc).__qualname__}: [{why}]\n"


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
