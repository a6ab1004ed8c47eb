"""Messages on a byte stream: where one ends and the next begins. No file descriptors here.

::

    [u32 number of frames][u64 bytes of all frames] [u64 length of each frame, if several] [frames]

Memory grows with the bytes that come, but for MAPPED of them, whatever a message says of its size: so a damaged length costs a
connection, not the process.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Sequence
from typing import Any

from zexec.errors import ProtocolError

_HEAD = struct.Struct("<IQ")
_LENGTH = struct.Struct("<Q")

#: More frames than any message has: what claims more is damaged.
MOST_FRAMES = 1 << 24
#: Large data is aligned to so many bytes, as far as the memory is that it is read to (a bytearray is only to 16).
ALIGN = 64
#: Messages up to this size are put together by copying; larger ones are read straight into their place.
COPY = 1 << 18
#: From this size on that place is mapped, so that it takes memory only as it is filled. Below, memory that was used before is
#: faster by a tenth, and a damaged length can cost no more than this.
MAPPED = 1 << 26

Frames = list[Any]


def pack(frames: Sequence[Any]) -> list[Any]:
    """The buffers to write for a message."""
    if len(frames) == 1:
        frame = frames[0]
        head = _HEAD.pack(1, len(frame))
        # One write of a small copy costs less than one of two parts.
        return [head + frame] if len(frame) <= COPY else [head, frame]
    lengths = [len(frame) for frame in frames]
    table = struct.pack(f"<{len(frames)}Q", *lengths)
    return [_HEAD.pack(len(frames), sum(lengths)) + table, *frames]


class Assembler:
    """Puts messages together from what is read, in whatever pieces it comes."""

    __slots__ = ("_count", "_filled", "_large", "_rest")

    def __init__(self) -> None:
        #: the beginning of a message that is not complete
        self._rest = b""
        #: a large message being read: its body, and how much of that is there
        self._large: memoryview | None = None
        self._filled = 0
        self._count = 0

    @property
    def target(self) -> memoryview | None:
        """Where to read the rest of a large message to, or None: then ``feed`` takes what is read."""
        if self._large is None:
            return None
        return self._large[self._filled :]

    def advance(self, size: int) -> list[Frames]:
        """``size`` bytes have been read into ``target``; the messages that completes."""
        large = self._large
        assert large is not None
        self._filled += size
        if self._filled < len(large):
            return []
        self._large = None
        return [_split(large, self._count)]

    def feed(self, data: bytes) -> list[Frames]:
        """Take in what was read; the messages that completes.

        Raises:
            ProtocolError: this is no stream of messages.
        """
        if self._rest:
            data = self._rest + data
        messages: list[Frames] = []
        at, end = 0, len(data)
        while end - at >= _HEAD.size:
            count, size = _HEAD.unpack_from(data, at)
            if not 0 < count <= MOST_FRAMES:
                raise ProtocolError(f"a message of {count} frames")
            size += 8 * count if count > 1 else 0
            body = at + _HEAD.size
            if body + size <= end:
                part = data[body : body + size]
                messages.append([part] if count == 1 else _split(memoryview(part), count))
                at = body + size
                continue
            if size > COPY and (count == 1 or end - body >= 8):
                # The second frame, the first that may be large data, begins at a multiple of ALIGN there.
                skip = -(8 * count + _LENGTH.unpack_from(data, body)[0]) % ALIGN if count > 1 else 0
                self._large = memoryview(_make_room(size + skip))[skip:]
                self._large[: end - body] = data[body:]
                self._filled, self._count = end - body, count
                at = end
            break
        self._rest = data[at:]
        return messages


def _make_room(size: int) -> bytearray | mmap.mmap:
    if size < MAPPED:
        return bytearray(size)
    try:
        return mmap.mmap(-1, size)
    except (OSError, OverflowError) as e:
        raise ProtocolError(f"a message of {size} bytes: {e}") from e


def _split(body: memoryview, count: int) -> Frames:
    if count == 1:
        return [body]
    frames: Frames = []
    at = 8 * count
    for length in struct.unpack_from(f"<{count}Q", body):
        frames.append(body[at : at + length])
        at += length
    if at != len(body):
        raise ProtocolError("the frames of a message do not add up to it")
    return frames
