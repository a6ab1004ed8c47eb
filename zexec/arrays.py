"""Arrays that live in shared memory from the start: sending one copies nothing, whatever its size."""

from __future__ import annotations

from typing import Any, cast

import numpy as np

from zexec.wire.arena.doors import home


def empty(shape: int | tuple[int, ...], dtype: Any = float, order: str = "C") -> Any:
    """A new array in shared memory, of whatever values. An addition of zexec's; the arguments are ``numpy.empty``'s.

    As an argument, a result or a pushed value it goes to engines of this host, and back, without any copy. It is not copied
    when it is sent, so what is written to it afterwards may be seen by a task that has not read it yet. (What a task writes to it
    is seen by that task alone, as always.) Its memory is given back when nobody uses the array, a part of it, or what an
    engine got of it any more.

    Where there is no shared memory, or no room left in it (see ``ZEXEC_SHM_BYTES``), it is an ordinary array.

    Args:
        shape: items along each axis, or a number of them.
        dtype: type of the items; not of Python objects.
        order: "C" or "F": whether the last or the first axis is contiguous.

    Returns:
        a numpy array that begins at a multiple of 64 bytes.

    Raises:
        ValueError: the items are Python objects, or the order is neither.
    """
    return _make(shape, dtype, order)[0]


def zeros(shape: int | tuple[int, ...], dtype: Any = float, order: str = "C") -> Any:
    """As ``empty``, filled with zeros."""
    array, is_zero = _make(shape, dtype, order)
    if not is_zero:
        array[...] = np.zeros((), array.dtype)
    return array


def asshared(a: Any) -> Any:
    """An array in shared memory with the values of another: that itself, if it is all there, and a copy if not.

    Args:
        a: an array, or what ``numpy.asarray`` takes. Fortran order is kept.

    Returns:
        a numpy array, see ``empty``.

    Raises:
        ValueError: the items are Python objects.
    """
    array = np.asarray(a)
    if _is_shared(array):
        return array
    copy = empty(array.shape, array.dtype, "F" if array.flags.fnc else "C")
    np.copyto(copy, array)
    return copy


def _make(shape: int | tuple[int, ...], dtype: Any, order: str) -> tuple[Any, bool]:
    """An array, and whether it is all zeros."""
    dtype, kind = np.dtype(dtype), cast(Any, order)
    if dtype.hasobject:
        raise ValueError(f"an array of {dtype} cannot be shared: Python objects live in one process")
    if order not in ("C", "F"):
        raise ValueError(f"order must be 'C' or 'F', not {order!r}")
    like = np.broadcast_to(np.empty((), dtype), shape)  # checks the shape, and takes no memory
    place = home() if like.nbytes else None
    segment = None if place is None else place.arena.allocate(like.nbytes)
    if segment is None:
        return np.empty(shape, dtype, order=kind), False
    is_zero = segment.is_zero
    return np.ndarray(like.shape, dtype, segment.lend(), order=kind), is_zero


def _is_shared(array: Any) -> bool:
    from zexec.wire.arena import memory

    if not array.nbytes or not array.flags.forc:
        return False
    block = memory.find(array.ctypes.data, array.nbytes)
    return block is not None and block.kind is memory.OWN
