"""Queries, apart from what answers them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zexec.messages import Death
from zexec.records.plain import date_of, dump_plain, load_plain, micros_of
from zexec.records.query import lookup_in, matcher, select

NOON = datetime(2024, 5, 1, 12, tzinfo=timezone.utc)
RECORD = {
    "msg_id": "7",
    "engine_id": 3,
    "submitted": NOON,
    "completed": None,
    "label": "group_a/one",
    "header": {"function": "double", "deep": {"er": 1}},
    "targets": [0, 3],
}


def matches(query: Any) -> bool:
    return matcher(query)(lookup_in(RECORD))


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"msg_id": "7"},
        {"msg_id": "7", "engine_id": 3},
        {"completed": None},
        {"no such key": None},
        {"header.function": "double"},
        {"header.deep.er": 1},
        {"header": {"function": "double", "deep": {"er": 1}}},
        {"engine_id": {"$eq": 3}},
        {"engine_id": {"$ne": 4}},
        {"engine_id": {"$lt": 4, "$gt": 2}},
        {"engine_id": {"$lte": 3, "$gte": 3}},
        {"engine_id": {"$in": [1, 3]}},
        {"engine_id": {"$nin": [1, 2]}},
        {"engine_id": {"$mod": [2, 1]}},
        {"engine_id": {"$exists": True}},
        {"completed": {"$exists": False}},
        {"completed": {"$ne": 4}},
        {"targets": [0, 3]},
        {"targets": {"$all": [3, 0]}},
        {"engine_id": {"$all": [3]}},
        {"submitted": NOON},
        {"submitted": NOON.astimezone(timezone(timedelta(hours=5)))},
        {"submitted": NOON.astimezone().replace(tzinfo=None)},
        {"submitted": {"$lt": NOON + timedelta(microseconds=1)}},
        {"submitted": {"$in": [NOON, NOON + timedelta(1)]}},
        {"label": {"$glob": "group_a*"}},
        {"label": {"$glob": "*/[no]ne"}},
        {"engine_id": {"$not": {"$gt": 3}}},
        {"$or": [{"msg_id": "8"}, {"engine_id": 3}]},
        {"$and": [{"msg_id": "7"}, {"$or": [{"engine_id": 4}, {"completed": None}]}]},
        {"$nor": [{"msg_id": "8"}, {"engine_id": 4}]},
        {"header": {"$in": [{"function": "double", "deep": {"er": 1}}]}},
    ],
)
def test_matches(query: Any) -> None:
    assert matches(query)
    assert not matches({"$nor": [query]})


@pytest.mark.parametrize(
    "query",
    [
        {"msg_id": 7},
        {"msg_id": "7", "engine_id": 4},
        {"msg_id": {"$in": []}},
        {"msg_id": {"$gt": 5}},
        {"completed": {"$lt": NOON}},
        {"completed": {"$gt": NOON}},
        {"engine_id": {"$all": [3, 4]}},
        {"completed": {"$mod": [1, 0]}},
        {"completed": {"$glob": "*"}},
        {"engine_id": {"$lt": 4, "$gt": 3}},
        {"header.nothing.below": 1},
    ],
)
def test_does_not_match(query: Any) -> None:
    assert not matches(query)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("all", "a query is a dict"),
        ({3: 4}, "key of a query"),
        ({"$xor": [{}]}, "unknown operator '\\$xor'; .* \\$and"),
        ({"$or": {}}, "list of queries"),
        ({"$or": []}, "list of queries"),
        ({"a": {"$like": 3}}, "unknown operator '\\$like'; there are \\$eq"),
        ({"a": {"$in": 3}}, "list of values"),
        ({"a": {"$in": "abc"}}, "list of values"),
        ({"a": {"$mod": 3}}, "divisor and a remainder"),
        ({"a": {"$mod": [0, 1]}}, "other than 0"),
        ({"a": {"$glob": 3}}, "pattern"),
        ({"a": {"$not": 3}}, "dict of operators"),
    ],
)
def test_what_is_no_query_says_so(query: Any, says: str) -> None:
    with pytest.raises((TypeError, ValueError), match=says):
        matcher(query)


def test_selection_keeps_the_id() -> None:
    assert select(RECORD, ["header.function", "engine_id"]) == {
        "msg_id": "7",
        "header.function": "double",
        "engine_id": 3,
    }


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(timezone.utc)),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text() | st.integers() | st.just("__"), inner) | st.tuples(inner, inner)
    ),
    max_leaves=20,
)


@given(PLAIN)
def test_plain_data_comes_back(obj: Any) -> None:
    assert load_plain(dump_plain(obj)) == obj


def test_deaths_and_sets_are_plain() -> None:
    death = Death(3, 4, "host", -9, "why")
    assert load_plain(dump_plain([death, {1, 2}])) == [death, {1, 2}]


def test_numbers_of_numpy_are_numbers() -> None:
    import numpy as np

    assert load_plain(dump_plain({"$in": np.arange(3)})) == {"$in": [0, 1, 2]}
    assert load_plain(dump_plain(np.float64(0.5))) == 0.5


@pytest.mark.parametrize(
    "text",
    ["", "{", '{"__": 3}', '{"__": ["dict", 3]}', '{"__": ["os.system", "x"]}', b"\xff\xfe", '{"__":["date","x"]}'],
)
def test_damaged_text_is_one_error(text: Any) -> None:
    with pytest.raises(ValueError):
        load_plain(text)


def test_what_is_not_plain_is_refused() -> None:
    with pytest.raises(TypeError, match="no plain data"):
        dump_plain({"query": object()})


@given(st.integers(0, 4_000_000_000_000_000))
def test_times_are_exact(micros: int) -> None:
    assert micros_of(date_of(micros)) == micros
