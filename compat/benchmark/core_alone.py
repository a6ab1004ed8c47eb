"""The row "core": zexec's scheduler without processes, sockets or threads, so with no peer to compare.

A simulated cluster performs the scheduler's actions and tells it the events that follow, in a time of its own; only what
the scheduler itself takes is measured. The figures: the cost of one task where tasks are short and travel in bulk; the
cost of one event in a very large cluster where each task is sent and comes back alone; and how much more that is than in
a small cluster.
"""

from __future__ import annotations

import time
from collections import deque
from itertools import count
from statistics import median

from zexec.core import actions, events
from zexec.core.scheduler import Scheduler
from zexec.messages import CALL, OK, Function, Task

BULK = (10, 200_000)  # engines, tasks
SIZES = [(10, 1_000), (100, 10_000), (1_000, 100_000), (10_000, 1_000_000)]
SHORT, LONG = 1e-5, 0.1  # seconds of a task: an engine's credit is many of these, one of those
ROUNDS, EVENTS = (
    25,
    3_000,
)  # of each round's events the cost is taken, in each size in turn: so a busy machine is so to all
SUBMITTED_AT_ONCE = 1_000


def measure() -> dict[str, float]:
    in_bulk(*SIZES[0])  # warm
    bulk = median(in_bulk(*BULK) for _ in range(3))
    costs = one_by_one([SIZES[0], SIZES[-1]])
    return {
        "core_us_per_task": bulk * 1e6,
        "core_us_per_event": costs[-1] * 1e6,
        "core_growth": costs[-1] / costs[0],
    }


def in_bulk(engines: int, tasks: int) -> float:
    """Seconds per task, from its submission to its result."""
    cluster = Cluster(engines, SHORT)
    cluster.submit(tasks)
    while cluster.settled < tasks:
        cluster.step()
    return cluster.seconds / tasks


def one_by_one(sizes: list[tuple[int, int]]) -> list[float]:
    """Seconds per event while so many tasks are open, for each size: for each task that ends another one is submitted."""
    clusters = [Cluster(engines, LONG) for engines, _ in sizes]
    for cluster, (engines, tasks) in zip(clusters, sizes, strict=True):
        cluster.submit(tasks)
        while cluster.settled < engines:  # until all are submitted and each engine has something
            cluster.step()
    costs: list[list[float]] = [[] for _ in sizes]
    for _ in range(ROUNDS):
        for cluster, found in zip(clusters, costs, strict=True):
            cluster.seconds = 0.0
            for _ in range(EVENTS):
                before = cluster.settled
                cluster.step()
                cluster.submit(cluster.settled - before)
            found.append(cluster.seconds / EVENTS)
    return [median(found) for found in costs]


class Cluster:
    """Engines that take no time, around a real scheduler."""

    def __init__(self, engines: int, task_seconds: float) -> None:
        self.settled = 0
        self.seconds = 0.0  # spent in the scheduler
        self._now = 0.0
        self._pace = task_seconds / engines
        self._task_seconds = task_seconds
        self._coming: deque[events.Event] = deque()
        self._function = Function(b"digest", b"", "function")
        self._ids = count()
        self._scheduler = Scheduler(engines)
        self._scheduler.begin()
        self._perform(self._scheduler.decide(0.0))

    def submit(self, tasks: int) -> None:
        for start in range(0, tasks, SUBMITTED_AT_ONCE):
            size = min(SUBMITTED_AT_ONCE, tasks - start)
            bulk = [Task(next(self._ids), self._function, CALL, b"") for _ in range(size)]
            self._coming.append(events.Submitted(bulk))

    def step(self) -> None:
        """The next event, and what follows from it."""
        event = self._coming.popleft() if self._coming else events.Tick()
        self._now += self._pace
        begin = time.perf_counter()
        self._scheduler.handle(self._now, event)
        wanted = self._scheduler.decide(self._now)
        self.seconds += time.perf_counter() - begin
        self._perform(wanted)

    def _perform(self, wanted: list[actions.Action]) -> None:
        for action in wanted:
            if isinstance(action, actions.Send):
                numbers = range(action.base, action.base + len(action.tasks))
                records = [(number, OK, None, self._now, self._task_seconds) for number in numbers]
                self._coming.append(events.Ran(action.serial, records))
            elif isinstance(action, actions.SettleBulk):
                self.settled += len(action.pairs)
            elif isinstance(action, actions.TakeBack):  # too late, all of them have started
                self._coming.append(events.GaveBack(action.serial, action.seqs, ()))
            elif isinstance(action, actions.StartEngine):
                self._coming.append(events.EngineUp(action.serial, action.id))


if __name__ == "__main__":
    for engines, tasks in SIZES[:-1]:
        print(f"{engines:6} engines, {tasks:7} tasks in bulk: {in_bulk(engines, tasks) * 1e6:5.2f} us per task")
    for (engines, tasks), seconds in zip(SIZES, one_by_one(SIZES), strict=True):
        print(f"{engines:6} engines, {tasks:7} tasks open:    {seconds * 1e6:5.2f} us per event")
