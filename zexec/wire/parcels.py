"""Parcels: what views send and get back. A pickle, and apart from it the buffers of arrays in it.

Kept apart so that what is unpacked needs no copy of them: such an array is read-only, because its memory is that of the message
that brought it. ``copy=True`` gives writable ones.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from zexec.wire.pickling import TRY_BY_VALUE, dump_c, value_pickler

#: (pickle, its buffers in order)
Parcel = tuple[bytes, list[bytes]]
#: makes a pickler, given the file to write to and what takes the buffers
MakePickler = Callable[[io.BytesIO, Callable[[pickle.PickleBuffer], Any]], Any]


def _without_main(file: io.BytesIO, take: Callable[[pickle.PickleBuffer], Any]) -> Any:
    return value_pickler()(file, None, take)


def pack(obj: Any, make_pickler: MakePickler = _without_main, by_value: bytes | None = None) -> Parcel:
    """Make a parcel of an object.

    Args:
        obj: the object.
        make_pickler: for what the C pickler cannot do.
        by_value: a name of a module; what refers to it goes to ``make_pickler``, too.

    Raises:
        Exception: it cannot be pickled.
    """
    buffers: list[pickle.PickleBuffer] = []
    data: bytes | None = None
    try:
        data = dump_c(obj, buffers.append)
    except TRY_BY_VALUE:
        pass
    if data is None or (by_value is not None and by_value in data):
        file = io.BytesIO()
        others: list[pickle.PickleBuffer] = []
        try:
            make_pickler(file, others.append).dump(obj)
        except Exception:
            if data is None:
                raise
        else:
            data, buffers = file.getvalue(), others
    return data, [buffer.raw().tobytes() for buffer in buffers]


def unpack(parcel: Parcel, copy: bool = False) -> Any:
    """The object in a parcel. Its arrays are read-only unless ``copy``."""
    data, buffers = parcel
    if not buffers:
        return pickle.loads(data)
    return pickle.loads(data, buffers=map(bytearray, buffers) if copy else buffers)
