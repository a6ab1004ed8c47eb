"""Time-outs: interrupt, then replace the engine; siblings unhurt. And retries, whatever the failure was."""

from __future__ import annotations

import pytest

from tests.helpers.desk import SHORT, Desk, ids
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.state import GRACE
from zexec.messages import DIED, ERROR, OK, TIMEOUT


def test_a_time_out_counts_from_the_start_of_the_run() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1, timeout=2.0)
    desk.later(50.0)
    desk.tell(ev.Running(1, task.seq))
    assert desk.s.next_deadline() == desk.now + 2.0
    desk.later(1.9)
    assert not desk.all(act.Stir)
    desk.later(0.2)
    assert desk.all(act.Stir) == [act.Stir(1, task.seq)]
    desk.ran(1, task.seq, status=ERROR)
    (settle,) = desk.all(act.Settle)
    assert (settle.status, settle.detail, settle.payload) == (TIMEOUT, 2.0, None)


def test_a_task_that_ignores_the_interrupt_costs_its_engine_after_grace() -> None:
    desk = Desk(1)
    desk.learn(SHORT)
    task, *siblings = desk.submit(4, timeout=1.0)
    desk.tell(ev.Running(1, task.seq))
    desk.later(1.0)
    desk.later(GRACE * 0.9)
    assert not desk.killed
    desk.later(GRACE * 0.2)
    assert desk.killed == [1]
    assert desk.started == [(0, 2)], "the place is filled anew without waiting for the end of the old engine"
    desk.down(1, started=task.seq)
    assert desk.settled == {task.id: TIMEOUT}
    desk.clear()
    desk.up(2)
    assert desk.sent == [(2, ids(siblings))]


def test_two_tasks_can_be_late_at_the_same_time() -> None:
    """The first was interrupted, and ended with its result still on the way when the second's time was up."""
    desk = Desk(1)
    desk.learn(SHORT)
    one, two, *_ = desk.submit(4, timeout=1.0)
    desk.tell(ev.Running(1, one.seq))
    desk.later(1.0)
    desk.tell(ev.Running(1, two.seq))
    desk.later(1.0)
    assert len(desk.all(act.Stir)) == 2
    desk.ran(1, one.seq, two.seq, status=ERROR)
    assert desk.settled == {one.id: TIMEOUT, two.id: TIMEOUT}


def test_a_task_that_runs_when_another_is_killed_for_runs_again() -> None:
    desk = Desk(1)
    desk.learn(SHORT)
    late, innocent, *_ = desk.submit(4, timeout=1.0)
    desk.tell(ev.Running(1, late.seq))
    desk.later(1.0)
    desk.later(GRACE)
    desk.down(1, started=innocent.seq)
    assert desk.settled == {late.id: TIMEOUT}


def test_being_killed_for_a_time_out_does_not_break_a_cluster_that_breaks_on_death() -> None:
    desk = Desk(2, break_on_death=True)
    (task,) = desk.submit(1, timeout=1.0)
    desk.tell(ev.Running(1, task.seq))
    desk.later(1.0)
    desk.later(GRACE)
    desk.down(1, started=task.seq)
    assert desk.settled == {task.id: TIMEOUT}
    assert not desk.s.broken


def test_a_time_out_of_a_task_that_was_given_back_means_nothing() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1, timeout=1.0)
    desk.tell(ev.Running(1, task.seq))
    desk.down(1, started=-1)
    desk.clear()
    desk.later(5.0)
    assert not desk.all(act.Stir)


def test_deadlines_of_ended_tasks_do_not_pile_up() -> None:
    desk = Desk(1)
    for _ in range(1_000):
        (task,) = desk.submit(1, timeout=3600.0)
        desk.s.handle(desk.now, ev.Running(1, task.seq))
        desk.s.handle(desk.now, ev.Ran(1, [(task.seq, OK, b"", 0.0, SHORT)]))
        desk.s.decide(desk.now)
    assert len(desk.s.deadlines) <= 64


# -- retries ---------------------------------------------------------------------------------------------------------


def by_exception(desk: Desk, serial: int, seq: int) -> int:
    desk.ran(serial, seq, status=ERROR)
    return ERROR


def by_death(desk: Desk, serial: int, seq: int) -> int:
    desk.down(serial, started=seq)
    desk.up(max(desk.s.fleet.engines))
    return DIED


def by_time_out(desk: Desk, serial: int, seq: int) -> int:
    desk.tell(ev.Running(serial, seq))
    desk.later(1.0)
    desk.ran(serial, seq, status=ERROR)
    return TIMEOUT


@pytest.mark.parametrize("fail", [by_exception, by_death, by_time_out])
def test_retries(fail) -> None:  # type: ignore[no-untyped-def]
    desk = Desk(1)
    (task,) = desk.submit(1, retries=2, timeout=1.0)
    for attempt in range(2):
        fail(desk, task.engine, task.seq)
        assert not desk.settled
        assert task.attempts == attempt + 1
    status = fail(desk, task.engine, task.seq)
    assert desk.settled == {task.id: status}


def test_a_retry_may_succeed() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1, retries=1)
    desk.ran(1, task.seq, status=ERROR)
    desk.ran(1, task.seq)
    assert desk.settled == {task.id: OK}


def test_without_retries_the_first_failure_counts() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1)
    desk.ran(1, task.seq, status=ERROR)
    assert desk.settled == {task.id: ERROR}
