"""The store in memory is bounded, and forgets nothing that is open."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.records import fill, outcome, task
from zexec.hub.store.memory import MemoryStore
from zexec.messages import Function


def test_culling_by_number() -> None:
    store = MemoryStore(records=20)
    for id in range(20):
        fill(store, [id])
        store.settled([outcome(id)])
    assert len(store) == 20
    fill(store, [20])
    assert store.history() == [str(id) for id in range(3, 21)]  # a tenth is freed at once


def test_culling_by_size() -> None:
    store = MemoryStore(size=1000)
    fill(store, range(10), payload=b"x" * 90)
    store.settled([outcome(id, b"y" * 10) for id in range(10)])
    assert store.size == 1000
    fill(store, [10], payload=b"z")
    assert store.size <= 900
    assert store.history()[-1] == "10"


def test_what_is_open_stays_however_much_there_is() -> None:
    store = MemoryStore(records=5, size=100)
    fill(store, range(50), payload=b"x" * 90)
    assert len(store) == 50
    store.settled([outcome(id) for id in range(49)])
    assert store.history() == ["49"]


def test_functions_go_with_their_last_task() -> None:
    store = MemoryStore(records=3)
    for id in range(100):
        store.accepted([task(id, function=Function(b"%d" % id, b"", "f"))], "alice")
        store.settled([outcome(id)])
    assert len(store._functions) == len(store._uses) == len(store) <= 3


@pytest.mark.parametrize("bounds", [{"records": 0}, {"size": 0}])
def test_bounds_make_sense(bounds: Any) -> None:
    with pytest.raises(ValueError, match="room"):
        MemoryStore(**bounds)


@settings(deadline=None, max_examples=200)
@given(
    st.integers(1, 12),
    st.integers(1, 200),
    st.lists(
        st.tuples(st.sampled_from(["accept", "settle", "drop", "drop all"]), st.integers(0, 40), st.integers(0, 90))
    ),
)
def test_any_order(records: int, size: int, steps: list[tuple[str, int, int]]) -> None:
    store = MemoryStore(records=records, size=size)
    open_: set[int] = set()
    known: set[int] = set()
    for what, id, weight in steps:
        if what == "accept" and id not in known:
            store.accepted([task(id, b"x" * weight)], "alice")
            open_.add(id)
        elif what == "settle":
            store.settled([outcome(id, b"y" * weight)])
            open_.discard(id)
        elif what == "drop":
            store.drop([id])
        elif what == "drop all":
            store.drop(None)
        known = {int(id) for id in store.history()}
        assert open_ <= known
        assert len(known) <= max(records, len(open_))
        entries = [store.entry(id)[0] for id in known]
        assert store.size == sum(entry.weight() for entry in entries)
        if store.size > size:
            assert known == open_
        assert {id for id in known if store.status([id])[id] is None} == open_
