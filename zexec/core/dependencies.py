"""What waits for other tasks: which, under what condition, and since when that is met or cannot be met any more. Pure.

``after`` says when a task may run, ``follow`` also where: on an engine that ran what it follows. Each end of a parent costs
the number of its children, however many parents those have. A parent is named by its id; whoever submits says which have
ended already, so nothing is remembered here of tasks that nobody waits for. A cycle cannot be made: a task has an id only
once it has been submitted.
"""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import NamedTuple

from zexec.core.following import Where
from zexec.messages import WAITING, Task

#: how a parent ended: whether well, the place of the engine that ran it, or -1, and that engine's serial, or 0 if not known
End = tuple[bool, int, int]


class Condition(NamedTuple):
    """Which ends of which tasks are waited for. Met at once if there are none."""

    ids: frozenset[int]
    all: bool = True  #: of all of them, rather than of one
    success: bool = True  #: a good end counts
    failure: bool = False  #: a bad one does


class Needs(NamedTuple):
    """What a task waits for."""

    after: Condition | None = None
    follow: Condition | None = None
    patience: float | None = None  #: seconds it may wait, None for ever


class _Watch:
    """One condition of one task, and how far it is."""

    __slots__ = ("condition", "engines", "impossible", "left", "met")

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.left = len(condition.ids)  #: parents that have not ended
        self.met = not condition.ids
        self.impossible = ""
        #: where parents ran whose ends count
        self.engines: set[Where] = set()

    def ended(self, parent: int, end: End) -> None:
        ok, place, serial = end
        wanted = self.condition
        self.left -= 1
        if wanted.success if ok else wanted.failure:
            self.engines.add((place, serial))
            self.met = self.met or not wanted.all or not self.left
        elif wanted.all:
            self.impossible = self.impossible or f"task {parent} {'ended well' if ok else 'failed'}"
        elif not self.left and not self.met:
            self.impossible = f"all of its tasks {'ended well' if ok else 'failed'}"


class _Waiting:
    """A task that waits."""

    __slots__ = ("after", "follow", "parents", "patient", "task", "watches")

    def __init__(self, task: Task, needs: Needs) -> None:
        self.task = task
        self.after = after = _Watch(needs.after) if needs.after is not None else None
        self.follow = follow = _Watch(needs.follow) if needs.follow is not None else None
        self.patient = needs.patience is None
        self.watches = [watch for watch in (after, follow) if watch is not None]
        #: the tasks that it waits for, on either account
        self.parents: frozenset[int] = frozenset()
        for watch in self.watches:
            self.parents |= watch.condition.ids


class Dependencies:
    """Tasks that wait for others."""

    __slots__ = ("_children", "_deadlines", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, _Waiting] = {}
        #: by parent that has not ended: who waits for it
        self._children: dict[int, dict[int, None]] = {}
        #: (when, task id): at least one for each that waits and has a limit
        self._deadlines: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Task]:
        return (waiting.task for waiting in self._waiting.values())

    def __contains__(self, task_id: int) -> bool:
        return task_id in self._waiting

    def add(self, now: float, task: Task, needs: Needs, ended: Mapping[int, End]) -> None:
        """Have a task wait; ``ended``: which of its parents have, and how. ``ripe`` says if it need not."""
        waiting = self._waiting[task.id] = _Waiting(task, needs)
        for parent in waiting.parents:
            if parent in ended:
                self._tell(waiting, parent, ended[parent])
            else:
                self._children.setdefault(parent, {})[task.id] = None
        if needs.patience is not None:
            heapq.heappush(self._deadlines, (now + needs.patience, task.id))

    def ended(self, parent: int, end: End) -> list[int]:
        """A task has ended: the ids of those that waited for it."""
        children = self._children.pop(parent, None)
        if children is None:
            return []
        for child in children:
            self._tell(self._waiting[child], parent, end)
        return list(children)

    def heir(self, parent: int) -> Task | None:
        """The first that waits for this task, if it is free to run anywhere and at any time once that one has ended well."""
        children = self._children.get(parent)
        if not children:
            return None
        waiting = self._waiting[next(iter(children))]
        after = waiting.after
        if after is None or waiting.follow is not None or not waiting.patient or waiting.task.state is not WAITING:
            return None
        enough = after.condition.success and not after.impossible and (after.left == 1 or not after.condition.all)
        return waiting.task if enough else None

    def is_met(self, task_id: int) -> bool:
        """Whether a task waits for nothing any more; False also where that can never be."""
        waiting = self._waiting.get(task_id)
        return waiting is not None and all(watch.met and not watch.impossible for watch in waiting.watches)

    def ripe(self, task_id: int) -> tuple[Task, str | None, list[Where] | None] | None:
        """Take a task out if it waits no more.

        Returns:
            it, why it can never run or None, and where it may run, None for anywhere; None if it waits on.
        """
        waiting = self._waiting.get(task_id)
        if waiting is None:
            return None
        why = next((watch.impossible for watch in waiting.watches if watch.impossible), None)
        if why is None and not all(watch.met for watch in waiting.watches):
            return None
        self.drop(task_id)
        task = waiting.task
        if why is not None or waiting.follow is None or not waiting.follow.condition.ids:
            return task, why, None
        where = sorted(place for place in waiting.follow.engines if place[0] >= 0)
        if waiting.follow.condition.all and len(waiting.follow.engines) > 1:
            return task, f"the tasks it follows ran on several engines: {sorted({place for place, _ in where})}", None
        return task, None, where

    def drop(self, task_id: int) -> None:
        """A task waits no more, whatever for."""
        waiting = self._waiting.pop(task_id)
        for parent in waiting.parents:
            children = self._children.get(parent)
            if children is not None:
                children.pop(task_id, None)
                if not children:
                    del self._children[parent]

    def expire(self, now: float) -> list[Task]:
        """Take out those that have waited too long."""
        late = []
        while self._deadlines and self._deadlines[0][0] <= now:
            _, task_id = heapq.heappop(self._deadlines)
            waiting = self._waiting.get(task_id)
            if waiting is not None:
                self.drop(task_id)
                late.append(waiting.task)
        return late

    def next(self) -> float | None:
        """When the earliest has waited too long."""
        while self._deadlines and self._deadlines[0][1] not in self._waiting:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def awaited(self, task_id: int) -> list[int]:
        """The parents that a task still waits for."""
        return sorted(parent for parent in self._waiting[task_id].parents if task_id in self._children.get(parent, ()))

    def check(self, open_: Iterable[int], kept: Container[int] = ()) -> None:
        """Assert what is always true; ``open_``: ids of all open tasks; ``kept``: those that stay here though they need not."""
        known = set(open_)
        assert set(self._waiting) <= known
        pairs = {(parent, child) for parent, children in self._children.items() for child in children}
        assert all(self._children.values()), "an empty set of children is kept"
        assert all(child in self._waiting and parent in self._waiting[child].parents for parent, child in pairs)
        for id, waiting in self._waiting.items():
            if id not in kept:
                assert not any(watch.impossible for watch in waiting.watches), "it waits for what cannot be"
                assert not all(watch.met for watch in waiting.watches), "it waits for nothing"
            for watch in waiting.watches:
                assert watch.left == sum((parent, id) in pairs for parent in watch.condition.ids)

    def _tell(self, waiting: _Waiting, parent: int, end: End) -> None:
        for watch in waiting.watches:
            if parent in watch.condition.ids:
                watch.ended(parent, end)
