"""A map's input: as a sequence, and cut into chunks. ``imap``, which draws as it goes, cuts for itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

#: Items from which on a range travels faster as its two ends than as what is in it: a pickled one costs 2.4 µs, however short.
WIDE = 100


def as_sequence(iterable: Iterable[Any]) -> Sequence[Any]:
    """The items. What is a sequence is not copied; a subclass of one may iterate over something else than its slices have."""
    if type(iterable) is list or type(iterable) is range or type(iterable) is tuple:
        return iterable
    return list(iterable)


def cut(items: Sequence[Any], size: int) -> list[tuple[int, Sequence[Any]]]:
    """Chunks of ``size`` items: pairs of the first item's index and the items."""
    if type(items) is range and size < WIDE:
        items = list(items)
    return [(start, items[start : start + size]) for start in range(0, len(items), size)]
