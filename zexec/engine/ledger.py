"""What an engine did last, readable after its death.

Memory that hub and engine both map, in a file without a name. The engine writes there the number of each task before it starts
it, and each result that it does not send at once. So whatever kills the process, the hub knows which task ran, has the results
of those before it, sent or not, and knows that those after it never began: each task runs once, and one death costs one task.
Engines on other hosts have none; there the oldest task held counts as the one that ran.

::

    [number of the newest task started][bytes of results][stacks][results: fixed part, payload; fixed part, payload; ...]

Why what is read is never half written
  Each of the two numbers is stored by one instruction, and a kill falls between two: a result counts from the moment that the
  second number covers it. That is also why they are written through a memoryview: ``struct.pack_into`` clears first.
"""

from __future__ import annotations

import faulthandler
import mmap
import os
import signal
import struct
import sys
import tempfile
from multiprocessing import reduction
from typing import Any

from zexec.messages import UNMET, ResultRecord

#: The two numbers in front.
_FRONT = 16
_STARTED, _END = 0, 1
#: A result without its payload: number, status, length of the payload, start, seconds.
_RESULT = struct.Struct("=qBIdd")
#: Room for results. Pages of it that nobody writes to take no memory.
ROOM = 1 << 18
#: Payloads from this size on are not kept: their result is sent before the next task starts.
LARGE = 1 << 15
#: Room before them for the stacks of the engine's threads, which are written there at this signal, whatever the engine does,
#: short of being stopped. It is one that hardly anybody uses for anything else.
STACKS, STACK_SIGNAL = 1 << 16, signal.SIGRTMAX - 3
#: where results begin, and how large it all is
_RESULTS = _FRONT + STACKS
_SIZE = _RESULTS + ROOM


def _make_file() -> int:
    """A file without a name: it is gone when nobody has it open."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("zexec-ledger")
    fd, path = tempfile.mkstemp(prefix="zexec-")
    os.unlink(path)
    return fd


class Ledger:
    """One engine's ledger, on the hub's side before and on the engine's after it has travelled to its process."""

    def __init__(self, fd: int | None = None) -> None:
        fresh = fd is None
        if fd is None:
            fd = _make_file()
            os.ftruncate(fd, _SIZE)
        self._fd = fd
        self._map = _map(fd)
        self._numbers = memoryview(self._map)[:_FRONT].cast("q")
        # What ``keep`` needs, at hand: it is called once for nearly every short task.
        self._write = self._map.write
        self._map.seek(_RESULTS)
        self._end = 0
        if fresh:
            self._numbers[_STARTED] = -1

    def __reduce__(self) -> Any:
        # Only on the way into a process that is being started, like a Connection.
        return _arrive, (reduction.DupFd(self._fd),)

    def fileno(self) -> int:
        """The descriptor, on its way into the engine's process."""
        return self._fd

    # -- the engine writes -------------------------------------------------------------------------------------------

    def start(self, seq: int) -> None:
        """Note that this task starts now."""
        self._numbers[_STARTED] = seq

    def keep(self, record: ResultRecord) -> bool:
        """Keep a result that is sent later. False if it cannot be kept: then send it, and all others, now."""
        seq, status, payload, started, seconds = record
        if type(payload) is not bytes or len(payload) >= LARGE:
            return False
        try:
            size = self._write(_RESULT.pack(seq, status, len(payload), started, seconds) + payload)
        except ValueError:
            return False  # it is full
        self._numbers[_END] = self._end = self._end + size
        return True

    def clear(self) -> None:
        """Everything that was kept has been sent."""
        if self._end:
            self._numbers[_END] = self._end = 0
            self._map.seek(_RESULTS)

    def listen(self) -> None:
        """Have the stacks of all threads written down at STACK_SIGNAL: by C code, that needs no interpreter."""
        faulthandler.register(STACK_SIGNAL, file=self._fd, all_threads=True)

    # -- the hub reads, while the engine lives ---------------------------------------------------------------------------

    def ask_for_stacks(self, pid: int) -> None:
        """Have the engine write its stacks down. It shares the place in the file with us: so this is where it begins."""
        self._map[_FRONT:_RESULTS] = bytes(STACKS)
        os.lseek(self._fd, _FRONT, os.SEEK_SET)
        os.kill(pid, STACK_SIGNAL)

    def stacks(self) -> str:
        """What it has written so far."""
        return self._map[_FRONT:_RESULTS].rstrip(b"\0").decode(errors="replace")

    # -- the hub reads, when the engine's process has ended ------------------------------------------------------------

    @property
    def started(self) -> int:
        """The newest task that was started, -1 before the first."""
        return self._numbers[_STARTED]

    def results(self) -> list[ResultRecord]:
        """What was kept and perhaps not sent. Some of it may have been received all the same."""
        records: list[ResultRecord] = []
        data = self._map[_RESULTS : _RESULTS + max(0, min(self._numbers[_END], ROOM))]
        at = 0
        while at + _RESULT.size <= len(data):
            seq, status, size, started, seconds = _RESULT.unpack_from(data, at)
            at += _RESULT.size
            if status > UNMET or at + size > len(data):
                break  # a task has written here
            records.append((seq, status, data[at : at + size], started, seconds))
            at += size
        return records

    # -- both --------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        self._numbers.release()
        self._map.close()
        os.close(self._fd)


def _map(fd: int) -> mmap.mmap:
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, _SIZE, trackfd=False)
    return mmap.mmap(fd, _SIZE)


def _arrive(duplicate: Any) -> Ledger:
    return Ledger(duplicate.detach())
