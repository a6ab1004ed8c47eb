"""A desk whose tasks wait for others, and whose engines are honest about what they were to run only after another."""

from __future__ import annotations

from typing import Any

from tests.helpers.desk import Desk, F, ids
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.dependencies import Condition, Needs
from zexec.messages import CALL, OK, Task


class Waiters(Desk):
    """A desk that also submits tasks after others."""

    def after(self, *parents: Task, where: bool = False, patience: float | None = None, **how: Any) -> Task:
        """A task after these; ``where``: on their engine."""
        targets = how.pop("targets", None)
        condition = Condition(frozenset(ids(list(parents))), **how)
        needs = Needs(None if where else condition, condition if where else None, patience)
        task = Task(next(self.ids), F, CALL, b"", targets=None if targets is None else frozenset(targets))
        ended = {id: (status == OK, -1, 0) for id, status in self.settled.items()}
        self.tell(ev.SubmittedAfter(task, needs, ended))
        return task

    def serve(self, serial: int, status: int = OK) -> None:
        """An engine runs what it was sent, but for what is chained to something that has failed."""
        chained = {
            seq
            for a in self.all(act.Send)
            if a.serial == serial and a.chained
            for seq in range(a.base, a.base + len(a.tasks))
        }
        held = list(self.s.fleet.engines[serial].held)
        ran: list[int] = []
        for seq in held:
            if seq not in chained or (status == OK and (seq - 1 in ran or seq - 1 not in held)):
                ran.append(seq)
        self.ran(serial, *ran, status=status)
        given = [seq for seq in held if seq not in ran]
        if given:
            self.tell(ev.GaveBack(serial, given, given))

    def run_all(self, status: int = OK) -> None:
        """Engines run what they were sent until nothing is left."""
        while self.s.tasks:
            before = len(self.settled)
            for serial, engine in list(self.s.fleet.engines.items()):
                if engine.held:
                    self.serve(serial, status)
            assert len(self.settled) > before, [self.s.explain(id) for id in self.s.tasks]


def sent(desk: Desk) -> list[int]:
    return [id for _, tasks in desk.sent for id in tasks]
