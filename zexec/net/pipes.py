"""Channels to child processes: a pair of stream sockets for each.

Why not ZeroMQ here, as everywhere else
  It has threads of its own on both sides, so a message takes four more hops between threads: 38 µs there and back against
  14 (median, same run, idle second core). And what an engine has sent may be in its ZeroMQ thread when it is killed. Here a
  message is in the kernel when ``send`` returns, whatever becomes of the sender, and the end of the stream comes after the
  last of it: a death loses no result, and nobody waits to see whether one is still to come. Nothing of it is in the file
  system, so nothing can be left there.

An engine's ends block. The hub's never do: what an engine does not take yet waits in ``_Connection.unsent``.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import Pipe
from typing import Any

from zexec.errors import ProtocolError
from zexec.net.channels import CONTROL, TASKS, Received
from zexec.wire.arena.doors import Lane
from zexec.wire.frames import Message, decode, encode
from zexec.wire.stream import Assembler, pack

#: Bytes per read.
READ = 1 << 16


def _read(fd: int, assembler: Assembler) -> list[list[Any]]:
    """Read once; the messages that completes.

    Raises:
        EOFError: the other side has closed.
        BlockingIOError: nothing is there.
    """
    target = assembler.target
    if target is not None:
        size = os.readv(fd, [target])
        if not size:
            raise EOFError
        return assembler.advance(size)
    data = os.read(fd, READ)
    if not data:
        raise EOFError
    return assembler.feed(data)


class EnginePipe:
    """An engine's end."""

    def __init__(self, fd: int, refer: bool = False) -> None:
        self._fd = fd
        self._refer = Lane() if refer else None
        self._assembler = Assembler()
        self._received: deque[Message] = deque()

    def send(self, message: Message) -> None:
        buffers = pack(encode(message, self._refer))
        while buffers:
            buffers = _rest(buffers, os.writev(self._fd, buffers[:MOST_BUFFERS]))

    def receive(self) -> Message:
        received = self._received
        while not received:
            try:
                received.extend(map(decode, _read(self._fd, self._assembler)))
            except ConnectionResetError:
                raise EOFError from None
        return received.popleft()

    def receive_all(self) -> Iterator[Message]:
        # Called when the descriptor is readable: one read does not block, and what it leaves is announced again.
        while self._received:
            yield self._received.popleft()
        try:
            yield from map(decode, _read(self._fd, self._assembler))
        except ConnectionResetError:
            raise EOFError from None

    def fileno(self) -> int:
        return self._fd

    def pending(self) -> bool:
        return False

    def close(self) -> None:
        os.close(self._fd)


class PipeEnds:
    """An engine's ends on their way into its process: Connections, because those know how to get there."""

    def __init__(self, ends: dict[bytes, Any], others: list[int]) -> None:
        self._ends = ends
        #: descriptors of the hub that a forked engine must not keep open; of no meaning in any other
        self._others = others

    def __getstate__(self) -> dict[str, Any]:
        return {"_ends": self._ends, "_others": []}

    def open(self, letter: bytes, refer: bool) -> EnginePipe:
        return EnginePipe(os.dup(self._ends[letter].fileno()), refer)

    def arrived(self) -> None:
        """In the engine's process, first of all: close the hub's descriptors that fork has copied."""
        for fd in self._others:
            os.close(fd)

    def close(self) -> None:
        for end in self._ends.values():
            end.close()


class _Connection:
    """The hub's end of one channel."""

    __slots__ = ("assembler", "fd", "letter", "open", "refer", "serial", "unsent")

    def __init__(self, letter: bytes, serial: int, fd: int) -> None:
        self.letter = letter
        self.serial = serial
        self.fd = fd
        self.open = True
        self.refer: Lane | None = None
        self.assembler = Assembler()
        #: buffers that the socket has not taken, the first perhaps in part
        self.unsent: list[Any] = []


class PipeHub:
    """The hub's ends of all its engines' channels.

    Args:
        watch, unwatch: called with a descriptor to be watched for reading, or no longer.
        want_write: called with a watched descriptor and whether to be woken when it can be written.
    """

    def __init__(
        self,
        watch: Callable[[int], None],
        unwatch: Callable[[int], None],
        want_write: Callable[[int, bool], None],
    ) -> None:
        self._watch = watch
        self._unwatch = unwatch
        self._want_write = want_write
        self._by_fd: dict[int, _Connection] = {}
        self._by_address: dict[tuple[bytes, int], _Connection] = {}
        self._ends: dict[int, PipeEnds] = {}
        self.damaged = 0
        self.lost: list[int] = []

    def connect(self, serial: int) -> PipeEnds:
        ends = {}
        for letter in (TASKS, CONTROL):
            ours, ends[letter] = Pipe(duplex=True)
            # A bare descriptor: a Connection would close it when it is collected, in a forked child as well.
            fd = os.dup(ours.fileno())
            ours.close()
            os.set_blocking(fd, False)
            connection = _Connection(letter, serial, fd)
            self._by_fd[fd] = self._by_address[letter, serial] = connection
        self._ends[serial] = there = PipeEnds(ends, list(self._by_fd))
        return there

    def started(self, serial: int, refer: bool) -> None:
        self._ends.pop(serial).close()
        for letter in (TASKS, CONTROL):
            connection = self._by_address[letter, serial]
            connection.refer = Lane() if refer else None
            self._watch(connection.fd)

    def send(self, letter: bytes, serial: int, message: Message) -> bool:
        connection = self._by_address.get((letter, serial))
        if connection is None or not connection.open:
            return False
        buffers = pack(encode(message, connection.refer))
        if connection.unsent:
            connection.unsent.extend(buffers)
            return True
        return self._write(connection, buffers)

    def _write(self, connection: _Connection, buffers: list[Any]) -> bool:
        """Write what the socket takes; keep the rest."""
        had = bool(connection.unsent)
        try:
            while buffers:
                buffers = _rest(buffers, os.writev(connection.fd, buffers[:MOST_BUFFERS]))
        except BlockingIOError:
            pass
        except (BrokenPipeError, ConnectionResetError):
            # Whoever reads on will find the end of the stream, after the last that was sent.
            connection.unsent = []
            return False
        connection.unsent = buffers
        if bool(buffers) != had:
            self._want_write(connection.fd, bool(buffers))
        return True

    def receive(self, ready: Iterable[int]) -> list[Received]:
        received: list[Received] = []
        for fd in ready:
            connection = self._by_fd.get(fd)
            if connection is None or not connection.open:
                continue
            if connection.unsent:
                self._write(connection, connection.unsent)
            self._receive(connection, received)
        return received

    def _receive(self, connection: _Connection, received: list[Received]) -> bool:
        """Read once; False if nothing is there any more."""
        try:
            for frames in _read(connection.fd, connection.assembler):
                received.append((connection.letter, connection.serial, decode(frames)))
        except BlockingIOError:
            return False
        except (EOFError, ConnectionResetError, ProtocolError) as e:
            # Something in that process has written where it should not: who knows what else is lost.
            self.damaged += type(e) is ProtocolError
            self.lost.append(connection.serial)
            self._end(connection)
            return False
        return True

    def _end(self, connection: _Connection) -> None:
        connection.open = False
        connection.unsent = []
        self._unwatch(connection.fd)

    def pending(self) -> bool:
        return False

    def is_connected(self, serial: int) -> bool:
        return any(self._by_address[letter, serial].open for letter in (TASKS, CONTROL))

    def disconnect(self, serial: int) -> None:
        ends = self._ends.pop(serial, None)
        if ends is not None:
            ends.close()
        for letter in (TASKS, CONTROL):
            connection = self._by_address.pop((letter, serial))
            if connection.open and ends is None:
                self._end(connection)
            del self._by_fd[connection.fd]
            os.close(connection.fd)

    def close(self) -> None:
        for letter, serial in list(self._by_address):
            if letter == TASKS:
                self.disconnect(serial)


#: Buffers that one writev takes at most (IOV_MAX is 1024 on Linux).
MOST_BUFFERS = 512


def _rest(buffers: list[Any], written: int) -> list[Any]:
    """What is left of buffers of which so many bytes have been written."""
    for i, buffer in enumerate(buffers):
        size = len(buffer)
        if written < size:
            return [memoryview(buffer)[written:], *buffers[i + 1 :]] if written else buffers[i:]
        written -= size
    return []
