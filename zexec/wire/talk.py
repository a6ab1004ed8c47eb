"""Messages between clients, hub and engines of a cluster <-> frames: those of ``frames``, and the ones that only clusters have.

::

    [version byte][kind byte][body]  [large payload] [large payload] ...

What comes once per task goes in columns, as in ``frames``; all else is a line of JSON whose fields are held against the types
that ``messages`` names. Nothing here can run code, and nothing is made of a count before that has been held against the
header's length.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Sequence
from functools import cache
from itertools import repeat
from math import isfinite
from typing import Any

from zexec import messages as msg
from zexec.errors import ProtocolError
from zexec.messages import KEEP_GOING, MAP, STARMAP, UNSTORED, Death, Function, Outcome, Task
from zexec.wire import frames as base
from zexec.wire.arena.doors import Lane
from zexec.wire.frames import Frame, _bound, _Extra, _fetch, _start, _stow

#: A pulse is what is sent most often to nobody.
_PULSE, _SUBMIT, _OUTCOMES, _HEARD = _start("P"), _start("s"), _start("o"), _start("d")
_CANCEL, _WITHDRAW, _KEPT, _PLAIN = _start("c"), _start("w"), _start("k"), _start("J")
_NAMED, _STORED = _start("n"), _start("D")


def encode(message: Any, refer: Lane | None = None) -> list[Frame]:
    """Turn a message into frames for one multipart send. ``refer``: as for ``zexec.wire.frames.encode``."""
    kind = type(message)
    pack = _PACK.get(kind)
    if pack is not None:
        extra = _Extra(refer)
        return [b"".join(pack(message, extra)), *extra]
    if kind in _CODES:
        return [_PLAIN + _CODES[kind] + json.dumps(_plain(message), separators=(",", ":")).encode()]
    return base.encode(message, refer)


def decode(parts: Sequence[Frame]) -> Any:
    """Turn the frames of one message back.

    Raises:
        ProtocolError: they are no message of this version.
    """
    try:
        header = parts[0]
        if type(header) is not bytes:
            header = bytes(header)
        unpack = _UNPACK.get(header[:2])
        if unpack is not None:
            return unpack(header, parts)
    except ProtocolError:
        raise
    except Exception as e:
        raise ProtocolError(f"a damaged message: {type(e).__name__}: {e}") from e
    return base.decode([header, *parts[1:]])


# -- plain messages: JSON ----------------------------------------------------------------------------------------------


def _plain(message: Any) -> list[Any]:
    return [_plain(value) if isinstance(value, msg.Peer) else value for value in message]


def _unpack_plain(header: bytes, parts: Sequence[Frame]) -> Any:
    cls = _KINDS.get(header[2:3])
    if cls is None:
        raise ProtocolError(f"a message of unknown kind {header[2:3]!r}")
    return _rebuild(cls, json.loads(header[3:]))


#: what fields may be, by how their annotation is spelled
_TYPES: dict[str, Any] = {"int": int, "str": str, "bool": bool, "float": (int, float), "Any": object}


@cache
def _fields(cls: type) -> list[tuple[str, str]]:
    """Names, and how their annotations are spelled."""
    return [(name, str(getattr(kind, "__forward_arg__", kind))) for name, kind in cls.__annotations__.items()]


def _rebuild(cls: type, values: Any) -> Any:
    wanted = _fields(cls)
    if type(values) is not list or len(values) != len(wanted):
        raise ProtocolError(f"a {cls.__name__} with other fields than it has")
    for i, (name, kind) in enumerate(wanted):
        if kind == "Peer":
            values[i] = _rebuild(msg.Peer, values[i])
        elif not isinstance(values[i], _TYPES[kind]) or (isinstance(values[i], bool) and kind not in ("bool", "Any")):
            raise ProtocolError(f"a {cls.__name__} whose {name} is a {type(values[i]).__name__}")
    return cls(*values)


_KINDS: dict[bytes, type] = {
    b"R": msg.Register,
    b"W": msg.Welcome,
    b"M": msg.Reached,
    b"N": msg.Refused,
    b"L": msg.Leave,
    b"G": msg.Greet,
    b"H": msg.Greeted,
    b"E": msg.Ended,
    b"Q": msg.Ask,
    b"A": msg.Answer,
    b"S": msg.News,
    b"B": msg.Bye,
}
_CODES = {cls: code for code, cls in _KINDS.items()}

# -- submit --------------------------------------------------------------------------------------------------------------

#: numbers of tasks, of digests they name, of functions, of listed strings; bytes of needs; first id; which columns there are
_HEAD = struct.Struct("<IIIIIqB")
_IDS, _SIZES, _OPTIONS, _TIMEOUTS, _TARGETS = 1, 2, 4, 8, 16
_LAST_KIND = MAP | STARMAP | KEEP_GOING
_NO_TIMEOUT = float("inf")


def _pack_submit(m: msg.Submit, extra: _Extra) -> tuple[bytes, ...]:
    tasks = m.tasks
    n = len(tasks)
    first = tasks[0].id
    digests = {digest: i for i, digest in enumerate(dict.fromkeys([task.function.digest for task in tasks]))}
    which = [digests[task.function.digest] for task in tasks] if len(digests) > 1 else ()
    strings: list[Any] = [task.payload for task in tasks]
    strings += digests
    for function in m.functions:
        strings += function.digest, function.payload, function.name.encode()
    lengths, listed = _stow(strings, extra, hand_over=True)
    flags = 0
    columns = [struct.pack(f"<{len(lengths)}I{len(which)}I{len(listed)}I", *lengths, *which, *listed)]
    if tasks[-1].id != first + n - 1 or any(task.id != id for id, task in enumerate(tasks, first)):
        flags |= _IDS
        columns.append(struct.pack(f"<{n}q", *[task.id for task in tasks]))
    if any(task.size != 1 for task in tasks):
        flags |= _SIZES
        columns.append(struct.pack(f"<{n}I", *[task.size for task in tasks]))
    if any(task.priority or task.retries for task in tasks):
        flags |= _OPTIONS
        columns.append(struct.pack(f"<{n}q{n}q", *[t.priority for t in tasks], *[t.retries for t in tasks]))
    if any(task.timeout is not None for task in tasks):
        flags |= _TIMEOUTS
        columns.append(struct.pack(f"<{n}d", *[_NO_TIMEOUT if t.timeout is None else t.timeout for t in tasks]))
    if any(task.targets is not None for task in tasks):
        flags |= _TARGETS
        chosen = [sorted(task.targets) if task.targets is not None else [] for task in tasks]
        flat = [id for ids in chosen for id in ids]
        columns.append(struct.pack(f"<{n}I{len(flat)}q", *map(len, chosen), *flat))
    needs = b"" if m.needs is None else json.dumps(m.needs, separators=(",", ":")).encode()
    return (
        _SUBMIT,
        _HEAD.pack(n, len(digests), len(m.functions), len(listed) // 2, len(needs), first, flags),
        *columns,
        bytes([task.kind for task in tasks]),
        bytes([function.shared | function.spread << 1 for function in m.functions]),
        needs,
        *strings,
    )


class _Columns:
    """Reads columns of numbers off a header, never more than it has."""

    def __init__(self, header: bytes, at: int) -> None:
        self.header = header
        self.at = at

    def take(self, count: int, code: str, size: int) -> tuple[Any, ...]:
        end = self.at + count * size
        _bound(end, self.header)
        numbers = struct.unpack_from(f"<{count}{code}", self.header, self.at)
        self.at = end
        return numbers

    def raw(self, count: int) -> bytes:
        end = self.at + count
        _bound(end, self.header)
        data = self.header[self.at : end]
        self.at = end
        return data


def _unpack_submit(header: bytes, parts: Sequence[Frame]) -> msg.Submit:
    n, d, f, k, size, first, flags = _HEAD.unpack_from(header, 2)
    c = _Columns(header, 2 + _HEAD.size)
    m = n + d + 3 * f
    lengths = c.take(m, "I", 4)
    which = c.take(n if d > 1 else 0, "I", 4)
    listed = c.take(2 * k, "I", 4)
    ids: Any = c.take(n, "q", 8) if flags & _IDS else range(first, first + n)
    sizes: Any = c.take(n, "I", 4) if flags & _SIZES else repeat(1, n)
    priorities: Any = c.take(n, "q", 8) if flags & _OPTIONS else repeat(0, n)
    retries: Any = c.take(n, "q", 8) if flags & _OPTIONS else repeat(0, n)
    timeouts: Any = c.take(n, "d", 8) if flags & _TIMEOUTS else repeat(_NO_TIMEOUT, n)
    targets: Any = repeat(None, n)
    if flags & _TARGETS:
        counts = c.take(n, "I", 4)
        flat = c.take(sum(counts), "q", 8)
        targets, at = [], 0
        for count in counts:
            targets.append(frozenset(flat[at : at + count]) or None)
            at += count
    kinds, shared = c.raw(n), c.raw(f)
    needs = json.loads(c.raw(size)) if size else None
    strings = _fetch(header, c.at, lengths, listed, parts)
    digests = strings[n : n + d]
    functions = [
        Function(digest, payload, str(name, "utf-8", "replace"), bool(flag & 1), bool(flag & 2))
        for digest, payload, name, flag in zip(
            strings[n + d :: 3], strings[n + d + 1 :: 3], strings[n + d + 2 :: 3], shared, strict=True
        )
    ]
    if not n or not d or max(kinds) > _LAST_KIND or None in strings:
        raise ProtocolError("a submit without tasks, or with one that is none")
    if not {type(digest) for digest in (*digests, *(x.digest for x in functions))} <= {bytes}:
        raise ProtocolError("a function without a digest")
    if any(not t > 0 for t in timeouts) if flags & _TIMEOUTS else False:
        raise ProtocolError("a time-out that is none")
    if flags & _OPTIONS and min(retries) < 0:
        raise ProtocolError("a negative number of retries")
    stubs = [Function(digest, b"", "") for digest in digests]
    named = [stubs[i] for i in which] if d > 1 else repeat(stubs[0], n)
    tasks = [
        Task(id, function, kind, payload, size, priority, again, None if t == _NO_TIMEOUT else t, target)
        for id, function, kind, payload, size, priority, again, t, target in zip(
            ids, named, kinds, strings, sizes, priorities, retries, timeouts, targets, strict=False
        )
    ]
    return msg.Submit(tasks, functions, needs)


# -- outcomes --------------------------------------------------------------------------------------------------------------

#: numbers of outcomes and of listed payloads, bytes of details that are no numbers
_MANY = struct.Struct("<III")


def _pack_outcomes(m: msg.Outcomes, extra: _Extra) -> tuple[bytes, ...]:
    n = len(m.outcomes)
    ids, statuses, payloads, details, engines, starts, durations = zip(*m.outcomes, strict=True)
    strings = list(payloads)
    lengths, listed = _stow(strings, extra, hand_over=True)
    # Nearly all details are serials of engines.
    serials = [detail if type(detail) is int else -1 for detail in details]
    told = [
        [i, _plain_detail(detail)] for i, detail in enumerate(details) if detail is not None and type(detail) is not int
    ]
    text = json.dumps(told, separators=(",", ":")).encode() if told else b""
    return (
        _OUTCOMES,
        _MANY.pack(n, len(listed) // 2, len(text)),
        struct.pack(
            f"<{n}q{n}q{n}q{n}d{n}d{n}I{len(listed)}I", *ids, *engines, *serials, *starts, *durations, *lengths, *listed
        ),
        bytes(statuses),
        text,
        *strings,
    )


def _unpack_outcomes(header: bytes, parts: Sequence[Frame]) -> msg.Outcomes:
    n, k, size = _MANY.unpack_from(header, 2)
    c = _Columns(header, 2 + _MANY.size)
    ids, engines, serials = c.take(n, "q", 8), c.take(n, "q", 8), c.take(n, "q", 8)
    starts, durations = c.take(n, "d", 8), c.take(n, "d", 8)
    lengths, listed = c.take(n, "I", 4), c.take(2 * k, "I", 4)
    statuses, text = c.raw(n), c.raw(size)
    payloads = _fetch(header, c.at, lengths, listed, parts)
    if n and (max(statuses) > UNSTORED or not isfinite(sum(starts) + sum(durations))):
        raise ProtocolError("an outcome of unknown status, or with a time that is not finite")
    details: list[Any] = [serial if serial >= 0 else None for serial in serials]
    for i, detail in json.loads(text) if text else ():
        details[i] = _rebuilt_detail(detail)
    return msg.Outcomes(list(zip(ids, statuses, payloads, details, engines, starts, durations, strict=True)))


def _plain_detail(detail: Any) -> Any:
    if isinstance(detail, Death):
        return list(detail)
    return detail if isinstance(detail, float | str) else str(detail)


def _rebuilt_detail(detail: Any) -> Any:
    return Death(*detail) if isinstance(detail, list) else detail


_ID = struct.Struct("<q")


def _pack_heard(m: msg.Heard, extra: _Extra) -> tuple[bytes, ...]:
    if type(m.news) is bytes and len(m.news) < base.INLINE:
        return _HEARD, _ID.pack(m.id), m.news
    extra.append(m.news)
    return _HEARD, _ID.pack(m.id)


def _unpack_heard(header: bytes, parts: Sequence[Frame]) -> msg.Heard:
    (id,) = _ID.unpack_from(header, 2)
    return msg.Heard(id, parts[1] if len(parts) > 1 else header[2 + _ID.size :])


_PACK: dict[type, Callable[[Any, _Extra], tuple[bytes, ...]]] = {
    msg.Submit: _pack_submit,
    msg.Outcomes: _pack_outcomes,
    msg.Cancel: lambda m, x: (_CANCEL, base._pack_lists(m.ids, (1,) if m.running else ())),
    msg.Withdraw: lambda m, x: (_WITHDRAW, base._pack_lists(m.ids)),
    msg.Kept: lambda m, x: (_KEPT, base._pack_lists(m.ids)),
    msg.Heard: _pack_heard,
    msg.Named: lambda m, x: (_NAMED, base._pack_lists(m.ids, (m.base,))),
    msg.Stored: lambda m, x: (_STORED, base._pack_lists(m.seqs)),
    msg.Pulse: lambda m, x: (_PULSE,),
}


def _unpack_named(header: bytes) -> msg.Named:
    ids, (first,) = base._unpack_lists(header)
    return msg.Named(first, ids)


def _unpack_cancel(header: bytes, parts: Sequence[Frame]) -> msg.Cancel:
    ids, running = base._unpack_lists(header)
    return msg.Cancel(ids, bool(running))


_UNPACK: dict[bytes, Callable[[bytes, Sequence[Frame]], Any]] = {
    _SUBMIT: _unpack_submit,
    _OUTCOMES: _unpack_outcomes,
    _CANCEL: _unpack_cancel,
    _WITHDRAW: lambda h, p: msg.Withdraw(base._unpack_lists(h)[0]),
    _KEPT: lambda h, p: msg.Kept(base._unpack_lists(h)[0]),
    _HEARD: _unpack_heard,
    _NAMED: lambda h, p: _unpack_named(h),
    _STORED: lambda h, p: msg.Stored(base._unpack_lists(h)[0]),
    _PULSE: lambda h, p: msg.Pulse(),
    _PLAIN: _unpack_plain,
}

__all__ = ["Outcome", "decode", "encode"]
