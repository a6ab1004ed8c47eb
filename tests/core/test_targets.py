"""Tasks that may run on certain engines only."""

from __future__ import annotations

import random
from collections import defaultdict

from tests.helpers.desk import LONG, SHORT, Desk, G, ids
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.messages import CANCELLED, NO_ENGINE
from zexec.testing import Simulation


def test_a_task_with_one_target_runs_there_or_waits() -> None:
    desk = Desk(2)
    one, two = desk.submit(1, targets={1}), desk.submit(1, targets={1})
    assert desk.sent == [(2, ids(one))]
    desk.clear()
    desk.ran(2, 0, seconds=LONG)
    assert desk.sent == [(2, ids(two))]


def test_a_task_with_several_targets_goes_to_whichever_has_room_and_only_once() -> None:
    desk = Desk(3)
    desk.submit(1, targets={0})
    desk.clear()
    tasks = desk.submit(1, targets={0, 1})
    assert desk.sent == [(2, ids(tasks))]


def test_targets_that_do_not_exist_fail_at_once() -> None:
    desk = Desk(2)
    for targets in ({2}, {-1}, {5, 9}, set()):
        desk.clear()
        (task,) = desk.submit(1, targets=targets)
        (settle,) = desk.all(act.Settle)
        assert (settle.task, settle.status) == (task, NO_ENGINE)
        assert "0 to 1" in settle.detail


def test_a_target_that_exists_is_enough() -> None:
    desk = Desk(2)
    tasks = desk.submit(1, targets={1, 7})
    assert desk.sent == [(2, ids(tasks))]


def test_a_place_that_is_being_filled_anew_is_waited_for() -> None:
    desk = Desk(2)
    desk.down(1)
    tasks = desk.submit(1, targets={0})
    assert not desk.sent
    assert not desk.settled
    (_, serial) = desk.started[-1]
    desk.up(serial)
    assert desk.sent == [(serial, ids(tasks))]


def test_short_tasks_with_targets_travel_in_bulk_and_in_order() -> None:
    desk = Desk(2)
    desk.learn(SHORT)
    tasks = desk.submit(50, targets={0})
    assert desk.sent == [(1, ids(tasks))]


def test_tasks_of_different_sets_of_targets_keep_their_order() -> None:
    desk = Desk(2)
    desk.submit(1, targets={0})
    desk.submit(1, targets={1})
    desk.clear()
    first, second, third = (desk.submit(1, targets=t)[0].id for t in ({0}, {0, 1}, {0}))
    for seq in range(3):
        desk.ran(1, seq, seconds=LONG)
    assert desk.sent == [(1, [first]), (1, [second]), (1, [third])]


def test_rescued_tasks_of_several_targets_keep_their_order() -> None:
    desk = Desk(2)
    desk.learn(SHORT)
    (blocker,) = desk.submit(1, G, targets={1})
    tasks = desk.submit(6, targets={0, 1})
    assert {task.engine for task in tasks} == {1}
    desk.clear()
    desk.down(1, started=0)
    desk.ran(2, blocker.seq)
    assert desk.sent == [(2, ids(tasks))]


def test_a_waiting_task_with_targets_can_be_cancelled_and_leaves_nothing() -> None:
    desk = Desk(1)
    desk.submit(1)
    tasks = desk.submit(3, targets={0})
    for task in tasks:
        desk.tell(ev.CancelWanted(task.id))
    assert desk.settled == dict.fromkeys(ids(tasks), CANCELLED)
    assert not desk.s.pinned.places


def test_mixed_targets_all_run_where_they_may() -> None:
    rng = random.Random(3)
    sim = Simulation(4)
    allowed = {}
    for _ in range(200):
        targets = frozenset(rng.sample(range(4), rng.randint(1, 3))) if rng.random() < 0.7 else None
        (task,) = sim.submit([rng.choice([1e-5, 0.02])], targets=targets, function=rng.choice("fg"))
        allowed[task.id] = targets
    sim.run()
    assert set(sim.settled) == set(allowed)
    ran = defaultdict(set)
    for run in sim.history:
        ran[run.task].add(run.engine)
    assert all(len(places) == 1 for places in ran.values())
    assert all(allowed[id] is None or places <= allowed[id] for id, places in ran.items())
