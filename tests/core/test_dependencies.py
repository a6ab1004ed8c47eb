"""Tasks that wait for others: every decision by hand, then under any events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from tests.core.test_machine import FUNCTIONS, Double, SchedulerMachine
from tests.core.test_machine import TestSchedulerMachine as Plain
from tests.helpers.desk import LONG, Desk, F, ids
from tests.helpers.waiters import Waiters, sent
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.dependencies import Condition, Needs
from zexec.messages import CALL, CANCELLED, DIED, ERROR, IMPOSSIBLE, OK, TERMINATED, UNMET, WAITED, Function, Task


def test_a_chain_runs_in_order() -> None:
    desk = Waiters(3)
    chain = desk.submit(1)
    for _ in range(100):
        chain.append(desk.after(chain[-1]))
    desk.run_all()
    assert sent(desk) == ids(chain)


def test_a_diamond() -> None:
    desk = Waiters(2)
    (top,) = desk.submit(1)
    left, right = desk.after(top), desk.after(top)
    bottom = desk.after(left, right)
    assert sent(desk) == [top.id]
    desk.ran(1, 0) if desk.sent[0][0] == 1 else desk.ran(2, 0)
    assert set(sent(desk)) == {top.id, left.id, right.id}
    desk.run_all()
    assert sent(desk)[-1] == bottom.id


def test_fan_in_of_ten_thousand() -> None:
    desk = Waiters(4)
    parents = desk.submit(10_000)
    last = desk.after(*parents)
    assert desk.s.explain(last.id).startswith("it waits for the tasks [0, 1, 2")
    # Without the invariants, which look at everything each time.
    while desk.s.tasks:
        for serial, engine in list(desk.s.fleet.engines.items()):
            desk.s.handle(desk.now, ev.Ran(serial, [(seq, OK, b"", 0.0, 1e-5) for seq in engine.held]))
        desk.actions += desk.s.decide(desk.now)
    assert sent(desk)[-1] == last.id
    assert not desk.s.depending


@pytest.mark.parametrize(
    ("how", "status", "runs"),
    [
        ({}, OK, True),
        ({}, ERROR, False),
        ({"failure": True}, ERROR, True),
        ({"success": False, "failure": True}, ERROR, True),
        ({"success": False, "failure": True}, OK, False),
    ],
)
def test_success_and_failure(how: dict[str, bool], status: int, runs: bool) -> None:
    desk = Waiters(1)
    (parent,) = desk.submit(1)
    child = desk.after(parent, **how)
    desk.ran(1, 0, status=status, seconds=LONG)
    assert (child.id in sent(desk)) == runs
    if not runs:
        assert desk.settled[child.id] == IMPOSSIBLE


def test_any_of_several() -> None:
    desk = Waiters(1)
    one, two, three = desk.submit(3, targets={0})
    child = desk.after(one, two, three, all=False)
    desk.ran(1, 0, status=ERROR, seconds=LONG)
    assert child.id not in sent(desk)
    desk.ran(1, 1, seconds=LONG)
    desk.run_all()
    assert desk.settled[child.id] == OK
    assert sent(desk).index(child.id) > sent(desk).index(two.id)


def test_any_of_none_that_succeeds() -> None:
    desk = Waiters(1)
    one, two = desk.submit(2)
    child = desk.after(one, two, all=False)
    desk.run_all(ERROR)
    assert desk.settled[child.id] == IMPOSSIBLE


def test_a_failure_ends_the_chain_behind_it() -> None:
    desk = Waiters(2)
    chain = desk.submit(1)
    for _ in range(50):
        chain.append(desk.after(chain[-1]))
    desk.run_all(ERROR)
    assert [desk.settled[task.id] for task in chain] == [ERROR] + [IMPOSSIBLE] * 50
    (why,) = {a.detail for a in desk.all(act.Settle) if a.task is chain[1]}
    assert why == f"task {chain[0].id} failed"


def test_parents_that_die_or_are_cancelled_have_failed() -> None:
    desk = Waiters(1)
    one, two = desk.submit(2)
    dead, aborted = desk.after(one), desk.after(two)
    desk.tell(ev.CancelWanted(two.id))
    assert (desk.settled[two.id], desk.settled[aborted.id]) == (CANCELLED, IMPOSSIBLE)
    desk.down(1, started=0)
    assert (desk.settled[one.id], desk.settled[dead.id]) == (DIED, IMPOSSIBLE)


def test_cancelling_what_waits() -> None:
    desk = Waiters(1)
    (parent,) = desk.submit(1)
    child = desk.after(parent)
    grandchild = desk.after(child)
    desk.tell(ev.CancelWanted(child.id))
    assert (desk.settled[child.id], desk.settled[grandchild.id]) == (CANCELLED, IMPOSSIBLE)
    assert desk.after(parent).id in desk.s.tasks
    desk.tell(ev.CancelAll())
    assert set(desk.s.tasks) == {parent.id}


def test_parents_that_had_ended() -> None:
    desk = Waiters(1)
    (good,) = desk.submit(1)
    desk.ran(1, 0, seconds=LONG)
    assert desk.after(good).id in sent(desk)
    desk.run_all()
    assert desk.after().id in sent(desk)  # after nothing


def test_a_parent_of_whose_end_the_client_hears_later() -> None:
    """It has ended here, and the word is on its way: the client passes it on."""
    desk = Waiters(1)
    needs = Needs(Condition(frozenset({777})))
    task = Task(next(desk.ids), F, CALL, b"")
    desk.tell(ev.SubmittedAfter(task, needs, {}))
    assert not desk.sent
    desk.tell(ev.ParentEnded(777, (True, 0, 0)))
    assert desk.sent == [(1, [task.id])]
    desk.tell(ev.ParentEnded(777, (True, 0, 0)))  # said twice


def test_follow_runs_where_they_ran() -> None:
    desk = Waiters(3)
    (parent,) = desk.submit(1, targets={1})
    children = [desk.after(parent, where=True) for _ in range(3)]
    desk.run_all()
    assert all(
        (2, [child.id]) in desk.sent or any(s == 2 and child.id in t for s, t in desk.sent) for child in children
    )


def test_follow_one_of_several() -> None:
    desk = Waiters(3)
    one, two = desk.submit(1, targets={0})[0], desk.submit(1, targets={1})[0]
    child = desk.after(one, two, where=True, all=False)
    desk.ran(2, 0, seconds=LONG)
    assert desk.sent[-1] == (2, [child.id])


def test_follow_what_ran_in_several_places_or_elsewhere() -> None:
    desk = Waiters(3)
    one, two = desk.submit(1, targets={0})[0], desk.submit(1, targets={1})[0]
    both = desk.after(one, two, where=True)
    elsewhere = desk.after(one, where=True, targets={2})
    desk.run_all()
    assert (desk.settled[both.id], desk.settled[elsewhere.id]) == (IMPOSSIBLE, IMPOSSIBLE)
    details = {a.task.id: a.detail for a in desk.all(act.Settle)}
    assert details[both.id] == "the tasks it follows ran on several engines: [0, 1]"


GONE = "the engine that ran what it follows is gone"


def detail(desk: Desk, task: Task) -> Any:
    return next(a.detail for a in desk.all(act.Settle) if a.task is task)


def test_the_engine_that_it_was_sent_to_dies_before_it_started() -> None:
    desk = Waiters(2)
    (parent,) = desk.submit(1, targets={0})
    child = desk.after(parent, where=True)
    desk.ran(1, 0, seconds=LONG)
    assert desk.sent[-1] == (1, [child.id])
    desk.down(1, started=0)
    assert desk.settled[child.id] == IMPOSSIBLE
    assert detail(desk, child) == GONE


def test_the_engine_dies_while_it_waits_for_room_there() -> None:
    desk = Waiters(2)
    (parent,) = desk.submit(1, targets={0})
    (busy,) = desk.submit(1, targets={0})
    child = desk.after(parent, where=True)
    desk.ran(1, 0, seconds=LONG)
    assert child.id not in sent(desk)
    desk.down(1, started=1)
    assert (desk.settled[busy.id], desk.settled[child.id]) == (DIED, IMPOSSIBLE)


def test_the_engine_had_gone_when_it_was_submitted() -> None:
    desk = Waiters(2)
    (parent,) = desk.submit(1, targets={0})
    desk.ran(1, 0, seconds=LONG)
    desk.down(1)
    ((_, serial),) = desk.started
    desk.up(serial)
    for where, status in (((0, 1), IMPOSSIBLE), ((0, serial), OK), ((0, 0), OK)):
        task = Task(next(desk.ids), F, CALL, b"")
        needs = Needs(None, Condition(frozenset({parent.id})))
        desk.tell(ev.SubmittedAfter(task, needs, {parent.id: (True, *where)}))
        desk.run_all()
        assert desk.settled[task.id] == status, where


def test_one_of_two_engines_that_it_may_follow_to_dies() -> None:
    desk = Waiters(3)
    parents = [desk.submit(1, targets={place})[0] for place in (0, 1)]
    for place in (0, 1):
        desk.submit(1, targets={place})
    last = desk.submit(1, targets={2})[0]
    child = desk.after(*parents, last, where=True, all=False)
    desk.ran(1, 0, seconds=LONG)
    desk.ran(2, 0, seconds=LONG)
    assert child.targets == {0}  # it was to be there as soon as one had ended
    both = Task(next(desk.ids), F, CALL, b"")
    needs = Needs(None, Condition(frozenset(ids(parents)), all=False))
    desk.tell(ev.SubmittedAfter(both, needs, {parents[0].id: (True, 0, 1), parents[1].id: (True, 1, 2)}))
    assert both.targets == {0, 1}
    desk.down(1, started=1)
    assert desk.settled[child.id] == IMPOSSIBLE
    assert both.targets == {1}
    desk.run_all()
    assert desk.settled[both.id] == OK


def test_it_follows_what_died_with_its_engine() -> None:
    desk = Waiters(2)
    (parent,) = desk.submit(1, targets={0})
    child = desk.after(parent, where=True, success=True, failure=True)
    desk.down(1, started=0)
    assert (desk.settled[parent.id], desk.settled[child.id]) == (DIED, IMPOSSIBLE)


def test_it_follows_to_an_engine_that_has_run_all_it_may() -> None:
    desk = Waiters(1, allowance=1)
    (parent,) = desk.submit(1)
    child = desk.after(parent, where=True)
    desk.ran(1, 0, seconds=LONG)
    assert desk.settled[child.id] == IMPOSSIBLE


def test_waiting_too_long() -> None:
    desk = Waiters(1)
    (parent,) = desk.submit(1)
    child = desk.after(parent, patience=1.0)
    patient = desk.after(parent)
    desk.later(0.9)
    assert child.id in desk.s.tasks
    desk.later(0.2)
    assert desk.settled[child.id] == WAITED
    desk.run_all()
    assert desk.settled[patient.id] == OK
    assert desk.s.depending.next() is None


def test_ends() -> None:
    desk = Waiters(1)
    (parent,) = desk.submit(1)
    child = desk.after(parent)
    desk.tell(ev.Closed())
    assert not desk.s.finished  # it still has to run
    desk.tell(ev.Terminated())
    assert (desk.settled[parent.id], desk.settled[child.id]) == (TERMINATED, TERMINATED)
    assert desk.after(parent).id in desk.settled


def test_a_task_that_an_engine_refuses_goes_to_another() -> None:
    desk = Waiters(3)
    (task,) = desk.submit(1, targets={0, 2})
    first = desk.sent[0][0]
    desk.ran(first, 0, status=UNMET, seconds=LONG)
    second = desk.sent[1][0]
    assert {first, second} == {1, 3}
    desk.ran(second, 0, status=UNMET, seconds=LONG)
    assert desk.settled[task.id] == UNMET
    assert task.attempts == 0


def test_a_refused_task_that_is_being_cancelled_ends() -> None:
    desk = Waiters(2)
    (task,) = desk.submit(1, retries=5)
    desk.tell(ev.CancelWanted(task.id))
    desk.ran(desk.sent[0][0], 0, status=UNMET)
    assert desk.settled[task.id] == UNMET


class DependentMachine(SchedulerMachine):
    """The scheduler's machine, with tasks that wait for any others."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: dict[int, tuple[bool, int, int]] = {}
        self.needs: dict[int, Needs] = {}

    def perform(self, action: Any) -> None:
        kind = type(action)
        if kind is act.Settle:
            self.ends[action.task.id] = (action.status == OK, action.engine, action.serial)
        elif kind is act.SettleBulk:
            self.ends.update((task.id, (True, action.engine, action.serial)) for task, _ in action.pairs)
        elif kind is act.Send and not action.chained:
            for task in action.tasks:
                self.was_to_run(task, action.serial, self.ends)
        super().perform(action)

    def begins(self, engine: Double, task: Task) -> None:
        if engine.running in engine.chained:
            # What has ended here well may not have been told yet.
            before = engine.tasks[engine.good]
            self.was_to_run(task, engine.serial, {**self.ends, before.id: (True, engine.id, engine.serial)})

    def was_to_run(self, task: Task, serial: int, ends: dict[int, tuple[bool, int, int]]) -> None:
        if task.id not in self.needs:
            return
        needs = self.needs[task.id]
        for condition in (needs.after, needs.follow):
            if condition is None or not condition.ids:
                continue
            counts = [id for id in condition.ids if id in ends and self.wanted(condition, ends[id][0])]
            assert len(counts) == len(condition.ids) if condition.all else counts
            if condition is needs.follow:
                assert serial in {ends[id][2] for id in counts}, "it runs where none has run of what it follows"

    def wanted(self, condition: Condition, ok: bool) -> bool:
        return condition.success if ok else condition.failure

    @precondition(lambda self: self.tasks)
    @rule(
        data=st.data(),
        all=st.booleans(),
        ends=st.sampled_from([(True, False), (True, False), (True, True), (False, True)]),
        which=st.sampled_from(["after", "follow", "both"]),
        patience=st.sampled_from([None, None, 0.1]),
        pins=st.sampled_from([None, None, {0}, {0, 1}]),
    )
    def submit_after(self, data: Any, all: bool, ends: tuple[bool, bool], which: str, patience: Any, pins: Any) -> None:
        def draw() -> Condition:
            parents = data.draw(st.frozensets(st.sampled_from(sorted(self.tasks)), max_size=5))
            return Condition(parents, all, *ends)

        needs = Needs(draw() if which != "follow" else None, draw() if which != "after" else None, patience)
        id = len(self.tasks)
        task = self.tasks[id] = Task(
            id, data.draw(st.sampled_from(FUNCTIONS)), CALL, b"", targets=None if pins is None else frozenset(pins)
        )
        self.needs[id] = needs
        self.tell(ev.SubmittedAfter(task, needs, dict(self.ends)))

    @rule(
        data=st.data(),
        functions=st.lists(st.sampled_from(FUNCTIONS), min_size=1, max_size=6),
        retries=st.sampled_from([0, 0, 1]),
    )
    def submit_chain(self, data: Any, functions: list[Function], retries: int) -> None:
        self.chain(data.draw(st.sampled_from([None, *self.tasks])), functions, retries)

    def chain(self, last: int | None, functions: list[Function], retries: int) -> None:
        for function in functions:
            needs = Needs(Condition(frozenset(() if last is None else (last,))))
            last = len(self.tasks)
            task = self.tasks[last] = Task(last, function, CALL, b"", retries=retries)
            self.needs[last] = needs
            self.tell(ev.SubmittedAfter(task, needs, dict(self.ends)))

    @rule(data=st.data(), count=st.integers(1, 4))
    def refuse(self, data: Any, count: int) -> None:
        engine = self.some_engine(data, up=True)
        if engine:
            for _ in range(count):
                self.run_one(engine, UNMET)
            self.flush(engine)

    @rule(id=st.integers(100_000, 100_005), ok=st.booleans())
    def hear_of_nobodys_parent(self, id: int, ok: bool) -> None:
        self.tell(ev.ParentEnded(id, (ok, 0, 0)))


class ChainMachine(DependentMachine):
    """The same where tasks are sent behind those that they wait for: engines are up, and what tasks take is known."""

    @initialize(places=st.integers(1, 3), count=st.integers(1, 6))
    def create(self, places: int, count: int) -> None:  # type: ignore[override]
        super().create(places, False, None, False, False, True)
        for engine in list(self.engines.values()):
            self.go_up(engine)
        self.chain(None, FUNCTIONS[:1] * count, 0)
        self.decide()

    # Engines end by other rules than these, and chains are to be long.
    end = cancel_all = remember = None  # type: ignore[assignment]


# Bounds against hanging: hundreds of examples take as long as the machine is slow.
TestDependentMachine = pytest.mark.timeout(400)(DependentMachine.TestCase)
TestChainMachine = pytest.mark.timeout(400)(ChainMachine.TestCase)
TestDependentMachine.settings = TestChainMachine.settings = Plain.settings
del Plain, SchedulerMachine, DependentMachine, ChainMachine
