"""Fakes for tests: a cluster in simulated time around a real scheduler. No process, socket, thread or clock.

A `Simulation` performs what the scheduler decides on fake engines that take as long as each task is said to take, with a
latency for each message, and moves its own clock from one event to the next. So a test of scheduling takes no time and gives
the same result each time::

    sim = Simulation(4)
    sim.submit([1, 2, 1, 10, 3])
    assert sim.run() == ...
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.dependencies import Condition, Needs
from zexec.core.scheduler import Scheduler
from zexec.messages import CALL, ERROR, OK, Death, Function, ResultRecord, Task

#: One way, in seconds, as measured between a hub and a local engine.
LATENCY = 1e-4
#: A result waits at most this long for others to share its message, as in zexec.engine.
FLUSH = 1e-3
#: Status of an engine's result when its task was interrupted: the engine sees an exception like any other.
INTERRUPTED = ERROR


@dataclass
class Ran:
    """One run of a task: where, from when to when, and how it ended there."""

    task: int
    engine: int
    start: float
    end: float
    status: int


@dataclass
class FakeEngine:
    """An engine as the simulation knows it."""

    serial: int
    id: int
    sim: Simulation
    queue: deque[tuple[int, Task]] = field(default_factory=deque)
    running: tuple[int, Task] | None = None
    began: float = 0.0
    started: int = -1
    unsent: list[ResultRecord] = field(default_factory=list)
    runs: int = 0  #: counts changes of what it runs, so that the end of an interrupted run is known to be void
    gone: bool = False
    frozen: bool = False  #: answers nothing, as if stopped by SIGSTOP
    chained: set[int] = field(default_factory=set)  #: numbers to run only if the one before has ended well here
    good: int = -1  #: number of the newest that has

    def take(self, base: int, tasks: Sequence[Task], chained: bool = False) -> None:
        self.queue.extend(enumerate(tasks, base))
        if chained:
            self.chained.update(range(base, base + len(tasks)))
        self._next()

    def _next(self) -> None:
        if self.running is not None or self.gone:
            return
        while self.queue and self.queue[0][0] in self.chained and self.good != self.queue[0][0] - 1:
            seq, _ = self.queue.popleft()
            self._flush()
            self._say(ev.GaveBack(self.serial, [seq], [seq]))
        if not self.queue:
            return
        seq, task = self.running = self.queue.popleft()
        self.started, self.began = seq, self.sim.now
        self.runs += 1
        run = self.runs
        if task.timeout is not None:
            self._say(ev.Running(self.serial, seq))
        duration, outcome = self.sim.plans[task.id]
        self.sim.after(duration, lambda: self._end(outcome) if run == self.runs else None)

    def _end(self, outcome: int | str) -> None:
        assert self.running is not None
        if self.gone or self.frozen:
            return
        if outcome == "die":
            self.die()
            return
        seq, task = self.running
        assert isinstance(outcome, int)
        now = self.sim.now
        self.sim.history.append(Ran(task.id, self.id, self.began, now, outcome))
        if not self.unsent:
            self.sim.after(FLUSH, self._flush)
        self.unsent.append((seq, outcome, b"", self.began, now - self.began))
        if outcome == OK:
            self.good = seq
        self.running = None
        self.runs += 1
        if not self.queue:
            self._flush()
        self._next()

    def _flush(self) -> None:
        if self.unsent and not self.gone:
            self._say(ev.Ran(self.serial, self.unsent))
            self.unsent = []

    def _say(self, event: ev.Event) -> None:
        self.sim.after(self.sim.latency, lambda: self.sim.tell(event))

    def give_back(self, asked: Sequence[int]) -> None:
        if not self.frozen and not self.gone:
            given = [seq for seq, _ in self.queue if seq in set(asked)]
            self.queue = deque(item for item in self.queue if item[0] not in set(given))
            self._say(ev.GaveBack(self.serial, asked, given))

    def interrupt(self, seq: int) -> None:
        if self.running is not None and self.running[0] == seq and self.sim.interruptible(self.running[1]):
            self._end(INTERRUPTED)

    def die(self) -> None:
        """End without a word. What it had not sent is lost; what it ran is known to the hub."""
        if not self.gone:
            self.gone = True
            self.sim.deaths.append(self.id)
            death = Death(self.id, self.serial, "simulated")
            self._say(ev.EngineDown(self.serial, death, self.started))


class Simulation:
    """A cluster in simulated time.

    Args:
        engines: how many places it has.
        latency: seconds that each message takes.
        starting: seconds that an engine takes to come up.
        begin: start all engines at time 0, before the first task.
        after_each: called with the scheduler after each decision; a test passes ``invariants.check``.
        options: as for Scheduler.
    """

    def __init__(
        self,
        engines: int,
        *,
        latency: float = LATENCY,
        starting: float = 0.0,
        begin: bool = True,
        after_each: Callable[[Scheduler], None] | None = None,
        **options: Any,
    ) -> None:
        self.now = 0.0
        self.latency = latency
        self.starting = starting
        self.scheduler = Scheduler(engines, **options)
        #: by task id: seconds it takes, and the status it ends with or "die"
        self.plans: dict[int, tuple[float, int | str]] = {}
        #: every run that came to an end on an engine, in order
        self.history: list[Ran] = []
        #: status and time of each settled task
        self.settled: dict[int, tuple[int, float]] = {}
        #: ids of tasks whose cancelling was refused
        self.refused: list[int] = []
        self.engines: dict[int, FakeEngine] = {}
        self.deaths: list[int] = []
        self.finished = False
        #: whether an interrupt ends a task; a test may replace it
        self.interruptible: Callable[[Task], bool] = lambda task: True
        self._after_each = after_each
        self._agenda: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._tick_at: float | None = None
        if begin:
            self.scheduler.begin()
        self._decide()
        self.run(until=starting)

    # -- what a test does --------------------------------------------------------------------------------------------

    def submit(
        self,
        durations: Iterable[float],
        *,
        function: str = "f",
        outcome: int | str = OK,
        one_by_one: bool = False,
        **options: Any,
    ) -> list[Task]:
        """Submit a task for each duration, in one event or one after the other."""
        f = Function(function.encode(), b"", function)
        tasks = []
        for duration in durations:
            task = Task(len(self.plans), f, CALL, b"", **options)
            self.plans[task.id] = duration, outcome
            tasks.append(task)
        for bulk in [[task] for task in tasks] if one_by_one else [tasks]:
            self.tell(ev.Submitted(bulk))
        return tasks

    def submit_after(
        self, duration: float, *parents: Task, function: str = "f", outcome: int | str = OK, **options: Any
    ) -> Task:
        """Submit a task that waits until others have ended well."""
        task = Task(len(self.plans), Function(function.encode(), b"", function), CALL, b"", **options)
        self.plans[task.id] = duration, outcome
        needs = Needs(Condition(frozenset(parent.id for parent in parents)))
        self.tell(ev.SubmittedAfter(task, needs, {id: (end[0] == OK, -1, 0) for id, end in self.settled.items()}))
        return task

    def tell(self, event: ev.Event) -> None:
        """Tell the scheduler something now, and perform what it decides."""
        self.scheduler.handle(self.now, event)
        self._decide()

    def after(self, seconds: float, do: Callable[[], None]) -> None:
        """Do something later."""
        self._count += 1
        heapq.heappush(self._agenda, (self.now + seconds, self._count, do))

    def run(self, until: float | None = None) -> float:
        """Let time pass, to the end or to a moment; when the last task was settled."""
        while self._agenda and (until is None or self._agenda[0][0] <= until):
            when, _, do = heapq.heappop(self._agenda)
            self.now = max(self.now, when)
            do()
        if until is not None:
            self.now = max(self.now, until)
        return max((when for _, when in self.settled.values()), default=0.0)

    def engine(self, id: int) -> FakeEngine:
        """The newest engine of a place."""
        return max((e for e in self.engines.values() if e.id == id), key=lambda e: e.serial)

    def statuses(self) -> list[int | None]:
        """How each task ended, in the order of submission; None for those that are open."""
        return [self.settled[id][0] if id in self.settled else None for id in self.plans]

    # -- performing --------------------------------------------------------------------------------------------------

    def _decide(self) -> None:
        for action in self.scheduler.decide(self.now):
            self._perform(action)
        if self._after_each is not None:
            self._after_each(self.scheduler)
        due = self.scheduler.next_deadline()
        if due is not None and (self._tick_at is None or due < self._tick_at or self._tick_at <= self.now):
            self._tick_at = due
            self.after(max(0.0, due - self.now), self._tick)

    def _tick(self) -> None:
        due = self.scheduler.next_deadline()
        self._tick_at = None
        if due is None or due <= self.now:
            self.tell(ev.Tick())
        else:
            self._decide()

    def _perform(self, action: act.Action) -> None:
        if isinstance(action, act.Settle):
            self._settle(action.task, action.status)
        elif isinstance(action, act.SettleBulk):
            for task, record in action.pairs:
                self._settle(task, record[1])
        elif isinstance(action, act.RefuseCancel):
            self.refused.append(action.task.id)
        elif isinstance(action, act.Finished):
            self.finished = True
        elif isinstance(action, act.StartEngine):
            self.engines[action.serial] = FakeEngine(action.serial, action.id, self)
            self.after(self.starting, lambda: self.tell(ev.EngineUp(action.serial, action.id)))
        else:
            engine = self.engines[action.serial]
            self.after(self.latency, lambda: self._reach(engine, action))

    def _reach(self, engine: FakeEngine, action: act.Action) -> None:
        if isinstance(action, act.Send):
            engine.take(action.base, action.tasks, action.chained)
        elif isinstance(action, act.TakeBack):
            engine.give_back(action.seqs)
        elif isinstance(action, act.Stir):
            engine.interrupt(action.seq)
        else:  # StopEngine, KillEngine
            engine.die()

    def _settle(self, task: Task, status: int) -> None:
        assert task.id not in self.settled, f"task {task.id} was settled twice"
        self.settled[task.id] = status, self.now


def greedy(durations: Iterable[float], engines: int) -> float:
    """The makespan of greedy list scheduling: each task, in order, to the engine that is free first."""
    free = [0.0] * engines
    for duration in durations:
        heapq.heappush(free, heapq.heappop(free) + duration)
    return max(free)
