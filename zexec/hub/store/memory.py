"""A store in memory: bounded, and gone with its process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from zexec.hub.store import Reading, Restored
from zexec.messages import Function, Outcome, Task
from zexec.records.entry import Entry, apart, check_keys, entry_of, look_into, micros, settle, show, weigh
from zexec.records.query import Query, matcher

T = TypeVar("T")

#: Records, and bytes in their buffers, beyond which the oldest of those that have ended are forgotten.
RECORDS, BYTES = 100_000, 256 << 20
#: The part of a bound that is freed at once when it is reached: so that looking for the oldest is paid by many tasks.
CULL = 0.1


class MemoryStore:
    """Remembers the newest tasks, and every open one.

    A task whose buffers take a tenth of the room is forgotten when it ends: it would push out all others. Of one with much data
    in shared memory the data is forgotten then: others want to use that again, and to copy it would take longer than all else.

    Args:
        records: how many; more only if more are open.
        size: bytes that their buffers may take together; more only if those of open tasks do.
    """

    def __init__(self, records: int = RECORDS, size: int = BYTES) -> None:
        if records < 1 or size < 1:
            raise ValueError(f"a store must have room for something, not {records} records of {size} bytes")
        self._limit, self._size_limit = records, size
        self.durable = 0
        self.on_durable: Callable[[], None] = lambda: None
        self.trouble: str | None = None
        #: by id, in the order of submission
        self._entries: dict[int, Entry] = {}
        #: ids of those that have ended, in the order of their ends
        self._ended: dict[int, None] = {}
        #: bytes in all buffers
        self._size = 0
        #: functions, and how many entries need each
        self._functions: dict[bytes, Function] = {}
        self._uses: dict[bytes, int] = {}
        self._facts: dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def size(self) -> int:
        """Bytes in all buffers."""
        return self._size

    # -- notes -------------------------------------------------------------------------------------------------------

    def accepted(
        self, tasks: Sequence[Task], client: str, needs: Any = None, label: str | None = None, now: float | None = None
    ) -> int:
        at = micros(time.time() if now is None else now)
        entries, uses = self._entries, self._uses
        with self._lock:
            for task in tasks:
                if task.id in entries:
                    continue
                entry = entries[task.id] = entry_of(task, client, at, needs, label)
                digest = entry.function
                if digest in uses:
                    uses[digest] += 1
                else:
                    uses[digest] = 1
                    self._functions[digest] = _apart(task.function)
                self._size += weigh(entry.payload)
            self._cull()
        return self.durable

    def sent(self, tasks: Iterable[Task], engine: int, engine_uuid: str, now: float | None = None) -> None:
        at = micros(time.time() if now is None else now)
        with self._lock:
            for task in tasks:
                entry = self._entries.get(task.id)
                if entry is not None:
                    entry.engine, entry.engine_uuid, entry.sent = engine, engine_uuid, at

    def settled(self, outcomes: Iterable[Outcome], now: float | None = None) -> int:
        at = micros(time.time() if now is None else now)
        with self._lock:
            for outcome in outcomes:
                entry = self._entries.get(outcome[0])
                if entry is not None and entry.status is None:
                    settle(entry, outcome, at)
                    self._size -= weigh(entry.payload)
                    entry.payload, entry.result = apart(entry.payload), apart(entry.result)
                    self._size += entry.weight()
                    self._ended[entry.id] = None
                    if entry.weight() > CULL * self._size_limit:
                        self._forget(entry.id)
            self._cull()
        return self.durable

    def resubmitted(self, id: int, new: int) -> None:
        with self._lock:
            if id in self._entries:
                self._entries[id].resubmitted = new

    def drop(self, ids: Iterable[int] | None) -> None:
        with self._lock:
            for id in list(self._ended if ids is None else ids):
                if id in self._ended:
                    self._forget(id)

    def _cull(self) -> None:
        if len(self._entries) > self._limit:
            self._shrink(self._limit - int(CULL * self._limit), self._size)
        if self._size > self._size_limit:
            self._shrink(len(self._entries), self._size_limit - int(CULL * self._size_limit))

    def _shrink(self, records: int, size: int) -> None:
        # Gone through once: to ask a dict for its first key, again and again, passes all that was removed before it each time.
        for id in list(self._ended):
            if len(self._entries) <= records and self._size <= size:
                return
            self._forget(id)

    def _forget(self, id: int) -> None:
        del self._ended[id]
        entry = self._entries.pop(id)
        self._size -= entry.weight()
        self._uses[entry.function] -= 1
        if not self._uses[entry.function]:
            del self._uses[entry.function], self._functions[entry.function]

    # -- questions ---------------------------------------------------------------------------------------------------

    def find(self, query: Query, keys: str | Sequence[str] | None = None) -> list[dict[str, Any]]:
        wanted = check_keys(keys)
        matches = matcher(query)
        with self._lock:
            return [show(entry, wanted) for entry in self._entries.values() if matches(look_into(entry))]

    def history(self) -> list[str]:
        with self._lock:
            return [str(id) for id in self._entries]

    def status(self, ids: Iterable[int]) -> dict[int, int | None]:
        with self._lock:
            return {id: self._entries[id].status for id in ids if id in self._entries}

    def outcome(self, id: int) -> Outcome | None:
        entry, _ = self.entry(id)
        return None if entry.status is None else entry.outcome()

    def entry(self, id: int) -> tuple[Entry, Function]:
        with self._lock:
            entry = self._entries.get(id)
            if entry is None:
                raise KeyError(f"nothing is known of task {id}: it never was, or has been forgotten")
            return entry, self._functions[entry.function]

    def get(self, name: str) -> str | None:
        return self._facts.get(name)

    def set(self, name: str, value: str) -> int:
        self._facts[name] = value
        return self.durable

    # -- what is simple here -----------------------------------------------------------------------------------------

    def reload(self) -> list[Restored]:
        return []

    def ask(self, question: Callable[[Reading], T], answer: Callable[[T | Exception], None]) -> None:
        try:
            found: T | Exception = question(self)
        except Exception as e:
            found = e
        answer(found)

    def flush(self, timeout: float | None = None) -> bool:
        return True

    def close(self) -> None:
        return None


def _apart(function: Function) -> Function:
    payload = apart(function.payload)
    return (
        function if payload is function.payload else Function(function.digest, payload, function.name, function.shared)
    )
