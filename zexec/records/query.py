"""Queries for records, in the style of MongoDB: ``{"engine_id": 0, "submitted": {"$lt": when}, "$or": [...]}``.

A value stands for equality, a dict of operators for what they say, and all of a query's parts must hold. Keys with dots look
into dicts: ``"header.function"``. What a record lacks is None. A comparison of things that cannot be compared (None and a
date, a number and a text) is false, as in MongoDB, and no error.

The operators are those of IPython's parallel package, which took them from MongoDB: ``$eq $ne $lt $lte $gt $gte $in $nin $all
$mod $exists $glob``; and from MongoDB ``$not`` (of operators), ``$and``, ``$or`` and ``$nor`` (of queries). ``$all`` is
MongoDB's: the value, a list, has each of these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

Query = Mapping[str, Any]
#: what is wanted of one value
Test = Callable[[Any], bool]
#: gives a record's value for a key
Lookup = Callable[[str], Any]


def matcher(query: Query) -> Callable[[Lookup], bool]:
    """Make a query into a function that says whether a record matches, given what looks up its values.

    Raises:
        TypeError, ValueError: it is no query; the message names the part that is wrong.
    """
    if not isinstance(query, Mapping):
        raise TypeError(f"a query is a dict such as {{'status': 'ok'}}, not {query!r}")
    parts = [_part(key, wanted) for key, wanted in query.items()]
    return lambda lookup: all(part(lookup) for part in parts)


def lookup_in(record: Mapping[str, Any]) -> Lookup:
    """What looks up values in a record that is a dict."""

    def lookup(key: str) -> Any:
        value: Any = record
        for name in key.split("."):
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    return lookup


def keys_of(query: Query) -> set[str]:
    """The keys that a query looks at."""
    found: set[str] = set()
    for key, wanted in query.items():
        if key in _SEVERAL:
            found.update(*map(keys_of, wanted))
        else:
            found.add(key)
    return found


def select(record: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A record with these keys only, and msg_id."""
    lookup = lookup_in(record)
    return {key: lookup(key) for key in ("msg_id", *keys)}


def _part(key: str, wanted: Any) -> Callable[[Lookup], bool]:
    if not isinstance(key, str):
        raise TypeError(f"a key of a query is the name of a part of the record, not {key!r}")
    if key.startswith("$"):
        several = _SEVERAL.get(key)
        if several is None:
            raise ValueError(f"unknown operator {key!r}; for whole queries there are {', '.join(_SEVERAL)}")
        if not isinstance(wanted, list | tuple) or not wanted:
            raise TypeError(f"{key} takes a list of queries, not {wanted!r}")
        matchers = [matcher(each) for each in wanted]
        return lambda lookup: several(match(lookup) for match in matchers)
    test = _test(wanted)
    return lambda lookup: test(lookup(key))


def is_operators(wanted: Any) -> bool:
    """Whether this is a dict of operators, rather than a value."""
    return isinstance(wanted, Mapping) and bool(wanted) and all(str(name).startswith("$") for name in wanted)


def _test(wanted: Any) -> Test:
    if not is_operators(wanted):
        return lambda value: _equal(value, wanted)
    tests = [_operator(name, operand) for name, operand in wanted.items()]
    return lambda value: all(test(value) for test in tests)


def _operator(name: str, operand: Any) -> Test:
    if name == "$not":
        if not is_operators(operand):
            raise TypeError(f"$not takes a dict of operators, not {operand!r}")
        negated = _test(operand)
        return lambda value: not negated(value)
    compare = _OPERATORS.get(name)
    if compare is None:
        raise ValueError(f"unknown operator {name!r}; there are {', '.join(_OPERATORS)} and $not")
    if name in ("$in", "$nin", "$all"):
        if isinstance(operand, str | bytes) or not isinstance(operand, Iterable):
            raise TypeError(f"{name} takes a list of values, not {operand!r}")
        operand = _Several(operand)
    elif name == "$mod":
        if not isinstance(operand, list | tuple) or len(operand) != 2 or not all(type(n) is int for n in operand):
            raise TypeError(f"$mod takes a divisor and a remainder, not {operand!r}")
        if not operand[0]:
            raise ValueError("$mod takes a divisor other than 0")
    elif name == "$glob" and not isinstance(operand, str):
        raise TypeError(f"$glob takes a pattern such as 'name*', not {operand!r}")
    return lambda value: compare(value, operand)


class _Several:
    """Values to look among: in a set where they can be in one."""

    def __init__(self, values: Iterable[Any]) -> None:
        self.all = [_comparable(value) for value in values]
        try:
            self._fast: Any = frozenset(self.all)
        except TypeError:
            self._fast = self.all

    def __contains__(self, value: Any) -> bool:
        value = _comparable(value)
        try:
            return value in self._fast
        except TypeError:
            return value in self.all


def _comparable(value: Any) -> Any:
    """Dates with a time zone: one without is in local time."""
    if isinstance(value, datetime) and value.tzinfo is None:
        return value.astimezone()
    return value


def _equal(a: Any, b: Any) -> bool:
    return bool(_comparable(a) == _comparable(b))


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def test(a: Any, b: Any) -> bool:
        if a is None or b is None:
            return False
        try:
            return bool(compare(_comparable(a), _comparable(b)))
        except TypeError:
            return False

    return test


def _has_all(value: Any, wanted: _Several) -> bool:
    values = list(value) if isinstance(value, list | tuple | set | frozenset) else [value]
    return all(each in values for each in wanted.all)


def _mod(value: Any, operand: Any) -> bool:
    return isinstance(value, int | float) and value % operand[0] == operand[1]


_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "$eq": _equal,
    "$ne": lambda a, b: not _equal(a, b),
    "$lt": _ordered(lambda a, b: a < b),
    "$lte": _ordered(lambda a, b: a <= b),
    "$gt": _ordered(lambda a, b: a > b),
    "$gte": _ordered(lambda a, b: a >= b),
    "$in": lambda a, b: a in b,
    "$nin": lambda a, b: a not in b,
    "$all": _has_all,
    "$mod": _mod,
    "$exists": lambda a, b: (a is not None) == bool(b),
    "$glob": lambda a, b: isinstance(a, str) and fnmatchcase(a, b),
}

_SEVERAL: dict[str, Callable[[Iterable[bool]], bool]] = {
    "$and": all,
    "$or": any,
    "$nor": lambda found: not any(found),
}
