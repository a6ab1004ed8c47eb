"""Messages <-> frames, without sockets.

A message is one frame of header, then the large payloads as frames of their own::

    [version byte][kind byte][body]  [large payload] [large payload] ...

The body of the frequent kinds is columns of numbers, packed by ``struct``, then the small payloads one after the other: so a
bulk of small tasks is one frame, and what a field may be is settled by its column.

Nothing here can run code, and nothing takes more memory than a small multiple of the bytes that came (below 40): each count is
held against the length of the header before anything is made of it. A pickle could promise neither: one opcode with a
large index makes the C unpickler fill gigabytes. A single small task or result, the stuff of round trips, has a form of its
own, which takes a third of the time. Whatever is wrong with a peer's bytes, ``decode`` raises
ProtocolError; what it returns has the types that ``messages.py`` says, so that nobody behind it needs to look again.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate, pairwise, repeat
from math import inf, isfinite
from typing import Any

from zexec.errors import ProtocolError
from zexec.messages import (
    CHAINED,
    KEEP_GOING,
    MAP,
    STARMAP,
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
from zexec.wire.arena.doors import Lane
from zexec.wire.bundles import Bundle
from zexec.wire.bundles import decode as decode_bundle

VERSION = 3

#: Payloads from this size on travel as frames of their own: below it, copying into the header costs less than a frame.
INLINE = 32 * 1024

Frame = Any  # bytes-like: what a socket takes and gives
Message = Tasks | Results | Revoke | Returned | Interrupt | Signal | Said | Started | Hello | InitFailed | Full | Stop

_LAST_KIND = MAP | STARMAP | KEEP_GOING | CHAINED
_NO_TIMEOUT = inf


def encode(message: Message, refer: Lane | None = None) -> list[Frame]:
    """Turn a message into frames for one multipart send.

    Args:
        message: the message.
        refer: the way to the other side, if that can reach the shared memory that this one can: large data need not be among
            the frames.
    """
    extra = _Extra(refer)
    return [b"".join(_PACK[type(message)](message, extra)), *extra]


class _Extra(list[Frame]):
    """The frames behind the first."""

    __slots__ = ("refer",)

    def __init__(self, refer: Lane | None) -> None:
        self.refer = refer


def decode(frames: Sequence[Frame]) -> Message:
    """Turn the frames of one message back.

    Raises:
        ProtocolError: they are no message of this version.
    """
    try:
        header = frames[0]
        if type(header) is not bytes:
            header = bytes(header)
        unpack = _UNPACK.get(header[:2])
        if unpack is not None:
            return unpack(header, frames)
    except ProtocolError:
        raise
    except Exception as e:
        # No frames, columns that end too early, text that is no UTF-8: it is
        # all the same to us.
        raise ProtocolError(f"a damaged message: {type(e).__name__}: {e}") from e
    raise ProtocolError(
        f"a message that starts with {header[:2]!r}: of another version than {VERSION}, or none of zexec's"
    )


# -- byte strings: behind the columns, or frames of their own --------------------------------------------------------
#
# A column holds their lengths. Those that are not behind the columns count as empty there, and are listed as pairs: which
# one, and the number of its frame, or 0 where there is None instead of a payload. A bundle has _BUNDLE added to the number
# of its first frame.

_BUNDLE = 1 << 31


def _stow(strings: list[Any], extra: _Extra, hand_over: bool = False) -> tuple[list[int], list[int]]:
    """Replace, in place, what does not go behind the columns. All lengths then, and the flat list of those replaced."""
    if set(map(type, strings)) <= {bytes}:
        lengths = list(map(len, strings))
        if not strings or max(lengths) < INLINE:
            return lengths, []
    listed: list[int] = []
    late: list[tuple[int, Any]] = []
    for i, string in enumerate(strings):
        if type(string) is bytes and len(string) < INLINE:
            continue
        strings[i] = b""
        if string is None:
            listed += i, 0
        elif type(string) is Bundle:
            listed += i, len(extra) + 1 | _BUNDLE
            extra += string.encode(extra.refer, hand_over)
        else:
            late.append((i, string))
    # Behind the bundles, whose frames are to stay aligned.
    for i, string in late:
        extra.append(string)
        listed += i, len(extra)
    return list(map(len, strings)), listed


def _fetch(header: bytes, at: int, lengths: Sequence[int], listed: Sequence[int], frames: Sequence[Frame]) -> list[Any]:
    """The byte strings behind the columns, which end at ``at``, and the listed ones."""
    edges = list(accumulate(lengths, initial=at))
    if edges[-1] != len(header):
        raise ProtocolError("a message whose parts do not add up to it")
    strings: list[Any] = [header[a:b] for a, b in pairwise(edges)]
    for i, frame in zip(listed[::2], listed[1::2], strict=True):
        if frame & _BUNDLE:
            strings[i] = decode_bundle(frames, frame ^ _BUNDLE)
        else:
            strings[i] = frames[frame] if frame else None
    return strings


# -- tasks -----------------------------------------------------------------------------------------------------------

#: base; numbers of tasks, digests, functions, digests to forget, listed strings; whether there are time-outs
_TASKS = struct.Struct("<qIIIII?")
#: seq, kind, length of the digest of the one task that is behind it
_TASK = struct.Struct("<qBI")


def _pack_tasks(m: Tasks, extra: _Extra) -> tuple[bytes, ...]:
    tasks = m.tasks
    n, f = len(tasks), len(m.functions)
    if n == 1 and not f and not m.forget:
        digest, kind, payload, timeout = tasks[0]
        if timeout is None and type(payload) is bytes and len(payload) < INLINE:
            return _ONE_TASK, _TASK.pack(m.base, kind, len(digest)), digest, payload
    # A bulk nearly always has one function. If not, its tasks say which of a short list of digests.
    named = [task[0] for task in tasks]
    digests = {digest: i for i, digest in enumerate(dict.fromkeys(named))}
    which = [digests[digest] for digest in named] if len(digests) > 1 else ()
    strings = [task[2] for task in tasks]
    strings += digests
    for digest, payload, _ in m.functions:
        strings += digest, payload
    strings += m.forget
    lengths, listed = _stow(strings, extra)
    timeouts = [task[3] for task in tasks]
    timed = timeouts.count(None) < n
    return (
        _MANY_TASKS,
        _TASKS.pack(m.base, n, len(digests), f, len(m.forget), len(listed) // 2, timed),
        struct.pack(f"<{len(lengths)}I{len(which)}I{len(listed)}I", *lengths, *which, *listed),
        struct.pack(f"<{n}d", *[_NO_TIMEOUT if t is None else t for t in timeouts]) if timed else b"",
        bytes([task[1] for task in tasks]),
        bytes([function[2] for function in m.functions]),
        *strings,
    )


def _unpack_task(header: bytes, frames: Sequence[Frame]) -> Tasks:
    base, kind, length = _TASK.unpack_from(header, 2)
    if kind > _LAST_KIND or length > len(header):
        raise ProtocolError("a task that is none")
    at = 2 + _TASK.size
    return Tasks(base, [(header[at : at + length], kind, header[at + length :], None)], [], [])


def _unpack_tasks(header: bytes, frames: Sequence[Frame]) -> Tasks:
    base, n, d, f, g, k, timed = _TASKS.unpack_from(header, 2)
    m, w = n + d + 2 * f + g, n if d > 1 else 0
    numbers, at = m + w + 2 * k, 2 + _TASKS.size
    _bound(at + 4 * numbers + (8 * n if timed else 0) + n + f, header)
    columns = struct.unpack_from(f"<{numbers}I", header, at)
    at += 4 * numbers
    timeouts: Iterable[float | None] = repeat(None, n)
    if timed:
        timeouts = [_check_timeout(t) for t in struct.unpack_from(f"<{n}d", header, at)]
        at += 8 * n
    kinds, shared = header[at : at + n], header[at + n : at + n + f]
    strings = _fetch(header, at + n + f, columns[:m], columns[m + w :], frames)
    digests, functions, forget = strings[n : n + d], strings[n + d : m - g], strings[m - g :]
    if not {type(digest) for digest in (*digests, *functions[::2], *forget)} <= {bytes} or None in functions:
        raise ProtocolError("a function without a digest or without a payload")
    if n and (max(kinds) > _LAST_KIND or not d):
        raise ProtocolError("a task of unknown kind, or of no function")
    named = [digests[i] for i in columns[m : m + w]] if w else digests * n
    return Tasks(
        base,
        list(zip(named, kinds, strings, timeouts, strict=False)),  # ``strings`` has more than the tasks' own
        list(zip(functions[::2], functions[1::2], map(bool, shared), strict=True)),
        forget,
    )


def _check_timeout(seconds: float) -> float | None:
    if seconds == _NO_TIMEOUT:
        return None
    if not seconds >= 0:
        raise ProtocolError(f"a time-out of {seconds} s")
    return seconds


# -- results ---------------------------------------------------------------------------------------------------------

#: numbers of results and of listed payloads
_RESULTS = struct.Struct("<II")
#: a record without its payload, which is behind it
_RESULT = struct.Struct("<qBdd")


def _pack_results(m: Results, extra: _Extra) -> tuple[bytes, ...]:
    n = len(m.records)
    if n == 1:
        seq, status, payload, started, seconds = m.records[0]
        if type(payload) is bytes and len(payload) < INLINE:
            return _ONE_RESULT, _RESULT.pack(seq, status, started, seconds), payload
    seqs, statuses, payloads, starts, durations = zip(*m.records, strict=True) if n else ((),) * 5
    strings = list(payloads)
    lengths, listed = _stow(strings, extra, hand_over=True)
    return (
        _MANY_RESULTS,
        _RESULTS.pack(n, len(listed) // 2),
        struct.pack(f"<{n}q{n}d{n}d{n}I{len(listed)}I", *seqs, *starts, *durations, *lengths, *listed),
        bytes(statuses),
        *strings,
    )


def _unpack_result(header: bytes, frames: Sequence[Frame]) -> Results:
    seq, status, started, seconds = _RESULT.unpack_from(header, 2)
    if status > UNMET or not isfinite(started + seconds):
        raise ProtocolError(f"a result of status {status} that started at {started} and took {seconds} s")
    return Results([(seq, status, header[2 + _RESULT.size :], started, seconds)])


def _unpack_results(header: bytes, frames: Sequence[Frame]) -> Results:
    n, k = _RESULTS.unpack_from(header, 2)
    at = 2 + _RESULTS.size
    end = at + 28 * n + 8 * k
    _bound(end + n, header)
    columns = struct.unpack_from(f"<{n}q{n}d{n}d{n}I{2 * k}I", header, at)
    statuses = header[end : end + n]
    if n and (max(statuses) > UNMET or not isfinite(sum(columns[n : 3 * n]))):
        raise ProtocolError("a result of unknown status, or with a time that is not finite")
    payloads = _fetch(header, end + n, columns[3 * n : 4 * n], columns[4 * n :], frames)
    return Results(list(zip(columns[:n], statuses, payloads, columns[n : 2 * n], columns[2 * n : 3 * n], strict=True)))


# -- the others ------------------------------------------------------------------------------------------------------

_SEQ = struct.Struct("<q")
_LISTS = struct.Struct("<II")


def _bound(size: int, header: bytes) -> None:
    """Hold what a header says it has against what it is, before anything is made of the former."""
    if size > len(header):
        raise ProtocolError(f"{size} bytes of columns in a header of {len(header)}")


def _unpack_seq(header: bytes) -> int:
    seq: int
    (seq,) = _SEQ.unpack(header[2:])
    return seq


def _pack_lists(one: Sequence[int], other: Sequence[int] = ()) -> bytes:
    n, m = len(one), len(other)
    return _LISTS.pack(n, m) + struct.pack(f"<{n}q{m}q", *one, *other)


def _unpack_lists(header: bytes) -> tuple[list[int], list[int]]:
    n, m = _LISTS.unpack_from(header, 2)
    _bound(8 * (n + m), header)
    numbers = struct.unpack(f"<{n + m}q", header[2 + _LISTS.size :])
    return list(numbers[:n]), list(numbers[n:])


def _unpack_revoke(header: bytes, frames: Sequence[Frame]) -> Revoke:
    seqs, none = _unpack_lists(header)
    if none:
        raise ProtocolError("a revoke with two lists")
    return Revoke(seqs)


#: serial, place, pid, allowance (-1 for none), channel; the host's name follows
_GREETING = struct.Struct("<qqqqc")


def _pack_hello(m: Hello, extra: _Extra) -> tuple[bytes, ...]:
    i = m.info
    allowance = -1 if i.allowance is None else i.allowance
    return _HELLO, _GREETING.pack(i.serial, i.id, i.pid, allowance, m.channel.encode()), i.host.encode()


def _unpack_hello(header: bytes, frames: Sequence[Frame]) -> Hello:
    serial, id, pid, allowance, channel = _GREETING.unpack_from(header, 2)
    if channel not in (b"T", b"C") or allowance < -1:
        raise ProtocolError("a greeting with impossible fields")
    host = str(memoryview(header)[2 + _GREETING.size :], "utf-8")
    return Hello(EngineInfo(serial, id, pid, host, None if allowance < 0 else allowance), channel.decode())


def _start(kind: str) -> bytes:
    return b"%c%c" % (VERSION, ord(kind))


_ONE_TASK, _MANY_TASKS, _ONE_RESULT, _MANY_RESULTS = _start("t"), _start("T"), _start("r"), _start("R")
_REVOKE, _RETURNED, _INTERRUPT, _STARTED = _start("K"), _start("G"), _start("I"), _start("S")
_SIGNAL, _SAID = _start("N"), _start("O")
_HELLO, _INIT_FAILED, _STOP, _FULL = _start("H"), _start("F"), _start("X"), _start("M")

_PACK: dict[type, Callable[[Any, _Extra], tuple[bytes, ...]]] = {
    Tasks: _pack_tasks,
    Results: _pack_results,
    Revoke: lambda m, x: (_REVOKE, _pack_lists(m.seqs)),
    Returned: lambda m, x: (_RETURNED, _pack_lists(m.asked, m.given)),
    Interrupt: lambda m, x: (_INTERRUPT, _SEQ.pack(m.seq)),
    Signal: lambda m, x: (_SIGNAL, _SEQ.pack(m.number)),
    Said: lambda m, x: (_SAID, _SEQ.pack(m.seq), bytes(m.news)),
    Started: lambda m, x: (_STARTED, _SEQ.pack(m.seq)),
    Hello: _pack_hello,
    InitFailed: lambda m, x: (_INIT_FAILED, bytes(m.report or b"")),
    Stop: lambda m, x: (_STOP, m.reason.encode()),
    Full: lambda m, x: (_FULL,),
}
_UNPACK: dict[bytes, Callable[[bytes, Sequence[Frame]], Message]] = {
    _ONE_TASK: _unpack_task,
    _MANY_TASKS: _unpack_tasks,
    _ONE_RESULT: _unpack_result,
    _MANY_RESULTS: _unpack_results,
    _REVOKE: _unpack_revoke,
    _RETURNED: lambda h, f: Returned(*_unpack_lists(h)),
    _INTERRUPT: lambda h, f: Interrupt(_unpack_seq(h)),
    _SIGNAL: lambda h, f: Signal(_unpack_seq(h)),
    _SAID: lambda h, f: Said(_unpack_seq(h[: 2 + _SEQ.size]), h[2 + _SEQ.size :]),
    _STARTED: lambda h, f: Started(_unpack_seq(h)),
    _HELLO: _unpack_hello,
    _INIT_FAILED: lambda h, f: InitFailed(h[2:]),
    _STOP: lambda h, f: Stop(h[2:].decode()),
    _FULL: lambda h, f: Full(),
}
