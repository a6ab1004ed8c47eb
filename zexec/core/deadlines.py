"""Things that fall due: a heap of (when, what, key), the time passed in."""

from __future__ import annotations

import heapq
from typing import Any


class Deadlines:
    """Deadlines that are never removed; whoever gets one back checks whether it still means anything."""

    __slots__ = ("_count", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, str, Any]] = []
        self._count = 0

    def add(self, when: float, what: str, key: Any) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, what, key))

    def expire(self, now: float) -> list[tuple[str, Any]]:
        """Take out all that are due."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            _, _, what, key = heapq.heappop(self._heap)
            due.append((what, key))
        return due

    def next(self) -> float | None:
        """When the earliest falls due."""
        return self._heap[0][0] if self._heap else None
