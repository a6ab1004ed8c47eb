"""Engines that are shut down one by one: they finish what they run, and nobody waits for them."""

from __future__ import annotations

from tests.helpers.desk import LONG, Desk, ids
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.messages import DIED, NO_ENGINE, OK


def stopped(desk: Desk) -> list[int]:
    return [a.serial for a in desk.all(act.StopEngine)]


def test_an_idle_one_leaves_and_nobody_comes() -> None:
    desk = Desk(3)
    desk.tell(ev.Drain(1))
    assert stopped(desk) == [2]
    desk.down(2)
    assert not desk.started
    assert desk.s.open_places == [0, 2]
    desk.tell(ev.Drain(1))  # again
    desk.tell(ev.Drain(7))  # never was
    assert stopped(desk) == [2]


def test_it_finishes_what_it_runs_and_others_get_the_rest() -> None:
    desk = Desk(2)
    desk.learn(0.001)
    tasks = desk.submit(6)
    (held,) = [t for serial, t in desk.sent if serial == 1]
    assert len(held) > 1
    desk.tell(ev.Drain(0))
    seqs = list(desk.s.fleet.engines[1].held)
    assert desk.taken_back == [(1, seqs)]
    desk.tell(ev.GaveBack(1, seqs, seqs[1:]))
    assert not stopped(desk)
    desk.ran(1, seqs[0])
    assert stopped(desk) == [1]
    while desk.s.tasks:
        desk.ran(2, *desk.s.fleet.engines[2].held)
    assert set(desk.settled.values()) == {OK}
    assert set(desk.settled) == set(ids(tasks))


def test_one_that_is_restarted_keeps_its_place() -> None:
    desk = Desk(2)
    desk.tell(ev.Drain(0, restart=True))
    assert stopped(desk) == [1]
    ((place, serial),) = desk.started
    assert place == 0
    desk.up(serial)
    (task,) = desk.submit(1, targets={0})
    assert desk.sent == [(serial, [task.id])]


def test_one_that_starts_is_ended() -> None:
    desk = Desk(2, up=False)
    desk.tell(ev.Drain(1))
    assert desk.s.open_places == [0]
    assert any(type(a) is act.KillEngine and a.serial == 2 for a in desk.actions)
    desk.down(2)
    assert not desk.s.broken


def test_what_was_for_it_alone_is_told() -> None:
    desk = Desk(3)
    desk.submit(3)
    (alone,) = desk.submit(1, targets={1})
    (either,) = desk.submit(1, targets={1, 2})
    desk.tell(ev.Drain(1))
    assert desk.settled == {alone.id: NO_ENGINE}
    (detail,) = [a.detail for a in desk.all(act.Settle)]
    assert detail == "no engine [1]: there are 0, 2"
    desk.ran(3, 0, seconds=LONG)
    assert desk.sent[-1] == (3, [either.id])
    (late,) = desk.submit(1, targets={1})
    assert desk.settled[late.id] == NO_ENGINE


def test_what_comes_back_from_it_and_was_for_it_alone_is_told() -> None:
    desk = Desk(2)
    desk.learn(0.001)
    desk.submit(4, targets={0})
    desk.tell(ev.Drain(0))
    seqs = list(desk.s.fleet.engines[1].held)
    desk.tell(ev.GaveBack(1, seqs, seqs[1:]))
    desk.down(1, started=seqs[0])
    assert sorted(desk.settled.values()) == sorted([DIED] + [NO_ENGINE] * 3)


def test_with_the_last_one_everything_that_waits_is_told() -> None:
    desk = Desk(1)
    running, *waiting = desk.submit(3)
    desk.tell(ev.Drain(0))
    assert desk.s.hungry, "or nobody would look at what is submitted now"
    (late,) = desk.submit(1)
    assert {desk.settled[task.id] for task in (*waiting, late)} == {NO_ENGINE}
    desk.ran(1, running.seq)
    assert desk.settled[running.id] == OK
    desk.down(1)
    desk.tell(ev.Closed())
    assert desk.s.finished


def test_on_demand_a_place_that_nobody_fills_is_closed() -> None:
    desk = Desk(2, on_demand=True)
    desk.tell(ev.Drain(0))
    desk.submit(2)
    assert [place for place, _ in desk.started] == [1]
