"""What a link has told a hub and nothing came of yet: a hub with a store that is killed and comes back is told it again.

Tasks that it had not stored yet it does not know, so they are submitted again. Cancels, and what is remembered for engines that
take a place, no hub stores: they are said again. Questions are asked again; orders are not, for they may have been carried out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from zexec.messages import Ask, Cancel, Outcome, Task

#: What is not asked again of a hub that comes back: it may have been done.
ORDERS = ("resubmit", "signal", "drain", "scale", "shutdown", "purge")


class Unheard:
    """See the module. Belongs to whoever has the link's lock, but for ``ended``, which is the io thread's, and questions."""

    def __init__(self) -> None:
        #: tasks that have not ended, and what they wait for
        self._tasks: dict[int, tuple[Task, Any]] = {}
        #: those of them that were sent to a hub that is gone
        self._doubtful: set[int] = set()
        #: tasks that are to be cancelled, and whether also if they run
        self._cancels: dict[int, bool] = {}
        #: what is to be run by whoever takes a place, by that and a key
        self._rites: dict[tuple[int, int], Task] = {}
        self._questions: dict[int, Ask] = {}

    # -- what is said ------------------------------------------------------------------------------------------------

    def submitted(self, tasks: Sequence[Task], needs: Any) -> None:
        """Tasks are sent to the hub, with what they wait for."""
        self._tasks.update((task.id, (task, needs)) for task in tasks)

    def cancelled(self, ids: Iterable[int], running: bool, open: set[int]) -> None:
        """Tasks are to be cancelled. ``open``: all that have not ended, of which the io thread takes out those that have."""
        for id in ids:
            self._cancels[id] = running or self._cancels.get(id, False)
            if id not in open:
                self.withdrawn(id)

    def withdrawn(self, id: int) -> None:
        """It is not to be cancelled after all."""
        self._cancels.pop(id, None)

    def remembered(self, place: int, key: int, rite: Task | None) -> None:
        """Something is to be run by whoever takes a place, or not any more."""
        if rite is None:
            self._rites.pop((place, key), None)
        else:
            self._rites[place, key] = rite

    def asked(self, question: Ask) -> None:
        """A question is about to be asked."""
        if question.what not in ORDERS:
            self._questions[question.number] = question

    # -- what is heard -----------------------------------------------------------------------------------------------

    def ended(self, outcomes: Sequence[Outcome], refused: Sequence[int]) -> None:
        """These tasks have ended, and those are not cancelled because they run."""
        for outcome in outcomes:
            self._tasks.pop(outcome[0], None)
        if self._cancels:
            for id in (*refused, *(outcome[0] for outcome in outcomes)):
                self._cancels.pop(id, None)

    def answered(self, number: int) -> None:
        """Nobody waits for that answer any more."""
        self._questions.pop(number, None)

    # -- the hub has come back ---------------------------------------------------------------------------------------

    def doubt(self) -> None:
        """All that was sent by now was sent to a hub that is gone."""
        self._doubtful = set(self._tasks)

    def questions(self) -> list[Ask]:
        """Those that have no answer, the newest first."""
        return sorted(self._questions.copy().values(), key=lambda question: -question.number)

    def unknown(self, ids: Iterable[int]) -> Iterator[tuple[list[Task], Any]]:
        """Of the tasks that the hub does not know, those that were sent to the one before: with what they wait for."""
        again = [self._tasks[id] for id in ids if id in self._doubtful and id in self._tasks]
        self._doubtful.clear()
        yield [task for task, needs in again if needs is None], None
        for task, needs in again:
            if needs is not None:
                yield [task], needs

    def rites(self) -> list[tuple[int, int, Task]]:
        """What is to be run by whoever takes a place: that, and a key."""
        return [(place, key, rite) for (place, key), rite in self._rites.items()]

    def cancels(self) -> list[Cancel]:
        """What is to be said again of tasks that are to be cancelled."""
        ids: dict[bool, list[int]] = {False: [], True: []}
        for id, running in self._cancels.copy().items():
            ids[running].append(id)
        return [Cancel(some, running) for running, some in ids.items() if some]
