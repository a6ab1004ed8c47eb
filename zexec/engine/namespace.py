"""The engine's namespace: the names that views push, pull, and run code with.

What a view sends by value (a lambda, a local function, anything typed at a prompt or in a script) runs with this namespace
as its globals, like a string of code: a name that the engine has is the engine's, and ``global x`` in a function writes
here.

A name that the engine lacks is looked up among the globals that the function had at the client, captured at the call. How,
without leaving them behind: Python looks for a global name in the function's globals and then in its *builtins*, a plain
dict that is fixed when the function is made. So each such function gets the namespace for its globals, and for its builtins
a *table*: a copy of the real ones with the captured names over them. Functions that are made while it runs, such as a
generator expression on an old Python, take their builtins from ``NAMESPACE["__builtins__"]``, so that is the table for as
long as the call lasts. All of it is plain dicts: code runs at its usual speed.

A view's task is one item of a map for the runner: a parcel of arguments, given to a ``Call``, which returns an ``Answer``.
What it raises is a ``ViewFailure``, which can always be pickled.
"""

from __future__ import annotations

import ast
import builtins
import linecache
import os
import socket
import sys
import traceback
import types
from collections import deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from zexec.engine import outputs
from zexec.engine.runner import is_unmet
from zexec.engine.shell import formatted, shell_for, shell_if_loaded, trap
from zexec.wire.parcels import Parcel, pack, unpack
from zexec.wire.pickling import dump_report

#: the namespace; ``_clear`` fills in what every module has
NAMESPACE: dict[str, Any] = {}

_BUILTINS = "__builtins__"

#: tables made while a call is being unpacked
_tables: list[dict[str, Any]] = []

#: what ran where, and what it printed: plain data
Facts = dict[str, Any]
#: what comes back of a task that went well
Answer = tuple[Parcel, Facts]


class ViewFailure(Exception):
    """Carries what a view's task raised: a report as of ``dump_report``, and facts."""

    #: whether another engine is to be tried, see ``zexec.errors.UnmetDependency``
    zexec_unmet = False

    def __init__(self, report: bytes, facts: Facts) -> None:
        super().__init__(report, facts)
        self.report = report
        self.facts = facts


class ItemFailure:
    """Stands for the value of an item that raised, in a map that was to go on."""

    __slots__ = ("evalue", "report")

    def __init__(self, report: bytes, evalue: str) -> None:
        self.report = report
        self.evalue = evalue


# -- running ---------------------------------------------------------------------------------------------------------


class Call:
    """A function as a view sends it. The runner calls it with a parcel of arguments.

    Args:
        f: the function, in a parcel that is opened for each call: no call changes it for the next.
        kind: "call": the arguments are (args, kwargs); "map": they are sequences, for ``map(f, *sequences)``;
            "each": so too, and an item that raises does not end it.
        copy: whether arrays among the arguments are writable copies.
    """

    def __init__(self, f: Parcel, kind: str, copy: bool) -> None:
        self._f = f
        self._kind = kind
        self._copy = copy

    def __call__(self, arguments: Parcel) -> Answer:
        facts: Facts = {"pid": os.getpid(), "host": socket.gethostname()}
        plain, streams = NAMESPACE["__builtins__"], (sys.stdout, sys.stderr)
        output = outputs.begin()
        sys.stdout, sys.stderr = output.stdout, output.stderr
        try:
            if "IPython" in sys.modules:
                shell_if_loaded()  # so that what functions display is kept
            parcel = pack(self._run(arguments))
        except BaseException as e:
            facts["evalue"] = _text(e)
            failure = ViewFailure(dump_report(e, skip=_own_frames(e)), facts)
            failure.zexec_unmet = is_unmet(e)
            raise failure from None
        finally:
            sys.stdout, sys.stderr = streams
            NAMESPACE["__builtins__"] = plain
            _tables.clear()
            outputs.end(output)
            facts.update(output.facts(), peak_memory=_peak_memory())
        return parcel, facts

    def _run(self, arguments: Parcel) -> Any:
        f = unpack(self._f)
        given = unpack(arguments, self._copy)
        if _tables:
            # One, unless functions of several modules came along.
            table = _tables[0]
            for other in _tables[1:]:
                table = {**other, **table}
            NAMESPACE["__builtins__"] = table
        if self._kind == "call":
            args, kwargs = given
            return f(*args, **kwargs)
        if self._kind == "map":
            return list(map(f, *given))
        return [_attempt(f, items) for items in zip(*given, strict=False)]


def _attempt(f: Callable[..., Any], items: tuple[Any, ...]) -> Any:
    try:
        return f(*items)
    except Exception as e:
        return ItemFailure(dump_report(e, skip=_own_frames(e)), _text(e))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "<its text could not be made>"


def _own_frames(error: BaseException) -> int:
    """How many frames at the top of its traceback are of this file."""
    own = 0
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename != __file__:
            break
        own += 1
    return own


def _peak_memory() -> int:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# -- functions that arrive by value ----------------------------------------------------------------------------------


def make_table() -> dict[str, Any]:
    """What a function by value has for builtins; the names captured for it are filled in by ``set_state``."""
    table = dict(vars(builtins))
    _tables.append(table)
    return table


def make_function(code: types.CodeType, table: dict[str, Any], cells: int) -> types.FunctionType:
    """A function whose globals are the namespace and whose builtins are a table."""
    closure = tuple(types.CellType() for _ in range(cells)) or None
    before = NAMESPACE["__builtins__"]
    NAMESPACE["__builtins__"] = table
    try:
        return types.FunctionType(code, NAMESPACE, None, None, closure)
    finally:
        NAMESPACE["__builtins__"] = before


def set_state(f: types.FunctionType, state: Any) -> None:
    """Fill in the rest of a function: it may refer to itself there."""
    attributes, slots, captured, contents, _ = state
    f.__dict__.update(attributes)
    builtins_of(f).update(captured)
    for cell, content in zip(f.__closure__ or (), contents, strict=True):
        if content:
            cell.cell_contents = content[0]
    for name, value in slots.items():
        setattr(f, name, value)


def builtins_of(f: types.FunctionType) -> dict[str, Any]:
    """The dict in which a function looks for what its globals lack."""
    # Not as an attribute: of checkers of types some know it and some do not.
    table: dict[str, Any] = getattr(f, _BUILTINS)
    return table


# -- what views do with the namespace --------------------------------------------------------------------------------


def push(names: dict[str, Any]) -> None:
    """Bind names; ``a.b`` and ``a[0]`` will do."""
    for name, value in names.items():
        if name.isidentifier():
            NAMESPACE[name] = value
        else:
            exec(f"{name} = _value", NAMESPACE, {"_value": value})


def pull(names: str | Iterable[str]) -> Any:
    """What a name is bound to, or several; expressions will do.

    Raises:
        NameError: there is no such name here.
    """
    if isinstance(names, str):
        return resolve(names)
    return [resolve(name) for name in names]


def delete(names: Iterable[str]) -> None:
    """Unbind names.

    Raises:
        NameError: there is no such name here.
    """
    for name in names:
        if name.isidentifier() and name not in NAMESPACE:
            raise NameError(f"name {name!r} is not defined")
        exec(f"del {name}", NAMESPACE)


def clear() -> None:
    """Unbind all names."""
    NAMESPACE.clear()
    NAMESPACE.update(__name__="__main__", __doc__=None, __builtins__=vars(builtins))


def resolve(expression: str) -> Any:
    """What an expression means here."""
    if expression in NAMESPACE:
        return NAMESPACE[expression]
    return eval(expression, NAMESPACE)


def require(modules: Iterable[str], names: dict[str, Any]) -> bool:
    """Import modules and bind them, and further names. False if a module is not there."""
    for name in modules:
        try:
            exec(f"import {name}", NAMESPACE)
        except ImportError:
            return False
    NAMESPACE.update(names)
    return True


_numbers = count(1)
#: pieces of code whose lines tracebacks can show; older ones are forgotten
_shown: deque[str] = deque()
SHOWN = 200


def execute(code: str, filename: str | None = None, silent: bool = True) -> None:
    """Run a string of code in the namespace. Unless ``silent``, the value of a last expression is displayed.

    With IPython on the engine, ``%magics`` and ``!commands`` will do.
    """
    shell = shell_for(code)
    if shell is not None:
        code = shell.transform_cell(code)
    number = next(_numbers)
    if filename is None:
        filename = f"<zexec execute {number}>"
        linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
        _shown.append(filename)
        if len(_shown) > SHOWN:
            linecache.cache.pop(_shown.popleft(), None)
    tree = ast.parse(code, filename)
    last = tree.body[-1] if tree.body and not silent else None
    if isinstance(last, ast.Expr):
        del tree.body[-1]
    with trap(shell):
        if shell is not None:
            shell.events.trigger("pre_execute")
        exec(compile(tree, filename, "exec"), NAMESPACE)
        value = None
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), filename, "eval"), NAMESPACE)
        if shell is not None:
            shell.events.trigger("post_execute")
        outputs.finish(number, None if value is None else formatted(shell, value))
    if value is not None:
        NAMESPACE["_"] = value


clear()
