"""What happened lately, in few words, for ``story``: bulk entries, bounded by what they weigh."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

#: Entries, and ids of tasks in all of them together, that the log keeps. The newest entry is kept whatever its size.
ENTRIES, IDS = 1_000, 20_000


class Log:
    """The latest events: when, what, which engine's place (or None), which tasks."""

    __slots__ = ("_entries", "_weight")

    def __init__(self) -> None:
        self._entries: deque[tuple[float, str, int | None, Sequence[int]]] = deque()
        self._weight = 0

    def add(self, when: float, what: str, who: int | None, ids: Sequence[int]) -> None:
        entries = self._entries
        entries.append((when, what, who, ids))
        self._weight += len(ids)
        while (self._weight > IDS or len(entries) > ENTRIES) and len(entries) > 1:
            self._weight -= len(entries.popleft()[3])

    def story(self, task_id: int) -> list[tuple[float, str]]:
        """What is known of one task, oldest first."""
        return [
            (when, what if who is None else f"{what} engine {who}")
            for when, what, who, ids in self._entries
            if task_id in ids
        ]
