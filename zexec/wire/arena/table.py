"""The header of an arena's file: what is where. Constants and bare counters; who may write which is said in the package.

::

    0             magic, token
    RELEASES      two words            see ``waiting``
    GENERATIONS   u32 per slot         written by the owner
    TICKETS       a byte per ticket    set by the owner, cleared by receivers
    ROWS          u32 per slot, for each row; the first counts for no slot and says that the row has been in use
    DATA          segments

A slot is a segment's number. The file is sparse: rows and slots that nobody uses take no memory.
"""

from __future__ import annotations

import fcntl

from zexec.wire.arena import doors, waiting
from zexec.wire.arena.doors import DATA_AT, LOCKS_AT, MAGIC, TOKEN
from zexec.wire.arena.memory import PAGE, RELEASES, Releases, map_file, unmap, view

SLOTS = 1 << 14
READERS = 1 << 10
TICKET_COUNT = 1 << 16

HEAD_AT = 0
RELEASES_AT = 64
GENERATIONS_AT = PAGE
TICKETS_AT = GENERATIONS_AT + 4 * SLOTS
ROWS_AT = TICKETS_AT + TICKET_COUNT
#: bytes of a row
ROW = 4 * SLOTS
assert ROWS_AT + ROW * READERS <= DATA_AT


class Table:
    """A mapped header; without the rows, which its users map by themselves.

    Raises:
        OSError: it cannot be mapped.
    """

    __slots__ = ("_address", "_memory", "generations", "releases", "tickets")

    def __init__(self, fd: int) -> None:
        self._address = map_file(fd, 0, ROWS_AT, True, True)
        self._memory = memory = view(self._address, ROWS_AT)
        self.releases = waiting.Releases(memory[RELEASES_AT : RELEASES_AT + 8].cast("I"), self._address + RELEASES_AT)
        self.generations = memory[GENERATIONS_AT : GENERATIONS_AT + 4 * SLOTS].cast("I")
        self.tickets = memory[TICKETS_AT : TICKETS_AT + TICKET_COUNT]

    @property
    def token(self) -> bytes:
        """What the arena is known by; empty if this is none."""
        if bytes(self._memory[HEAD_AT : HEAD_AT + len(MAGIC)]) != MAGIC:
            return b""
        return bytes(self._memory[HEAD_AT + len(MAGIC) : HEAD_AT + len(MAGIC) + TOKEN])

    def stamp(self, token: bytes) -> None:
        """Say whose it is."""
        self._memory[HEAD_AT + len(MAGIC) : HEAD_AT + len(MAGIC) + TOKEN] = token
        self._memory[HEAD_AT : HEAD_AT + len(MAGIC)] = MAGIC

    def __del__(self, releases: Releases = RELEASES) -> None:
        address = getattr(self, "_address", None)
        if address is not None and not releases.over:
            unmap(address, ROWS_AT)


class Rows:
    """Mapped rows: one of them, or all.

    Raises:
        OSError: they cannot be mapped.
    """

    __slots__ = ("_address", "_size", "counts")

    def __init__(self, fd: int, first: int, count: int) -> None:
        self._size = count * ROW
        self._address = map_file(fd, ROWS_AT + first * ROW, self._size, True, True)
        self.counts = view(self._address, self._size).cast("I")

    def __del__(self, releases: Releases = RELEASES) -> None:
        address = getattr(self, "_address", None)
        if address is not None and not releases.over:
            unmap(address, self._size)


# -- locks: whose row it is ------------------------------------------------------------------------------------------


def lock_row(fd: int, row: int) -> bool:
    """Take a row for this process, unless another has it."""
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, LOCKS_AT + row)
    except OSError:
        return False
    return True


def unlock_row(fd: int, row: int) -> None:
    fcntl.lockf(fd, fcntl.LOCK_UN, 1, LOCKS_AT + row)


def is_locked(fd: int, row: int) -> bool:
    """Whether another process, one that lives, has this row."""
    return doors.is_locked(fd, LOCKS_AT + row)
