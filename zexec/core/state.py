"""What the scheduler knows, and the only ways to change a task."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from zexec.core import actions as act
from zexec.core.costs import Costs
from zexec.core.deadlines import Deadlines
from zexec.core.dependencies import Dependencies
from zexec.core.engines import UP, Engine
from zexec.core.fleet import Fleet
from zexec.core.following import Following
from zexec.core.log import Log
from zexec.core.pinned import PinnedQueues
from zexec.core.ready import ReadyQueue, by_queue
from zexec.core.sharing import FairQueue
from zexec.messages import CANCELLED, NO_ENGINE, REVOKING, SENT, SETTLED, UNMET, WAITING, Death, Task

#: Which state may follow which. ``_move`` enforces it.
TRANSITIONS: dict[str, frozenset[str]] = {
    WAITING: frozenset({SENT, SETTLED}),
    SENT: frozenset({REVOKING, WAITING, SETTLED}),
    REVOKING: frozenset({SENT, WAITING, SETTLED}),
    SETTLED: frozenset(),
}

#: How long an interrupted task may go on, or an engine owe the answer to a cancel by force, before the engine is replaced.
GRACE = 1.0

NOBODY = "all engines were shut down"


class InvalidTransition(RuntimeError):
    """A bug in the scheduler: a task was to go where it cannot. The message tells its story."""


class State:
    """The facts that all decisions go by. ``Scheduler`` is one; its rooms change it, and each task only by the methods here."""

    def __init__(
        self,
        places: int,
        *,
        on_demand: bool = False,
        allowance: int | None = None,
        break_on_death: bool = False,
        elastic: bool = False,
    ) -> None:
        self.places = places
        self.elastic = elastic
        #: places that will be filled again when they are vacant (elastic)
        self.promised: set[int] = set(range(places)) if elastic else set()
        self.on_demand = on_demand
        self.allowance = allowance
        self.break_on_death = break_on_death
        self.closing = False
        self.terminated = False
        self.finished = False
        #: why nothing can run any more, or None
        self.broken: Any = None
        #: all open tasks: every state but SETTLED
        self.tasks: dict[int, Task] = {}
        self.fleet = Fleet(places)
        self.ready = self.new_queue()
        #: those that wait and have targets
        self.pinned = PinnedQueues()
        #: those that wait for other tasks, also where they have been sent behind the last of those: see chains
        self.depending = Dependencies()
        #: such that have come back from an engine, to be looked at again
        self.unchained: list[int] = []
        #: what whoever takes a place runs first, by place and key; their runs have ids below 0
        self.rites: dict[int, dict[int, Task]] = {}
        self.rites_run = 0
        #: engines that have come up where something is remembered, and have not been sent it: all of it, or only these keys
        self.newcomers: dict[Engine, set[int] | None] = {}
        #: those that may run only on certain engines
        self.following = Following()
        self.costs = Costs()
        self.deadlines = Deadlines(self.is_held)
        self.failed_starts = 0
        self.has_been_up = False
        self.fruitless_lives = 0
        #: tasks of an earlier life of the hub that an engine may come back with: see claims
        self.unclaimed: dict[int, Task] = {}
        #: until when, and the places of those engines
        self.claims_end: float | None = None
        self.reserved: set[int] = set()
        #: which of them are not to be run if nobody comes with them, and why
        self.doomed: dict[int, Death] = {}
        #: ids of open tasks that are to be stopped even if they run
        self.hard: set[int] = set()
        self.actions: list[act.Action] = []
        self.log = Log()

    def new_queue(self) -> ReadyQueue:
        """For tasks that may run anywhere. Where engines come by themselves, so do clients."""
        return FairQueue() if self.elastic else ReadyQueue()

    def move(self, task: Task, state: str) -> None:
        if state not in TRANSITIONS[task.state]:
            raise InvalidTransition(f"{task!r} cannot become {state}; its story: {self.log.story(task.id)}")
        task.state = state

    def settle(
        self, now: float, task: Task, status: int, *, detail: Any = None, engine: int = -1, serial: int = 0
    ) -> None:
        self.log.add(now, "settled without a result", None, (task.id,))
        self.close_task(task)
        self.actions.append(act.Settle(task, status, None, detail, engine, serial=serial))

    def settle_each(self, now: float, tasks: Iterable[Task], status: int, detail: Any) -> None:
        for task in tasks:
            self.settle(now, task, status, detail=detail)

    def close_task(self, task: Task) -> None:
        self.move(task, SETTLED)
        task.cancelling = False
        del self.tasks[task.id]
        self.hard.discard(task.id)
        if self.depending and task.id in self.depending:
            self.depending.drop(task.id)
        if self.following:
            self.following.ended(task.id)
        if self.unclaimed:
            self.unclaimed.pop(task.id, None)

    def may_retry(self, task: Task, status: int) -> bool:
        """Whether a task that failed runs again. Somebody who wants it cancelled is told of the failure instead."""
        if status in (CANCELLED, UNMET) or task.attempts >= task.retries:
            return False
        return not (task.cancelling or task.id in self.hard or self.broken)

    def retry(self, now: float, task: Task) -> None:
        task.attempts += 1
        self.log.add(now, f"attempt {task.attempts} failed, tried again", None, (task.id,))

    def enqueue(self, now: float, tasks: Sequence[Task]) -> None:
        """Have tasks wait for an engine, at the back of the queue."""
        free, with_targets = by_queue(tasks)
        self.ready.extend(free)
        for targets, some in with_targets.items():
            self.pin(now, targets, some)

    def requeue(self, now: float, tasks: Sequence[Task]) -> None:
        """Back to the front of the queue, in the given order; or to those that wait for others."""
        for task in tasks:
            self.move(task, WAITING)
        if self.depending:
            chained = [task.id for task in tasks if task.id in self.depending]
            if chained:
                self.unchained += chained
                tasks = [task for task in tasks if task.id not in self.depending]
        free, with_targets = by_queue(tasks)
        if free and self.is_empty:
            self.settle_each(now, free, NO_ENGINE, NOBODY)
        else:
            self.ready.put_back(free)
        for targets, some in with_targets.items():
            self.pin(now, targets, some, front=True)
        if self.following:
            self.following.strays += [task.id for task in tasks if task.id in self.following]

    def pin(self, now: float, targets: frozenset[int], tasks: list[Task], front: bool = False) -> None:
        """Queue tasks with these targets, or settle them if there are none such."""
        if any(map(self.exists, targets)):
            self.pinned.add(targets, tasks, front)
        else:
            self.settle_each(now, tasks, NO_ENGINE, self.no_engine(targets))

    def exists(self, id: int) -> bool:
        """Whether there is such a place."""
        return 0 <= id < self.places and id not in self.fleet.closed

    @property
    def open_places(self) -> list[int]:
        """The places that are filled, or will be."""
        if self.elastic:
            return sorted(self.promised | self.fleet.filled.keys())
        closed = self.fleet.closed
        return [id for id in range(self.places) if id not in closed]

    @property
    def is_empty(self) -> bool:
        """Whether no place is left, and none will come."""
        return len(self.fleet.closed) == self.places and not self.elastic

    def no_engine(self, targets: Iterable[int]) -> str:
        """Say that there are no such engines, and which there are."""
        places = self.open_places
        if not places:
            return f"no engine {sorted(targets)}: {NOBODY}"
        few = len(places) <= 20 or places[-1] - places[0] + 1 != len(places)
        which = ", ".join(map(str, places)) if few and self.fleet.closed else f"{places[0]} to {places[-1]}"
        return f"no engine {sorted(targets)}: there are {which}"

    def stir(self, now: float, engine: Engine, task: Task, status: int) -> None:
        task.expired = status
        engine.stirred.add(task.seq)
        self.log.add(now, "interrupted on", engine.id, (task.id,))
        self.actions.append(act.Stir(engine.serial, task.seq))
        self.deadlines.add(now + GRACE, "stirred", engine.serial, task.seq)

    def kill(self, engine: Engine, reason: str) -> None:
        """Have it ended. It gets nothing more and its place is filled anew; what it holds is decided when it is gone."""
        engine.condemned = True
        self.leave(engine)
        self.actions.append(act.KillEngine(engine.serial, reason))

    def leave(self, engine: Engine) -> None:
        """It fills its place no more, and nobody is to count on it."""
        self.fleet.leave(engine)
        if self.following:
            self.following.lost(engine.serial)

    def sort(self, engine: Engine) -> None:
        if self.fleet.sort(engine) and engine.id in self.pinned.places:
            self.pinned.woken[engine.id] = None

    def settle_down(self, engine: Engine) -> None:
        """After a change of what an engine holds: let it leave if it has run all it may, or else sort it in."""
        if not engine.held and engine.state is UP and (engine.allowance == 0 or engine.draining):
            self.retire(engine)
        else:
            self.sort(engine)

    def retire(self, engine: Engine) -> None:
        """An engine has run all it may: let it leave."""
        self.leave(engine)
        self.actions.append(act.StopEngine(engine.serial))

    def is_held(self, serial: int, seq: int) -> bool:
        engine = self.fleet.engines.get(serial)
        return engine is not None and seq in engine.held

    def is_eager(self) -> bool:
        """Whether a task that is taken back would run at once."""
        return bool(self.fleet.idle or (self.on_demand and self.fleet.vacant))

    def start(self, id: int) -> None:
        engine = self.fleet.start(id, self.allowance)
        self.actions.append(act.StartEngine(id, engine.serial))
