"""Engines come and go: deaths, replacements, allowance, starts on demand, and when the cluster gives up."""

from __future__ import annotations

import pytest

from tests.helpers.desk import SHORT, Desk, G, ids
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.lives import FAILED_STARTS, FRUITLESS_LIVES
from zexec.messages import BROKEN, DIED, OK, Death


def loaded(**options: object) -> tuple[Desk, list]:  # type: ignore[type-arg]
    """Engine 1 holds six tasks, the first of which it runs; engine 2 is full with another function's."""
    desk = Desk(2, **options)
    desk.learn(SHORT)
    desk.submit(1, G, targets={1})
    tasks = desk.submit(6)
    assert {task.engine for task in tasks} == {1}
    desk.clear()
    return desk, tasks


@pytest.mark.parametrize("running", [0, 2, 5])
def test_exactly_the_running_task_dies_and_the_rest_runs_in_order(running: int) -> None:
    desk, tasks = loaded()
    desk.down(1, started=tasks[running].seq)
    assert desk.settled == {tasks[running].id: DIED}
    (settle,) = desk.all(act.Settle)
    assert settle.engine == 0
    assert settle.detail == Death(0, 1, "here")
    ((place, serial),) = desk.started
    assert place == 0
    desk.clear()
    desk.up(serial)
    assert desk.sent == [(serial, ids(tasks[:running] + tasks[running + 1 :]))]


@pytest.mark.parametrize("said", [None, -2, 99, -(1 << 63), (1 << 63) - 1])
def test_where_nobody_knows_what_ran_it_was_the_oldest(said: int | None) -> None:
    """Also where what is said cannot be: a task that spoils the record would otherwise run again and again."""
    desk, tasks = loaded()
    desk.ran(1, tasks[0].seq)
    desk.clear()
    desk.down(1, started=said)
    assert desk.settled == {tasks[1].id: DIED}


def test_a_death_between_tasks_costs_none() -> None:
    """What it started last has been reported."""
    desk, tasks = loaded()
    desk.ran(1, tasks[0].seq)
    desk.clear()
    desk.down(1, started=tasks[0].seq)
    assert not desk.settled
    assert len(desk.s.tasks) == 6


def test_results_that_come_after_the_death_are_ignored() -> None:
    desk, tasks = loaded()
    desk.down(1, started=tasks[0].seq)
    desk.clear()
    desk.ran(1, *[task.seq for task in tasks])
    desk.tell(ev.GaveBack(1, [tasks[1].seq], [tasks[1].seq]))
    desk.tell(ev.Running(1, tasks[1].seq))
    desk.tell(ev.EngineUp(1, 0))
    desk.down(1)
    assert not desk.actions


def test_what_killed_an_engine_is_tried_again_after_those_that_did_not() -> None:
    desk, _ = loaded()
    desk.down(1, started=None)
    desk = Desk(1)
    desk.learn(SHORT)
    killer, *others = desk.submit(3, retries=1)
    desk.clear()
    desk.down(1, started=killer.seq)
    desk.up(2)
    assert desk.sent == [(2, ids([*others, killer]))]


def test_an_idle_engine_that_dies_is_replaced_and_costs_nothing() -> None:
    desk = Desk(2)
    desk.down(2)
    assert desk.started == [(1, 3)]
    assert not desk.settled


# -- allowance -------------------------------------------------------------------------------------------------------


def test_an_engine_leaves_when_it_has_run_its_allowance() -> None:
    desk = Desk(1, allowance=2)
    tasks = desk.submit(3)
    desk.ran(1, 0)
    desk.ran(1, 1)
    assert desk.all(act.StopEngine) == [act.StopEngine(1)]
    assert desk.started == [(0, 2)]
    desk.down(1)
    desk.up(2)
    assert desk.sent[-1] == (2, ids(tasks[2:]))


def test_an_engine_is_never_sent_more_than_its_allowance() -> None:
    desk = Desk(1, allowance=3)
    desk.learn(SHORT)
    desk.submit(100)
    assert [len(sent) for _, sent in desk.sent] == [2]


def test_what_was_given_back_does_not_count() -> None:
    desk = Desk(1, allowance=3)
    desk.learn(SHORT)
    one, two = desk.submit(2)
    desk.tell(ev.CancelWanted(two.id))
    desk.tell(ev.GaveBack(1, [two.seq], [two.seq]))
    desk.clear()
    desk.ran(1, one.seq)
    assert not desk.all(act.StopEngine)
    desk.submit(5)
    assert [len(sent) for _, sent in desk.sent] == [1]


# -- on demand -------------------------------------------------------------------------------------------------------


def test_on_demand_engines_start_as_tasks_need_them() -> None:
    desk = Desk(4, on_demand=True)
    assert not desk.s.fleet.engines
    desk.submit(1)
    desk.submit(1)
    assert desk.started == [(0, 1), (1, 2)]
    desk.up(1)
    desk.up(2)
    desk.ran(1, 0)
    desk.ran(2, 0)
    desk.clear()
    desk.submit(1)
    assert not desk.started, "an idle engine takes it"
    desk.submit(20, G)
    assert desk.started == [(2, 3), (3, 4)]


def test_on_demand_a_dead_engine_is_replaced_only_if_it_is_needed() -> None:
    desk = Desk(2, on_demand=True)
    (task,) = desk.submit(1)
    desk.up(1)
    desk.clear()
    desk.down(1, started=task.seq)
    assert not desk.started
    desk.submit(1)
    assert desk.started == [(0, 2)]


def test_on_demand_the_engines_that_targets_name_are_started() -> None:
    desk = Desk(4, on_demand=True)
    desk.submit(2, targets={2})
    assert desk.started == [(2, 1)]


def test_on_demand_all_can_be_started_at_the_beginning() -> None:
    desk = Desk(3, on_demand=True)
    desk.s.begin()
    desk.decide()
    assert [place for place, _ in desk.started] == [0, 1, 2]


# -- giving up -------------------------------------------------------------------------------------------------------


def test_engines_that_never_come_up_break_the_cluster() -> None:
    desk = Desk(1, up=False)
    (task,) = desk.submit(1)
    for serial in range(1, FAILED_STARTS + 1):
        assert not desk.settled
        desk.down(serial)
    assert desk.settled == {task.id: BROKEN}
    assert not desk.s.fleet.engines
    (late,) = desk.submit(1)
    assert desk.settled[late.id] == BROKEN


def test_also_when_no_more_tasks_will_come() -> None:
    """Closed with tasks open: it must not start engines for ever."""
    desk = Desk(1, up=False)
    (task,) = desk.submit(1)
    desk.tell(ev.Closed())
    for serial in range(1, FAILED_STARTS + 1):
        desk.down(serial)
    assert desk.settled == {task.id: BROKEN}
    assert desk.all(act.Finished)


def test_one_that_comes_up_between_forgives() -> None:
    desk = Desk(1, up=False)
    for serial in range(1, FAILED_STARTS):
        desk.down(serial)
    desk.up(FAILED_STARTS)
    for serial in range(FAILED_STARTS, 2 * FAILED_STARTS - 1):
        desk.down(serial)
    assert not desk.s.broken


def test_engines_that_die_before_they_begin_anything_break_the_cluster_in_the_end() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1)
    for serial in range(1, FRUITLESS_LIVES + 1):
        assert not desk.s.broken
        desk.down(serial, started=-1)
        if not desk.s.broken:
            desk.up(serial + 1)
    assert desk.settled == {task.id: BROKEN}


def test_break_on_death() -> None:
    desk = Desk(2, break_on_death=True)
    tasks = desk.submit(5)
    desk.down(1, started=0)
    assert desk.settled == {tasks[0].id: DIED} | dict.fromkeys(ids(tasks[1:]), BROKEN)
    assert desk.killed == [2]
    assert desk.started == []
    desk.down(2)
    assert not desk.s.fleet.engines


def test_break_on_death_also_before_an_engine_is_up() -> None:
    desk = Desk(2, break_on_death=True, up=False)
    (task,) = desk.submit(1)
    desk.down(1)
    assert desk.s.broken
    assert desk.settled == {task.id: BROKEN}


def test_a_hail_of_kills_does_not_break_a_cluster_that_has_been_up() -> None:
    desk = Desk(1)
    for serial in range(1, 50):
        desk.down(serial)
    assert not desk.s.broken
    assert desk.started[-1] == (0, 50)


def test_leaving_is_not_dying() -> None:
    desk = Desk(1, break_on_death=True, allowance=1)
    desk.submit(1)
    desk.ran(1, 0)
    desk.down(1)
    assert not desk.s.broken
    assert desk.started == [(0, 2)]


def test_a_lost_engines_place_is_not_filled_twice() -> None:
    desk = Desk(1, allowance=1)
    desk.submit(1)
    desk.ran(1, 0)
    assert desk.started == [(0, 2)]
    desk.down(1)
    assert desk.started == [(0, 2)]
    assert desk.settled == {0: OK}
