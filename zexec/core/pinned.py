"""Tasks with targets that wait: a queue for each set of targets.

So a task is in one queue however many targets it has, and an engine looks into as many queues as there are sets with its
place in them: nearly always one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from zexec.core.ready import ReadyQueue
from zexec.messages import Task


class PinnedQueues:
    """Waiting tasks with targets."""

    __slots__ = ("_count", "_queues", "_sets", "woken")

    def __init__(self) -> None:
        self._queues: dict[frozenset[int], ReadyQueue] = {}
        #: for each place, the keys of _queues that it is in
        self._sets: dict[int, dict[frozenset[int], None]] = {}
        self._count = 0
        #: places where, since somebody last looked, a task or an engine with room may have come
        self.woken: dict[int, None] = {}

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Task]:
        for queue in self._queues.values():
            yield from queue

    def alone(self) -> dict[int, int]:
        """By place, how many tasks wait for that one alone."""
        return {id: len(queue) for targets, queue in self._queues.items() if len(targets) == 1 for id in targets}

    @property
    def places(self) -> dict[int, dict[frozenset[int], None]]:
        """The places that tasks wait for (as keys)."""
        return self._sets

    def add(self, targets: frozenset[int], tasks: Sequence[Task], front: bool = False) -> None:
        """Take in tasks, at the back, or at the front where they had been taken out before."""
        queue = self._queues.get(targets)
        if queue is None:
            queue = self._queues[targets] = ReadyQueue()
            for id in targets:
                self._sets.setdefault(id, {})[targets] = None
            self.woken.update(dict.fromkeys(targets))
        if front:
            queue.put_back(tasks)
        else:
            queue.extend(tasks)
        self._count += len(tasks)

    def best(self, place: int) -> tuple[ReadyQueue, Task] | None:
        """The queue whose first task is next at a place, and that task."""
        found: tuple[ReadyQueue, Task] | None = None
        for targets in self._sets.get(place, ()):
            queue = self._queues[targets]
            task = queue.head()
            assert task is not None  # empty queues are not kept
            if found is None or (-task.priority, task.id) < (-found[1].priority, found[1].id):
                found = queue, task
        return found

    def is_alone(self, place: int) -> bool:
        """Whether a place has just one queue, so that many tasks can be taken from it without comparing."""
        return len(self._sets.get(place, ())) == 1

    def took(self, targets: frozenset[int], count: int) -> None:
        """Note that tasks were taken out of a queue."""
        self._count -= count
        if not self._queues[targets]:
            self._drop(targets)

    def left(self, task: Task) -> None:
        """Note that a task inside is no longer WAITING, and never will be again."""
        assert task.targets is not None
        queue = self._queues[task.targets]
        queue.left(task)
        self._count -= 1
        if not queue:
            self._drop(task.targets)

    def hopeless(self, lost: Iterable[int], has_hope: Callable[[int], bool]) -> list[tuple[frozenset[int], list[Task]]]:
        """Take out the tasks that wait for one of these lost places, and for no place that there is hope for."""
        gone = []
        for targets in {targets: None for id in lost for targets in self._sets.get(id, ())}:
            if not any(map(has_hope, targets)):
                tasks = list(self._queues[targets])
                self._count -= len(tasks)
                self._drop(targets)
                gone.append((targets, tasks))
        return gone

    def remove(self, task: Task) -> None:
        """Take a task that waits out, to be put into another queue."""
        assert task.targets is not None
        queue = self._queues[task.targets]
        queue.remove(task)
        self._count -= 1
        if not queue:
            self._drop(task.targets)

    def _drop(self, targets: frozenset[int]) -> None:
        del self._queues[targets]
        for id in targets:
            sets = self._sets[id]
            del sets[targets]
            if not sets:
                del self._sets[id]
