"""The other side of a door: a client's or an engine's line to its hub, over ZeroMQ.

A line is a connection's life: when that has ended, the line is lost, and whoever wants another makes another. So nothing is ever
sent into a connection that the hub does not know, and no message is lost in between without both sides knowing.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from time import monotonic
from typing import Any

import zmq

from zexec.errors import ClusterError
from zexec.messages import Reached
from zexec.net.cards import Card
from zexec.net.doors import is_ready, read_event, receive_payloads, send_frames, tune
from zexec.wire.arena import doors
from zexec.wire.arena.doors import Address, Lane
from zexec.wire.bundles import LARGE, plain_memory
from zexec.wire.talk import decode, encode

#: ms between attempts to connect.
RECONNECT = 20
#: ms that what was not sent yet may take when a line is closed.
LINGER = 2_000
#: Bytes of a payload from which on its parts' memory is given back at once.
TRIMMED = 1 << 26
#: Seconds that a hub may take to look at large data that was sent last.
PATIENCE = 60.0

_UP, _LOST = zmq.EVENT_HANDSHAKE_SUCCEEDED, zmq.EVENT_DISCONNECTED
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL


def whole(pieces: Any) -> Any:
    """A payload in one, for whoever unpickles it: as it came, or in memory that is aligned if it may be that of arrays."""
    frames = pieces.frames
    if len(frames) == 1 and len(frames[0]) < LARGE:
        return frames[0].buffer
    data = plain_memory(len(pieces))
    at = 0
    frames.reverse()
    while frames:
        frame = frames.pop()  # each is let go as soon as it has been copied
        data[at : at + len(frame)] = frame.buffer
        at += len(frame)
    if at >= TRIMMED:
        _give_back()
    return data


def _give_back() -> None:
    """Return the memory of what has been let go of to the system, which the C library keeps if it came in many small parts."""
    import ctypes

    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)


class Line:
    """One connection to a hub. Belongs to one thread at a time.

    Args:
        card: whom to call.
        address: how the hub is to know this line.

    Raises:
        ClusterError: the hub cannot be reached from here.
    """

    def __init__(self, card: Card, address: bytes) -> None:
        self.endpoint = card.reachable()[0]
        self._context = zmq.Context(io_threads=1)
        self._socket = socket = self._context.socket(zmq.DEALER)
        tune(socket)
        socket.setsockopt(zmq.ROUTING_ID, address)
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)
        socket.setsockopt(zmq.LINGER, LINGER)
        if self.endpoint.startswith("tcp:"):
            socket.setsockopt(zmq.IPV6, 1)
            if card.server_key:
                socket.setsockopt(zmq.CURVE_SERVERKEY, card.server_key.encode())
                socket.setsockopt(zmq.CURVE_PUBLICKEY, card.public_key.encode())
                socket.setsockopt(zmq.CURVE_SECRETKEY, card.secret_key.encode())
        self._monitor = socket.get_monitor_socket(_UP | _LOST | _REFUSED)
        self._monitor.setsockopt(zmq.LINGER, 0)
        #: both descriptors in one
        self._epoll = select.epoll()
        self._epoll.register(int(socket.getsockopt(zmq.FD)), select.EPOLLIN)
        self._epoll.register(int(self._monitor.getsockopt(zmq.FD)), select.EPOLLIN)
        #: why nothing will come any more, or ""
        self.lost = ""
        self._stood = False
        #: the way of large data to the hub, if that can reach this process's memory
        self.lane: Lane | None = None
        socket.connect(self.endpoint)

    def send(self, message: Any) -> None:
        send_frames(self._socket, encode(message, self.lane))

    def receive(self) -> Any:
        """The next message; waits for it, for ever if the line is lost meanwhile."""
        return self._receive()

    def receive_within(self, seconds: float) -> Any:
        """The next message; waits for it.

        Raises:
            ClusterError: none comes in that time, or the line is lost.
        """
        until = monotonic() + seconds
        while True:
            for message in self.receive_all():
                return message
            left = until - monotonic()
            if left <= 0:
                raise ClusterError(f"no answer from {self.endpoint} in {seconds:g} s")
            self._epoll.poll(left)

    def receive_all(self) -> Iterator[Any]:
        """Every message that is there; waits for none.

        Raises:
            EOFError: the line is lost, and all that came through it has been had.
        """
        lost = self._is_lost()  # asked first: what came before the end is there now
        while is_ready(self._socket):
            yield self._receive()
        if lost:
            raise EOFError(self.lost)

    def _receive(self) -> Any:
        socket = self._socket
        header = socket.recv()
        if not socket.getsockopt(zmq.RCVMORE):
            return decode([header])
        return decode([header, *map(whole, receive_payloads(socket))])

    def _is_lost(self) -> bool:
        while not self.lost and is_ready(self._monitor):
            event, _ = read_event(self._monitor)
            if event & _UP:
                self._stood = True
            elif event & _REFUSED:
                self.lost = f"{self.endpoint} does not accept the key in the connection file, or has just ended"
            elif self._stood:
                self.lost = f"the connection to {self.endpoint} has ended"
        return bool(self.lost)

    def wait(self, seconds: float | None) -> None:
        """Wait until a message, or the end, may be there."""
        self._epoll.poll(seconds)

    def fileno(self) -> int:
        """Readable when a message, or the end, may be there."""
        return self._epoll.fileno()

    def pending(self) -> bool:
        """Whether a message, or the end, is there that the descriptor will not announce again.

        To be asked before each sleep: a monitor that nobody has found empty announces nothing.
        """
        return is_ready(self._socket) or is_ready(self._monitor)

    def meet(self, answer: Any, home: Address | None) -> bool:
        """Agree with the hub on shared memory, when it has welcomed this process. Whether each can reach the other's.

        Args:
            answer: its welcome.
            home: what it was told of this process's.
        """
        if home is None:
            return False
        if answer.reached:
            self.lane = Lane()
        reaches = answer.home is not None and doors.find(answer.home)
        if reaches:
            self.send(Reached())
        return reaches and self.lane is not None

    def close(self, linger: int | None = None, patience: float = PATIENCE) -> None:
        """Hang up.

        Args:
            linger: ms that what was not sent yet may take.
            patience: seconds that the hub may take to look at large data that was sent last.
        """
        if self.lane is not None:
            self.lane.close(0.0 if self.lost or linger == 0 else patience)
        self._socket.disable_monitor()
        self._monitor.close()
        self._socket.close(linger)
        self._epoll.close()
        self._context.term()
