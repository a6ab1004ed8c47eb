"""Messages <-> frames, without sockets.

A message is one frame of header, then the large payloads as frames of their own::

    [version byte][kind byte][plain-data pickle of the fields]  [large payload] [large payload] ...

Small payloads stand inside the header, so that a bulk of small tasks is one frame. The header is decoded by an unpickler
that resolves no name, so that it can build numbers, strings, bytes and containers of those, and run nothing. Whatever is
wrong with the bytes of a peer raises ProtocolError.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from zexec.errors import ProtocolError
from zexec.messages import (
    EngineInfo,
    Hello,
    InitFailed,
    Interrupt,
    Results,
    Returned,
    Revoke,
    Started,
    Stop,
    Tasks,
)

VERSION = 1

#: Payloads from this size on travel as frames of their own: below it, copying into the header costs less than a frame.
INLINE = 32 * 1024

Frame = Any  # bytes-like: what a socket takes and gives
Message = Tasks | Results | Revoke | Returned | Interrupt | Started | Hello | InitFailed | Stop


class _PlainUnpickler(pickle.Unpickler):
    """Reads plain data only."""

    def find_class(self, module: str, name: str) -> Any:
        raise ProtocolError(f"a header names {module}.{name}; headers hold plain data only")


def encode(message: Message) -> list[Frame]:
    """Turn a message into frames for one multipart send."""
    kind, pack = _PACK[type(message)]
    extra: list[Frame] = []
    body = pack(message, extra)
    return [b"%c%c%b" % (VERSION, kind, pickle.dumps(body, 5)), *extra]


def decode(frames: Sequence[Frame]) -> Message:
    """Turn the frames of one message back.

    Raises:
        ProtocolError: they are no message of this version.
    """
    if not frames:
        raise ProtocolError("a message without frames")
    header = frames[0]
    try:
        if len(header) < 3 or header[0] != VERSION:
            raise ProtocolError(f"a message of another version than {VERSION}, or none of zexec's")
        unpack = _UNPACK.get(header[1])
        if unpack is None:
            raise ProtocolError(f"a message of unknown kind {header[1]}")
        body = _PlainUnpickler(io.BytesIO(memoryview(header)[2:])).load()
        return unpack(body, frames)
    except ProtocolError:
        raise
    except Exception as e:
        # Hostile or damaged bytes can make an unpickler raise anything at all; to us it is all the same.
        raise ProtocolError(f"a damaged message: {type(e).__name__}: {e}") from e


# -- payloads: inside the header, or the number of a frame -----------------------------------------------------------


def _stow(payload: Any, extra: list[Frame]) -> Any:
    if type(payload) is bytes and len(payload) < INLINE:
        return payload
    if payload is None:
        return None
    extra.append(payload)
    return len(extra)


def _fetch(payload: Any, frames: Sequence[Frame]) -> Any:
    if type(payload) is int:
        if not 0 < payload < len(frames):
            raise ProtocolError(f"a payload in frame {payload} of {len(frames)}")
        return frames[payload]
    return payload


def _pack_tasks(m: Tasks, extra: list[Frame]) -> Any:
    tasks = [(f, kind, p if type(p) is bytes and len(p) < INLINE else _stow(p, extra), t) for f, kind, p, t in m.tasks]
    functions = [(digest, _stow(payload, extra), shared) for digest, payload, shared in m.functions]
    return m.base, tasks, functions, list(m.forget)


def _unpack_tasks(body: Any, frames: Sequence[Frame]) -> Tasks:
    base, tasks, functions, forget = body
    if len(frames) > 1:
        tasks = [(f, kind, _fetch(p, frames), t) for f, kind, p, t in tasks]
        functions = [(digest, _fetch(p, frames), shared) for digest, p, shared in functions]
    return Tasks(base, tasks, functions, forget)


def _pack_results(m: Results, extra: list[Frame]) -> Any:
    return [
        (seq, status, p if type(p) is bytes and len(p) < INLINE else _stow(p, extra), t0, dt)
        for seq, status, p, t0, dt in m.records
    ]


def _unpack_results(body: Any, frames: Sequence[Frame]) -> Results:
    if len(frames) > 1:
        body = [(seq, status, _fetch(p, frames), t0, dt) for seq, status, p, t0, dt in body]
    elif any(len(record) != 5 for record in body):
        raise ProtocolError("a result record that is none")
    return Results(body)


def _unpack_hello(body: Any, frames: Sequence[Frame]) -> Hello:
    *info, channel = body
    return Hello(EngineInfo(*info), channel)


_Pack = Callable[[Any, list[Frame]], Any]
_Unpack = Callable[[Any, Sequence[Frame]], Message]

_CODECS: list[tuple[str, type, _Pack, _Unpack]] = [
    ("T", Tasks, _pack_tasks, _unpack_tasks),
    ("R", Results, _pack_results, _unpack_results),
    ("K", Revoke, lambda m, x: (list(m.seqs),), lambda b, f: Revoke(*b)),
    ("G", Returned, lambda m, x: (list(m.asked), list(m.given)), lambda b, f: Returned(*b)),
    ("I", Interrupt, lambda m, x: (m.seq,), lambda b, f: Interrupt(*b)),
    ("S", Started, lambda m, x: (m.seq,), lambda b, f: Started(*b)),
    (
        "H",
        Hello,
        lambda m, x: (m.info.serial, m.info.id, m.info.pid, m.info.host, m.info.allowance, m.channel),
        _unpack_hello,
    ),
    ("F", InitFailed, lambda m, x: (_stow(m.report, x),), lambda b, f: InitFailed(_fetch(b[0], f))),
    ("X", Stop, lambda m, x: (m.reason,), lambda b, f: Stop(*b)),
]
_PACK: dict[type, tuple[int, _Pack]] = {cls: (ord(kind), pack) for kind, cls, pack, _ in _CODECS}
_UNPACK: dict[int, _Unpack] = {ord(kind): unpack for kind, _, _, unpack in _CODECS}
