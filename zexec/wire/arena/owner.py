"""An arena and its segments, as their owner sees them.

Extents are cut from the end of the file, which only ever grows; one that is given back to the system leaves a hole, and its
place in the file is not used again. An extent that is free is kept for the next segment of about its size: its memory is
there and mapped, which makes filling it five to ten times as fast as a new one. ``trim`` gives back what has not been used for
a while.
"""

from __future__ import annotations

import os
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Any
from weakref import ref

from zexec.wire.arena import memory
from zexec.wire.arena.doors import DATA_AT, Door, Lane
from zexec.wire.arena.memory import OWN, RELEASES, Place, Releases, lend, map_file, punch, unmap
from zexec.wire.arena.table import READERS, SLOTS, TICKET_COUNT, Rows, Table, is_locked

#: Seconds for which a ticket is not used again whose message nobody waits for any more: its receiver might yet read it.
LATE = 60.0
#: Free extents are kept for at most so long, in seconds.
KEEP = 10.0
#: A free extent is used for a segment only if it is at most so many times as large.
LOOSE = 4
#: Of the memory that is available when an arena first grows, this share is its bound by default.
SHARE = 0.5
#: Sizes of extents are multiples of this.
GRAIN = 1 << 16


def default_bound() -> int:
    """The most bytes that an arena may take: ``ZEXEC_SHM_BYTES``, or half of what is available."""
    wanted = os.environ.get("ZEXEC_SHM_BYTES", "").strip()
    if wanted:
        try:
            return max(0, int(wanted))
        except ValueError:
            raise ValueError(f"ZEXEC_SHM_BYTES must be a number of bytes, not {wanted!r}") from None
    return int(_available() * SHARE)


def _available() -> int:
    """Bytes of memory that could be had now, by the system and by the control group of this process."""
    available = 0
    try:
        with open("/proc/meminfo") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    available = int(line.split()[1]) * 1024
                    break
    except OSError:
        pass
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            with open(limit) as file:
                most = file.read().strip()
            if most != "max":
                with open(used) as file:
                    available = min(available, max(0, int(most) - int(file.read())))
        except (OSError, ValueError):
            pass
    return available


class Extent:
    """A range of the file, mapped here, with a slot of its own."""

    __slots__ = ("address", "freed", "generation", "holder", "is_fresh", "is_live", "offset", "size", "slot", "view")

    def __init__(self, slot: int, offset: int, size: int, address: int) -> None:
        self.slot = slot
        self.offset = offset
        self.size = size
        self.address = address
        self.generation = 0
        #: nobody has used it yet: it is all zeros
        self.is_fresh = True
        #: what it is now is an array's memory
        self.is_live = False
        #: when it was last used
        self.freed = 0.0
        #: the segment that it is now
        self.holder: ref[Segment] | None = None
        self.view = memory.view(address, size)


class Segment:
    """An extent in use. When nobody refers to this any more, and no reader has it, it is free again."""

    __slots__ = ("__weakref__", "_arena", "extent", "live", "size")

    def __init__(self, arena: Arena, extent: Extent, size: int) -> None:
        self._arena = arena
        #: an array lives in it, so that somebody may write to it at any time
        self.live = extent.is_live
        self.extent = extent
        self.size = size

    @property
    def view(self) -> memoryview:
        """Its memory, to write to. Good only as long as somebody refers to the segment."""
        return self.extent.view[: self.size]

    @property
    def place(self) -> Place:
        """Where others find it."""
        arena, extent = self._arena, self.extent
        return arena.door.token, arena.pid, arena.door.fd, extent.slot, extent.generation

    @property
    def offset(self) -> int:
        """Where it begins in the file."""
        return self.extent.offset

    @property
    def is_zero(self) -> bool:
        """Whether nobody has ever written to it."""
        return self.extent.is_fresh

    def lend(self) -> memoryview:
        """Its memory, as a buffer that keeps the segment for as long as anybody uses that."""
        self.live = self.extent.is_live = True
        return lend(self.extent.address, self.size, OWN, self.offset, self)

    def map(self, offset: int, size: int, writable: bool) -> memoryview:
        """As a receiver maps it: what is written to it is seen by nobody else."""
        return memory.map_privately(self._arena.door.fd, offset, size, writable, self)

    def is_lent(self) -> bool:
        """Whether another process has it."""
        return self._arena.is_lent(self.extent)

    @property
    def table(self) -> Table:
        """Its arena's header, with what tells when others let go of segments."""
        return self._arena.table

    def __del__(self, add: Callable[..., None] = RELEASES.add) -> None:
        add(self._arena.retire, self.extent)


class Arena:
    """One process's segments.

    Args:
        door: to the file.
    """

    def __init__(self, door: Door) -> None:
        self.door = door
        self.pid = os.getpid()
        #: bytes that it may take; settled when it first grows
        self.bound: int | None = None
        #: bytes that it takes, free extents included
        self.taken = 0
        #: the most that it ever took
        self.peak = 0
        #: when to trim next, in monotonic seconds
        self._trim_due = 0.0
        self._table: Table | None = None
        self._rows: Rows | None = None
        self._end = DATA_AT
        #: free extents as (size, slot), the smallest first
        self._free: list[tuple[int, int]] = []
        self._extents: dict[int, Extent] = {}
        #: extents that are not ours any more, and were somebody's when we looked
        self._lent: list[Extent] = []
        #: extents to look at: no longer ours
        self._retired: list[Extent] = []
        self._slots = iter(range(1, SLOTS))
        self._free_slots: list[int] = []
        #: lanes with something on the way
        self._lanes: set[Lane] = set()
        #: of lanes that are closed: until when a ticket is not used again, which, and what it holds
        self._late: deque[tuple[float, int, Any]] = deque()
        self._tickets = iter(range(TICKET_COUNT))
        self._free_tickets: list[int] = []

    @property
    def table(self) -> Table:
        """The header; made when first needed.

        Raises:
            OSError: there is no memory for it.
        """
        if self._table is None:
            if os.fstat(self.door.fd).st_size < DATA_AT:
                os.ftruncate(self.door.fd, DATA_AT)
            self._rows = Rows(self.door.fd, 0, READERS)
            table = Table(self.door.fd)
            table.stamp(self.door.token)
            self._table = table
        return self._table

    # -- segments ----------------------------------------------------------------------------------------------------

    def allocate(self, size: int) -> Segment | None:
        """A segment of so many bytes, or None if there is no room."""
        RELEASES.drain()
        with RELEASES.lock:
            extent = self._take(size)
            segment = None if extent is None else self._hand_out(extent, size)
        RELEASES.drain()
        return segment

    def _hand_out(self, extent: Extent, size: int) -> Segment:
        segment = Segment(self, extent, size)
        extent.holder = ref(segment)
        return segment

    def claim(self, slot: int, generation: int, offset: int, size: int) -> Segment | None:
        """A segment of this arena that another process has sent back; None if it is not there any more."""
        with RELEASES.lock:
            RELEASES.run()
            extent = self._extents.get(slot)
            if extent is None or extent.generation != generation:
                return None
            if offset < extent.offset or offset + size > extent.offset + extent.size:
                return None
            segment = None if extent.holder is None else extent.holder()
            if segment is None:
                for others in (self._lent, self._retired):
                    if extent in others:
                        others.remove(extent)
                        segment = self._hand_out(extent, extent.size)
                        break
        RELEASES.drain()
        return segment

    def _take(self, size: int) -> Extent | None:
        if os.getpid() != self.pid:
            return None  # a fork has no arena
        try:
            table = self.table
        except OSError:
            return None
        self._reclaim()
        extent = self._reuse(size)
        if extent is None:
            extent = self._grow(-(-size // GRAIN) * GRAIN)
        if extent is None:
            return None
        extent.generation = (extent.generation + 1) & 0xFFFFFFFF
        table.generations[extent.slot] = extent.generation
        return extent

    def _reuse(self, size: int) -> Extent | None:
        at = bisect_left(self._free, (size, -1))
        if at == len(self._free) or self._free[at][0] > max(size, GRAIN) * LOOSE:
            return None
        extent = self._extents[self._free.pop(at)[1]]
        extent.is_fresh = extent.is_live = False
        return extent

    def _grow(self, size: int) -> Extent | None:
        if self.bound is None:
            self.bound = default_bound()
        if self.taken + size > self.bound:
            self._trim(self.taken + size - self.bound, None)
            if self.taken + size > self.bound:
                return None
        slot = self._free_slots.pop() if self._free_slots else next(self._slots, None)
        if slot is None:
            return None
        offset = self._end
        try:
            # Where there is no memory, this says so; writing to the mapping would end the process.
            os.posix_fallocate(self.door.fd, offset, size)
            address = map_file(self.door.fd, offset, size, True, True)
        except OSError:
            self._free_slots.append(slot)
            return None
        self._end += size
        self.taken += size
        self.peak = max(self.peak, self.taken)
        extent = self._extents[slot] = Extent(slot, offset, size, address)
        extent.generation = self.table.generations[slot]
        return extent

    def retire(self, extent: Extent) -> None:
        """Its owner does not need it any more. Under the lock."""
        if self._table is not None:
            self._retired.append(extent)

    def _reclaim(self) -> None:
        """Find out which segments nobody has any more."""
        self._collect_tickets()
        RELEASES.run()
        if not (self._lent or self._retired):
            return
        rows = self._live_rows()
        now = monotonic()
        lent = []
        for extent in self._retired + self._lent:
            if any(row[extent.slot] for row in rows):
                lent.append(extent)
            else:
                extent.freed = now
                insort(self._free, (extent.size, extent.slot))
        self._lent, self._retired = lent, []

    def _live_rows(self) -> list[memoryview]:
        """The rows of readers that live."""
        if self._rows is None:
            return []
        rows, live = self._rows.counts, []
        for number in range(READERS):
            at = number * SLOTS
            if not rows[at]:
                break  # no row from here on has ever been in use
            if is_locked(self.door.fd, number):
                live.append(rows[at : at + SLOTS])
        return live

    def is_lent(self, extent: Extent) -> bool:
        with RELEASES.lock:
            return any(row[extent.slot] for row in self._live_rows())

    # -- on the way --------------------------------------------------------------------------------------------------

    def ticket(self, what: Any, lane: Lane) -> int | None:
        """Keep something until the receiver of a message clears its ticket; None if there are too many.

        Raises:
            OSError: there is no memory for the header.
        """
        with RELEASES.lock:
            tickets = self.table.tickets
            self._collect_tickets()
            ticket = self._free_tickets.pop() if self._free_tickets else next(self._tickets, None)
            if ticket is not None:
                tickets[ticket] = 1
                lane.waiting.append((ticket, what))
                self._lanes.add(lane)
        RELEASES.drain()
        return ticket

    def collect(self) -> bool:
        """Let go of what has arrived. Whether there is more on the way."""
        if not self._lanes and not self._late:
            return False
        with RELEASES.lock:
            self._collect_tickets()
            RELEASES.run()
        RELEASES.drain()
        return bool(self._lanes or self._late)

    def close_lane(self, lane: Lane, patience: float) -> None:
        """Nothing goes that way any more. See ``Lane.close``."""
        with RELEASES.lock:
            self._collect_tickets()
            until = monotonic() + max(LATE, patience)
            while lane.waiting:
                ticket, what = lane.waiting.popleft()
                self._late.append((until, ticket, what if patience else None))
            self._lanes.discard(lane)
        RELEASES.drain()

    @property
    def on_the_way(self) -> int:
        """How many messages that hold something have not arrived."""
        self.collect()
        return sum(len(lane.waiting) for lane in self._lanes) + sum(what is not None for _, _, what in self._late)

    def _collect_tickets(self) -> None:
        """Let go of what has arrived. Under the lock."""
        if not self._lanes and not self._late:
            return
        tickets = self.table.tickets
        for lane in list(self._lanes):
            # On one lane messages arrive in order, more or less: so look at the oldest.
            waiting = lane.waiting
            while waiting and not tickets[waiting[0][0]]:
                self._free_tickets.append(waiting.popleft()[0])
            if not waiting:
                self._lanes.discard(lane)
        if self._late:
            now = monotonic()
            for _ in range(len(self._late)):
                until, ticket, what = self._late.popleft()
                if tickets[ticket] and until > now:
                    self._late.append((until, ticket, what))
                else:
                    self._free_tickets.append(ticket)
                del what

    # -- room --------------------------------------------------------------------------------------------------------

    def trim_at(self, now: float) -> float | None:
        """Trim if it is time to. When to come again, None if nothing is taken."""
        if now >= self._trim_due:
            self.trim()
            self._trim_due = now + KEEP / 4
        return self._trim_due if self.taken else None

    def trim(self, idle: float | None = None) -> None:
        """Give back what has been free for ``idle`` seconds; by default as long as free extents are kept."""
        RELEASES.drain()
        with RELEASES.lock:
            if self._table is not None and os.getpid() == self.pid:
                self._reclaim()
                self._trim(self.taken, monotonic() - (KEEP if idle is None else idle))
        RELEASES.drain()

    def _trim(self, wanted: int, before: float | None) -> None:
        """Give back so many bytes, if that many are free, the longest unused first; or those that are free since ``before``."""
        for extent in sorted((self._extents[slot] for _, slot in self._free), key=lambda extent: extent.freed):
            if wanted <= 0 or (before is not None and extent.freed > before):
                return
            self._free.remove((extent.size, extent.slot))
            self._discard(extent)
            wanted -= extent.size

    def _discard(self, extent: Extent) -> None:
        extent.view.release()
        punch(extent.address, extent.size)
        unmap(extent.address, extent.size)
        del self._extents[extent.slot]
        self._free_slots.append(extent.slot)
        self.taken -= extent.size

    @property
    def free(self) -> int:
        """Bytes of it that are kept for the next."""
        with RELEASES.lock:
            self._reclaim()
            return sum(size for size, _ in self._free)

    def __del__(self, releases: Releases = RELEASES) -> None:
        # Nobody refers to it: no segment of it either.
        if not releases.over:
            for extent in self._extents.values():
                unmap(extent.address, extent.size)
