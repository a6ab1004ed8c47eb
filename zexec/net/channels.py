"""Sockets that speak messages. With ``zexec.net.loop`` the only user of zmq.

A channel frames, sends and receives; it decides nothing. The hub has one ROUTER; each engine has two DEALERs, one per
thread. An engine's channel is addressed by one letter (T for tasks, C for control) and the engine's serial.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Iterator
from typing import Any

import zmq

from zexec.errors import ProtocolError
from zexec.wire.frames import Message, decode, encode

#: ms between attempts to connect: engines may be up before the hub has bound.
RECONNECT = 2
#: ms that unsent results may keep a leaving engine alive.
LINGER = 5_000


def new_context() -> zmq.Context[Any]:
    """A context of one's own: it ends with its owner, and its threads with it."""
    return zmq.Context(io_threads=1)


def address(letter: bytes, serial: int) -> bytes:
    """The routing id of an engine's channel."""
    return b"%c%d" % (letter, serial)


def _receive(socket: zmq.Socket[Any], head: int, flags: int = 0) -> list[Any]:
    """One multipart message: ``head`` frames as bytes, large payloads after them as views on what was received."""
    frames: list[Any] = [socket.recv(flags)]
    while socket.getsockopt(zmq.RCVMORE):
        frames.append(socket.recv() if len(frames) < head else socket.recv(copy=False).buffer)
    return frames


class EngineChannel:
    """An engine's end. Each belongs to one thread."""

    def __init__(self, context: zmq.Context[Any], endpoint: str, letter: bytes, serial: int) -> None:
        self._socket = socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, address(letter, serial))
        socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT)
        socket.setsockopt(zmq.LINGER, LINGER)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.connect(endpoint)

    def send(self, message: Message) -> None:
        _send(self._socket, encode(message))

    def receive(self) -> Message:
        """The next message; waits for it."""
        return decode(_receive(self._socket, 1))

    def receive_all(self) -> Iterator[Message]:
        """Every message that is there; waits for none."""
        while self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN:
            yield decode(_receive(self._socket, 1))

    def close(self) -> None:
        self._socket.close()

    @property
    def socket(self) -> zmq.Socket[Any]:
        return self._socket


class Waiter:
    """What an engine's io thread sleeps on: its channel, a wake-up, and the end of its parent."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._poller = zmq.Poller()
        self._poller.register(self._read, zmq.POLLIN)

    def watch(self, channel: EngineChannel, sentinel: int | None) -> None:
        self._poller.register(channel.socket, zmq.POLLIN)
        if sentinel is not None:
            self._poller.register(sentinel, zmq.POLLIN)

    def wait(self, ms: int) -> set[Any]:
        """Sleep until something happens; the file descriptors and sockets that are ready."""
        ready = {what for what, _ in self._poller.poll(ms)}
        if self._read in ready:
            try:
                os.read(self._read, 4096)
            except BlockingIOError:
                pass
        return ready

    def wake(self) -> None:
        try:
            os.write(self._write, b"w")
        except BlockingIOError:
            pass

    def close(self) -> None:
        os.close(self._read)
        os.close(self._write)


class HubChannel:
    """The hub's end: one ROUTER for all engines.

    Only one thread receives. Any thread may send, one at a time; the hub's lock sees to that.
    """

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._socket = socket = context.socket(zmq.ROUTER)
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.bind(endpoint)
        #: readable when something may have happened; edge-triggered, see ``pending``
        self.fd: int = socket.getsockopt(zmq.FD)
        #: messages that were none, per kind of complaint
        self.damaged = 0

    def send(self, letter: bytes, serial: int, message: Message) -> bool:
        """Send to one of an engine's channels. False if it is not connected."""
        try:
            _send(self._socket, [address(letter, serial), *encode(message)])
        except zmq.ZMQError as e:
            if e.errno == zmq.EHOSTUNREACH:
                return False
            raise
        return True

    def pending(self) -> bool:
        """Whether a message is there.

        libzmq signals ``fd`` once per change, and any call on the socket may swallow the signal. So after every send and
        receive somebody has to ask here before going to sleep on ``fd``.
        """
        return bool(self._socket.getsockopt(zmq.EVENTS) & zmq.POLLIN)

    def receive(self) -> tuple[bytes, int, Message] | None:
        """The next message with its sender's letter and serial; None if it was none of ours. Call only if one is pending."""
        frames = _receive(self._socket, 2, zmq.NOBLOCK)
        sender = frames.pop(0)
        try:
            return sender[:1], int(sender[1:]), decode(frames)
        except (ProtocolError, ValueError):
            self.damaged += 1
            return None

    def close(self) -> None:
        self._socket.close()


def _send(socket: zmq.Socket[Any], frames: list[Any]) -> None:
    last = len(frames) - 1
    for i, frame in enumerate(frames):
        # Always copied into libzmq: handing memory over makes pyzmq start a thread for the whole process to learn when it is
        # free again, which is worth it only where the data is large enough not to travel through a socket at all.
        socket.send(frame, zmq.SNDMORE if i < last else 0)


class Bell:
    """Wakes a thread that sleeps in ``wait``; any thread may ring, once or often."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._epoll = select.epoll()
        self._epoll.register(self._read, select.EPOLLIN)
        #: keeps a late ring away from a descriptor that is closed, and may be somebody else's by now
        self._lock = threading.Lock()
        self._closed = False

    def watch(self, fd: int) -> None:
        self._epoll.register(fd, select.EPOLLIN)

    def unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)

    def wait(self, timeout: float | None) -> set[int]:
        """Sleep until a watched descriptor is ready or the bell rings; which descriptors are ready."""
        ready = {fd for fd, _ in self._epoll.poll(timeout)}
        if self._read in ready:
            ready.discard(self._read)
            try:
                os.read(self._read, 4096)
            except BlockingIOError:
                pass
        return ready

    def ring(self) -> None:
        with self._lock:
            if self._closed:
                return
            try:
                os.write(self._write, b"r")
            except BlockingIOError:
                pass  # the pipe is full of unheard rings: it will wake

    def close(self) -> None:
        with self._lock:
            self._closed = True
            self._epoll.close()
            os.close(self._read)
            os.close(self._write)
