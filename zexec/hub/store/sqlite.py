"""A store in a file of SQLite's: what is durable outlives the hub, however it ends.

::

    hub's thread ── notes ──► deque ──► writer thread: all notes so far, one transaction, durable, on_durable
    anybody ── find, ask ──► a connection of its own, which reads while the other writes (WAL)

A note costs its maker an append. The writer takes all that have come while it wrote the last ones: so under load many tasks
share a transaction, and one alone waits for nobody. Within a bulk, what was sent and has ended is one statement.

What is durable survives the end of the hub's process by any signal, because the system has it by then. A machine that loses
its power may lose the last transactions before that, but never half of one (``synchronous=NORMAL``).

The file is for its owner alone: what is in it will be unpickled by engines.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from zexec.core.dependencies import End, Needs
from zexec.errors import StoreError
from zexec.hub.store import Reading, Restored, needs_of
from zexec.hub.store.rows import SMALL, Bulk, entry_of_row, fetch, find_ends, function_of, write_bulk
from zexec.hub.store.sql import TABLES, VERSION, where
from zexec.messages import Function, Outcome, Task
from zexec.records.entry import (
    COLUMNS,
    LARGE,
    Entry,
    check_keys,
    entry_of,
    look_into,
    micros,
    show,
)
from zexec.records.query import Query, keys_of, matcher

LOGGER = logging.getLogger("zexec")
T = TypeVar("T")

#: Seconds between two attempts to write when the disk is full.
RETRY = 0.5


class SqliteStore:
    """Remembers every task until it is dropped.

    Args:
        path: the file; made if it is not there.

    Raises:
        StoreError: another hub uses the file, it is somebody else's or open to others, or no store; the message says which.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.durable = 0
        self.on_durable: Callable[[], None] = lambda: None
        self.trouble: str | None = None
        self._notes: deque[Callable[[Bulk], None]] = deque()
        self._ticket = 0
        self._wake = threading.Condition()
        self._closing = False
        #: why nothing will be written any more: a bug, or no memory. Nobody must count on it then.
        self._failed = ""
        self._lock_fd = _lock(path)
        try:
            self._writing = self._connect()
            self._reading = self._connect()
        except BaseException:
            os.close(self._lock_fd)
            raise
        self._reading_lock = threading.Lock()
        #: digests of functions that are in the file
        self._stored = {digest for (digest,) in self._reading.execute("SELECT digest FROM functions")}
        self._questions: deque[tuple[int, Callable[[], None]]] = deque()
        self._answering: threading.Thread | None = None
        self._writer = threading.Thread(target=self._write, name="zexec-store", daemon=True)
        self._writer.start()

    def _connect(self) -> sqlite3.Connection:
        try:
            db = sqlite3.connect(self.path, timeout=30.0, isolation_level=None, check_same_thread=False)
        except sqlite3.Error as e:
            raise StoreError(f"the store {self.path} cannot be opened: {e}") from None
        try:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not db.execute("SELECT 1 FROM sqlite_master").fetchone():
                db.execute("PRAGMA journal_mode = WAL")
                db.executescript(f"BEGIN; {TABLES}; PRAGMA user_version = {VERSION}; COMMIT")
            elif version != VERSION:
                raise StoreError(
                    f"the file {self.path} is no store of this version of zexec; move it away, or name another"
                )
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = NORMAL")
        except sqlite3.Error as e:
            db.close()
            raise StoreError(f"the file {self.path} is no store, or damaged: {e}") from None
        except BaseException:
            db.close()
            raise
        return db

    # -- notes -------------------------------------------------------------------------------------------------------

    def _note(self, note: Callable[[Bulk], None]) -> int:
        with self._wake:
            if self._failed:
                raise StoreError(self._failed)
            if self._closing:
                raise StoreError("the store is closed")
            self._notes.append(note)
            self._ticket += 1
            self._wake.notify_all()
            return self._ticket

    def accepted(
        self, tasks: Sequence[Task], client: str, needs: Any = None, label: str | None = None, now: float | None = None
    ) -> int:
        at = micros(time.time() if now is None else now)
        tasks = list(tasks)
        # Now, and not in the writer: a scheduler may change a task.
        entries = [entry_of(task, client, at, needs, label) for task in tasks]

        def note(bulk: Bulk) -> None:
            for entry, task in zip(entries, tasks, strict=True):
                bulk.entries.setdefault(entry.id, entry)
                if entry.function not in self._stored:
                    bulk.functions[entry.function] = task.function

        return self._note(note)

    def sent(self, tasks: Iterable[Task], engine: int, engine_uuid: str, now: float | None = None) -> None:
        where_to = (engine, engine_uuid, micros(time.time() if now is None else now))
        ids = [task.id for task in tasks]
        self._note(lambda bulk: bulk.sent.update(dict.fromkeys(ids, where_to)))

    def settled(self, outcomes: Iterable[Outcome], now: float | None = None) -> int:
        at = micros(time.time() if now is None else now)
        outcomes = list(outcomes)

        def note(bulk: Bulk) -> None:
            for outcome in outcomes:
                bulk.settled.setdefault(outcome[0], (outcome, at))

        return self._note(note)

    def resubmitted(self, id: int, new: int) -> None:
        self._note(lambda bulk: bulk.resubmitted.append((new, id)))

    def drop(self, ids: Iterable[int] | None) -> None:
        chosen = None if ids is None else list(ids)
        self._note(lambda bulk: bulk.dropped.append(chosen))

    def set(self, name: str, value: str) -> int:
        return self._note(lambda bulk: bulk.facts.update({name: value}))

    # -- the writer --------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        try:
            self._write_all()
        except BaseException as e:
            LOGGER.critical("the store %s has failed", self.path, exc_info=True)
            with self._wake:
                self._failed = f"the store {self.path} has failed: {type(e).__name__}: {e}"
                self._wake.notify_all()
            self.on_durable()

    def _write_all(self) -> None:
        while True:
            with self._wake:
                while not self._notes and not self._closing:
                    self._wake.wait()
                if not self._notes:
                    return
                notes, self._notes = self._notes, deque()
                ticket = self._ticket
            bulks = [Bulk()]
            for note in notes:
                if bulks[-1].dropped:
                    bulks.append(Bulk())  # what comes after a drop is not dropped
                note(bulks[-1])
            del notes
            if not self._commit(bulks):
                return
            del bulks
            with self._wake:
                self.durable = ticket
                self._wake.notify_all()
            self.on_durable()

    def _commit(self, bulks: list[Bulk]) -> bool:
        """Write bulks, as often as it takes. False if the store is closed before that was possible."""
        while True:
            try:
                self._transact(bulks)
            except sqlite3.Error as e:
                if self.trouble is None:
                    LOGGER.error("the store %s cannot be written: %s", self.path, e)
                    self.trouble = f"the store {self.path} cannot be written: {e}"
                    self.on_durable()
                with self._wake:
                    if self._closing or self._wake.wait_for(lambda: self._closing, RETRY):
                        LOGGER.critical("the store %s ends without its last notes: %s", self.path, e)
                        return False
                continue
            if self.trouble is not None:
                LOGGER.warning("the store %s can be written again", self.path)
                self.trouble = None
                self.on_durable()
            return True

    def _transact(self, bulks: list[Bulk]) -> None:
        db = self._writing
        db.execute("BEGIN IMMEDIATE")
        try:
            for bulk in bulks:
                write_bulk(db, bulk)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        for bulk in bulks:
            self._stored.update(bulk.functions)

    # -- questions ---------------------------------------------------------------------------------------------------

    def find(self, query: Query, keys: str | Sequence[str] | None = None) -> list[dict[str, Any]]:
        wanted = check_keys(keys)
        matches = matcher(query)
        large = any(key.split(".")[0] in LARGE for key in (*wanted, *keys_of(query)))
        condition, values = where(query)
        with self._read() as db:
            rows = db.execute(
                f"SELECT {', '.join(COLUMNS if large else SMALL)} FROM tasks{condition} ORDER BY submitted, id", values
            )
            found = []
            for row in rows:
                entry = entry_of_row(row)
                if large:
                    fetch(db, entry)
                if matches(look_into(entry)):
                    found.append(show(entry, wanted))
            return found

    def history(self) -> list[str]:
        with self._read() as db:
            return [str(id) for (id,) in db.execute("SELECT id FROM tasks ORDER BY submitted, id")]

    def status(self, ids: Iterable[int]) -> dict[int, int | None]:
        with self._read() as db:
            found = {}
            for id in ids:
                row = db.execute("SELECT status FROM tasks WHERE id = ?", (id,)).fetchone()
                if row is not None:
                    found[id] = row[0]
            return found

    def outcome(self, id: int) -> Outcome | None:
        entry, _ = self.entry(id)
        return None if entry.status is None else entry.outcome()

    def entry(self, id: int) -> tuple[Entry, Function]:
        with self._read() as db:
            row = db.execute(f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE id = ?", (id,)).fetchone()
            if row is None:
                raise KeyError(f"nothing is known of task {id}: it never was, or has been dropped")
            entry = entry_of_row(row)
            fetch(db, entry)
            return entry, function_of(db, entry.function)

    def get(self, name: str) -> str | None:
        with self._read() as db:
            row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
            return None if row is None else str(row[0])

    def reload(self) -> list[Restored]:
        with self._read() as db:
            functions: dict[bytes, Function] = {}
            restored = []
            for row in db.execute(
                f"SELECT {', '.join(COLUMNS)} FROM tasks WHERE status IS NULL ORDER BY submitted, id"
            ):
                entry = entry_of_row(row)
                fetch(db, entry)
                function = functions.get(entry.function)
                if function is None:
                    function = functions[entry.function] = function_of(db, entry.function)
                needs: Needs | None = None
                ended: dict[int, End] = {}
                if entry.needs is not None:
                    needs, ended = needs_of(entry.needs)
                restored.append(Restored(entry.task(function), entry.client, needs, ended, entry.engine_uuid))
            for one in restored:
                if one.needs is not None:
                    find_ends(db, one)
            return restored

    def ask(self, question: Callable[[Reading], T], answer: Callable[[T | Exception], None]) -> None:
        def do() -> None:
            try:
                found: T | Exception = question(self)
            except Exception as e:
                found = e
            answer(found)

        with self._wake:
            self._questions.append((self._ticket, do))
            if self._answering is None:
                self._answering = threading.Thread(target=self._answer, name="zexec-store-reader", daemon=True)
                self._answering.start()
            self._wake.notify_all()

    def _answer(self) -> None:
        while True:
            with self._wake:
                # A question sees what was noted before it.
                self._wake.wait_for(
                    lambda: (
                        self._closing
                        or (self._questions and self._questions[0][0] <= self.durable)
                        or (self._questions and (self.trouble or self._failed))
                    )
                )
                if not self._questions:
                    return
                _, do = self._questions.popleft()
            try:
                do()
            except Exception:
                LOGGER.exception("an answer of the store was not taken")

    def _read(self) -> _Locked:
        return _Locked(self._reading, self._reading_lock)

    # -- ends --------------------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        with self._wake:
            ticket = self._ticket
            self._wake.wait_for(lambda: self.durable >= ticket or self._failed, timeout)
            return self.durable >= ticket

    def close(self) -> None:
        with self._wake:
            if self._closing:
                return
            self._closing = True
            self._wake.notify_all()
        self._writer.join()
        if self._answering is not None:
            self._answering.join()
        self._reading.close()
        self._writing.close()  # the last connection: what is in the WAL goes into the file
        os.close(self._lock_fd)


class _Locked:
    """The connection for reading, for one thread at a time."""

    def __init__(self, db: sqlite3.Connection, lock: threading.Lock) -> None:
        self._db, self._lock = db, lock

    def __enter__(self) -> sqlite3.Connection:
        self._lock.acquire()
        return self._db

    def __exit__(self, *exc_info: object) -> None:
        self._lock.release()


def _lock(path: Path) -> int:
    """Take a store for this process; what holds it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as e:
        raise StoreError(f"the store {path} cannot be opened: {e}") from None
    try:
        about = os.fstat(fd)
    finally:
        os.close(fd)
    if about.st_uid != os.geteuid():
        raise StoreError(f"the store {path} is somebody else's")
    if about.st_mode & 0o077:
        raise StoreError(f"the store {path} is open to others, and engines run what is in it: chmod 600 {path}")
    # Not the file itself: SQLite locks that, and closing any descriptor of it would end its locks.
    lock = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise StoreError(f"the store {path} is used by another hub") from None
    return lock
