"""Tasks that may run only on certain engines, and on nobody who takes an engine's place: those that follow others.

What a task follows has left names or open files behind in one process; a replacement has none of that. So a task is *bound* to
engines by their serials. Its ``targets`` are the places of those that are there; when one of them leaves, the task is a
*stray* until somebody looks at it again: it goes to the others that it is bound to, or it can never run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from zexec.messages import Task

#: where a task ran: the place, and the serial of the engine there, or 0 where that is not known
Where = tuple[int, int]


class Following:
    """Who is bound to which engines."""

    __slots__ = ("_serials", "_tasks", "strays")

    def __init__(self) -> None:
        #: by task: the serials of the engines that it may run on, and that have not left
        self._serials: dict[int, set[int]] = {}
        #: by serial: the tasks that are bound to it
        self._tasks: dict[int, dict[int, None]] = {}
        #: tasks to be looked at again
        self.strays: list[int] = []

    def __len__(self) -> int:
        return len(self._serials)

    def __contains__(self, task_id: int) -> bool:
        return task_id in self._serials

    def bind(self, task_id: int, serials: Iterable[int]) -> None:
        """A task may run on these engines only."""
        self._serials[task_id] = set(serials)
        for serial in self._serials[task_id]:
            self._tasks.setdefault(serial, {})[task_id] = None

    def serials(self, task_id: int) -> set[int]:
        """The engines that a bound task may still run on."""
        return self._serials[task_id]

    def bound(self, tasks: Mapping[int, Task]) -> list[Task]:
        """The tasks that are bound to engines."""
        return [tasks[task_id] for task_id in self._serials]

    def lost(self, serial: int) -> None:
        """An engine has left: whoever was bound to it is a stray."""
        for task_id in self._tasks.pop(serial, ()):
            self._serials[task_id].discard(serial)
            self.strays.append(task_id)

    def forbid(self, task_id: int, serial: int) -> None:
        """A bound task is not to run on this engine after all."""
        self._serials[task_id].discard(serial)
        tasks = self._tasks.get(serial, {})
        tasks.pop(task_id, None)
        if not tasks:
            self._tasks.pop(serial, None)

    def ended(self, task_id: int) -> None:
        """A task has ended; it need not have been bound."""
        for serial in list(self._serials.get(task_id, ())):
            self.forbid(task_id, serial)
        self._serials.pop(task_id, None)

    def check(self, open_: Iterable[int], there: Iterable[int]) -> None:
        """Assert what is always true; ``open_``: ids of all open tasks, ``there``: serials of engines that fill places."""
        assert set(self._serials) <= set(open_)
        assert set(self._tasks) <= set(there)
        pairs = {(task, serial) for serial, tasks in self._tasks.items() for task in tasks}
        assert all(self._tasks.values()), "an empty set of tasks is kept"
        assert pairs == {(task, serial) for task, serials in self._serials.items() for serial in serials}
