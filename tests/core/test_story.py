"""What happened to a task, and where it is."""

from __future__ import annotations

import pytest

from tests.helpers.desk import SHORT, Desk
from zexec.core import events as ev
from zexec.core.log import ENTRIES, IDS, Log
from zexec.core.state import TRANSITIONS, InvalidTransition
from zexec.messages import ERROR, SENT, SETTLED, WAITING


def sentences(desk: Desk, id: int) -> list[str]:
    return [sentence for _, sentence in desk.s.story(id)]


def test_the_story_of_a_task() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1, retries=2)
    desk.ran(1, 0, status=ERROR)
    desk.down(1, started=1)
    desk.up(2)
    desk.ran(2, 0)
    assert sentences(desk, task.id) == [
        "submitted",
        "sent to engine 0",
        "attempt 1 failed, tried again",
        "sent to engine 0",
        "attempt 2 failed, tried again",
        "rescued from engine 0",
        "sent to engine 0",
        "ran on engine 0",
    ]
    times = [when for when, _ in desk.s.story(task.id)]
    assert times == sorted(times)


def test_the_story_of_a_task_that_was_taken_back() -> None:
    desk = Desk(1)
    desk.learn(SHORT)
    _, task = desk.submit(2)
    desk.tell(ev.CancelWanted(task.id))
    desk.tell(ev.GaveBack(1, [task.seq], [task.seq]))
    assert sentences(desk, task.id) == [
        "submitted",
        "sent to engine 0",
        "asked back from engine 0",
        "settled without a result",
    ]


def test_nothing_is_known_of_others() -> None:
    assert Desk(1).s.story(123) == []


def test_the_log_is_bounded_in_entries_and_in_ids() -> None:
    log = Log()
    for i in range(3 * ENTRIES):
        log.add(float(i), "x", None, (i,))
    assert len(log._entries) == ENTRIES
    assert not log.story(0)
    assert log.story(3 * ENTRIES - 1)
    for _ in range(10):
        log.add(0.0, "bulk", None, range(IDS))
    assert len(log._entries) == 1
    assert log.story(IDS - 1)


def test_explain_says_where_a_task_is() -> None:
    desk = Desk(1)
    explain = desk.s.explain
    (running,), (waiting,) = desk.submit(1, timeout=1.0), desk.submit(1)
    (pinned,) = desk.submit(1, targets={0})
    assert explain(running.id) == "engine 0 runs it"
    assert "have no room" in explain(waiting.id)
    assert "[0]" in explain(pinned.id)
    desk.tell(ev.CancelWanted(running.id))
    assert "asked to give it back" in explain(running.id)
    desk.tell(ev.GaveBack(1, [running.seq], []))
    desk.tell(ev.Running(1, running.seq))
    desk.later(1.0)
    assert "told to stop" in explain(running.id)
    desk.ran(1, running.seq, status=ERROR)
    assert "ended, or was never" in explain(running.id)


def test_explain_says_what_a_task_is_behind() -> None:
    desk = Desk(1)
    desk.learn(SHORT)
    *_, last = desk.submit(3)
    assert desk.s.explain(last.id) == "engine 0 holds it behind 2 others"


def test_is_running() -> None:
    desk = Desk(1)
    desk.learn(SHORT)
    running, behind = desk.submit(2)
    assert desk.s.is_running(running.id)
    assert not desk.s.is_running(behind.id)
    desk.ran(1, running.seq)
    assert not desk.s.is_running(running.id)
    assert desk.s.is_running(behind.id)


def test_an_invalid_transition_tells_the_story() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1)
    desk.ran(1, 0)
    assert task.state is SETTLED
    with pytest.raises(InvalidTransition, match=r"cannot become waiting.*submitted.*sent to engine 0.*ran on engine 0"):
        desk.s.move(task, WAITING)


def test_a_task_cannot_be_submitted_twice() -> None:
    desk = Desk(1)
    (task,) = desk.submit(1)
    with pytest.raises(InvalidTransition, match="submitted before"):
        desk.s.handle(desk.now, ev.Submitted([task]))


def test_the_table_of_transitions_is_closed() -> None:
    assert not TRANSITIONS[SETTLED]
    assert all(following <= set(TRANSITIONS) for following in TRANSITIONS.values())
    assert SETTLED in TRANSITIONS[SENT]
