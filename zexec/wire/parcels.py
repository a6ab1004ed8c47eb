"""Parcels: what views send and get back. A pickle, and apart from it the buffers of arrays in it.

Kept apart so that what is unpacked needs no copy of them: such an array is read-only, because its memory is that of the message
that brought it. ``copy=True`` gives writable ones.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from zexec.wire.bundles import LARGE, Sink
from zexec.wire.pickling import TRY_BY_VALUE, dump_c, value_pickler

#: (pickle, or pieces of it where there is large data in it; its buffers in order)
Parcel = tuple[Any, list[Any]]
#: makes a pickler, given the file to write to and what takes the buffers
MakePickler = Callable[[Any, Callable[[pickle.PickleBuffer], Any]], Any]


def _without_main(file: Any, take: Callable[[pickle.PickleBuffer], Any]) -> Any:
    return value_pickler()(file, None, take)


def pack(obj: Any, make_pickler: MakePickler = _without_main, by_value: bytes | None = None) -> Parcel:
    """Make a parcel of an object.

    Its buffers are those of the object's arrays, read-only: so a parcel is to be pickled before those change.

    Args:
        obj: the object.
        make_pickler: for what the C pickler cannot do.
        by_value: a name of a module; what refers to it goes to ``make_pickler``, too.

    Raises:
        Exception: it cannot be pickled.
    """
    buffers: list[memoryview] = []
    pieces: Sink | None = Sink()
    try:
        dump_c(obj, pieces, partial(_take, buffers))
    except TRY_BY_VALUE:
        pieces = None
    if pieces is None or (by_value is not None and pieces.mentions(by_value)):
        others: list[memoryview] = []
        sink = Sink()
        try:
            make_pickler(sink, partial(_take, others)).dump(obj)
        except Exception:
            if pieces is None:
                raise  # and else it goes by name, as it could
        else:
            pieces, buffers = sink, others
    if sum(map(len, pieces)) < LARGE:
        data: Any = b"".join(pieces)
    else:
        # Bytes that are large are pieces themselves: not to be copied here.
        data = [_read_only_buffer(memoryview(piece)) if len(piece) >= LARGE else piece for piece in pieces]
    return data, list(map(_read_only_buffer, buffers))


def _take(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    try:
        buffers.append(buffer.raw())
    except BufferError:
        return True
    return False


def _read_only_buffer(buffer: memoryview) -> pickle.PickleBuffer:
    return pickle.PickleBuffer(buffer.toreadonly())


class _Pieces:
    """A file of pieces, for an unpickler, which reads large bytes right into their place."""

    def __init__(self, pieces: Iterable[Any]) -> None:
        self._pieces = [memoryview(piece) for piece in reversed(list(pieces))]

    def readinto(self, target: Any) -> int:
        target = memoryview(target)
        done = 0
        while done < len(target) and self._pieces:
            piece = self._pieces.pop()
            size = min(len(piece), len(target) - done)
            target[done : done + size] = piece[:size]
            done += size
            if size < len(piece):
                self._pieces.append(piece[size:])
        return done

    def read(self, size: int) -> bytes:
        data = bytearray(size)
        return bytes(data[: self.readinto(data)])

    def readline(self) -> bytes:
        raise pickle.UnpicklingError("no pickle of protocol 5 has lines")


def unpack(parcel: Parcel, copy: bool = False) -> Any:
    """The object in a parcel. Its arrays are read-only unless ``copy``."""
    data, buffers = parcel
    given = map(bytearray, buffers) if copy else map(_read_only, buffers)
    if type(data) is list:
        return pickle.load(_Pieces(data), buffers=given)
    return pickle.loads(data, buffers=given)


def _read_only(buffer: Any) -> memoryview:
    return memoryview(buffer).toreadonly()
