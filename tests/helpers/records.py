"""What tests of stores need: tasks, outcomes, both kinds of store."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from zexec.messages import CALL, OK, Function, Outcome, Task

DOUBLE = Function(b"d" * 16, b"code of double", "double")
ORIGIN = 1_700_000_000.0


def when(seconds: float) -> datetime:
    """The date so many seconds after the origin of these tests."""
    return datetime.fromtimestamp(ORIGIN + seconds, timezone.utc)


def task(id: int, payload: Any = b"payload", function: Function = DOUBLE, **options: Any) -> Task:
    return Task(id, function, CALL, payload, **options)


def outcome(id: int, result: Any = b"result", status: int = OK, engine: int = 0, at: float = 0.0) -> Outcome:
    return (id, status, result, None, engine, ORIGIN + at, 0.25)


def fill(store: Any, ids: Sequence[int], client: str = "alice", at: float = 0.0, payload: bytes = b"payload") -> None:
    """A second between one task and the next."""
    for n, id in enumerate(ids):
        store.accepted([task(id, payload)], client, now=ORIGIN + at + n)
