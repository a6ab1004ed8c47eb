"""Plain data as text and back: what JSON has, and dates, bytes, tuples, sets and deaths. Reading it cannot run code."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

from zexec.messages import Death

#: The one key of a dict that stands for what JSON does not have: its value is a name and what the thing is made of.
TAG = "__"


def dump_plain(obj: Any) -> str:
    """Plain data as text.

    Raises:
        TypeError: something in it is not plain; the message says what.
    """
    return json.dumps(_simplify(obj), separators=(",", ":"), allow_nan=True)


def load_plain(text: str | bytes) -> Any:
    """What ``dump_plain`` made a text of.

    Raises:
        ValueError: it is no such text.
    """
    try:
        return json.loads(text, object_hook=_restore)
    except ValueError:
        raise
    except (TypeError, KeyError, IndexError, OverflowError, RecursionError) as e:
        raise ValueError(f"damaged plain data: {type(e).__name__}: {e}") from None


def _simplify(obj: Any) -> Any:
    kind = type(obj)
    if obj is None or kind in (str, int, float, bool):
        return obj
    if kind is Death:
        return {TAG: ["death", list(obj)]}
    if kind is list:
        return [_simplify(each) for each in obj]
    if isinstance(obj, Mapping):
        if all(type(key) is str for key in obj) and TAG not in obj:
            return {key: _simplify(value) for key, value in obj.items()}
        return {TAG: ["dict", [[_simplify(key), _simplify(value)] for key, value in obj.items()]]}
    if isinstance(obj, datetime):
        return {TAG: ["date", micros_of(obj)]}
    if isinstance(obj, bytes | bytearray | memoryview):
        return {TAG: ["bytes", b64encode(obj).decode()]}
    if isinstance(obj, tuple):
        return {TAG: ["tuple", [_simplify(each) for each in obj]]}
    if isinstance(obj, set | frozenset):
        return {TAG: ["set", [_simplify(each) for each in obj]]}
    for plain in (bool, int, float, str):  # numpy's, enums' and others' subclasses and look-alikes
        if isinstance(obj, plain):
            return plain(obj)
    if hasattr(obj, "tolist"):
        return _simplify(obj.tolist())
    raise TypeError(f"{obj!r} is no plain data: {kind.__name__}")


def _restore(obj: dict[str, Any]) -> Any:
    if TAG not in obj:
        return obj
    kind, value = obj[TAG]
    return _MAKERS[kind](value)


def date_of(micros: int) -> datetime:
    """Microseconds since 1970 as a date, in UTC."""
    seconds, rest = divmod(micros, 1_000_000)
    return datetime.fromtimestamp(seconds, timezone.utc).replace(microsecond=rest)


_EPOCH = datetime.fromtimestamp(0, timezone.utc)


def micros_of(date: datetime) -> int:
    """A date as microseconds since 1970; one without a time zone is in local time."""
    since = date.astimezone(timezone.utc) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


_MAKERS: dict[str, Callable[[Any], Any]] = {
    "dict": dict,
    "date": date_of,
    "bytes": lambda text: b64decode(text, validate=True),
    "tuple": tuple,
    "set": frozenset,
    "death": lambda fields: Death(*fields),
}
