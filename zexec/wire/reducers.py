"""Which types are pickled in a way of their own: copyreg's, multiprocessing's, arrays, and what users register."""

from __future__ import annotations

import array
import copyreg
import pickle
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from typing import Any

from zexec.wire.bundles import LARGE

#: what everything is looked up in, and the sizes of the tables that it was made of
_table: dict[type, Any] = {}
_made_of: tuple[int, int, int, bool] = (-1, -1, -1, False)


def dispatch_table() -> dict[type, Any]:
    """All of them, made anew when any of the tables has grown."""
    global _table, _made_of
    extra = ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    made_of = (len(copyreg.dispatch_table), len(extra), _changes, _made_of[3] or _is_numpy_there())
    if made_of != _made_of:
        table = {**_OURS, **_of_numpy()} if made_of[3] else dict(_OURS)
        table = {**table, **copyreg.dispatch_table, **extra, **{s.kind: s.reduce for s in _serializers}}
        _table = _WithSubclasses(table) if any(s.subclasses for s in _serializers) else table
        _made_of = made_of
    return _table


def _is_numpy_there() -> bool:
    numpy = sys.modules.get("numpy")
    # Another thread may be importing it just now.
    return numpy is not None and not getattr(numpy.__spec__, "_initializing", False)


def _of_numpy() -> dict[type, Any]:
    from zexec.wire.arrays import REDUCERS

    return REDUCERS


# -- of the standard library -----------------------------------------------------------------------------------------


def _reduce_array(a: array.array[Any]) -> Any:
    if len(a) * a.itemsize < LARGE:
        return a.__reduce_ex__(5)
    return _rebuild_array, (a.typecode, pickle.PickleBuffer(a))


def _rebuild_array(typecode: str, buffer: Any) -> array.array[Any]:
    a = array.array(typecode)
    a.frombytes(buffer)
    return a


def _reduce_memoryview(m: memoryview) -> Any:
    # Which the stdlib cannot do.
    if not m.c_contiguous:
        m = _rebuild_memoryview(m.tobytes(), m.format, m.shape)
    return _rebuild_memoryview, (pickle.PickleBuffer(m), m.format, m.shape)


def _rebuild_memoryview(buffer: Any, format: str, shape: Any) -> memoryview:
    flat = memoryview(buffer).cast("B")
    cast: Any = flat.cast
    return flat if format == "B" and len(shape) == 1 else cast(format, shape)


_OURS: dict[type, Any] = {array.array: _reduce_array, memoryview: _reduce_memoryview}


# -- of users --------------------------------------------------------------------------------------------------------

_serializers: list[Serializer] = []
#: how often that has changed
_changes = 0


class Serializer:
    """What a user has registered. It travels with each object, so that whoever gets one knows it, too."""

    def __init__(
        self, kind: type, serialize: Callable[[Any], Any], deserialize: Callable[[Any], Any], subclasses: bool
    ) -> None:
        self.kind = kind
        self.serialize = serialize
        self.deserialize = deserialize
        self.subclasses = subclasses

    def __reduce__(self) -> Any:
        return register, (self.kind, self.serialize, self.deserialize, self.subclasses)

    def reduce(self, obj: Any) -> Any:
        """For a dispatch table."""
        return _deserialize, (self, self.serialize(obj))


def _deserialize(serializer: Serializer, parts: Any) -> Any:
    return serializer.deserialize(parts)


def register(
    kind: type, serialize: Callable[[Any], Any], deserialize: Callable[[Any], Any], subclasses: bool
) -> Serializer:
    """Remember one; see ``zexec.serializers``."""
    global _serializers, _changes
    serializer = Serializer(kind, serialize, deserialize, subclasses)
    _serializers = [*(other for other in _serializers if other.kind is not kind), serializer]
    _changes += 1
    return serializer


def registered() -> list[Serializer]:
    """All of them, to be sent to an engine."""
    return _serializers


class _WithSubclasses(dict[type, Any]):
    """A table that also knows classes which are like those in it."""

    def __missing__(self, kind: type) -> Any:
        for serializer in reversed(_serializers):
            if serializer.subclasses and issubclass(kind, serializer.kind):
                return serializer.reduce
        raise KeyError(kind)
