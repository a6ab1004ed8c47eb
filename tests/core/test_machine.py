"""The scheduler under any events in any order, with every invariant checked after each.

Engines here answer, keep silent, lie or die whenever hypothesis likes; their late and repeated messages are delivered too. At
the end they behave, and then everything must have drained, each task settled exactly once.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.invariants import check
from zexec.core.scheduler import Scheduler
from zexec.messages import CALL, CLIENT_BITS, ERROR, OK, Death, Function, Task

FUNCTIONS = [Function(b"%d" % i, b"", f"f{i}") for i in range(3)]


class Double:
    """An engine as the world knows it: what it was sent, what it runs."""

    def __init__(self, serial: int, id: int) -> None:
        self.serial, self.id = serial, id
        self.up = self.dead = self.stopping = False
        self.queue: list[int] = []  # numbers not started, in order
        self.running: int | None = None
        self.started = -1
        self.asked: list[list[int]] = []  # unanswered
        self.unsent: list[tuple[int, int]] = []  # (number, status) of results
        self.tasks: dict[int, Task] = {}  # all that it was ever sent, by number
        self.chained: set[int] = set()  # those that are to run only if the one before has ended well here
        self.good = -1  # the newest that did
        self.came_after = False  # something was remembered for its place


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        places=st.integers(1, 4),
        on_demand=st.booleans(),
        allowance=st.one_of(st.none(), st.integers(1, 4)),
        break_on_death=st.sampled_from([False, False, True]),
        elastic=st.sampled_from([False, False, True]),
        known=st.booleans(),
    )
    def create(
        self, places: int, on_demand: bool, allowance: int | None, break_on_death: bool, elastic: bool, known: bool
    ) -> None:
        self.now = 100.0
        self.engines: dict[int, Double] = {}
        self.buried: list[Double] = []
        self.tasks: dict[int, Task] = {}
        self.settled: Counter[int] = Counter()
        self.cancels: set[int] = set()  # asked for, not withdrawn, not answered
        self.told: list[Any] = []  # events of engines, to be repeated later
        self.killed: set[int] = set()
        self.finished = 0
        self.said_again: set[int] = set()  # places for which something was remembered that an earlier life knew
        self.closed: set[int] = set()  # places that are not to be filled any more
        self.places = places
        self.elastic = elastic
        self.joining: set[int] = set()
        self.s = Scheduler(
            places, on_demand=on_demand, allowance=allowance, break_on_death=break_on_death, elastic=elastic
        )
        if known:
            for function in FUNCTIONS:
                self.s.costs.observe(function.digest, 1, 1e-5)
        if not on_demand and not elastic:
            self.s.begin()
        self.decide()

    # -- the host ----------------------------------------------------------------------------------------------------

    def tell(self, event: Any) -> None:
        self.s.handle(self.now, event)
        check(self.s)

    def decide(self) -> None:
        for action in self.s.decide(self.now):
            self.perform(action)
        check(self.s, decided=True)

    def perform(self, action: Any) -> None:
        kind = type(action)
        if kind is act.Send:
            engine = self.engines[action.serial]
            assert engine.up
            assert not engine.stopping
            numbers = list(range(action.base, action.base + len(action.tasks)))
            rites = [task.payload for task in self.s.rites.get(engine.id, {}).values()]
            if action.base == 0 and engine.came_after and rites:
                assert [task.payload for task in action.tasks] == rites, "something else came first"
            elif engine.id in self.said_again and action.tasks[0].id < 0:
                assert {task.payload for task in action.tasks} <= set(rites)
            else:
                assert all(task.id >= 0 for task in action.tasks)
            assert numbers[0] > max([engine.started, *engine.queue])
            engine.queue += numbers
            engine.tasks.update(zip(numbers, action.tasks, strict=True))
            if action.chained:
                engine.chained.update(numbers)
        elif kind is act.Settle:
            self.settle(action.task)
        elif kind is act.SettleBulk:
            for task, _ in action.pairs:
                self.settle(task)
        elif kind is act.RefuseCancel:
            self.cancels.discard(action.task.id)
        elif kind is act.TakeBack:
            if action.serial in self.engines:
                self.engines[action.serial].asked.append(list(action.seqs))
        elif kind is act.StartEngine:
            assert action.serial not in self.engines
            assert not self.elastic
            assert 0 <= action.id < self.places
            assert action.id not in self.closed
            self.engines[action.serial] = Double(action.serial, action.id)
        elif kind is act.Admit:
            self.joining.remove(action.token)
            assert action.id not in {
                e.id for e in self.engines.values() if not e.stopping and e.serial not in self.killed
            }
            self.engines[action.serial] = Double(action.serial, action.id)
        elif kind is act.StopEngine:
            if action.serial in self.engines:
                self.engines[action.serial].stopping = True
        elif kind is act.KillEngine:
            self.killed.add(action.serial)
        elif kind is act.Finished:
            self.finished += 1

    def settle(self, task: Task) -> None:
        if task.id < 0:
            return  # nobody waits for it
        assert self.tasks[task.id] is task
        self.settled[task.id] += 1
        assert self.settled[task.id] == 1
        self.cancels.discard(task.id)

    # -- clients -----------------------------------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 12),
        function=st.sampled_from(FUNCTIONS),
        priority=st.sampled_from([0, 0, 0, 1, -3]),
        retries=st.sampled_from([0, 0, 1]),
        timeout=st.sampled_from([None, None, 0.5]),
        pins=st.sampled_from([None, None, None, {0}, {0, 1}, {1, 3}, {2, 9}, {7}, set()]),
        client=st.integers(0, 2),
    )
    def submit(
        self, count: int, function: Function, priority: int, retries: int, timeout: Any, pins: Any, client: int
    ) -> None:
        targets = None if pins is None else frozenset(pins)
        first = len(self.tasks) + (client << CLIENT_BITS)
        new = [
            Task(id, function, CALL, b"", 1, priority, retries, timeout, targets) for id in range(first, first + count)
        ]
        self.tasks.update((task.id, task) for task in new)
        self.tell(ev.Submitted(new))

    @precondition(lambda self: self.tasks)
    @rule(data=st.data(), running=st.booleans())
    def cancel(self, data: Any, running: bool) -> None:
        id = data.draw(st.sampled_from(sorted(self.tasks)))
        if id in self.s.tasks:
            self.cancels.add(id)
        self.tell(ev.CancelWanted(id, running))

    @precondition(lambda self: self.cancels)
    @rule(data=st.data())
    def withdraw_cancel(self, data: Any) -> None:
        id = data.draw(st.sampled_from(sorted(self.cancels)))
        self.cancels.discard(id)
        self.tell(ev.CancelWithdrawn(id))

    @rule()
    def cancel_all(self) -> None:
        self.tell(ev.CancelAll())

    @rule(seconds=st.sampled_from([0.0001, 0.006, 0.2, 2.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.tick()

    def tick(self) -> None:
        due = self.s.next_deadline()
        if due is not None and due <= self.now:
            self.tell(ev.Tick())

    @rule()
    def decide_now(self) -> None:
        self.decide()

    @rule(which=st.sampled_from(["closed", "closed", "broke", "terminated", "nothing", "nothing", "nothing"]))
    def end(self, which: str) -> None:
        events = {"closed": ev.Closed(), "broke": ev.Broke("why"), "terminated": ev.Terminated()}
        if which in events:
            self.tell(events[which])

    # -- engines that come by themselves -------------------------------------------------------------------------------

    @precondition(lambda self: self.elastic)
    @rule(token=st.integers(0, 10**6))
    def join(self, token: int) -> None:
        if token not in self.joining:
            self.joining.add(token)
            self.tell(ev.Joined(token))

    @precondition(lambda self: self.elastic)
    @rule(places=st.frozensets(st.integers(0, 5)))
    def promise(self, places: frozenset[int]) -> None:
        self.tell(ev.Promised(places))

    @rule(place=st.integers(0, 4), key=st.integers(1, 3), forget=st.booleans(), again=st.booleans())
    def remember(self, place: int, key: int, forget: bool, again: bool) -> None:
        rite = None if forget else Task(0, FUNCTIONS[0], CALL, b"%d" % key)
        if again:
            self.said_again.add(place)
        self.tell(ev.Remembered(place, key, rite, again))

    @rule(id=st.integers(0, 5), restart=st.sampled_from([True, True, False]))
    def drain(self, id: int, restart: bool) -> None:
        self.tell(ev.Drain(id, restart))
        if not restart and not self.elastic:
            self.closed.add(id)

    # -- engines -----------------------------------------------------------------------------------------------------

    def some_engine(self, data: Any, **wanted: bool) -> Double | None:
        fit = [e for e in self.engines.values() if all(bool(getattr(e, name)) == v for name, v in wanted.items())]
        return data.draw(st.sampled_from(fit)) if fit else None

    @rule(data=st.data())
    def engine_up(self, data: Any) -> None:
        engine = self.some_engine(data, up=False)
        if engine:
            self.go_up(engine)

    def go_up(self, engine: Double) -> None:
        engine.up = True
        engine.came_after = engine.id in self.s.rites
        self.tell(ev.EngineUp(engine.serial, engine.id))

    @rule(data=st.data(), count=st.integers(1, 8), status=st.sampled_from([OK, OK, OK, ERROR]), late=st.booleans())
    def run(self, data: Any, count: int, status: int, late: bool) -> None:
        engine = self.some_engine(data, up=True)
        if engine:
            for _ in range(count):
                self.run_one(engine, status)
            if not late:
                self.flush(engine)

    def run_one(self, engine: Double, status: int) -> None:
        if engine.running is None:
            self.start_one(engine)
        if engine.running is not None:
            engine.unsent.append((engine.running, status))
            engine.good = engine.running if status == OK else engine.good
            engine.running = None

    def start_one(self, engine: Double) -> None:
        while engine.running is None and engine.queue:
            seq = engine.queue.pop(0)
            if seq in engine.chained and engine.good != seq - 1:
                self.say(ev.GaveBack(engine.serial, [seq], [seq]))
                continue
            engine.running = engine.started = seq
            self.begins(engine, engine.tasks[seq])
            self.say(ev.Running(engine.serial, engine.running))

    def begins(self, engine: Double, task: Task) -> None:
        """A task begins to run."""

    @rule(data=st.data())
    def start(self, data: Any) -> None:
        engine = self.some_engine(data, up=True)
        if engine:
            self.start_one(engine)

    @rule(data=st.data())
    def flush_late(self, data: Any) -> None:
        engine = self.some_engine(data, unsent=True)
        if engine:
            self.flush(engine)

    def flush(self, engine: Double, seconds: float = 1e-5) -> None:
        if engine.unsent:
            records = [(seq, status, b"", 0.0, seconds) for seq, status in engine.unsent]
            engine.unsent = []
            self.say(ev.Ran(engine.serial, records))

    @rule(data=st.data())
    def answer(self, data: Any) -> None:
        engine = self.some_engine(data, asked=True)
        if engine:
            self.answer_one(engine)

    def answer_one(self, engine: Double) -> None:
        asked = engine.asked.pop(0)
        given = [seq for seq in asked if seq in engine.queue]
        engine.queue = [seq for seq in engine.queue if seq not in given]
        self.say(ev.GaveBack(engine.serial, asked, given))

    def say(self, event: Any) -> None:
        self.told = [*self.told[-20:], event]
        self.tell(event)

    @rule(data=st.data(), known=st.booleans())
    def die(self, data: Any, known: bool) -> None:
        engine = self.some_engine(data, dead=False)
        if engine:
            self.bury(engine, known)

    def bury(self, engine: Double, known: bool = True) -> None:
        del self.engines[engine.serial]
        self.buried.append(engine)
        death = Death(engine.id, 1, "here")
        self.tell(ev.EngineDown(engine.serial, death, engine.started if known else None))

    @precondition(lambda self: self.told)
    @rule(data=st.data())
    def repeat_what_was_said(self, data: Any) -> None:
        self.tell(data.draw(st.sampled_from(self.told)))

    @rule(
        serial=st.integers(-1, 12),
        seqs=st.lists(st.integers(-1, 30), max_size=5),
        kind=st.sampled_from(["gave", "running", "up", "down", "ran"]),
    )
    def lie(self, serial: int, seqs: list[int], kind: str) -> None:
        """What no honest engine says. It may speak of what it holds only through the rules above: see ``unheld``."""
        seqs = [seq for seq in seqs if seq not in self.unfinished(serial)]
        if kind == "gave":
            self.tell(ev.GaveBack(serial, seqs, seqs[::2]))
        elif kind == "running":
            self.tell(ev.Running(serial, min(seqs, default=-5)))
        elif kind == "ran":
            self.tell(ev.Ran(serial, [(seq, ERROR, b"", 0.0, 0.0) for seq in seqs]))
        elif serial not in self.engines and serial not in self.s.fleet.engines:
            up = kind == "up"
            self.tell(ev.EngineUp(serial, 0) if up else ev.EngineDown(serial, Death(0, 1, "here")))

    def unfinished(self, serial: int) -> set[int]:
        engine = self.engines.get(serial)
        if engine is None:
            return set()
        running = set() if engine.running is None else {engine.running}
        return {*engine.queue, *running, *(seq for seq, _ in engine.unsent)}

    # -- what holds throughout ---------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if hasattr(self, "s"):
            open_ = {id for id in self.tasks if not self.settled[id]}
            assert {id for id in self.s.tasks if id >= 0} == open_ - self.about_to_be_announced()

    def about_to_be_announced(self) -> set[int]:
        ids = set()
        for action in self.s.actions:
            if type(action) is act.Settle:
                ids.add(action.task.id)
            elif type(action) is act.SettleBulk:
                ids.update(task.id for task, _ in action.pairs)
        return ids

    def teardown(self) -> None:
        if not hasattr(self, "s"):
            return
        self.tell(ev.Closed())
        for _ in range(2_000):
            self.decide()
            if self.finished:
                break
            self.behave()
        else:
            pytest.fail(f"it does not come to an end: {[self.s.explain(id) for id in self.s.tasks]}")
        assert self.finished == 1
        assert not self.cancels, "a cancel was never answered"
        assert all(self.settled[id] == 1 for id in self.tasks)
        assert not self.s.tasks
        assert not self.engines
        assert not self.s.hard

    def behave(self) -> None:
        """Everybody does what they should."""
        self.now += 0.01
        self.tick()
        missing = self.s.promised & self.s.fleet.vacant or not self.engines
        if self.elastic and self.s.tasks and not self.joining and missing:
            self.join(10**6 + int(self.now * 100))
        for engine in list(self.engines.values()):
            if engine.serial in self.killed:
                self.bury(engine)
                continue
            if not engine.up:
                self.go_up(engine)
            while engine.asked:
                self.answer_one(engine)
            while engine.queue or engine.running is not None:
                self.run_one(engine, OK)
            self.flush(engine)
            if engine.stopping:
                self.bury(engine)


# A bound against hanging: hundreds of examples take as long as the machine is slow.
TestSchedulerMachine = pytest.mark.timeout(400)(SchedulerMachine.TestCase)
TestSchedulerMachine.settings = settings(
    max_examples=500,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],  # not explain, which traces each line
)
