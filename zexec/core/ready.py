"""Tasks that wait for an engine: by priority, then in order of arrival.

Taking a task out from the middle (a cancel) is lazy: the task's state changes, and the queue drops it when it comes to the
front. ``len`` counts only tasks that really wait, so the queue is told of each such departure by ``left``.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator

from zexec.messages import WAITING, Task


class ReadyQueue:
    """A queue of waiting tasks, highest priority first."""

    __slots__ = ("_count", "_levels", "_order")

    def __init__(self) -> None:
        #: one deque per priority that has been used
        self._levels: dict[int, deque[Task]] = {}
        #: the keys of _levels, negated and ascending: the first is the highest priority
        self._order: list[int] = []
        #: tasks in state WAITING among all of them
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        for key in self._order:
            for task in self._levels[-key]:
                if task.state is WAITING:
                    yield task

    def extend(self, tasks: Iterable[Task]) -> None:
        """Add at the back, each on its own priority level."""
        level: deque[Task] | None = None
        priority: int | None = None
        count = 0
        for task in tasks:
            if task.priority != priority:
                priority = task.priority
                level = self._level(priority)
            level.append(task)  # type: ignore[union-attr]
            count += 1
        self._count += count

    def put_back(self, tasks: Iterable[Task]) -> None:
        """Add at the front, keeping the given order: these had been taken out before."""
        for task in reversed(list(tasks)):
            self._level(task.priority).appendleft(task)
            self._count += 1

    def pop(self) -> Task:
        """Take the next task.

        Raises:
            IndexError: none waits.
        """
        for key in self._order:
            level = self._levels[-key]
            while level:
                task = level.popleft()
                if task.state is WAITING:
                    self._count -= 1
                    return task
        raise IndexError("no task waits")

    def left(self) -> None:
        """Note that one of the tasks inside is no longer WAITING."""
        self._count -= 1
        if not self._count:
            for level in self._levels.values():
                level.clear()

    def discard(self, task: Task) -> None:
        """Take one waiting task out of the middle, for good: it may come back later. Linear in the queue's length."""
        level = self._levels.get(task.priority)
        if level is not None and task in level:
            level.remove(task)
            self._count -= 1

    def _level(self, priority: int) -> deque[Task]:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
            insort(self._order, -priority)
        return level
