"""What clients and hub say to each other survives the wire, and whatever else comes over it is a ProtocolError."""

from __future__ import annotations

import json
import random
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.helpers.messages import plain
from zexec import messages as msg
from zexec.errors import ProtocolError
from zexec.messages import OK, UNSTORED, Death, Function, Task
from zexec.wire.frames import INLINE, VERSION
from zexec.wire.talk import decode, encode

ids = st.integers(0, 2**62)
payloads = st.one_of(st.binary(max_size=40), st.just(b"x" * INLINE), st.just(memoryview(b"buffer")))
seconds = st.floats(0, 1e9)
texts = st.text(st.characters(exclude_categories=["Cs"]))


def made(cls: Any, *fields: Any) -> Any:
    """The first fields of a message; the others are what they are by default."""
    return st.tuples(*fields).map(lambda values: cls(*values))


functions = st.builds(Function, st.binary(max_size=16), payloads, texts, st.booleans())
peers = made(msg.Peer, ids, texts, texts, texts, texts, seconds)
numbers = st.lists(ids, max_size=20)
plain_data = st.recursive(st.none() | st.booleans() | ids | texts, lambda x: st.lists(x, max_size=3), max_leaves=6)


@st.composite
def submits(draw: Any) -> msg.Submit:
    some = draw(st.lists(functions, min_size=1, max_size=3, unique_by=lambda f: f.digest))
    count = draw(st.integers(1, 6))
    first = draw(st.integers(0, 2**60))
    near = draw(st.booleans())
    tasks = [
        Task(
            first + i if near else draw(ids),
            draw(st.sampled_from(some)),
            draw(st.integers(0, 7)),
            draw(payloads),
            draw(st.sampled_from([1, 1, 7])),
            draw(st.sampled_from([0, 0, -5, 2**40])),
            draw(st.sampled_from([0, 0, 3])),
            draw(st.sampled_from([None, None, 0.5])),
            draw(st.sampled_from([None, None, frozenset({1, 4})])),
        )
        for i in range(count)
    ]
    return msg.Submit(tasks, some, draw(plain_data))


details = st.one_of(
    st.none(),
    ids,
    seconds,
    texts,
    st.builds(Death, st.integers(), st.integers(), texts, st.none() | st.integers(), texts),
)
outcomes = st.tuples(
    ids, st.integers(OK, UNSTORED), st.none() | payloads, details, st.integers(-1, 2**40), seconds, seconds
)
messages = st.one_of(
    submits(),
    made(msg.Outcomes, st.lists(outcomes, min_size=1, max_size=6)),
    made(msg.Cancel, numbers, st.booleans()),
    made(msg.Withdraw, numbers),
    made(msg.Kept, numbers),
    made(msg.Heard, ids, payloads),
    made(msg.Register, peers, texts),
    made(msg.Greet, peers, texts, ids),
    made(msg.Ended, ids, st.booleans(), ids, ids),
    made(msg.Ask, ids, texts, plain_data),
    made(msg.Answer, ids, plain_data, texts),
    made(msg.Bye, st.booleans(), texts),
    st.just(msg.Pulse()),
)


@given(messages)
def test_there_and_back(message: Any) -> None:
    assert plain(decode(encode(message))) == plain(message)


def start(kind: str) -> bytes:
    return b"%c%c" % (VERSION, ord(kind))


BAD: dict[str, bytes] = {
    "nothing": b"",
    "another version": b"\x01J" + b"Q" + json.dumps([1, "x", None]).encode(),
    "unknown kind": start("?"),
    "unknown plain kind": start("J") + b"?[]",
    "too few fields": start("J") + b"Q[1]",
    "too many fields": start("J") + b"Q" + json.dumps([1, "x", None, 4]).encode(),
    "a number for a text": start("J") + b"Q" + json.dumps([1, 5, None]).encode(),
    "a truth for a number": start("J") + b"Q" + json.dumps([True, "x", None]).encode(),
    "an object": start("J") + b'Q{"number": 1}',
    "a peer that is none": start("J") + b"R" + json.dumps([[1, 2], "x"]).encode(),
    "deep": start("J") + b"Q" + b"[" * 100_000,
    "no tasks": start("s") + struct.pack("<IIIIIqB", 0, 0, 0, 0, 0, 0, 0),
    "many tasks": start("s") + struct.pack("<IIIIIqB", 2**32 - 1, 1, 0, 0, 0, 0, 31),
    "an unknown status": start("o") + struct.pack("<IIIqqqddIB", 1, 0, 0, 1, 1, 1, 0.0, 0.0, 0, 200),
    "an endless time": start("o") + struct.pack("<IIIqqqddIB", 1, 0, 0, 1, 1, 1, 0.0, float("inf"), 0, 0),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_message(name: str) -> None:
    with pytest.raises(ProtocolError):
        decode([BAD[name]])


def samples() -> list[bytes]:
    f, g = Function(b"digest0", b"function", "f", True), Function(b"digest1", b"other", "g")
    plain_tasks = [Task(i, f, 0, b"payload") for i in range(5)]
    rich = [Task(i * 3, [f, g][i % 2], i % 8, b"p" * i, 3, i, 1, [None, 2.0][i % 2], frozenset({i})) for i in range(5)]
    valid: list[Any] = [
        msg.Submit(plain_tasks, [f]),
        msg.Submit(rich, [f, g], {"after": None}),
        msg.Outcomes([(i, OK, b"result", None, 1, 1.0, 2.0) for i in range(4)]),
        msg.Outcomes([(1, 6, None, Death(1, 2, "h"), 1, 1.0, 2.0)]),
        msg.Cancel([1, 2], True),
        msg.Ask(1, "status", [1]),
        msg.Heard(5, b"news"),
    ]
    return [encode(message)[0] for message in valid]


def mutated(rng: random.Random, valid: list[bytes]) -> bytes:
    data = bytearray(rng.choice(valid))
    how = rng.randrange(5)
    if how == 0:
        return bytes(data[: rng.randrange(len(data) + 1)])
    if how == 1:
        return b"%c%c" % (VERSION, rng.choice(b"socwkdJP")) + rng.randbytes(rng.randrange(80))
    if how == 2:
        at = rng.randrange(2, len(data))
        data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"])
        return bytes(data)
    if how == 3:
        other = rng.choice(valid)
        return bytes(data[: rng.randrange(len(data))]) + other[rng.randrange(len(other)) :]
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def test_fuzz() -> None:
    """A message or a ProtocolError; and a message can be sent on."""
    rng = random.Random(21)
    valid = samples()
    for _ in range(12_000):
        try:
            message = decode([mutated(rng, valid), b"frame"])
        except ProtocolError:
            continue
        encode(message)


def test_memory_is_bounded_by_what_came() -> None:
    size = 1 << 20
    headers = [
        start("s") + struct.pack("<IIIIIqB", size // 4, 1, 0, 0, 0, 0, 0) + bytes(size),
        start("s") + struct.pack("<IIIIIqB", 1, 1, size // 16, 0, 0, 0, 0) + bytes(size),
        start("s") + struct.pack("<IIIIIqB", size // 32, 1, 0, 0, 0, 0, 31) + bytes(size),
        start("s") + struct.pack("<IIIIIqB", *[2**32 - 1] * 5, 0, 31) + bytes(size),
        start("o") + struct.pack("<III", size // 50, 0, 0) + bytes(size),
        start("o") + struct.pack("<III", *[2**32 - 1] * 3) + bytes(size),
        start("c") + struct.pack("<II", size // 8, 0) + bytes(size),
        start("J") + b'Q[1,"x",[' + b"[]," * (size // 3),
        start("J") + b'Q[1,"x",[' + b"[]," * (size // 3) + b"1]]",
    ]
    for header in headers:
        tracemalloc.start()
        try:
            decode([header])
        except ProtocolError:
            pass
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 * len(header), header[:30]
