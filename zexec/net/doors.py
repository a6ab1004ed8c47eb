"""The hub's side of ZeroMQ: doors that peers come to, known by an address each. And who is let in.

A door is one ROUTER for each kind of transport: sockets in the file system are open to whoever gets at them, a private folder
sees to that; TCP is always CURVE, and asks ``Keys`` whether it knows the other side's.

When a connection ends
  The monitor of the ROUTER says so, by descriptor, at once if the peer's process or machine says goodbye, after ``SILENCE`` if it
  has gone without a word: libzmq sends heartbeats by itself, so neither side's Python has to. Descriptors are used again, so this
  is only a hint: whoever came through that descriptor is probed, with a message that means nothing, and is gone when the
  ROUTER has no way to it any more. That it says only after the last that came from it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Any

import zmq
from zmq.utils import z85

from zexec.errors import ClusterError, ProtocolError
from zexec.messages import Pulse
from zexec.wire.arena.doors import Lane
from zexec.wire.talk import decode, encode

#: Payloads larger than this travel in pieces of this size: so nobody ever holds one twice, encrypted and not.
PIECE = 1 << 20
#: A single frame larger than this is nobody's who speaks as we do.
LARGEST_FRAME = 1 << 28
#: ms without any sign of a peer after which it counts as gone, and between heartbeats. A cable may be out for 10 s.
SILENCE = int(1000 * float(os.environ.get("ZEXEC_SILENCE", "25")))
BEAT = max(100, SILENCE // 5)
#: Seconds that a suspect is probed for.
SUSPICION = 1.0
#: Messages that one ``receive`` takes in at most, so that nobody waits behind a peer that talks without end.
BULK = 500
#: ms that a leaving hub's last words may take.
LINGER = 500

_PULSE = encode(Pulse())[0]
_EVENT = struct.Struct("=HI")


@dataclass
class Keys:
    """A hub's own keys and those that it lets in, Z85."""

    public: str
    secret: str
    client: str
    engine: str

    @staticmethod
    def pair() -> tuple[str, str]:
        """A new pair: public, secret."""
        public, secret = zmq.curve_keypair()
        return public.decode(), secret.decode()


class Pieces:
    """A large payload that passes through, in the pieces in which it came."""

    __slots__ = ("frames",)

    def __init__(self, frames: list[Any]) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return sum(map(len, self.frames))

    def __bytes__(self) -> bytes:
        return b"".join(frame.buffer for frame in self.frames)


def send_frames(socket: zmq.Socket[Any], frames: list[Any], address: bytes | None = None) -> None:
    """One multipart message. A payload ends with its first piece that is shorter than PIECE."""
    last = len(frames) - 1
    if address is not None:
        socket.send(address, zmq.SNDMORE)
    if not last:
        socket.send(frames[0])
        return
    socket.send(frames[0], zmq.SNDMORE)
    for i, frame in enumerate(frames[1:], 1):
        more = zmq.SNDMORE if i < last else 0
        if type(frame) is Pieces:
            end = len(frame.frames) - 1
            for j, piece in enumerate(frame.frames):
                # A frame that was received is handed on by reference.
                socket.send(piece, zmq.SNDMORE if j < end else more, copy=False)
            continue
        view = memoryview(frame)
        if view.format != "B" or view.ndim != 1:
            view = view.cast("B")
        at = 0
        while len(view) - at >= PIECE:
            socket.send(view[at : at + PIECE], zmq.SNDMORE)
            at += PIECE
        socket.send(view[at:], more)


def receive_payloads(socket: zmq.Socket[Any]) -> list[Pieces]:
    """What follows a header."""
    payloads = []
    pieces: list[Any] = []
    more = True
    while more:
        frame = socket.recv(copy=False)
        more = bool(frame.more)
        pieces.append(frame)
        if len(frame) < PIECE:
            payloads.append(Pieces(pieces))
            pieces = []
    if pieces:
        raise ProtocolError("a payload without an end")
    return payloads


def skip(socket: zmq.Socket[Any]) -> None:
    """Read the rest of a message and forget it."""
    while socket.getsockopt(zmq.RCVMORE):
        socket.recv(copy=False)


def is_ready(socket: zmq.Socket[Any]) -> bool:
    """Whether a message is there. libzmq signals its descriptor once per change, and any call may swallow that."""
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


def tune(socket: zmq.Socket[Any]) -> None:
    """What both sides of every connection have in common."""
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.HEARTBEAT_IVL, BEAT)
    socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, SILENCE)
    socket.setsockopt(zmq.MAXMSGSIZE, LARGEST_FRAME)


def read_event(monitor: zmq.Socket[Any]) -> tuple[int, int]:
    """An event of a monitor, and its value."""
    frames = monitor.recv_multipart()
    event, value = _EVENT.unpack(frames[0])
    return event, value


def make_context() -> Any:
    """What all doors of a process share: libzmq's thread."""
    return zmq.Context(io_threads=1)


class Guard:
    """Answers libzmq's question whether a key may come in (ZAP, ZeroMQ's RFC 27). Needs no thread: the hub's loop calls it."""

    def __init__(self, context: zmq.Context[Any], keys: Keys) -> None:
        self._allowed = {b"clients": z85.decode(keys.client), b"engines": z85.decode(keys.engine)}
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind("inproc://zeromq.zap.01")
        self.refused = 0

    def fileno(self) -> int:
        return int(self._socket.getsockopt(zmq.FD))

    def answer(self) -> None:
        """Answer all that is asked."""
        while is_ready(self._socket):
            version, number, domain, _, _, mechanism, *credentials = self._socket.recv_multipart()
            known = self._allowed.get(domain)
            good = version == b"1.0" and mechanism == b"CURVE" and known is not None and credentials == [known]
            self.refused += not good
            code, text = (b"200", b"OK") if good else (b"400", b"this key is not known here")
            self._socket.send_multipart([b"1.0", number, code, text, b"", b""])

    def close(self) -> None:
        self._socket.close()


class Door:
    """Where one kind of peers connects.

    Args:
        context: all sockets' of the process.
        domain: the kind, as ``Guard`` knows it.
        endpoints: where to bind. TCP may leave the port open, as ``*``.
        keys: for TCP.
        watch: called with descriptors to be watched for reading.

    Raises:
        ClusterError: an endpoint cannot be had.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        domain: str,
        endpoints: Iterable[str],
        keys: Keys | None,
        watch: Callable[[int], None],
    ) -> None:
        self.endpoints: list[str] = []
        #: messages that were none, and who has sent one: until somebody takes them out
        self.damaged = 0
        self.spoilt: list[bytes] = []
        self._sockets: list[zmq.Socket[Any]] = []
        self._monitors: list[zmq.Socket[Any]] = []
        #: by the address of each peer: the socket it came through, and the descriptor
        self._peers: dict[bytes, tuple[zmq.Socket[Any], int]] = {}
        self._by_fd: dict[int, set[bytes]] = {}
        self._suspects: dict[bytes, float] = {}
        #: ways of large data to peers that can reach this process's memory
        self._lanes: dict[bytes, Lane] = {}
        try:
            for endpoint in endpoints:
                self._open(context, domain, endpoint, keys, watch)
        except BaseException:
            self.close()
            raise

    def _open(
        self, context: zmq.Context[Any], domain: str, endpoint: str, keys: Keys | None, watch: Callable[[int], None]
    ) -> None:
        socket = context.socket(zmq.ROUTER)
        self._sockets.append(socket)
        tune(socket)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.LINGER, LINGER)
        socket.setsockopt(zmq.BACKLOG, 4096)
        if endpoint.startswith("tcp:"):
            socket.setsockopt(zmq.IPV6, 1)
            if keys is not None:
                socket.setsockopt(zmq.CURVE_SERVER, 1)
                socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret.encode())
                socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
        monitor = socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        monitor.setsockopt(zmq.LINGER, 0)
        self._monitors.append(monitor)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as e:
            raise ClusterError(f"the hub cannot listen at {endpoint}: {e.strerror}") from None
        self.endpoints.append(socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode())
        watch(int(monitor.getsockopt(zmq.FD)))
        watch(int(socket.getsockopt(zmq.FD)))

    def send(self, address: bytes, message: Any) -> bool:
        """Send to a peer. False if there is no way to it."""
        peer = self._peers.get(address)
        if peer is None:
            return False
        return self._send(peer[0], address, encode(message, self._lanes.get(address)))

    def share(self, address: bytes) -> None:
        """From now on large data goes to this peer by reference: it can reach the memory where that is."""
        self._lanes.setdefault(address, Lane())

    def _send(self, socket: zmq.Socket[Any], address: bytes, frames: list[Any]) -> bool:
        try:
            send_frames(socket, frames, address)
        except zmq.ZMQError as e:
            if e.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    def pending(self) -> bool:
        """Whether something has come that no descriptor will announce again."""
        return any(map(is_ready, self._sockets))

    def receive(self) -> list[tuple[bytes, Any]]:
        """Messages that have come, with the address of who sent each."""
        received: list[tuple[bytes, Any]] = []
        for socket in self._sockets:
            for _ in range(BULK):
                if not is_ready(socket):
                    break
                address = socket.recv()
                try:
                    if not socket.getsockopt(zmq.RCVMORE):
                        raise ProtocolError("a message of nothing")
                    received.append((address, self._receive(socket, address)))
                except ProtocolError:
                    self.damaged += 1
                    skip(socket)
                    if address in self._peers:
                        self.spoilt.append(address)
        return received

    def _receive(self, socket: zmq.Socket[Any], address: bytes) -> Any:
        if address in self._peers:
            header = socket.recv()
        else:
            frame = socket.recv(copy=False)
            try:
                fd = int(frame.get(zmq.SRCFD))
            except zmq.ZMQError as e:
                raise ProtocolError("a first message of a peer that has gone") from e
            self._peers[address] = socket, fd
            self._by_fd.setdefault(fd, set()).add(address)
            header = frame.bytes
        if not socket.getsockopt(zmq.RCVMORE):
            return decode([header])
        return decode([header, *receive_payloads(socket)])

    def gone(self) -> list[bytes]:
        """Addresses of peers whose connection has ended, and from whom nothing will come any more.

        To be asked before each sleep: a monitor that nobody has found empty announces nothing.
        """
        for monitor in self._monitors:
            while is_ready(monitor):
                _, value = read_event(monitor)
                until = monotonic() + SUSPICION
                self._suspects.update(dict.fromkeys(self._by_fd.get(value, ()), until))
        lost = []
        for address, until in list(self._suspects.items()):
            if address not in self._peers:
                del self._suspects[address]
            elif not self.is_connected(address):
                lost.append(address)
                self.forget(address)
            elif until < monotonic():
                del self._suspects[address]  # somebody else's descriptor
        return lost

    @property
    def suspicious(self) -> bool:
        """Whether ``gone`` has to be asked again soon."""
        return bool(self._suspects)

    def is_connected(self, address: bytes) -> bool:
        """Whether there is still a way to a peer."""
        peer = self._peers.get(address)
        return peer is not None and self._send(peer[0], address, [_PULSE])

    def forget(self, address: bytes) -> None:
        """Let go of a peer."""
        _, fd = self._peers.pop(address, (None, -1))
        self._suspects.pop(address, None)
        lane = self._lanes.pop(address, None)
        if lane is not None:
            lane.close()
        others = self._by_fd.get(fd)
        if others is not None:
            others.discard(address)
            if not others:
                del self._by_fd[fd]

    def close(self) -> None:
        for socket in self._sockets:
            socket.disable_monitor()
            socket.close()
        for monitor in self._monitors:
            monitor.close()
        self._sockets.clear()
        self._monitors.clear()
