"""A hub that ends at any moment and comes back: nothing that was accepted is lost, and nothing that an engine kept runs twice.

The world here outlives its hubs: engines with what they hold, and a store that is behind by what it has not written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.dependencies import Condition, Needs
from zexec.core.invariants import check
from zexec.core.scheduler import Scheduler
from zexec.messages import CALL, CANCELLED, DIED, ERROR, OK, TIMEOUT, Death, Function, Task

F = Function(b"digest", b"", "f")
PATIENCE = 10.0


def task(id: int, **options: Any) -> Task:
    return Task(id, F, CALL, b"", **options)


class Engine:
    """An engine as the world knows it. It numbers nothing itself: the hub does."""

    def __init__(self, place: int, serial: int) -> None:
        self.place, self.serial = place, serial
        self.up = False
        self.inbox: list[Any] = []  #: on their way to it
        self.queue: list[tuple[int, int]] = []  #: number, task: not started
        self.running: tuple[int, int] | None = None
        self.next_seq = 0
        #: results that the hub has not said to have stored, and how many of them were sent
        self.kept: list[tuple[int, int]] = []
        self.sent = 0

    def claims(self) -> list[tuple[int, int]]:
        running = [] if self.running is None else [self.running]
        return [*self.kept, *running, *self.queue]


class HubLives(RuleBasedStateMachine):
    @initialize(engines=st.integers(1, 4))
    def create(self, engines: int) -> None:
        self.now = 100.0
        self.options: dict[int, dict[str, Any]] = {}
        self.needs: dict[int, frozenset[int]] = {}
        self.stored: dict[int, tuple[bool, int, int]] = {}  #: how those ended of which the store knows
        self.noted: list[tuple[int, tuple[bool, int, int]]] = []  #: of which it will know, if the hub lives on
        self.statuses: dict[int, int] = {}
        self.runs: Counter[int] = Counter()
        self.cancelled: set[int] = set()
        self.world: list[Engine] = []  #: engines that live
        self.away: list[Engine] = []  #: those of them that have not come back to this hub
        self.deaths = 0
        self.late = False  #: an engine came back after all hope for it
        self.tokens: dict[int, Engine] = {}
        self.s = Scheduler(engines, elastic=True)
        for place in range(engines):
            self.join(Engine(place, -1))

    # -- the host ----------------------------------------------------------------------------------------------------

    def tell(self, event: Any) -> None:
        self.s.handle(self.now, event)
        check(self.s)
        for action in self.s.decide(self.now):
            self.perform(action)
        check(self.s, decided=True)

    def perform(self, action: Any) -> None:
        if isinstance(action, act.Settle):
            self.settle(action.task.id, action.status, action.engine)
        elif isinstance(action, act.SettleBulk):
            for task, record in action.pairs:
                self.settle(task.id, record[1], action.engine)
        elif isinstance(action, act.Admit):
            engine = self.tokens.pop(action.token)
            engine.place, engine.serial = action.id, action.serial
        elif isinstance(action, act.Send | act.TakeBack | act.Stir):
            engine = next(e for e in self.world if e.serial == action.serial and e not in self.away)
            engine.inbox.append(action)
        elif isinstance(action, act.KillEngine):
            self.fail(f"nobody is to be killed here: {action.reason}")

    def fail(self, why: str) -> None:
        pytest.fail(why)

    def settle(self, id: int, status: int, engine: int) -> None:
        assert id not in self.stored, "a task that had ended has ended again"
        assert id not in dict(self.noted)
        self.noted.append((id, (status == OK, engine, 0)))
        self.statuses[id] = status

    # -- what happens ------------------------------------------------------------------------------------------------

    @rule(
        count=st.integers(1, 8),
        pins=st.sampled_from([None, None, None, frozenset({0}), frozenset({0, 1})]),
        retries=st.sampled_from([0, 0, 1]),
        after=st.sampled_from([0, 0, 1, 3]),
    )
    def submit(self, count: int, pins: frozenset[int] | None, retries: int, after: int) -> None:
        first = len(self.options)
        parents = frozenset(range(max(0, first - after), first))
        for id in range(first, first + count):
            self.options[id] = {"targets": pins, "retries": retries}
            if parents:
                self.needs[id] = parents
        new = [task(id, **self.options[id]) for id in range(first, first + count)]
        if not parents:
            self.tell(ev.Submitted(new))
        else:
            for each in new:
                self.tell(ev.SubmittedAfter(each, *self.needs_of(parents)))

    def needs_of(self, parents: frozenset[int]) -> tuple[Needs, dict[int, tuple[bool, int, int]]]:
        known = {**self.stored, **dict(self.noted)}
        return Needs(Condition(parents, failure=True)), {id: known[id] for id in parents if id in known}

    @rule(amount=st.integers(1, 10))
    def store(self, amount: int) -> None:
        """Results reach the disk; engines hear that they may forget them."""
        done, self.noted = self.noted[:amount], self.noted[amount:]
        self.stored.update(done)
        for engine in self.world:
            gone = sum(id in self.stored for _, id in engine.kept[: engine.sent])
            engine.kept = [each for n, each in enumerate(engine.kept) if n >= engine.sent or each[1] not in self.stored]
            engine.sent -= gone

    @rule(data=st.data(), steps=st.integers(1, 6), tell=st.booleans())
    def work(self, data: Any, steps: int, tell: bool) -> None:
        engine = data.draw(st.sampled_from(self.world))
        self.receive(engine)
        for _ in range(steps):
            self.step(engine)
        if tell:
            self.report(engine)

    def receive(self, engine: Engine) -> None:
        inbox, engine.inbox = engine.inbox, []
        for action in inbox:
            if isinstance(action, act.Send):
                numbered = list(enumerate((task.id for task in action.tasks), action.base))
                assert numbered[0][0] >= engine.next_seq, "the same number twice"
                engine.queue += numbered
                engine.next_seq = numbered[-1][0] + 1
            elif isinstance(action, act.TakeBack):
                given = [seq for seq, _ in engine.queue if seq in action.seqs]
                engine.queue = [each for each in engine.queue if each[0] not in given]
                if engine not in self.away:
                    self.tell(ev.GaveBack(engine.serial, action.seqs, given))

    def step(self, engine: Engine) -> None:
        if engine.running is not None:
            self.runs[engine.running[1]] += 1
            engine.kept.append(engine.running)
            engine.running = None
        elif engine.queue:
            engine.running = engine.queue.pop(0)

    def report(self, engine: Engine) -> None:
        if engine.up and engine not in self.away and engine.sent < len(engine.kept):
            fresh = engine.kept[engine.sent :]
            engine.sent = len(engine.kept)
            self.tell(ev.Ran(engine.serial, [(seq, OK, b"", 0.0, 1e-5) for seq, _ in fresh]))

    @rule(data=st.data(), count=st.integers(1, 10))
    def cancel(self, data: Any, count: int) -> None:
        for id in list(self.s.tasks)[-count:]:
            self.cancelled.add(id)
            self.tell(ev.CancelWanted(id))

    @rule(data=st.data())
    def die(self, data: Any) -> None:
        if len(self.world) > 1:
            engine = data.draw(st.sampled_from(self.world))
            self.deaths += 1
            self.world.remove(engine)
            if engine in self.away:
                self.away.remove(engine)
            else:
                started = engine.running[0] if engine.running is not None else -1
                self.tell(ev.EngineDown(engine.serial, Death(engine.place, 1, "here"), started))

    @rule(data=st.data(), arrives=st.booleans())
    def crash(self, data: Any, arrives: bool) -> None:
        """The hub is gone at once, with all that it had not written. What it had sent may arrive or not."""
        for engine in self.world:
            if arrives:
                for action in engine.inbox:
                    if isinstance(action, act.Send):
                        engine.queue += enumerate((task.id for task in action.tasks), action.base)
                        engine.next_seq = engine.queue[-1][0] + 1
            engine.inbox = []
            engine.sent = 0
            engine.up = False
        self.away = list(self.world)
        self.noted = []
        self.cancelled |= set(self.s.tasks) if self.s.hard else set()
        for id in list(self.statuses):
            if id not in self.stored:
                del self.statuses[id]
        self.s = Scheduler(0, elastic=True)
        restored = [task(id, **options) for id, options in self.options.items() if id not in self.stored]
        needs = {each.id: self.needs_of(self.needs[each.id]) for each in restored if each.id in self.needs}
        doomed = {}
        if data.draw(st.booleans()):
            doomed = {each.id: Death(0, 1, "there") for each in restored if data.draw(st.booleans())}
        self.deaths += bool(doomed)
        places = frozenset(engine.place for engine in self.world)
        self.tell(ev.Restored(restored, needs, PATIENCE, doomed, places))

    @precondition(lambda self: self.away)
    @rule(data=st.data(), work=st.integers(0, 5))
    def come_back(self, data: Any, work: int) -> None:
        engine = data.draw(st.sampled_from(self.away))
        for _ in range(work):
            self.step(engine)
        self.rejoin(engine)

    def rejoin(self, engine: Engine) -> None:
        self.late = self.late or self.s.claims_end is None
        self.away.remove(engine)
        before, awaited = engine.place, self.s.claims_end is not None
        self.join(engine)
        if awaited and before not in [other.place for other in self.world if other is not engine]:
            assert engine.place == before

    def join(self, engine: Engine) -> None:
        if engine not in self.world:
            self.world.append(engine)
        token = len(self.tokens)
        self.tokens[token] = engine
        self.tell(ev.Joined(token, engine.place if engine.place >= 0 else None))
        engine.up = True
        self.tell(ev.EngineUp(engine.serial, engine.place, self.shuffled(engine.claims()), engine.next_seq))
        self.report(engine)

    def shuffled(self, claims: Sequence[tuple[int, int]]) -> Sequence[tuple[int, int]]:
        return claims[::-1]

    @rule()
    def another_engine(self) -> None:
        if len(self.world) < 6:
            self.join(Engine(-1, -1))

    @rule(seconds=st.sampled_from([0.001, 0.2, PATIENCE]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        due = self.s.next_deadline()
        if due is not None and due <= self.now:
            self.tell(ev.Tick())
        self.late = self.late or (self.s.claims_end is None and bool(self.away))

    @rule()
    def all_are_back(self) -> None:
        if not self.away:
            self.tell(ev.ClaimsOver())

    # -- the end -----------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if not hasattr(self, "s"):
            return
        for engine in list(self.away):
            self.rejoin(engine)
        for _ in range(2_000):
            if not self.s.tasks:
                break
            self.now += 0.1
            if self.now > (self.s.claims_end or self.now + 1) or not self.away:
                self.tell(ev.Tick() if self.away else ev.ClaimsOver())
            self.time_passes(0.0)
            if self.s.promised & self.s.fleet.vacant:
                self.join(Engine(-1, -1))
            for engine in list(self.world):
                self.receive(engine)
                self.step(engine)
                self.report(engine)
        else:
            pytest.fail(f"it does not come to an end: {[self.s.explain(id) for id in self.s.tasks]}")
        self.store(10_000)
        assert set(self.stored) == set(self.options)
        for id, status in self.statuses.items():
            if not self.deaths and not self.late:
                assert self.runs[id] <= 1, "it ran twice"
                if status == OK:
                    assert self.runs[id] == 1
                else:
                    assert status == CANCELLED
                    assert id in self.cancelled
            elif status == DIED:
                assert self.deaths


TestHubLives = HubLives.TestCase
TestHubLives.settings = settings(
    max_examples=400,
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
)


# -- by hand, what the machine does not say in words -----------------------------------------------------------------


def restored(*ids: int, **event: Any) -> Scheduler:
    """A scheduler that has just come back with some tasks."""
    s = Scheduler(0, elastic=True)
    s.handle(0.0, ev.Restored([task(id) for id in ids], {}, PATIENCE, **event))
    return s


def admit(
    s: Scheduler, place: int | None = None, claims: Sequence[tuple[int, int]] = (), next_seq: int = 0
) -> act.Admit:
    """An engine joins and is up."""
    s.handle(1.0, ev.Joined("token", place))
    (admitted,) = [action for action in s.decide(1.0) if isinstance(action, act.Admit)]
    s.handle(1.0, ev.EngineUp(admitted.serial, admitted.id, claims, next_seq))
    return admitted


def sends(s: Scheduler, now: float = 1.0) -> list[tuple[int, list[int]]]:
    return [(a.base, [task.id for task in a.tasks]) for a in s.decide(now) if isinstance(a, act.Send)]


def test_restored_tasks_wait_for_those_who_may_have_them() -> None:
    s = restored(1, 2)
    admit(s)
    assert sends(s) == []
    assert "come back" in s.explain(1)
    assert s.next_deadline() == PATIENCE
    s.handle(PATIENCE, ev.Tick())
    assert sends(s, PATIENCE) == [(0, [1])]


def test_new_tasks_do_not_wait_meanwhile() -> None:
    s = restored(1)
    admit(s)
    s.handle(1.0, ev.Submitted([task(7)]))
    assert sends(s) == [(0, [7])]


def test_a_claimed_task_is_not_sent_and_its_result_counts() -> None:
    s = restored(1, 2)
    engine = admit(s, claims=[(17, 2)], next_seq=20)
    s.handle(1.0, ev.ClaimsOver())
    assert sends(s) == [], "it holds one of unknown length: no room"
    s.handle(2.0, ev.Ran(engine.serial, [(17, OK, b"", 0.0, 1e-4)]))
    done = s.decide(2.0)
    assert [task.id for a in done if isinstance(a, act.SettleBulk) for task, _ in a.pairs] == [2]
    assert [(a.base, [task.id for task in a.tasks]) for a in done if isinstance(a, act.Send)] == [(20, [1])]


def test_places_are_kept_for_those_who_had_them() -> None:
    s = restored(1, places=frozenset({0, 2}))
    assert admit(s).id == 1
    assert admit(s, 2, [(0, 1)], 1).id == 2
    assert admit(s).id == 3
    assert admit(s, 0).id == 0


def test_what_nobody_claims_may_be_doomed() -> None:
    death = Death(0, 1, "there", None, "its hub ended, and it did not come back")
    s = restored(1, 2, doomed={1: death})
    admit(s)
    s.handle(PATIENCE, ev.Tick())
    done = s.decide(PATIENCE)
    (settle,) = [a for a in done if isinstance(a, act.Settle)]
    assert (settle.task.id, settle.status, settle.detail) == (1, DIED, death)
    assert [task.id for a in done if isinstance(a, act.Send) for task in a.tasks] == [2]


def test_a_doomed_task_with_retries_left_runs_again() -> None:
    s = Scheduler(0, elastic=True)
    s.handle(0.0, ev.Restored([task(1, retries=1)], {}, PATIENCE, {1: Death(0, 1, "there")}))
    admit(s)
    s.handle(PATIENCE, ev.Tick())
    assert sends(s, PATIENCE) == [(0, [1])]


def test_a_late_claim_is_asked_back() -> None:
    s = restored(1)
    first = admit(s)
    s.handle(PATIENCE, ev.Tick())
    assert sends(s, PATIENCE) == [(0, [1])]
    second = admit(s, claims=[(5, 1)], next_seq=6)
    backs = [a for a in s.decide(PATIENCE) if isinstance(a, act.TakeBack)]
    assert [(a.serial, a.seqs) for a in backs] == [(second.serial, [5])]
    s.handle(PATIENCE, ev.GaveBack(second.serial, [5], []))
    s.handle(PATIENCE, ev.Ran(second.serial, [(5, OK, b"", 0.0, 0.1)]))
    assert 1 in s.tasks
    s.handle(PATIENCE, ev.Ran(first.serial, [(0, OK, b"", 0.0, 0.1)]))
    assert 1 not in s.tasks
    check(s)


def test_a_cancel_waits_for_the_claim() -> None:
    s = restored(1, 2)
    for id in (1, 2):
        s.handle(0.0, ev.CancelWanted(id))
    assert s.decide(0.0) == []
    engine = admit(s, claims=[(5, 1)], next_seq=6)
    assert [a.seqs for a in s.decide(1.0) if isinstance(a, act.TakeBack)] == [[5]]
    s.handle(1.0, ev.GaveBack(engine.serial, [5], []))
    assert [a.task.id for a in s.decide(1.0) if isinstance(a, act.RefuseCancel)] == [1]
    s.handle(1.0, ev.ClaimsOver())
    assert [(a.task.id, a.status) for a in s.decide(1.0) if isinstance(a, act.Settle)] == [(2, CANCELLED)]


@pytest.mark.parametrize(("options", "status"), [({"timeout": 1.0}, TIMEOUT), ({}, CANCELLED)])
def test_what_an_earlier_life_had_interrupted_has_not_just_failed(options: dict[str, Any], status: int) -> None:
    s = Scheduler(0, elastic=True)
    s.handle(0.0, ev.Restored([task(1, **options)], {}, PATIENCE, {}, frozenset()))
    s.decide(0.0)
    s.handle(0.0, ev.Joined("engine", None))
    (admitted,) = (a for a in s.decide(0.0) if isinstance(a, act.Admit))
    s.handle(0.0, ev.EngineUp(admitted.serial, admitted.id, [(4, 1)], 5, [4]))
    check(s)
    assert [(a.serial, a.seq) for a in s.decide(0.0) if isinstance(a, act.Stir)] == [(admitted.serial, 4)]
    s.handle(0.1, ev.Ran(admitted.serial, [(4, ERROR, b"KeyboardInterrupt", 0.0, 1.0)]))
    assert [(a.task.id, a.status) for a in s.decide(0.1) if isinstance(a, act.Settle)] == [(1, status)]


def test_an_end_ends_the_unclaimed_too() -> None:
    s = restored(1, 2)
    s.handle(0.0, ev.Terminated())
    assert sorted(a.task.id for a in s.decide(0.0) if isinstance(a, act.Settle)) == [1, 2]
    check(s)
