"""One task as a store remembers it, and as it is shown to users.

``Entry`` is the one list of columns: SQLite's table is made of its fields, in their order. ``KEYS`` is the one list of what
users see of it; its names are those of IPython's task record where there is one for the thing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

from zexec import messages as m
from zexec.messages import Function, Task
from zexec.records.plain import date_of
from zexec.records.query import Lookup
from zexec.wire.bundles import MAGIC, Bundle, decode, is_referred

#: Bytes of a payload up to which a store in memory copies what is in shared memory, to remember it when the task has ended.
COPIED = 1 << 18


class _Gone(tuple[()]):
    """No buffers."""


#: Instead of a payload of which more than that was in shared memory.
GONE = _Gone()


@dataclass(slots=True, eq=False)
class Entry:
    """What is known of one task. Times are microseconds since 1970, whole numbers: so two that are equal compare so."""

    id: int  #: the task's id: unique among all that a cluster ever had
    client: str  #: who submitted it
    function: bytes  #: digest of its function
    name: str  #: the function's
    kind: int
    size: int
    priority: int
    retries: int
    timeout: float | None
    targets: list[int] | None
    needs: Any  #: what it waits for: plain data of whoever submitted it, or None
    label: str | None
    submitted: int
    #: the newest engine that it was sent to, and when
    engine: int | None = None
    engine_uuid: str | None = None
    sent: int | None = None
    #: how it ended, and what of it; None while it is open
    status: int | None = None
    detail: Any = None
    started: int | None = None
    seconds: float | None = None
    completed: int | None = None
    resubmitted: int | None = None  #: the task that repeats it
    #: bytes-like, or several, or None. Last, because SQLite reads a row up to what it needs.
    payload: Any = None
    result: Any = None

    def task(self, function: Function) -> Task:
        """The task anew, to be run.

        Raises:
            KeyError: its arguments have not been kept.
        """
        if self.payload is GONE or function.payload is GONE:
            raise KeyError(f"the arguments of task {self.id} were large, and have not been kept")
        targets = None if self.targets is None else frozenset(self.targets)
        return Task(
            self.id,
            function,
            self.kind,
            joined(self.payload),
            self.size,
            self.priority,
            self.retries,
            self.timeout,
            targets,
        )

    def outcome(self) -> m.Outcome:
        """How it ended, as the hub reports it to a client.

        Raises:
            KeyError: its result has not been kept.
        """
        assert self.status is not None
        if self.result is GONE:
            raise KeyError(f"the result of task {self.id} was large, and has not been kept")
        engine = -1 if self.engine is None else self.engine
        result = None if self.result is None else joined(self.result)
        return self.id, self.status, result, self.detail, engine, (self.started or 0) / 1e6, self.seconds or 0.0

    def weight(self) -> int:
        """Bytes of its buffers."""
        return weigh(self.payload) + weigh(self.result)


COLUMNS: tuple[str, ...] = tuple(field.name for field in fields(Entry))
#: columns that hold buffers
BUFFERS = ("payload", "result")


def entry_of(task: Task, client: str, submitted: int, needs: Any = None, label: str | None = None) -> Entry:
    """A task that has just been submitted."""
    targets = task.targets
    function = task.function
    return Entry(
        task.id,
        client,
        function.digest,
        function.name,
        task.kind,
        task.size,
        task.priority,
        task.retries,
        task.timeout,
        None if targets is None else sorted(targets),
        needs,
        label,
        submitted,
        payload=task.payload,
    )


def settle(entry: Entry, outcome: m.Outcome, now: int) -> None:
    """Note how a task ended."""
    _, entry.status, entry.result, entry.detail, engine, started, entry.seconds = outcome
    if engine >= 0:
        entry.engine = engine
    entry.started = micros(started) if started else None
    entry.completed = now


def micros(seconds: float) -> int:
    """Wall-clock seconds as microseconds. What is no number of this time is 0: an engine may say anything."""
    if not 0 <= seconds < 1e11:
        return 0
    return round(seconds * 1e6)


# -- buffers ---------------------------------------------------------------------------------------------------------


def buffers_of(payload: Any) -> list[Any]:
    """A payload as a list of bytes-like objects."""
    if payload is None:
        return []
    if isinstance(payload, Bundle):
        return payload.encode(None, False)
    return list(payload) if isinstance(payload, list | tuple) else [payload]


def apart(payload: Any) -> Any:
    """A payload that holds nobody's shared memory: with data of its own, or GONE if that would be much."""
    if not is_referred(payload):
        return payload
    return payload.by_value() if len(payload) <= COPIED else GONE


def joined(payload: Any) -> Any:
    """A payload as it travels: bytes where it is one buffer."""
    if not isinstance(payload, list | tuple) or not payload:
        return payload
    if bytes(payload[0][: len(MAGIC)]) == MAGIC:
        return decode(payload, 0)
    return payload[0] if len(payload) == 1 else payload


def weigh(payload: Any) -> int:
    if type(payload) is bytes:
        return len(payload)
    if isinstance(payload, Bundle):
        return len(payload)
    return sum(map(size_of, buffers_of(payload)))


def size_of(buffer: Any) -> int:
    """Bytes of a buffer; one that came in pieces knows it itself."""
    return len(buffer) if hasattr(buffer, "frames") else memoryview(buffer).nbytes


# -- as users see it -------------------------------------------------------------------------------------------------

#: how a task ended, in a word. IPython's "ok", "error" and "aborted" among them.
STATUS_NAMES: dict[int, str] = {
    m.OK: "ok",
    m.ERROR: "error",
    m.ARGUMENTS: "error",
    m.RESULT: "error",
    m.PARTIAL: "error",
    m.UNMET: "unmet",
    m.DIED: "died",
    m.CANCELLED: "aborted",
    m.TIMEOUT: "timeout",
    m.BROKEN: "broken",
    m.TERMINATED: "terminated",
    m.NO_ENGINE: "no engine",
    m.LOCAL: "error",
    m.IMPOSSIBLE: "impossible",
    m.WAITED: "waited",
    m.UNSTORED: "refused",
}


def status_name(status: int | None) -> str | None:
    return None if status is None else STATUS_NAMES.get(status, str(status))


def _date(time: int | None) -> datetime | None:
    return None if time is None else date_of(time)


def _header(e: Entry) -> dict[str, Any]:
    return {
        "msg_id": str(e.id),
        "msg_type": "apply_request",
        "session": e.client,
        "date": date_of(e.submitted),
        "function": e.name,
        "items": e.size,
        "priority": e.priority,
        "retries": e.retries,
        "timeout": e.timeout,
    }


def _result_header(e: Entry) -> dict[str, Any] | None:
    if e.status is None:
        return None
    return {
        "msg_type": "apply_reply",
        "status": status_name(e.status),
        "engine": e.engine_uuid,
        "date": _date(e.completed),
        "started": _date(e.started),
        "seconds": e.seconds,
    }


def _ended(e: Entry) -> int | None:
    """When it ended on its engine; by the hub's clock if it ended on none."""
    if e.started is None or e.seconds is None:
        return e.completed
    return e.started + round(e.seconds * 1e6)


def _bytes(payload: Any) -> list[bytes]:
    return [bytes(each) for each in buffers_of(payload)]


#: What of a record: its name, and how it comes of an entry. ``stdout``, ``stderr`` and ``error`` are in the result's buffers,
#: which stores do not look into; clients do, see ``Client.db_query``.
KEYS: dict[str, Callable[[Entry], Any]] = {
    "msg_id": lambda e: str(e.id),
    "header": _header,
    "metadata": lambda e: {"targets": e.targets, "after": (e.needs or {}).get("after"), "label": e.label},
    "content": lambda e: {},
    "buffers": lambda e: _bytes(e.payload),
    "submitted": lambda e: date_of(e.submitted),
    "client_uuid": lambda e: e.client,
    "engine_id": lambda e: e.engine,
    "engine_uuid": lambda e: e.engine_uuid,
    "sent": lambda e: _date(e.sent),
    "started": lambda e: _date(e.started),
    "completed": lambda e: _date(_ended(e)),
    "received": lambda e: _date(e.completed),
    "resubmitted": lambda e: None if e.resubmitted is None else str(e.resubmitted),
    "status": lambda e: status_name(e.status),
    "result_header": _result_header,
    "result_metadata": lambda e: None if e.status is None else {"engine_id": e.engine, "status": status_name(e.status)},
    "result_content": lambda e: None if e.status is None else {"status": status_name(e.status)},
    "result_buffers": lambda e: None if e.status is None else _bytes(e.result),
    "queue": lambda e: "task" if e.targets is None else "mux",
    "execute_input": lambda e: None,
    "execute_result": lambda e: None,
    "error": lambda e: e.detail if isinstance(e.detail, str) else None,
    "stdout": lambda e: "",
    "stderr": lambda e: "",
    "label": lambda e: e.label,
}

#: keys that are left out unless asked for
LARGE = ("buffers", "result_buffers")
DEFAULT_KEYS: tuple[str, ...] = tuple(key for key in KEYS if key not in LARGE)


def check_keys(keys: str | Sequence[str] | None) -> tuple[str, ...]:
    """The keys somebody asks for.

    Raises:
        TypeError, ValueError: those are none; the message says which there are.
    """
    if keys is None:
        return DEFAULT_KEYS
    if isinstance(keys, str):
        keys = [keys]
    for key in keys:
        if not isinstance(key, str):
            raise TypeError(f"a key is the name of a part of a record, not {key!r}")
        if key.split(".")[0] not in KEYS:
            raise ValueError(f"no key {key!r} in a task's record; there are {', '.join(KEYS)}")
    return tuple(dict.fromkeys(("msg_id", *keys)))


def look_into(entry: Entry) -> Lookup:
    """What looks up an entry's values by key, for queries."""

    def lookup(key: str) -> Any:
        name, *rest = key.split(".")
        make = KEYS.get(name)
        value = None if make is None else make(entry)
        for each in rest:
            value = value.get(each) if isinstance(value, dict) else None
        return value

    return lookup


def show(entry: Entry, keys: Iterable[str]) -> dict[str, Any]:
    """A record of these keys."""
    lookup = look_into(entry)
    return {key: lookup(key) for key in keys}
