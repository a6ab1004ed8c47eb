"""Which task an engine is in, readable after its death.

Eight bytes of memory that hub and engine both map: the number of the newest task that the engine has started. The engine writes
it before each task, so whatever kills the process, the hub knows which task ran, which had ended and which never began.
Engines on other hosts have none; there the oldest task held counts as the one that ran.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from multiprocessing import reduction
from typing import Any

_NUMBER = struct.Struct("<q")


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
        if fd is None:
            fd = _make_file()
            os.write(fd, _NUMBER.pack(-1))
        self._fd = fd
        self._map = mmap.mmap(fd, _NUMBER.size)

    def __reduce__(self) -> Any:
        # Only on the way into a process that is being started, like a Connection.
        return _arrive, (reduction.DupFd(self._fd),)

    def start(self, seq: int) -> None:
        """Note that this task starts now."""
        _NUMBER.pack_into(self._map, 0, seq)

    @property
    def started(self) -> int:
        """The newest task that was started, -1 before the first."""
        number: int = _NUMBER.unpack_from(self._map, 0)[0]
        return number

    def travelled(self) -> None:
        """The engine has its own: the descriptor is not needed any more, the memory is."""
        os.close(self._fd)

    def close(self) -> None:
        self._map.close()


def _arrive(duplicate: Any) -> Ledger:
    return Ledger(duplicate.detach())
