"""Messages on a byte stream: whatever pieces they come in, and whatever comes instead of them."""

from __future__ import annotations

import os
import random
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zexec.errors import ProtocolError
from zexec.wire import stream
from zexec.wire.stream import Assembler, pack


def read(assembler: Assembler, data: bytes, pieces: int) -> list[list[bytes]]:
    """As a channel reads: into the target if there is one, so many bytes at a time."""
    messages = []
    at = 0
    while at < len(data):
        target = assembler.target
        if target is None:
            part = data[at : at + pieces]
            messages += assembler.feed(part)
        else:
            part = data[at : at + min(pieces, len(target))]
            target[: len(part)] = part
            del target
            messages += assembler.advance(len(part))
        at += len(part)
    return [[bytes(frame) for frame in frames] for frames in messages]


#: inputs of the fuzzer; once it was two million
FUZZ = int(os.environ.get("ZEXEC_FUZZ", "10000"))

FRAMES = st.lists(st.binary(max_size=40), min_size=1, max_size=4)


@given(st.lists(FRAMES, max_size=5), st.integers(1, 50))
def test_any_pieces(messages: list[list[bytes]], pieces: int) -> None:
    data = b"".join(bytes(part) for frames in messages for part in pack(frames))
    assert read(Assembler(), data, pieces) == messages


@pytest.mark.parametrize("size", [stream.COPY - 1, stream.COPY, stream.COPY + 1, stream.MAPPED, stream.MAPPED + 1])
@pytest.mark.parametrize("frames", [1, 2])
def test_large_messages(size: int, frames: int) -> None:
    message = [bytes([i]) * size for i in range(frames)]
    data = b"".join(bytes(part) for part in pack([*message]))
    after = b"".join(bytes(part) for part in pack([b"next"]))
    assert read(Assembler(), data + after, 1 << 20) == [message, [b"next"]]


@pytest.mark.parametrize("size", [1 << 30, 1 << 40, 1 << 46, 1 << 62, (1 << 64) - 1])
def test_a_huge_length_takes_no_memory(size: int) -> None:
    """Either it is refused, or what it takes grows with what comes."""
    tracemalloc.start()
    before = resident()
    assembler = Assembler()
    try:
        assembler.feed(struct.pack("<IQ", 1, size) + b"beginning")
        for _ in range(10):
            target = assembler.target
            assert target is not None
            target[:1000] = bytes(1000)
            del target
            assembler.advance(1000)
    except ProtocolError:
        pass
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    assert resident() - before < 8 << 20


def resident() -> int:
    with open("/proc/self/statm") as f:
        return int(f.read().split()[1]) * 4096


@pytest.mark.parametrize("count", [0, stream.MOST_FRAMES + 1, (1 << 32) - 1])
def test_impossible_counts_of_frames(count: int) -> None:
    with pytest.raises(ProtocolError):
        Assembler().feed(struct.pack("<IQ", count, 10))


def test_frames_that_do_not_add_up() -> None:
    with pytest.raises(ProtocolError):
        Assembler().feed(struct.pack("<IQ", 2, 10) + struct.pack("<QQ", 3, 3) + bytes(10))


@given(st.binary(max_size=200), st.integers(1, 60))
def test_anything_else_is_refused_or_waits_for_more(data: bytes, pieces: int) -> None:
    try:
        read(Assembler(), data, pieces)
    except ProtocolError:
        pass


def mutated(rng: random.Random) -> bytes:
    """Something like two messages, and something wrong with them."""
    frames = [rng.randbytes(rng.choice([0, 1, 30])) for _ in range(rng.randrange(1, 4))]
    data = bytearray(b"".join(map(bytes, pack(frames))) + b"".join(map(bytes, pack([b"next"]))))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data))
        if rng.random() < 0.5:
            data[at] = rng.randrange(256)
        elif rng.random() < 0.5:
            data[at : at + 8] = rng.choice([b"\xff" * 8, bytes(8), b"\0\0\0\0\1\0\0\0", rng.randbytes(8)])
        else:
            del data[at:]
            data += rng.randbytes(rng.randrange(10))
            break
    return bytes(data)


@pytest.mark.timeout(60 + FUZZ // 1000)
def test_fuzz() -> None:
    rng = random.Random(7)
    before = resident()
    for _ in range(FUZZ):
        try:
            read(Assembler(), mutated(rng), rng.choice([1, 7, 1000]))
        except ProtocolError:
            pass
    assert resident() - before < 64 << 20
