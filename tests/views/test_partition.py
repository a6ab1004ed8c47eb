"""Sequences into parts and back, without an engine."""

from __future__ import annotations

from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zexec.views import partition

parts = st.integers(1, 9)
dists = st.sampled_from(partition.DISTS)


@given(st.integers(0, 50), parts)
def test_blocks_cover_all_and_differ_by_one(size: int, count: int) -> None:
    bounds = partition.bounds(size, count)
    assert len(bounds) == count
    assert [i for begin, end in bounds for i in range(begin, end)] == list(range(size))
    sizes = [end - begin for begin, end in bounds]
    assert max(sizes) - min(sizes) <= 1
    assert sizes == sorted(sizes, reverse=True)


@given(st.lists(st.integers(), max_size=30), parts, dists)
@pytest.mark.parametrize("kind", [list, tuple])
def test_there_and_back(kind: Any, items: list[int], count: int, dist: str) -> None:
    cut = partition.split(kind(items), count, dist)
    assert len(cut) == count
    assert all(type(part) is kind for part in cut)
    assert partition.join(cut, dist) == items


@given(st.integers(0, 30), parts, dists)
def test_ranges_stay_ranges(size: int, count: int, dist: str) -> None:
    cut = partition.split(range(size), count, dist)
    assert all(type(part) is range for part in cut)
    assert partition.join(cut, dist) == list(range(size))


@given(st.text(max_size=20), parts, dists)
def test_text(text: str, count: int, dist: str) -> None:
    assert partition.join(partition.split(text, count, dist), dist) == text
    assert partition.join(partition.split(text.encode(), count, dist), dist) == text.encode()


@given(st.integers(0, 30), parts, dists, st.sampled_from(["<i4", "<f8", "S3"]))
def test_arrays_are_views(size: int, count: int, dist: str, dtype: str) -> None:
    array = numpy.arange(size * 2).reshape(size, 2).astype(dtype)
    cut = partition.split(array, count, dist)
    assert all(part.base is array or part.base is array.base for part in cut)
    whole = partition.join(cut, dist)
    assert whole.dtype == array.dtype
    assert (whole == array).all()


def test_iterators_are_drawn() -> None:
    assert partition.split(iter("abc"), 2) == [["a", "b"], ["c"]]
    assert partition.split({1, 2}, 2) == [[1], [2]]


def test_what_is_no_sequence_stays_as_it_is() -> None:
    assert partition.join([1, 2, 3]) == [1, 2, 3]
    assert partition.join([]) == []


def test_a_registered_splitter() -> None:
    class Deck:
        def __init__(self, cards: list[int]) -> None:
            self.cards = cards

        def __len__(self) -> int:
            return len(self.cards)

        def __getitem__(self, which: Any) -> Any:
            raise AssertionError("its own splitter was registered")

    partition.register_splitter(
        Deck,
        lambda deck, which: Deck(deck.cards[which]),
        lambda decks, dist: Deck(partition.join([deck.cards for deck in decks], dist)),
    )
    try:
        cut = partition.split(Deck([1, 2, 3]), 2, "r")
        assert [deck.cards for deck in cut] == [[1, 3], [2]]
        assert partition.join(cut, "r").cards == [1, 2, 3]
    finally:
        partition._splitters.pop(Deck)


@pytest.mark.parametrize("dist", ["x", None, 1])
def test_no_such_dist(dist: Any) -> None:
    with pytest.raises(ValueError, match=r"'b' \(blocks\) or 'r' \(round robin\)"):
        partition.split([1], 1, dist)


def test_no_parts() -> None:
    with pytest.raises(ValueError, match="one part at least"):
        partition.split([1], 0)
