"""Bundles: payloads with large data in them.

A pickle whose large buffers are apart from it, each in one of the bundle's *parts*: a range of a segment of shared memory,
or plain memory. Parts that are segments travel by reference to processes that can reach them, and by value to others, read
right out of the segment; a bundle of either kind is opened in the same way.

A bundle that was received has leased its segments: as long as it exists they stay what they are.

As frames::

    head, and one frame for each part that travels by value

The head is columns of numbers and then the pickle, unless that is large itself: then it is in a part. Each of these frames
is a multiple of 64 bytes long, so that the data is aligned at the other side if the first of them is.
"""

from __future__ import annotations

import logging
import mmap
import pickle
import struct
import sys
from collections.abc import Sequence
from typing import Any

from zexec.errors import ProtocolError, SegmentLostError
from zexec.wire.arena import doors

#: A buffer, or a pickle, from this size on is worth a segment.
LARGE = 1 << 16
#: Once that much is, smaller buffers of the same payload go along, from this size on.
ALONG = 1 << 12
#: From so many bytes on it pays to ask the system whether they have been written to, rather than to copy them.
WORTH = 1 << 18
#: Parts and buffers in them begin at multiples of this.
ALIGN = 64
#: Bytes copied at a time: other threads of this process wait so long.
CHUNK = 1 << 23
#: Memory from this size on is wanted in large pages.
HUGE = 1 << 22

LOGGER = logging.getLogger("zexec")

#: as ``zexec.wire.arena.memory`` has it, which is not loaded before it is needed
OWN = "own"

#: What a part is: memory that goes along; a segment; a segment to which somebody may write still; nothing any more.
_VALUE, _REFERENCE, _LIVE, _LOST = 0, 1, 2, 3
#: what a head begins with, and no pickle
MAGIC = b"zxB\1"
#: that; numbers of parts and buffers; number of the part that has the pickle, or -1, begin and length of the pickle there
_HEAD = struct.Struct("<4sIIiQQ")
#: kind; token, process, descriptor, slot, generation; begin in the file, length
_PART = struct.Struct("<B16sIIIIQQ")
#: part, begin, length
_BUFFER = struct.Struct("<IQQ")
#: whether there is a ticket; the arena it is of, as in a part; its number
_TICKET = struct.Struct("<?16sIII")

#: (what keeps it, where it begins in its file, its length); for plain memory (the memory, 0, its length); None where it is lost.
#: In a hub that passes it on, plain memory is whatever its channels made of a frame.
Part = tuple[Any, int, int]


class Bundle:
    """See the module. Made by ``build`` or ``decode``."""

    __slots__ = ("__weakref__", "_buffers", "_parts", "_read_only", "_stream", "borrowed")

    def __init__(self, parts: list[Part], buffers: list[tuple[int, int, int]], stream: Any, read_only: bool) -> None:
        self._parts = parts
        #: segments among its parts that somebody here may write to: an array lives there
        self.borrowed: tuple[Any, ...] = ()
        #: where each of the pickle's buffers is: part, begin in it, length
        self._buffers = buffers
        #: the pickle, or where it is
        self._stream = stream
        self._read_only = read_only

    def load(self, again: bool = False) -> Any:
        """Unpickle it. Each time, what is made of it has memory of its own, unless it is read-only.

        Args:
            again: it will be opened once more.

        Raises:
            SegmentLostError: a segment is gone.
            Exception: what unpickling raises.
        """
        maps = [self._open(part, again) for part in self._parts]
        buffers = [maps[part][begin : begin + size] for part, begin, size in self._buffers]
        stream = self._stream
        if type(stream) is tuple:
            part, begin, size = stream
            stream = maps[part][begin : begin + size]
        del maps
        return pickle.loads(stream, buffers=buffers)

    def _open(self, part: Part, again: bool) -> memoryview:
        keeper, offset, size = part
        if keeper is None:
            raise SegmentLostError("the shared memory that held the data is gone, or cannot be reached from here")
        if _is_shared(keeper):
            mapped: memoryview = keeper.map(offset, size, not self._read_only)
            return mapped
        memory = memoryview(keeper)
        if self._read_only or not (again or memory.readonly):
            return memory
        copy = plain_memory(size)
        copy_into(copy, memory)
        return copy

    def __len__(self) -> int:
        """Bytes of its parts."""
        return sum(size for _, _, size in self._parts)

    @property
    def is_lost(self) -> bool:
        """Whether something of it is gone, or cannot be reached from here."""
        return any(keeper is None for keeper, _, _ in self._parts)

    @property
    def keepers(self) -> list[Any]:
        """What keeps its segments."""
        return [keeper for keeper, _, _ in self._parts if _is_shared(keeper)]

    def by_value(self) -> Bundle:
        """The same, with all data in memory of its own: nobody's segment is held by it."""
        parts: list[Part] = []
        for part in self._parts:
            keeper, offset, size = part
            if _is_shared(keeper):
                data = bytes(keeper.map(offset, _round(size, ALIGN), False))
                part = data, 0, len(data)
            parts.append(part)
        return Bundle(parts, self._buffers, self._stream, self._read_only)

    def __reduce__(self) -> Any:
        # Inside another payload: its data goes along as the other's does.
        head, *values = self.encode(None, False)
        return _rebuild, (head, [pickle.PickleBuffer(value) for value in values])

    # -- frames ------------------------------------------------------------------------------------------------------

    def encode(self, refer: doors.Lane | None, hand_over: bool) -> list[Any]:
        """As frames.

        Args:
            refer: the way to the other side, if it can reach this process's segments, and those that this process can.
            hand_over: nobody here will keep the bundle until it has arrived: its lane is to.
        """
        values: list[Any] = []
        parts = []
        referred = False
        for keeper, offset, size in self._parts:
            is_shared = _is_shared(keeper)
            if is_shared and refer is not None:
                parts.append(_PART.pack(_LIVE if keeper.live else _REFERENCE, *keeper.place, offset, size))
                referred = True
                continue
            if keeper is None:
                parts.append(_PART.pack(_LOST, b"", 0, 0, 0, 0, 0, size))
                continue
            if is_shared:
                value: Any = keeper.map(offset, _round(size, ALIGN), False)
            else:
                value = keeper
            values.append(value)
            parts.append(_PART.pack(_VALUE, b"", 0, 0, 0, 0, 0, len(value)))
        ticket = _TICKET.pack(False, b"", 0, 0, 0)
        if referred and hand_over:
            assert refer is not None
            arena = doors.arena()
            number = None if arena is None else _ticket(arena, self, refer)
            if arena is None or number is None:
                return self.encode(None, False)
            ticket = _TICKET.pack(True, arena.door.token, arena.pid, arena.door.fd, number)
        stream: Any = b""
        if type(self._stream) is tuple:
            where = self._stream
        else:
            where, stream = (-1, 0, 0), self._stream
        columns = b"".join(
            (
                _HEAD.pack(MAGIC, len(parts), len(self._buffers), *where),
                b"\1" if self._read_only else b"\0",
                ticket,
                *parts,
                *[_BUFFER.pack(*buffer) for buffer in self._buffers],
            )
        )
        head = columns + stream
        return [head + bytes(-len(head) % ALIGN), *values]


def decode(frames: Sequence[Any], at: int) -> Bundle:
    """A bundle from its frames, of which the first is number ``at``.

    Raises:
        ProtocolError: they are none.
    """
    head = frames[at]
    if type(head) is not bytes:
        head = bytes(head)
    magic, n, m, stream_part, stream_begin, stream_size = _HEAD.unpack_from(head)
    if magic != MAGIC:
        raise ProtocolError("a bundle that is none")
    place = _HEAD.size
    read_only = head[place] == 1
    has_ticket, *ticket = _TICKET.unpack_from(head, place + 1)
    place += 1 + _TICKET.size
    if place + n * _PART.size + m * _BUFFER.size > len(head):
        raise ProtocolError("a bundle whose columns are longer than its head")
    parts: list[Part] = []
    for _ in range(n):
        kind, token, pid, fd, slot, generation, offset, size = _PART.unpack_from(head, place)
        place += _PART.size
        if kind == _VALUE:
            at += 1
            value = frames[at]
            if len(value) != size:
                raise ProtocolError("a bundle whose part is not as long as it says")
            parts.append((value, 0, size))
        elif kind == _LOST:
            parts.append((None, 0, size))
        else:
            parts.append((_lease(token, pid, fd, slot, generation, offset, size, kind == _LIVE), offset, size))
    if has_ticket:
        token, pid, fd, number = ticket
        attached = doors.attach(token, pid, fd)
        if attached is not None:
            attached.arrived(number)
    buffers = []
    for _ in range(m):
        part, begin, size = _BUFFER.unpack_from(head, place)
        place += _BUFFER.size
        _check(parts, part, begin, size)
        buffers.append((part, begin, size))
    if stream_part < 0:
        return Bundle(parts, buffers, head[place:], read_only)
    _check(parts, stream_part, stream_begin, stream_size)
    return Bundle(parts, buffers, (stream_part, stream_begin, stream_size), read_only)


def _rebuild(head: bytes, values: list[Any]) -> Bundle:
    return decode([head, *values], 0)


def is_referred(payload: Any) -> bool:
    """Whether a payload has data in shared memory, and holds that."""
    return type(payload) is Bundle and bool(payload.keepers)


def _is_shared(keeper: Any) -> bool:
    return hasattr(keeper, "place")


def _check(parts: list[Part], part: int, begin: int, size: int) -> None:
    if part >= len(parts) or begin + size > parts[part][2]:
        raise ProtocolError("a bundle with a buffer that is in none of its parts")


def _lease(token: bytes, pid: int, fd: int, slot: int, generation: int, offset: int, size: int, live: bool) -> Any:
    own = doors.own(token)
    if own is not None:
        return own.claim(slot, generation, offset, size)
    while True:
        attached = doors.attach(token, pid, fd)
        if attached is None:
            return None
        lease = attached.lease(slot, generation, offset, size, live)
        # It was let go of just now, unless the segment is gone: then come in again.
        if lease is not None or not attached.closed:
            return lease


def _ticket(arena: Any, bundle: Bundle, lane: doors.Lane) -> int | None:
    try:
        ticket: int | None = arena.ticket(bundle, lane)
    except OSError:
        return None
    return ticket


# -- making them -----------------------------------------------------------------------------------------------------


class Sink(list):  # type: ignore[type-arg]
    """What a pickler writes to: keeps the pieces. A large bytes object is such a piece itself, and not copied."""

    # Set when there is a first one: most pickles have none.
    buffers: list[memoryview] | None = None
    #: bytes of all buffers so far
    size = 0

    write = list.append

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """Whether a buffer is to stay in the pickle."""
        try:
            raw = buffer.raw()
        except BufferError:
            return True  # and the pickler says what it thinks of it
        size = raw.nbytes
        self.size += size
        if size < LARGE and (size < ALONG or self.size < LARGE):
            return True
        if self.buffers is None:
            self.buffers = []
        self.buffers.append(raw)
        return False

    def mentions(self, name: bytes) -> bool:
        """Whether a name is in the pickle."""
        return any(name in piece for piece in self)

    def payload(self) -> bytes | Bundle:
        """What was pickled: bytes, or a bundle if it is large."""
        if len(self) == 1 and self.buffers is None and len(self[0]) < LARGE:
            data: bytes = self[0]
            return data
        size = sum(map(len, self))
        return build(self, size, self.buffers or []) if self.buffers or size >= LARGE else b"".join(self)


def build(pieces: Sequence[Any], size: int, buffers: list[memoryview]) -> Bundle:
    """A bundle: copies the buffers, but for those that are in a segment already.

    Args:
        pieces: the pickle.
        size: its length.
        buffers: its buffers.
    """
    parts: list[Part] = []
    places: list[tuple[int, int, int]] = []
    #: by the keeper: number of the part
    known: dict[int, int] = {}
    borrowed: list[Any] = []
    copies: list[tuple[int, memoryview]] = []
    total = 0
    for buffer, found in zip(buffers, _in_segments(buffers), strict=True):
        if found is None:
            copies.append((total, buffer))
            places.append((-1, total, buffer.nbytes))
            total += _round(buffer.nbytes, ALIGN)
            continue
        block, begin = found
        number = known.get(id(block.keeper))
        if number is None:
            number = known[id(block.keeper)] = len(parts)
            parts.append((block.keeper, block.offset, block.size))
            if block.kind == OWN:
                borrowed.append(block.keeper)
        places.append((number, begin, buffer.nbytes))
    stream: Any
    if size >= LARGE:
        at = total
        for piece in pieces:
            copies.append((at, memoryview(piece)))
            at += len(piece)
        stream = (-1, total, size)
        total += _round(size, ALIGN)
    else:
        stream = b"".join(pieces)
    if copies:
        arena = doors.arena()
        segment = None if arena is None else arena.allocate(total)
        if segment is None:
            _say_once()
        view = plain_memory(total) if segment is None else segment.view
        for begin, piece in copies:
            copy_into(view[begin : begin + piece.nbytes], piece)
        own = len(parts)
        parts.append((view, 0, total) if segment is None else (segment, segment.offset, total))
        places = [(own if part < 0 else part, begin, n) for part, begin, n in places]
        if type(stream) is tuple:
            stream = (own, *stream[1:])
    bundle = Bundle(parts, places, stream, all(buffer.readonly for buffer in buffers))
    bundle.borrowed = tuple(borrowed)
    return bundle


_said = False


def _say_once() -> None:
    global _said
    if not _said:
        _said = True
        LOGGER.debug("large data travels through sockets: there is no shared memory, or no room in it")


def segment_for(size: int) -> memoryview | None:
    """Memory in a segment of its own, as a buffer that keeps it; None if there is no room."""
    arena = doors.arena()
    segment = None if arena is None else arena.allocate(size)
    return None if segment is None else segment.lend()


def _in_segments(buffers: list[memoryview]) -> list[tuple[Any, int] | None]:
    """For each buffer the block of shared memory that it is in and where in it, if it is there as it was sent."""
    memory = sys.modules.get("zexec.wire.arena.memory")
    if memory is None:
        return [None] * len(buffers)
    found: list[tuple[Any, int] | None] = []
    #: of blocks that may have been written to, how much of each is wanted
    wanted: dict[Any, int] = {}
    for buffer in buffers:
        address = memory.address_of(buffer)
        block = memory.find(address, buffer.nbytes)
        found.append(None if block is None else (block, address - block.address))
        if block is not None and block.kind is memory.PRIVATE:
            wanted[id(block)] = wanted.get(id(block), 0) + buffer.nbytes
    for i, where in enumerate(found if wanted else ()):
        if where is not None and where[0].kind is memory.PRIVATE:
            block, begin = where
            size = wanted[id(block)]
            # What its owner may still write to is to be seen as it is now. And a small part is not to keep the whole.
            if (
                block.keeper.live
                or size < WORTH
                or size * 2 < block.size
                or not memory.is_untouched(block.address + begin, buffers[i].nbytes)
            ):
                found[i] = None
    return found


def plain_memory(size: int) -> memoryview:
    """Memory that is aligned, to copy to. In large pages if there are such: small ones take longer to make than to fill."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if size >= HUGE:
        try:
            memory.madvise(mmap.MADV_HUGEPAGE)
        except OSError:
            pass  # a system without
    return memoryview(memory)


def copy_into(target: memoryview, source: memoryview) -> None:
    """Copy, bit by bit: the interpreter is locked while a bit is copied."""
    source = source.cast("B")
    size = len(source)
    for begin in range(0, size, CHUNK):
        target[begin : min(size, begin + CHUNK)] = source[begin : begin + CHUNK]


def _round(size: int, to: int) -> int:
    return -(-size // to) * to
