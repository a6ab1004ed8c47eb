"""A scheduler and a test's hand on it: each event is told by hand, each decision is looked at."""

from __future__ import annotations

from typing import Any

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.invariants import check
from zexec.core.scheduler import Scheduler
from zexec.messages import CALL, OK, Death, Function, ResultRecord, Task

SHORT, LONG = 1e-5, 0.5
F, G = Function(b"f", b"", "f"), Function(b"g", b"", "g")


class Desk:
    """``desk.s`` is the scheduler; engines of the first generation have serials 1, 2 ... for places 0, 1 ..."""

    def __init__(self, places: int = 2, up: bool = True, **options: Any) -> None:
        self.now = 10.0
        self.s = Scheduler(places, **options)
        self.ids = iter(range(1_000_000))
        self.actions: list[act.Action] = []
        if not self.s.on_demand:
            self.s.begin()
        self.decide()
        if up:
            for serial in list(self.s.fleet.engines):
                self.up(serial)
        self.clear()

    # -- events ------------------------------------------------------------------------------------------------------

    def tell(self, event: ev.Event) -> list[act.Action]:
        """Tell it and let it decide; the actions."""
        self.s.handle(self.now, event)
        check(self.s)
        return self.decide()

    def decide(self) -> list[act.Action]:
        new = self.s.decide(self.now)
        check(self.s, decided=True)
        self.actions += new
        return new

    def submit(self, count: int = 1, function: Function = F, **options: Any) -> list[Task]:
        if options.get("targets") is not None:
            options["targets"] = frozenset(options["targets"])
        tasks = [Task(next(self.ids), function, CALL, b"", **options) for _ in range(count)]
        self.tell(ev.Submitted(tasks))
        return tasks

    def up(self, serial: int) -> list[act.Action]:
        return self.tell(ev.EngineUp(serial, self.s.fleet.engines[serial].id))

    def down(self, serial: int, started: int | None = -1) -> list[act.Action]:
        return self.tell(ev.EngineDown(serial, Death(serial - 1, 1, "here"), started))

    def ran(self, serial: int, *seqs: int, status: int = OK, seconds: float = SHORT) -> list[act.Action]:
        records: list[ResultRecord] = [(seq, status, b"", 0.0, seconds) for seq in seqs]
        return self.tell(ev.Ran(serial, records))

    def later(self, seconds: float) -> list[act.Action]:
        """Let time pass; a Tick only if one is due, as a host does it."""
        self.now += seconds
        due = self.s.next_deadline()
        return self.tell(ev.Tick()) if due is not None and due <= self.now else self.decide()

    def learn(self, seconds: float, function: Function = F, serial: int = 1) -> None:
        """Have one task of a function run, so that the cost of the next is known. All engines are idle before and after."""
        (task,) = self.submit(1, function, targets={self.s.fleet.engines[serial].id})
        self.ran(serial, task.seq, seconds=seconds)
        self.clear()

    # -- what it decided ---------------------------------------------------------------------------------------------

    def clear(self) -> None:
        self.actions.clear()

    def all(self, kind: type) -> list[Any]:
        return [action for action in self.actions if type(action) is kind]

    @property
    def sent(self) -> list[tuple[int, list[int]]]:
        """(serial, ids of tasks) of each Send, in order."""
        return [(a.serial, [task.id for task in a.tasks]) for a in self.all(act.Send)]

    @property
    def settled(self) -> dict[int, int]:
        """Status of each task that was settled."""
        statuses = {a.task.id: a.status for a in self.all(act.Settle)}
        for bulk in self.all(act.SettleBulk):
            statuses.update((task.id, record[1]) for task, record in bulk.pairs)
        return statuses

    @property
    def taken_back(self) -> list[tuple[int, list[int]]]:
        return [(a.serial, a.seqs) for a in self.all(act.TakeBack)]

    @property
    def killed(self) -> list[int]:
        return [a.serial for a in self.all(act.KillEngine)]

    @property
    def started(self) -> list[tuple[int, int]]:
        """(place, serial) of each StartEngine."""
        return [(a.id, a.serial) for a in self.all(act.StartEngine)]


def ids(tasks: list[Task]) -> list[int]:
    return [task.id for task in tasks]
