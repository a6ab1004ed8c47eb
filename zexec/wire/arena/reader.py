"""Other processes' arenas: attached when a message first names them, and leased from. How they are found: ``doors``."""

from __future__ import annotations

import os
from collections.abc import Callable

from zexec.wire.arena import doors, memory
from zexec.wire.arena.doors import DATA_AT, Door
from zexec.wire.arena.memory import RELEASES, Place, Releases
from zexec.wire.arena.table import READERS, SLOTS, TICKET_COUNT, Rows, Table, lock_row, unlock_row


class Attached:
    """Another process's arena, with a row for this process.

    Raises:
        OSError: it is none, or all its rows are taken.
    """

    def __init__(self, door: Door) -> None:
        self._door = door
        self._pid = os.getpid()
        fd = door.fd
        self._size = os.fstat(fd).st_size
        if self._size < DATA_AT:
            raise OSError("no arena")
        self._table = Table(fd)
        if self._table.token != door.token:
            raise OSError("another arena")
        row = next((row for row in range(READERS) if lock_row(fd, row)), None)
        if row is None:
            raise OSError("all rows of the arena are taken")
        self._number = row
        self._rows = Rows(fd, row, 1)
        self._row = self._rows.counts
        if self._row[0]:
            # What its last user has left in it.
            for slot in range(1, SLOTS):
                if self._row[slot]:
                    self._row[slot] = 0
        self._row[0] = 1
        #: leases that there are
        self._leases = 0
        #: nobody here looks for this arena any more: its door is closed with its last lease
        self._leaving = False
        self.closed = False

    @property
    def fd(self) -> int:
        return self._door.fd

    @property
    def token(self) -> bytes:
        return self._door.token

    def lease(self, slot: int, generation: int, offset: int, size: int, live: bool) -> Lease | None:
        """Keep a segment from being used again; None if it has been already, or there is none such.

        Args:
            slot, generation: which segment it is.
            offset, size: the part of the file that is wanted of it.
            live: its owner may write to it.
        """
        if not 0 < slot < SLOTS:
            return None
        with RELEASES.lock:
            if self.closed or not self._has(offset, size):
                return None
            self._row[slot] += 1
            is_it = self._table.generations[slot] == generation
            if is_it:
                self._leases += 1
            else:
                self._row[slot] -= 1
        RELEASES.drain()
        return Lease(self, slot, generation, live) if is_it else None

    def release(self, slot: int) -> None:
        """The end of a lease. Under the lock."""
        if os.getpid() == self._pid:
            self._row[slot] -= 1
            self._table.releases.tell()
            self._leases -= 1
            if self._leaving and not self._leases:
                self._shut()

    def leave(self) -> None:
        """Close its door, which was found, as soon as nothing of it is in use here."""
        with RELEASES.lock:
            self._leaving = True
            if not self._leases and not self.closed:
                self._shut()
        RELEASES.drain()

    def _shut(self) -> None:
        # In this order: nobody opens it again before it is closed. That also unlocks the row.
        self.closed = True
        self._door.shut()
        doors.shut_found(self._door.token)

    def arrived(self, ticket: int) -> None:
        """Tell the owner that a message is here, and all in it is leased."""
        if ticket < TICKET_COUNT:
            self._table.tickets[ticket] = 0

    def _has(self, offset: int, size: int) -> bool:
        """Whether the file has this range."""
        if offset + size > self._size:
            self._size = os.fstat(self.fd).st_size
        return offset >= DATA_AT and size > 0 and offset + size <= self._size

    def __del__(self, releases: Releases = RELEASES) -> None:
        if hasattr(self, "closed") and not self.closed and not releases.over and os.getpid() == self._pid:
            unlock_row(self.fd, self._number)


class Lease:
    """One of this process's claims on a segment of another."""

    __slots__ = ("__weakref__", "_attached", "generation", "live", "slot")

    def __init__(self, attached: Attached, slot: int, generation: int, live: bool) -> None:
        self._attached = attached
        self.slot = slot
        self.generation = generation
        self.live = live

    @property
    def place(self) -> Place:
        """Where others find it."""
        attached = self._attached
        return attached.token, os.getpid(), attached.fd, self.slot, self.generation

    def map(self, offset: int, size: int, writable: bool) -> memoryview:
        """A part of it, given by its place in the file. What is written to the buffer is seen by nobody else."""
        return memory.map_privately(self._attached.fd, offset, size, writable, self)

    def __del__(self, add: Callable[..., None] = RELEASES.add) -> None:
        add(self._attached.release, self.slot)
