"""Cancelling: a task that waits, that was sent, that runs, softly and by force."""

from __future__ import annotations

import pytest

from tests.helpers.desk import SHORT, Desk, ids
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.state import GRACE
from zexec.messages import CANCELLED, ERROR, OK, TIMEOUT


def loaded() -> tuple[Desk, list]:  # type: ignore[type-arg]
    """One engine that holds five tasks and runs the first."""
    desk = Desk(1)
    desk.learn(SHORT)
    tasks = desk.submit(5)
    desk.clear()
    return desk, tasks


@pytest.mark.parametrize("targets", [None, {0}])
def test_a_waiting_task_is_cancelled_at_once(targets: set[int] | None) -> None:
    desk = Desk(1)
    tasks = desk.submit(3, targets=targets)
    desk.tell(ev.CancelWanted(tasks[1].id))
    assert desk.settled == {tasks[1].id: CANCELLED}
    desk.clear()
    desk.ran(1, 0, seconds=1.0)
    desk.ran(1, 1, seconds=1.0)
    assert set(desk.settled) == {tasks[0].id, tasks[2].id}


def test_of_20_tasks_on_2_busy_engines_18_can_be_cancelled() -> None:
    desk = Desk(2)
    tasks = desk.submit(20)
    for task in tasks[2:]:
        desk.tell(ev.CancelWanted(task.id))
    assert desk.settled == dict.fromkeys(ids(tasks[2:]), CANCELLED)


def test_a_sent_task_is_cancelled_when_the_engine_gives_it_back() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[3].id))
    seq = tasks[3].seq
    assert desk.taken_back == [(1, [seq])]
    assert not desk.settled
    desk.tell(ev.GaveBack(1, [seq], [seq]))
    assert desk.settled == {tasks[3].id: CANCELLED}


def test_a_running_task_is_not_cancelled_softly() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[0].id))
    desk.tell(ev.GaveBack(1, [tasks[0].seq], []))
    assert [a.task for a in desk.all(act.RefuseCancel)] == [tasks[0]]
    assert not desk.settled
    desk.ran(1, tasks[0].seq)
    assert desk.settled == {tasks[0].id: OK}


def test_a_running_task_is_stopped_by_force() -> None:
    desk, tasks = loaded()
    seq = tasks[0].seq
    desk.tell(ev.CancelWanted(tasks[0].id, running=True))
    desk.tell(ev.GaveBack(1, [seq], []))
    assert desk.all(act.Stir) == [act.Stir(1, seq)]
    desk.ran(1, seq, status=ERROR)
    assert desk.settled == {tasks[0].id: CANCELLED}


def test_a_task_that_ignores_being_stopped_costs_its_engine() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[0].id, running=True))
    desk.tell(ev.GaveBack(1, [tasks[0].seq], []))
    desk.later(GRACE)
    assert desk.killed == [1]
    desk.down(1, started=tasks[0].seq)
    assert desk.settled == {tasks[0].id: CANCELLED}
    desk.up(desk.started[0][1])
    assert desk.sent[-1][1] == ids(tasks[1:2]) or desk.sent[-1][1] == ids(tasks[1:])


def test_an_engine_that_never_answers_a_cancel_by_force_is_replaced() -> None:
    """It was stopped, say. Its io thread would have answered at once."""
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[0].id, running=True))
    desk.later(GRACE)
    assert desk.killed == [1]
    desk.down(1, started=tasks[0].seq)
    assert desk.settled == {tasks[0].id: CANCELLED}


def test_a_soft_cancel_is_answered_where_another_by_force_costs_the_engine() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[0].id))
    desk.tell(ev.CancelWanted(tasks[3].id, running=True))
    desk.later(GRACE + 0.01)
    assert desk.killed == [1]
    desk.down(1, started=tasks[0].seq)
    assert desk.settled == {tasks[0].id: CANCELLED, tasks[3].id: CANCELLED}
    assert len(desk.s.ready) == 3


def test_force_after_a_soft_try() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[0].id))
    desk.tell(ev.CancelWanted(tasks[0].id, running=True))
    assert len(desk.taken_back) == 1
    desk.tell(ev.GaveBack(1, [tasks[0].seq], []))
    assert desk.all(act.Stir)


def test_a_result_that_beats_the_interrupt_counts() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[0].id, running=True))
    desk.tell(ev.GaveBack(1, [tasks[0].seq], []))
    desk.ran(1, tasks[0].seq)
    assert desk.settled == {tasks[0].id: OK}
    desk.later(GRACE * 2)
    assert not desk.killed


def test_a_withdrawn_cancel_lets_the_task_run() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[2].id, running=True))
    desk.tell(ev.CancelWithdrawn(tasks[2].id))
    seq = tasks[2].seq
    desk.tell(ev.GaveBack(1, [seq], [seq]))
    assert not desk.settled
    desk.later(GRACE * 2)
    assert not desk.killed
    desk.ran(1, tasks[2].seq)
    assert desk.settled == {tasks[2].id: OK}


def test_a_task_that_is_to_be_cancelled_is_not_tried_again() -> None:
    """It failed while the question was on its way: whoever asked is told of the failure, and need not wait for more."""
    desk = Desk(1)
    (task,) = desk.submit(1, retries=3)
    desk.tell(ev.CancelWanted(task.id))
    desk.ran(1, task.seq, status=ERROR)
    assert desk.settled == {task.id: ERROR}


def test_a_cancelled_task_whose_engine_dies_is_cancelled() -> None:
    desk, tasks = loaded()
    desk.tell(ev.CancelWanted(tasks[2].id))
    desk.down(1, started=tasks[0].seq)
    assert desk.settled[tasks[2].id] == CANCELLED


def test_cancelling_what_has_ended_or_never_was_does_nothing() -> None:
    desk, tasks = loaded()
    desk.ran(1, tasks[0].seq)
    desk.clear()
    desk.tell(ev.CancelWanted(tasks[0].id, running=True))
    desk.tell(ev.CancelWanted(987_654))
    desk.tell(ev.CancelWithdrawn(987_654))
    assert not desk.actions


def test_a_task_that_is_being_stopped_refuses_a_soft_cancel_at_once() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1, timeout=1.0)
    desk.tell(ev.Running(1, task.seq))
    desk.later(1.0)
    desk.tell(ev.CancelWanted(task.id))
    assert len(desk.all(act.RefuseCancel)) == 1
    desk.ran(1, task.seq, status=ERROR)
    assert desk.settled == {task.id: TIMEOUT}


def test_cancel_all_asks_each_engine_once_for_all_but_what_it_runs() -> None:
    desk = Desk(2)
    desk.learn(SHORT)
    tasks = desk.submit(5_000)
    behind = {e.serial: list(e.held)[1:] for e in desk.s.fleet.engines.values()}
    waiting = 5_000 - sum(map(len, behind.values())) - 2
    assert waiting > 0
    desk.clear()
    desk.tell(ev.CancelAll())
    assert len(desk.settled) == waiting
    assert dict(desk.taken_back) == behind
    for serial, seqs in behind.items():
        desk.tell(ev.GaveBack(serial, seqs, seqs[1:]))
    assert len(desk.settled) == len(tasks) - 4
    assert len(desk.all(act.RefuseCancel)) == 2


def test_cancel_all_leaves_what_engines_that_start_would_have_taken() -> None:
    """In the stdlib the first tasks are beyond recall from the moment they are submitted."""
    desk = Desk(2, up=False)
    tasks = desk.submit(5)
    desk.tell(ev.CancelAll())
    assert desk.settled == dict.fromkeys(ids(tasks[2:]), CANCELLED)


def test_many_cancelled_tasks_leave_nothing_behind() -> None:
    desk = Desk(1)
    desk.submit(1)
    for _ in range(3):
        for task in desk.submit(1_000)[1:]:
            desk.tell(ev.CancelWanted(task.id)) if task.id % 50 == 0 else desk.s.handle(
                desk.now, ev.CancelWanted(task.id)
            )
    assert len(desk.s.ready) == 3
    assert sum(len(level) for level in desk.s.ready._levels.values()) < 100
