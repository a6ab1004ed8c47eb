"""Things that fall due: a heap of (when, what, serial, seq), the time passed in."""

from __future__ import annotations

import heapq
from collections.abc import Callable

#: Entries below which nobody looks for meaningless ones.
FEW = 64


class Deadlines:
    """Deadlines of what an engine holds under a number.

    They are not taken out when they lose their meaning. But each time the heap has doubled, those without one are dropped: a
    service that runs short tasks with a time-out of an hour would collect millions.

    Args:
        alive: whether an engine (by serial) still holds that number.
    """

    __slots__ = ("_alive", "_count", "_heap", "_limit")

    def __init__(self, alive: Callable[[int, int], bool]) -> None:
        self._alive = alive
        self._heap: list[tuple[float, int, str, int, int]] = []
        self._count = 0
        self._limit = FEW

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, when: float, what: str, serial: int, seq: int) -> None:
        if len(self._heap) >= self._limit:
            self._heap = [entry for entry in self._heap if self._alive(entry[3], entry[4])]
            heapq.heapify(self._heap)
            self._limit = max(FEW, 2 * len(self._heap))
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, what, serial, seq))

    def expire(self, now: float) -> list[tuple[str, int, int]]:
        """Take out all that are due and still mean something: what, serial, seq."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            _, _, what, serial, seq = heapq.heappop(self._heap)
            if self._alive(serial, seq):
                due.append((what, serial, seq))
        return due

    def next(self) -> float | None:
        """When the earliest falls due."""
        return self._heap[0][0] if self._heap else None
