"""Calls of views -> payloads: what the engine's ``namespace`` unpacks.

Unlike a Pool's, a view's functions of ``__main__`` go by value, for they are to see the engine's namespace. ``interactive``
marks a function of a module to be sent so, too.
"""

from __future__ import annotations

import io
import pickle
import types
from collections.abc import Callable
from functools import cache, partial
from typing import Any, TypeVar

from zexec.engine import namespace
from zexec.messages import Function
from zexec.views.reference import Reference
from zexec.wire.parcels import Parcel, pack
from zexec.wire.pickling import MainModule, Payload, digest_of, dumps, value_pickler

F = TypeVar("F", bound=Callable[..., Any])


def interactive(f: F) -> F:
    """Mark a function of a module as if it had been typed at a prompt: views send it by value."""
    f.__module__ = "__main__"
    return f


class _Table:
    """Stands, while functions are pickled, for the table that those with the same globals will share."""

    def __reduce__(self) -> Any:
        return namespace.make_table, ()


@cache
def _view_pickler() -> Any:
    import cloudpickle

    class ViewPickler(value_pickler()):  # type: ignore[misc]
        """Functions by value get the engine's namespace for their globals; References are resolved there."""

        def __init__(self, main: MainModule | None, file: io.BytesIO, take: Callable[[pickle.PickleBuffer], Any]):
            super().__init__(file, main, take)
            #: by the id of the globals, which live as long as the functions that are being pickled
            self._tables: dict[int, _Table] = {}

        def reducer_override(self, obj: Any) -> Any:
            kind = type(obj)
            if kind is types.FunctionType:
                reduced = cloudpickle.Pickler.reducer_override(self, obj)
                return reduced if reduced is NotImplemented else self._by_value(obj, reduced)
            if kind is Reference:
                return namespace.resolve, (obj.name,)
            return super().reducer_override(obj)

        def _by_value(self, f: types.FunctionType, reduced: Any) -> Any:
            # cloudpickle knows what a function needs; only where that is put is ours.
            attributes, slots = reduced[2]
            slots = dict(slots)
            captured = slots.pop("__globals__")
            captured.pop("__builtins__", None)
            slots.pop("__closure__")
            cells = [_contents(cell) for cell in f.__closure__ or ()]
            table = self._tables.setdefault(id(f.__globals__), _Table())
            # The submodules that it uses go along only to be imported on the way.
            state = (attributes, slots, captured, cells, slots.pop("_cloudpickle_submodules", None))
            return namespace.make_function, (f.__code__, table, len(cells)), state, None, None, namespace.set_state

    return ViewPickler


def _contents(cell: types.CellType) -> tuple[Any, ...]:
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


class Shipper:
    """Packs the calls of one client's views.

    Args:
        main: what the engines know of ``__main__``.
    """

    def __init__(self, main: MainModule) -> None:
        self._make_pickler = partial(_make, main)

    def pack(self, obj: Any) -> Parcel:
        """A parcel for ``zexec.engine.namespace``."""
        return pack(obj, self._make_pickler, b"__main__")

    def payload(self, parcel: Parcel) -> Payload:
        """A parcel as the payload of a task."""
        return dumps([parcel])

    def function(self, f: Any, kind: str = "call", copy: bool = False) -> Function:
        """A callable as the engines get it, once per engine."""
        payload = dumps(namespace.Call(self.pack(f), kind, copy))
        # Shared: it opens the function's parcel anew for each call.
        return Function(digest_of(payload, True), payload, name_of(f), shared=True, spread=True)


def _make(main: MainModule, file: io.BytesIO, take: Callable[[pickle.PickleBuffer], Any]) -> Any:
    return _view_pickler()(main, file, take)


def name_of(f: Any) -> str:
    """What to call a callable in messages."""
    if isinstance(f, Reference):
        return f.name
    return getattr(f, "__qualname__", None) or getattr(f, "__name__", None) or repr(f)
