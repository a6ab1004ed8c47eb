"""How numpy's arrays are pickled: out of band, whatever their type and strides, and so that they arrive as multiprocessing has
them arrive: writable.

numpy's own way with protocol 5 does that for the plain cases, and is used for those. The others (read-only, not contiguous,
of dates, masked, memmaps) it copies into the pickle, or has arrive read-only.

Loaded when numpy is.
"""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from zexec.wire.bundles import LARGE, segment_for

PROTOCOL = 5

#: Arrays: what numpy says of its types differs from version to version.
Array = Any

#: Kinds of types that numpy gives buffers of: numbers and text.
_PLAIN = frozenset("?biufcSU")


def reduce_array(a: Array) -> Any:
    """An array of exactly numpy's class."""
    flags, dtype = a.flags, a.dtype
    if dtype.hasobject or not dtype.itemsize:
        return a.__reduce__()
    if not flags.forc:
        a = _contiguous(a)
    elif flags.writeable and dtype.kind in _PLAIN:
        return a.__reduce_ex__(PROTOCOL)
    order = "C" if a.flags.c_contiguous else "F"
    return _rebuild, (pickle.PickleBuffer(np.asarray(_Bytes(a))), a.dtype, a.shape, order)


class _Bytes:
    """The memory of a contiguous array as bytes that may be written to. (Nobody will: it says how they are to arrive.)"""

    def __init__(self, a: Array) -> None:
        self._a = a
        address = a.__array_interface__["data"][0]
        self.__array_interface__ = {"version": 3, "typestr": "|u1", "shape": (a.nbytes,), "data": (address, False)}


def _contiguous(a: Array) -> Array:
    """A copy in C order: in shared memory if it is large, so that it is the only one."""
    memory = segment_for(a.nbytes) if a.nbytes >= LARGE else None
    if memory is None:
        return a.copy(order="C")
    copy = np.ndarray(a.shape, a.dtype, memory)
    np.copyto(copy, a)
    return copy


def _rebuild(buffer: Any, dtype: Any, shape: tuple[int, ...], order: Any) -> Array:
    return np.ndarray(shape, dtype, buffer, order=order)


def _reduce_view(a: Array) -> Any:
    return _view, (type(a), a.view(np.ndarray))


def _view(kind: Any, a: Array) -> Array:
    return a.view(kind)


def _reduce_masked(a: Any) -> Any:
    mask = None if a._mask is np.ma.nomask else a._mask
    return _masked, (a._baseclass, a.view(np.ndarray), mask, a._fill_value)


def _masked(base: Any, data: Array, mask: Array, fill_value: Any) -> Any:
    masked: Any = np.ma.MaskedArray(
        data if base is np.ndarray else data.view(base), mask=np.ma.nomask if mask is None else mask
    )
    masked._fill_value = fill_value
    return masked


#: for a pickler's dispatch table
REDUCERS: dict[type, Any] = {
    np.ndarray: reduce_array,
    np.memmap: _reduce_view,
    np.matrix: _reduce_view,
    np.recarray: _reduce_view,
    np.ma.MaskedArray: _reduce_masked,
}
