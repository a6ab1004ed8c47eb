"""Sequences <-> parts, for scatter, gather and the direct map. Pure.

``"b"`` cuts into contiguous blocks whose sizes differ by one at most, the larger ones first; ``"r"`` deals items out like
cards. Lists, tuples, strings, bytes and ranges are sliced and give parts of their own kind; numpy arrays give views.
``register_splitter`` adds kinds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from itertools import chain, pairwise, zip_longest
from typing import Any

DISTS = ("b", "r")

#: cut(sequence, which items: a slice) -> part
Cut = Callable[[Any, slice], Any]
#: join(parts, dist) -> the whole
Join = Callable[[list[Any], str], Any]

_splitters: dict[type, tuple[Cut, Join]] = {}


def register_splitter(kind: type, cut: Cut, join: Join) -> None:
    """Teach scatter and gather a kind of sequence.

    Args:
        kind: its class; subclasses count.
        cut: called with the sequence and a slice, gives that part of it.
        join: called with the parts in order and the dist ("b" or "r"), gives the whole.
    """
    _splitters[kind] = (cut, join)


def bounds(size: int, parts: int) -> list[tuple[int, int]]:
    """Begin and end of each of ``parts`` blocks of ``size`` items."""
    base, extra = divmod(size, parts)
    ends = [0]
    for part in range(parts):
        ends.append(ends[-1] + base + (part < extra))
    return list(pairwise(ends))


def split(sequence: Any, parts: int, dist: str = "b") -> list[Any]:
    """Cut a sequence into parts, some of them empty where there are more parts than items.

    Raises:
        ValueError: no such dist, or no parts.
    """
    check_dist(dist)
    if parts < 1:
        raise ValueError(f"a sequence is cut into one part at least, not {parts}")
    sequence = as_sequence(sequence)
    size = len(sequence)
    cut_it = _cut_of(sequence)
    if dist == "b":
        return [cut_it(sequence, slice(begin, end)) for begin, end in bounds(size, parts)]
    return [cut_it(sequence, slice(part, size, parts)) for part in range(parts)]


def cut(sequence: Any, which: slice) -> Any:
    """A part of what ``is_sequence``."""
    return _cut_of(sequence)(sequence, which)


def join(parts: Sequence[Any], dist: str = "b") -> Any:
    """Put parts together again. Parts that are no sequences, as ``flatten`` makes them, give a list of themselves."""
    check_dist(dist)
    parts = list(parts)
    if not parts:
        return []
    for kind, (_, joiner) in _splitters.items():
        if all(isinstance(part, kind) for part in parts):
            return joiner(parts, dist)
    if all(map(is_array, parts)) and parts[0].ndim:
        return _join_arrays(parts, dist)
    for text in (str, bytes):
        if all(isinstance(part, text) for part in parts):
            return (
                text().join(parts)
                if dist == "b"
                else _deal_back([[p[i : i + 1] for i in range(len(p))] for p in parts], text)
            )
    if all(isinstance(part, list | tuple | range) for part in parts):
        if dist == "b":
            return list(chain.from_iterable(parts))
        return _deal_back(parts, list)
    return parts


def as_sequence(items: Any) -> Any:
    """What can be cut: the items themselves, or a list of what they iterate over."""
    if hasattr(items, "__len__") and (hasattr(items, "__getitem__") and not isinstance(items, dict)):
        return items
    return list(items)


def is_sequence(items: Any) -> bool:
    """Whether it is of a kind whose slices have its items, in order."""
    return isinstance(items, _SEQUENCES) or is_array(items) or any(kind in _splitters for kind in type(items).__mro__)


_SEQUENCES = (list, tuple, range, str, bytes, bytearray)


def is_array(obj: Any) -> bool:
    """Whether it is a numpy array. Does not import numpy: where nobody did there are none."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(obj, numpy.ndarray)


def check_dist(dist: str) -> None:
    """Raise a ValueError unless there is such a dist."""
    if dist not in DISTS:
        raise ValueError(f"dist must be 'b' (blocks) or 'r' (round robin), not {dist!r}")


def _cut_of(sequence: Any) -> Cut:
    for kind in type(sequence).__mro__:
        if kind in _splitters:
            return _splitters[kind][0]
    return _slice


def _slice(sequence: Any, which: slice) -> Any:
    return sequence[which]


_MISSING = object()


def _deal_back(parts: Sequence[Any], kind: Any) -> Any:
    rounds = zip_longest(*parts, fillvalue=_MISSING)
    items = [item for one in rounds for item in one if item is not _MISSING]
    return items if kind is list else kind().join(items)


def _join_arrays(parts: list[Any], dist: str) -> Any:
    import numpy

    if dist == "b":
        return numpy.concatenate(parts)
    whole = numpy.empty((sum(map(len, parts)), *parts[0].shape[1:]), numpy.result_type(*parts))
    for at, part in enumerate(parts):
        whole[at :: len(parts)] = part
    return whole
