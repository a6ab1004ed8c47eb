"""Tasks that wait for an engine: by priority, then in order of arrival.

Taking a task out from the middle (a cancel) is lazy: the task's state changes, and the queue drops it when it comes to the
front, or when more such leftovers than tasks lie in it. A task that left that way is settled, so it never comes back.
``len`` counts only tasks that really wait, so the queue is told of each such departure by ``left``.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from zexec.messages import WAITING, Task

#: Leftovers that are always tolerated: sweeping them out costs more than they do.
FEW = 64


class ReadyQueue:
    """A queue of waiting tasks, highest priority first."""

    __slots__ = ("_count", "_gone", "_levels", "_order")

    def __init__(self) -> None:
        #: a deque for each priority that is in use
        self._levels: dict[int, deque[Task]] = {}
        #: the keys of _levels, ascending: the last is served first
        self._order: list[int] = []
        #: tasks in state WAITING among all of them
        self._count = 0
        #: the others: leftovers
        self._gone = 0

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        for priority in reversed(self._order):
            for task in self._levels[priority]:
                if task.state is WAITING:
                    yield task

    def extend(self, tasks: Sequence[Task]) -> None:
        """Add at the back, each on its own priority level."""
        priority: int | None = None
        append = None
        for task in tasks:
            if task.priority != priority or append is None:
                priority = task.priority
                append = self._level(priority).append
            append(task)
        self._count += len(tasks)

    def put_back(self, tasks: Sequence[Task]) -> None:
        """Add at the front, keeping the given order: these had been taken out before."""
        for task in reversed(tasks):
            self._level(task.priority).appendleft(task)
        self._count += len(tasks)

    def head(self) -> Task | None:
        """The next task, left where it is; None if none waits."""
        level = self.front()
        return level[0] if level else None

    def front(self) -> deque[Task] | None:
        """The level that is served now, with a waiting task in front; None if none waits.

        Whoever takes tasks out of it skips those that are not WAITING, and tells ``took``.
        """
        while self._order:
            level = self._levels[self._order[-1]]
            while level:
                if level[0].state is WAITING:
                    return level
                level.popleft()
                self._gone -= 1
            del self._levels[self._order.pop()]
        return None

    def took(self, waiting: int, leftovers: int) -> None:
        """Keep count of what was taken out of ``front``."""
        self._count -= waiting
        self._gone -= leftovers

    def left(self, task: Task) -> None:
        """Note that a task inside is no longer WAITING, and never will be again."""
        self._count -= 1
        self._gone += 1
        if self._gone > self._count + FEW:
            self._sweep()

    def remove(self, task: Task) -> None:
        """Take a task that waits out of the middle. Costs the length of the queue."""
        level = self._levels[task.priority]
        level.remove(task)
        self._count -= 1

    def _sweep(self) -> None:
        waiting = list(self)
        self._levels.clear()
        self._order.clear()
        self._count = self._gone = 0
        self.extend(waiting)

    def _level(self, priority: int) -> deque[Task]:
        level = self._levels.get(priority)
        if level is None:
            level = self._levels[priority] = deque()
            insort(self._order, priority)
        return level


def by_queue(tasks: Iterable[Task]) -> tuple[list[Task], dict[frozenset[int], list[Task]]]:
    """Sort tasks, keeping their order, into those that may run anywhere and those with each set of targets."""
    free: list[Task] = []
    pinned: dict[frozenset[int], list[Task]] = {}
    for task in tasks:
        if task.targets is None:
            free.append(task)
        else:
            pinned.setdefault(task.targets, []).append(task)
    return free, pinned
