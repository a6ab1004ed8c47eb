"""Channels over ZeroMQ; the only importer of zmq. For engines that are no children of the hub's process.

The hub has one ROUTER; each engine has two DEALERs, one per thread, addressed by the channel's letter and the engine's serial.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import zmq

from zexec.errors import ProtocolError
from zexec.messages import Stop
from zexec.net.channels import CONTROL, TASKS, Received
from zexec.wire.frames import Message, decode, encode

#: ms between attempts to connect: engines may be up before the hub has bound.
RECONNECT = 2
#: ms that unsent results may keep a leaving engine alive.
LINGER = 5_000


def _address(letter: bytes, serial: int) -> bytes:
    """The routing id of an engine's channel."""
    return b"%c%d" % (letter, serial)


def _receive(socket: zmq.Socket[Any], head: int, flags: int = 0) -> list[Any]:
    """One multipart message: ``head`` frames as bytes, large payloads after them as views on what was received."""
    frames: list[Any] = [socket.recv(flags)]
    while socket.getsockopt(zmq.RCVMORE):
        frames.append(socket.recv() if len(frames) < head else socket.recv(copy=False).buffer)
    return frames


def _send(socket: zmq.Socket[Any], frames: list[Any]) -> None:
    last = len(frames) - 1
    for i, frame in enumerate(frames):
        # Always copied into libzmq: handing memory over makes pyzmq start a thread for the whole process to learn when it is
        # free again, which is worth it only where the data is large enough not to travel through a socket at all.
        socket.send(frame, zmq.SNDMORE if i < last else 0)


def _has_message(socket: zmq.Socket[Any]) -> bool:
    """Whether a message is there.

    libzmq signals its descriptor once per change, and any call on the socket may swallow the signal. So after every send and
    receive somebody has to ask here before going to sleep on it.
    """
    return bool(int(socket.getsockopt(zmq.EVENTS)) & zmq.POLLIN)


class EngineSocket:
    """An engine's end, with a context of its own, so that its threads end with it."""

    def __init__(self, endpoint: str, letter: bytes, serial: int, refer: bool) -> None:
        self._refer = refer
        self._context = zmq.Context(io_threads=1)
        self._socket = socket = self._context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, _address(letter, serial))
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)
        socket.setsockopt(zmq.LINGER, LINGER)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.connect(endpoint)

    def send(self, message: Message) -> None:
        _send(self._socket, encode(message, self._refer))

    def receive(self) -> Message:
        return decode(_receive(self._socket, 1))

    def receive_all(self) -> Iterator[Message]:
        while self.pending():
            yield decode(_receive(self._socket, 1))

    def pending(self) -> bool:
        return _has_message(self._socket)

    def fileno(self) -> int:
        return int(self._socket.getsockopt(zmq.FD))

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class SocketEnds:
    """An engine's ends before it exists: where to connect."""

    def __init__(self, endpoint: str, serial: int) -> None:
        self._endpoint = endpoint
        self._serial = serial

    def open(self, letter: bytes, refer: bool) -> EngineSocket:
        return EngineSocket(self._endpoint, letter, self._serial, refer)

    def arrived(self) -> None: ...

    def close(self) -> None: ...


class SocketHub:
    """The hub's end: one ROUTER for all engines.

    Args:
        endpoint: where to bind; None for a socket in a private folder of this machine.
        watch, unwatch: called with a descriptor to be watched for reading, or no longer.
    """

    def __init__(self, endpoint: str | None, watch: Callable[[int], None], unwatch: Callable[[int], None]) -> None:
        self._folder = None
        if endpoint is None:
            self._folder = tempfile.mkdtemp(prefix="zexec-")
            endpoint = f"ipc://{self._folder}/hub"
        self._endpoint = endpoint
        self._unwatch = unwatch
        self._context = zmq.Context(io_threads=1)
        self._socket = socket = self._context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.bind(endpoint)
        self._fd = int(socket.getsockopt(zmq.FD))
        watch(self._fd)
        #: engines whose memory this process can reach, and they this process's
        self._referring: set[int] = set()
        self.damaged = 0
        self.lost: list[int] = []

    def connect(self, serial: int) -> SocketEnds:
        return SocketEnds(self._endpoint, serial)

    def started(self, serial: int, refer: bool) -> None:
        if refer:
            self._referring.add(serial)

    def send(self, letter: bytes, serial: int, message: Message) -> bool:
        try:
            _send(self._socket, [_address(letter, serial), *encode(message, serial in self._referring)])
        except zmq.ZMQError as e:
            if e.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def pending(self) -> bool:
        return _has_message(self._socket)

    def receive(self, ready: Iterable[int]) -> list[Received]:
        received: list[Received] = []
        while self.pending():
            frames = _receive(self._socket, 2, zmq.NOBLOCK)
            sender = frames.pop(0)
            try:
                received.append((sender[:1], int(sender[1:]), decode(frames)))
            except (ProtocolError, ValueError):
                self.damaged += 1
        return received

    def is_connected(self, serial: int) -> bool:
        # A ROUTER says so when it is asked to send there. The connection ends after the last that came through it; and the
        # probe goes to a dead process: nobody reads it.
        probes = {self.send(letter, serial, Stop("probe")) for letter in (TASKS, CONTROL)}
        return True in probes

    def disconnect(self, serial: int) -> None:
        self._referring.discard(serial)

    def close(self) -> None:
        self._unwatch(self._fd)
        self._socket.close()
        self._context.term()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
