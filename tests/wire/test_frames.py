"""Messages survive the wire, and whatever else comes over it is a ProtocolError and nothing more."""

from __future__ import annotations

import os
import pickle
import random
import struct
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.messages import plain
from zexec.errors import ProtocolError
from zexec.messages import (
    ERROR,
    OK,
    UNMET,
    EngineInfo,
    Full,
    Hello,
    InitFailed,
    Interrupt,
    Results,
    Returned,
    Revoke,
    Said,
    Signal,
    Started,
    Stop,
    Tasks,
)
from zexec.wire import frames
from zexec.wire.frames import INLINE, VERSION, decode, encode

FUZZ = int(os.environ.get("ZEXEC_FUZZ", "12000"))

# -- round trips -----------------------------------------------------------------------------------------------------

seqs = st.integers(0, 2**62)
digests = st.binary(min_size=0, max_size=16)
payloads = st.one_of(
    st.binary(max_size=40),
    st.just(b"x" * INLINE),
    st.just(b"y" * (INLINE - 1)),
    st.just(memoryview(b"buffer")),
    st.just(bytearray(b"large" * 10)),
)
seconds = st.floats(0, 1e9)
kinds = st.integers(0, 15)
statuses = st.integers(OK, UNMET)

messages = st.one_of(
    st.builds(
        Tasks,
        seqs,
        st.lists(st.tuples(digests, kinds, st.one_of(payloads, st.none()), st.one_of(st.none(), seconds)), max_size=6),
        st.lists(st.tuples(digests, payloads, st.booleans()), max_size=3),
        st.lists(digests, max_size=3),
    ),
    st.builds(
        Results,
        st.lists(st.tuples(seqs, statuses, st.one_of(payloads, st.none()), seconds, seconds), max_size=6),
    ),
    st.builds(Revoke, st.lists(seqs)),
    st.builds(Returned, st.lists(seqs), st.lists(seqs)),
    st.builds(Interrupt, seqs),
    st.builds(Signal, seqs),
    st.builds(Said, seqs, st.binary()),
    st.builds(Started, seqs),
    st.builds(
        Hello,
        st.builds(EngineInfo, seqs, seqs, seqs, st.text(), st.one_of(st.none(), seqs)),
        st.sampled_from(["T", "C"]),
    ),
    st.builds(InitFailed, st.binary()),
    st.just(Full()),
    st.builds(Stop, st.text(st.characters(exclude_categories=["Cs"]))),
)


@settings(max_examples=300, deadline=None)
@given(messages)
def test_a_message_survives(message: Any) -> None:
    sent = encode(message)
    assert plain(decode(sent)) == plain(message)


@settings(max_examples=100, deadline=None)
@given(messages)
def test_a_message_survives_in_memoryviews(message: Any) -> None:
    """As a stream hands them out that read several frames at once."""
    views = [memoryview(bytes(frame)) for frame in encode(message)]
    assert plain(decode(views)) == plain(message)


def test_large_payloads_are_frames_and_are_not_copied() -> None:
    large = b"x" * INLINE
    header, frame = encode(Results([(0, OK, b"small", 0.0, 0.0), (1, OK, large, 0.0, 0.0)]))
    assert frame is large
    assert len(header) < 200
    received = decode([header, large])
    assert isinstance(received, Results)
    assert received.records[1][2] is large


def test_small_payloads_of_a_bulk_share_one_frame() -> None:
    assert len(encode(Tasks(0, [(b"d", 0, b"payload", None)] * 500, [(b"d", b"function", True)]))) == 1


def test_the_types_that_messages_promise() -> None:
    """A peer cannot say otherwise: the columns settle it."""
    tasks = decode(encode(Tasks(3, [(b"d", 1, b"p", 0.5), (b"e", 0, b"q", None)], [(b"d", b"f", True)], [b"g"])))
    assert isinstance(tasks, Tasks)
    assert type(tasks.base) is int
    assert [list(map(type, task)) for task in tasks.tasks] == [
        [bytes, int, bytes, float],
        [bytes, int, bytes, type(None)],
    ]
    assert [list(map(type, function)) for function in tasks.functions] == [[bytes, bytes, bool]]
    results = decode(encode(Results([(1, ERROR, b"p", 1.0, 2.0), (2, OK, b"q", 1.0, 2.0)])))
    assert isinstance(results, Results)
    assert {tuple(map(type, record)) for record in results.records} == {(int, int, bytes, float, float)}


# -- what is no message ----------------------------------------------------------------------------------------------


def start(kind: str) -> bytes:
    return b"%c%c" % (VERSION, ord(kind))


DAMAGED = {
    "no frame": [],
    "empty frame": [b""],
    "one byte": [b"%c" % VERSION],
    "another version": [b"%c" % (VERSION + 1) + encode(Interrupt(3))[0][1:]],
    "unknown kind": [start("?") + b"123"],
    "an old header, which was a pickle": [b"\x01R" + pickle.dumps([])],
    "status that only the hub gives": encode(Results([(0, UNMET + 1, b"", 0.0, 0.0)])),
    "such a status in a bulk": encode(Results([(0, OK, b"", 0.0, 0.0), (1, UNMET + 1, b"", 0.0, 0.0)])),
    "infinite duration": encode(Results([(0, OK, b"", 0.0, float("inf"))])),
    "no number for a duration": encode(Results([(0, OK, b"", 0.0, float("nan"))])),
    "no number for a duration in a bulk": encode(Results([(i, OK, b"", 0.0, float("nan")) for i in range(2)])),
    "unknown kind of call": encode(Tasks(0, [(b"d", 16, b"", None)])),
    "unknown kind of call in a bulk": encode(Tasks(0, [(b"d", 0, b"", None), (b"d", 16, b"", None)])),
    "negative time-out": encode(Tasks(0, [(b"d", 0, b"", -1.0)])),
    "no number for a time-out": encode(Tasks(0, [(b"d", 0, b"", float("nan"))])),
    "function without a payload": encode(Tasks(0, [], [(b"d", None, True)])),
    "digest without bytes": encode(Tasks(0, [], [(None, b"", True)])),  # type: ignore[list-item]
    "tasks of no function": [start("T") + struct.pack("<qIIIII?", 0, 1, 0, 0, 0, 0, False) + bytes(5)],
    "a frame that did not come": encode(Results([(0, OK, b"x" * INLINE, 0.0, 0.0)]))[:1],
    "greeting with too few fields": [start("H") + struct.pack("<qqq", 1, 0, 1)],
    "greeting on an unknown channel": [start("H") + struct.pack("<qqqqc", 1, 0, 1, -1, b"Z") + b"h"],
    "greeting with an impossible allowance": [start("H") + struct.pack("<qqqqc", 1, 0, 1, -2, b"T") + b"h"],
    "greeting of a host that is no text": [start("H") + struct.pack("<qqqqc", 1, 0, 1, -1, b"T") + b"\xff"],
    "greeting that is no list": [start("H") + b'{"serial": 1}'],
    "greeting nested without end": [start("H") + b"[" * 1_000_000],
    "greeting with a number of a million digits": [start("H") + b"[" + b"9" * 1_000_000 + b"]"],
    "revoke with two lists": [start("K") + encode(Returned([1], [2]))[0][2:]],
    "text that is no UTF-8": [start("X") + b"\xff\xfe"],
    "bytes after a number": [encode(Started(3))[0] + b"x"],
    "bytes after a bulk": [encode(Results([(i, OK, b"", 0.0, 0.0) for i in range(2)]))[0] + b"x"],
    **{
        f"huge count in {kind} at {at}": [start(kind) + bytes(at) + b"\xff\xff\xff\xff" + bytes(60)]
        for kind in "TRKG"
        for at in range(0, 28, 4)
        if at < 8 or kind == "T"
    },
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_is_no_message_is_a_protocol_error(name: str) -> None:
    with pytest.raises(ProtocolError):
        decode(DAMAGED[name])


class Trap:
    """Says so if anything unpickles it."""

    sprung = False

    def __reduce__(self) -> Any:
        return spring, ()


def spring() -> None:
    Trap.sprung = True


PICKLES = [
    pickle.dumps(Trap()),
    b"\x80\x05\x8cbos\x8csystem\x93.",  # GLOBAL
    b"\x80\x02\x82\x01.",  # EXT1
    b"\x80\x02Pid\n.",  # PERSID
    b"\x80\x04}}b.",  # BUILD
    b"\x80\x05\x8e" + struct.pack("<Q", 2**60),  # BINBYTES8
    b"\x80\x05Nr" + struct.pack("<I", 2**31) + b".",  # LONG_BINPUT: a memo of 16 GiB
    b"\x80\x05" + b"(" * 100_000,
    b"\x80\x05" + b"]" * 100_000 + b"a" * 99_999 + b".",
]


@pytest.mark.parametrize("kind", [*"tTrRKGISHFXM"])
def test_pickles_are_not_read(kind: str) -> None:
    for data in PICKLES:
        survives(b"%c%c" % (VERSION, ord(kind)) + data)
    assert not Trap.sprung


def survives(header: bytes, *more: bytes) -> None:
    """Either a message or a ProtocolError; anything else is raised."""
    try:
        message = decode([header, *more])
    except ProtocolError:
        return
    assert type(message) in frames._PACK
    # It is sound: it can be sent on, and means the same again.
    assert plain(decode(encode(message))) == plain(message)


def samples() -> list[bytes]:
    tasks = [(b"digest%d" % (i % 2), i % 8, b"payload" * i, [None, 0.5][i % 2]) for i in range(5)]
    results = [(i, i % 5, b"result" * i, 1.0, 2.0) for i in range(5)]
    valid: list[Any] = [
        Tasks(7, tasks, [(b"digest0", b"function", True)], [b"old"]),
        Tasks(7, tasks[:1]),
        Results(results),
        Results(results[:1]),
        Results([(1, OK, b"x" * INLINE, 1.0, 2.0)]),
        Revoke([1, 2, 3]),
        Returned([1, 2, 3], [2]),
        Started(1),
        Hello(EngineInfo(1, 0, 99, "host", None), "T"),
        InitFailed(b"report"),
        Stop("why"),
    ]
    return [encode(message)[0] for message in valid]


def mutated(rng: random.Random, valid: list[bytes]) -> bytes:
    data = bytearray(rng.choice(valid))
    how = rng.randrange(6)
    if how == 0:
        return bytes(data[: rng.randrange(len(data) + 1)])
    if how == 1:
        return b"%c%c" % (VERSION, rng.choice(b"tTrRKGISHFXM")) + rng.randbytes(rng.randrange(80))
    if how == 2:
        return rng.randbytes(rng.randrange(80))
    if how == 3:  # a number somewhere becomes an extreme one
        at = rng.randrange(2, len(data))
        data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80"])
        return bytes(data)
    if how == 4:
        other = rng.choice(valid)
        return bytes(data[: rng.randrange(len(data))]) + other[rng.randrange(len(other)) :]
    for _ in range(rng.randrange(1, 4)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


@pytest.mark.timeout(60 + FUZZ // 1000)
def test_fuzz() -> None:
    rng = random.Random(20)
    valid = samples()
    for _ in range(FUZZ):
        survives(mutated(rng, valid), b"frame")


def test_memory_is_bounded_by_what_came() -> None:
    """Also for headers that are all counts, where the most is made of the fewest bytes."""
    size = 1 << 20
    headers = [
        start("H") + b"[" + b"[]," * (size // 3),
        start("R") + struct.pack("<II", size // 29, 0) + bytes(size),
        start("R") + struct.pack("<II", 0, size // 8) + bytes(size),
        start("T") + struct.pack("<qIIIII?", 0, size // 5, 1, 0, 0, 0, False) + bytes(size),
        start("T") + struct.pack("<qIIIII?", 0, 0, 0, 0, size // 4, 0, False) + bytes(size),
        start("K") + struct.pack("<II", size // 8, 0) + bytes(size),
        *(start(kind) + bytes(8) + b"\xff\xff\xff\x7f" * 8 + bytes(size) for kind in "TRKG"),
    ]
    for header in headers:
        tracemalloc.start()
        survives_once(header)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 40 * len(header), header[:30]


def survives_once(header: bytes) -> None:
    try:
        decode([header])
    except ProtocolError:
        pass
