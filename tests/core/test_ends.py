"""How it all ends: closed, broken, terminated."""

from __future__ import annotations

import pytest

from tests.helpers.desk import SHORT, Desk, ids
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.messages import BROKEN, OK, TERMINATED


def stops(desk: Desk) -> list[int]:
    return [action.serial for action in desk.all(act.StopEngine)]


def test_closed_with_nothing_open_sends_all_home_and_is_finished_when_the_last_has_gone() -> None:
    desk = Desk(2)
    desk.tell(ev.Closed())
    assert stops(desk) == [1, 2]
    desk.down(1)
    assert not desk.s.finished
    desk.down(2)
    assert desk.s.finished
    assert len(desk.all(act.Finished)) == 1
    desk.tell(ev.Closed())
    desk.decide()
    assert len(desk.all(act.Finished)) == 1


def test_closed_finishes_what_is_open_first() -> None:
    desk = Desk(1)
    tasks = desk.submit(3)
    desk.tell(ev.Closed())
    desk.ran(1, 0)
    assert not stops(desk)
    desk.ran(1, 1, 2)
    assert desk.settled == dict.fromkeys(ids(tasks), OK)
    assert stops(desk) == [1]


def test_closed_still_replaces_an_engine_that_dies_with_work() -> None:
    desk = Desk(1)
    desk.submit(2)
    desk.tell(ev.Closed())
    desk.down(1, started=0)
    assert desk.started == [(0, 2)]
    desk.up(2)
    desk.ran(2, 0)
    desk.down(2)
    assert desk.s.finished


def test_an_engine_that_comes_up_after_the_end_is_sent_home() -> None:
    desk = Desk(1, up=False)
    desk.tell(ev.Closed())
    assert not stops(desk)
    desk.up(1)
    assert stops(desk) == [1]
    desk.down(1)
    assert desk.s.finished


def test_a_task_between_closing_and_the_end_still_runs() -> None:
    """A retired engine's place was not filled, as nothing was open: it is now."""
    desk = Desk(1, allowance=1)
    desk.submit(1)
    desk.tell(ev.Closed())
    desk.ran(1, 0)
    (task,) = desk.submit(1)
    assert desk.started == [(0, 2)]
    desk.up(2)
    desk.ran(2, 0)
    assert desk.settled[task.id] == OK


@pytest.mark.parametrize("end", ["terminated", "finished"])
def test_a_task_after_the_end_is_settled_not_lost(end: str) -> None:
    desk = Desk(1)
    desk.tell(ev.Terminated() if end == "terminated" else ev.Closed())
    desk.down(1)
    (task,) = desk.submit(1)
    assert desk.settled == {task.id: TERMINATED}
    assert not desk.started


def test_terminated_settles_everything_at_once_and_kills_every_engine() -> None:
    desk = Desk(2)
    desk.learn(SHORT)
    tasks = desk.submit(3_000) + desk.submit(10, targets={1})
    desk.clear()
    desk.tell(ev.Terminated())
    assert desk.settled == dict.fromkeys(ids(tasks), TERMINATED)
    assert desk.killed == [1, 2]
    desk.clear()
    desk.ran(1, 0, 1, 2)
    assert not desk.settled
    desk.down(1)
    desk.down(2)
    assert desk.s.finished
    assert not desk.started


def test_terminated_while_engines_start() -> None:
    desk = Desk(2, up=False)
    desk.submit(2)
    desk.tell(ev.Terminated())
    assert desk.killed == [1, 2]
    desk.up(1)
    assert not desk.sent
    desk.down(1)
    desk.down(2)
    assert desk.s.finished


def test_broken_settles_everything_with_the_reason() -> None:
    desk = Desk(2)
    tasks = desk.submit(5)
    desk.tell(ev.Broke("the initializer raised"))
    assert desk.settled == dict.fromkeys(ids(tasks), BROKEN)
    assert {action.detail for action in desk.all(act.Settle)} == {"the initializer raised"}
    assert desk.killed == [1, 2]
    desk.clear()
    desk.tell(ev.Broke("again"))
    assert not desk.actions
    assert desk.s.broken == "the initializer raised"
    desk.down(1)
    desk.down(2)
    assert not desk.started
    desk.tell(ev.Closed())
    assert desk.s.finished
