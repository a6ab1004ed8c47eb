"""How much memory this process has, and whether that is too much: engines with ``max_memory`` are replaced between tasks."""

from __future__ import annotations

import os

_PAGE = os.sysconf("SC_PAGE_SIZE")

#: To look costs 15 µs: tasks shorter than this, in seconds, are looked at together.
PACE = 0.001


def used() -> int:
    """Bytes that are this process's own: without files that it maps, and without what is shared on purpose."""
    with open("/proc/self/statm", "rb", buffering=0) as file:
        fields = file.read(128).split()
    return (int(fields[1]) - int(fields[2])) * _PAGE


class Limit:
    """Watches over a limit.

    Args:
        most: bytes.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._looked = 0.0

    def check_start(self) -> None:
        """See whether there is any room for tasks.

        Raises:
            MemoryError: there is none.
        """
        has = used()
        if has >= self.most:
            raise MemoryError(f"max_memory is {self.most} bytes, but an engine has {has} before its first task")

    def is_reached(self, now: float) -> bool:
        """Whether it is time to leave, as far as is known at this time (``monotonic()``)."""
        if now - self._looked < PACE:
            return False
        self._looked = now
        return used() >= self.most
