"""The tables of the SQLite store, made of ``Entry``'s fields; and what of a query SQLite can do. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from zexec.records.entry import STATUS_NAMES, Entry
from zexec.records.plain import micros_of
from zexec.records.query import Query, is_operators

#: Changes with the tables: a file of another version is refused.
VERSION = 1

#: by the annotation of an entry's field
_TYPES = {"int": "INTEGER", "str": "TEXT", "bytes": "BLOB", "float": "REAL", "list[int]": "TEXT", "Any": "TEXT"}
_SPECIAL = {"id": "INTEGER PRIMARY KEY", "payload": "BLOB", "result": "BLOB"}


def _type(name: str, annotation: str) -> str:
    return _SPECIAL.get(name) or _TYPES[annotation.removesuffix(" | None")]


DECLARED = [f"{field.name} {_type(field.name, str(field.type))}" for field in fields(Entry)]
#: indices of the columns that hold plain data as text
JSON = [
    at
    for at, field in enumerate(fields(Entry))
    if field.name not in _SPECIAL and field.type in ("Any", "list[int] | None")
]

TABLES = f"""
CREATE TABLE tasks ({", ".join(DECLARED)});
CREATE INDEX open_tasks ON tasks (id) WHERE status IS NULL;
CREATE INDEX by_time ON tasks (submitted);
CREATE TABLE pieces (task INTEGER, side INTEGER, buffer INTEGER, piece INTEGER, data BLOB,
    PRIMARY KEY (task, side, buffer, piece)) WITHOUT ROWID;
CREATE TABLE functions (digest BLOB PRIMARY KEY, name TEXT, flags INTEGER, payload BLOB);
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT)
"""

# -- queries ---------------------------------------------------------------------------------------------------------

#: keys of a record that are columns
_COLUMN = {
    "client_uuid": "client",
    "engine_id": "engine",
    "engine_uuid": "engine_uuid",
    "submitted": "submitted",
    "sent": "sent",
    "received": "completed",
    "label": "label",
}
_COMPARE = {"$eq": "=", "$lt": "<", "$lte": "<=", "$gt": ">", "$gte": ">="}
#: How many values an IN may have: SQLite's limit for all parameters is 32,766 (999 before 3.32).
_MANY = 900


def where(query: Query) -> tuple[str, list[Any]]:
    """A condition for those rows that may match, and its values: at least those that do. "" for all.

    What it cannot say is left out. Whoever asks tests the rows that come with ``records.query``, so that a query means the
    same whatever answers it.
    """
    parts: list[str] = []
    values: list[Any] = []
    _collect(query, parts, values)
    return (" WHERE " + " AND ".join(parts), values) if parts else ("", [])


def _collect(query: Query, parts: list[str], values: list[Any]) -> None:
    for key, wanted in query.items():
        if key == "$and":
            for each in wanted:
                _collect(each, parts, values)
            continue
        operators = wanted if is_operators(wanted) else {"$eq": wanted}
        for name, operand in operators.items():
            if len(values) > _MANY:
                return
            _one(key, name, operand, parts, values)


def _one(key: str, name: str, operand: Any, parts: list[str], values: list[Any]) -> None:
    if key == "completed":
        if (name, operand) == ("$eq", None):
            parts.append("status IS NULL")
        elif (name, operand) == ("$ne", None):
            parts.append("status IS NOT NULL")
    elif key == "msg_id" and name in ("$eq", "$in"):
        wanted = [operand] if name == "$eq" else list(operand)
        ids = [int(each) for each in wanted if isinstance(each, str) and _is_id(each)]
        _among("id", ids, parts, values)
    elif key == "status" and name in ("$eq", "$in"):
        wanted = [operand] if name == "$eq" else list(operand)
        if all(isinstance(each, str) and not each.isdecimal() for each in wanted):
            _among("status", [code for code, word in STATUS_NAMES.items() if word in wanted], parts, values)
        elif wanted == [None]:
            parts.append("status IS NULL")
    elif key in _COLUMN:
        column = _COLUMN[key]
        if operand is None or isinstance(operand, Mapping):
            if name == "$eq" and operand is None:
                parts.append(f"{column} IS NULL")
        elif name in _COMPARE:
            value = _value(column, operand)
            if value is not None:
                parts.append(f"{column} {_COMPARE[name]} ?")
                values.append(value)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and str(int(text)) == text and int(text) < 1 << 63


def _among(column: str, wanted: list[int], parts: list[str], values: list[Any]) -> None:
    if len(wanted) <= _MANY:
        parts.append(f"{column} IN ({', '.join('?' * len(wanted))})")
        values += wanted


def _value(column: str, operand: Any) -> Any:
    """As it is in the column; None if it is nothing that a column has."""
    if column in ("submitted", "sent", "completed"):
        return micros_of(operand) if isinstance(operand, datetime) else None
    if column == "engine":
        return operand if type(operand) is int and abs(operand) < 1 << 63 else None
    return operand if isinstance(operand, str) else None
