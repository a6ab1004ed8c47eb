"""Which task an engine is in, readable after its death.

Eight bytes of a file that hub and engine both map: the number of the newest task that the engine has started. The engine
writes it before each task, so whatever kills the process, the hub knows which task ran, which had ended and which never began.
Engines on other hosts have no such file; there the oldest task held counts as the one that ran.
"""

from __future__ import annotations

import mmap
import os
import struct

_NUMBER = struct.Struct("<q")


class Ledger:
    """One engine's ledger, seen from either side.

    Args:
        path: the file. The hub creates it, and removes it when the engine is gone.
        create: whether this is the hub's side.
    """

    def __init__(self, path: str, create: bool = False) -> None:
        self.path = path
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if create else 0)
        fd = os.open(path, flags | os.O_CLOEXEC, 0o600)
        try:
            if create:
                os.write(fd, _NUMBER.pack(-1))
            self._map = mmap.mmap(fd, _NUMBER.size)
        finally:
            os.close(fd)

    def start(self, seq: int) -> None:
        """Note that this task starts now."""
        _NUMBER.pack_into(self._map, 0, seq)

    @property
    def started(self) -> int:
        """The newest task that was started, -1 before the first."""
        number: int = _NUMBER.unpack_from(self._map, 0)[0]
        return number

    def close(self) -> None:
        self._map.close()

    def remove(self) -> None:
        """Close, and delete the file."""
        self.close()
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass
