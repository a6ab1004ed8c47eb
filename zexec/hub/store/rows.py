"""What the SQLite store writes and reads: notes of one transaction as statements, entries as rows, buffers in pieces."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from zexec.hub.store import Restored
from zexec.hub.store.sql import JSON
from zexec.messages import OK, Function, Outcome
from zexec.records.entry import BUFFERS, COLUMNS, Entry, buffers_of, joined, micros, size_of
from zexec.records.plain import dump_plain, load_plain
from zexec.wire.bundles import Bundle
from zexec.wire.stream import Assembler, pack

#: Buffers up to this many bytes are in the task's row; larger ones in rows of their own, so that a change of the task does not
#: write them again. SQLite's pages have 4 KiB.
INLINE = 2048
#: The largest piece of a buffer: a value in SQLite has at most 1e9 bytes, and is held in memory as a whole.
PIECE = 32 << 20

SMALL = tuple(name for name in COLUMNS if name not in BUFFERS)
_values = attrgetter(*COLUMNS)

_INSERT = f"INSERT OR IGNORE INTO tasks ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"
_SENT = "UPDATE tasks SET engine = ?, engine_uuid = ?, sent = ? WHERE id = ? AND status IS NULL"
_SETTLED = (
    "UPDATE tasks SET engine = COALESCE(?, engine), engine_uuid = COALESCE(?, engine_uuid), sent = COALESCE(?, sent), "
    "status = ?, detail = ?, started = ?, seconds = ?, completed = ?, result = ? WHERE id = ? AND status IS NULL"
)
_RESUBMITTED = "UPDATE tasks SET resubmitted = ? WHERE id = ?"
#: Flags of a function.
SHARED, BUNDLE = 1, 2
_FUNCTION = "INSERT OR IGNORE INTO functions (digest, name, flags, payload) VALUES (?, ?, ?, ?)"
_PIECE = "INSERT OR REPLACE INTO pieces (task, side, buffer, piece, data) VALUES (?, ?, ?, ?, ?)"
_FACT = "INSERT OR REPLACE INTO facts (name, value) VALUES (?, ?)"


class Bulk:
    """The notes of one transaction, put together."""

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.functions: dict[bytes, Function] = {}
        #: (engine, its uuid, when) by task
        self.sent: dict[int, tuple[int, str, int]] = {}
        self.settled: dict[int, tuple[Outcome, int]] = {}
        self.resubmitted: list[tuple[int, int]] = []
        #: None: all
        self.dropped: list[list[int] | None] = []
        self.facts: dict[str, str] = {}


def write_bulk(db: sqlite3.Connection, bulk: Bulk) -> None:
    for f in bulk.functions.values():
        # One with large data in it is a bundle, of several buffers.
        whole = type(f.payload) is Bundle
        payload = b"".join(pack([bytes(each) for each in buffers_of(f.payload)])) if whole else bytes(f.payload)
        db.execute(_FUNCTION, (f.digest, f.name, SHARED * f.shared | BUNDLE * whole, payload))
    db.executemany(_PIECE, _pieces_of((entry.id, 0, entry.payload) for entry in bulk.entries.values()))
    db.executemany(_INSERT, map(_row, bulk.entries.values()))
    db.executemany(_SENT, ((*sent, id) for id, sent in bulk.sent.items() if id not in bulk.settled))
    db.executemany(_PIECE, _pieces_of((id, 1, outcome[2]) for id, (outcome, _) in bulk.settled.items()))
    db.executemany(_SETTLED, (_settled_row(*each, bulk.sent.get(id)) for id, each in bulk.settled.items()))
    db.executemany(_RESUBMITTED, bulk.resubmitted)
    db.executemany(_FACT, bulk.facts.items())
    for dropped in bulk.dropped:
        _drop(db, dropped)


def _row(entry: Entry) -> list[Any]:
    values = list(_values(entry))
    for at in JSON:
        if values[at] is not None:
            values[at] = dump_plain(values[at])
    for name in BUFFERS:
        at = COLUMNS.index(name)
        values[at] = _inline(values[at])
    return values


def entry_of_row(row: Sequence[Any]) -> Entry:
    values = list(row)
    for at in JSON:
        if values[at] is not None:
            values[at] = load_plain(values[at])
    return Entry(*values, *[None] * (len(COLUMNS) - len(values)))


def _settled_row(outcome: Outcome, at: int, sent: tuple[int, str, int] | None) -> tuple[Any, ...]:
    id, status, result, detail, engine, started, seconds = outcome
    _, uuid, when = sent or (-1, None, None)
    return (
        engine if engine >= 0 else None,
        uuid,
        when,
        status,
        None if detail is None else dump_plain(detail),
        micros(started) if started else None,
        seconds,
        at,
        _inline(result),
        id,
    )


def _inline(payload: Any) -> bytes | None:
    """What of a payload is in the task's row."""
    if payload is None or isinstance(payload, list | tuple | Bundle) or size_of(payload) > INLINE:
        return None
    return payload if type(payload) is bytes else bytes(payload)


def _pieces_of(payloads: Iterable[tuple[int, int, Any]]) -> Iterator[tuple[int, int, int, int, Any]]:
    """Rows for what is not in the tasks' rows."""
    for id, side, payload in payloads:
        if payload is None or _inline(payload) is not None:
            continue
        for number, buffer in enumerate(buffers_of(payload)):
            for piece, data in enumerate(_cut(buffer)):
                yield id, side, number, piece, data


def _cut(buffer: Any) -> Iterator[Any]:
    """A buffer in pieces that SQLite takes: those in which it came, if it did."""
    if hasattr(buffer, "frames"):
        for frame in buffer.frames:
            yield frame.buffer
        return
    view = memoryview(buffer).cast("B")
    for start in range(0, max(view.nbytes, 1), PIECE):
        yield view[start : start + PIECE]


def fetch(db: sqlite3.Connection, entry: Entry) -> None:
    """Bring in the buffers that are not in the task's row."""
    if entry.payload is None:
        entry.payload = _collect(db, entry.id, 0)
    if entry.result is None and entry.status is not None:
        entry.result = _collect(db, entry.id, 1)


def _collect(db: sqlite3.Connection, id: int, side: int) -> Any:
    buffers: dict[int, list[bytes]] = {}
    for number, data in db.execute(
        "SELECT buffer, data FROM pieces WHERE task = ? AND side = ? ORDER BY buffer, piece", (id, side)
    ):
        buffers.setdefault(number, []).append(data)
    if not buffers:
        return None
    return joined([pieces[0] if len(pieces) == 1 else b"".join(pieces) for pieces in buffers.values()])


def function_of(db: sqlite3.Connection, digest: bytes) -> Function:
    row = db.execute("SELECT payload, name, flags FROM functions WHERE digest = ?", (digest,)).fetchone()
    payload, name, flags = row
    if flags & BUNDLE:
        (buffers,) = Assembler().feed(payload)
        payload = joined(buffers)
    return Function(digest, payload, name, bool(flags & SHARED))


def find_ends(db: sqlite3.Connection, one: Restored) -> None:
    """How those ended that a task waits for. One that is not known any more was dropped, so it had ended."""
    assert one.needs is not None
    for condition in (one.needs.after, one.needs.follow):
        for parent in condition.ids if condition is not None else ():
            row = db.execute("SELECT status, engine FROM tasks WHERE id = ?", (parent,)).fetchone()
            if row is None:
                one.ended.setdefault(parent, (False, -1, 0))
            elif row[0] is not None:
                one.ended[parent] = row[0] == OK, -1 if row[1] is None else row[1], 0


def _drop(db: sqlite3.Connection, ids: list[int] | None) -> None:
    if ids is None:
        db.execute("DELETE FROM pieces WHERE task IN (SELECT id FROM tasks WHERE status IS NOT NULL)")
        db.execute("DELETE FROM tasks WHERE status IS NOT NULL")
    else:
        pairs = [(id,) for id in ids]
        db.executemany(
            "DELETE FROM pieces WHERE task = ? AND task IN (SELECT id FROM tasks WHERE status IS NOT NULL)", pairs
        )
        db.executemany("DELETE FROM tasks WHERE id = ? AND status IS NOT NULL", pairs)
