"""What is remembered for a place is run by whoever takes it, before all else."""

from __future__ import annotations

from tests.helpers.desk import LONG, Desk, F
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.messages import CALL, OK, Task


def remember(desk: Desk, place: int, *keys: int) -> None:
    for key in keys:
        desk.tell(ev.Remembered(place, key, Task(0, F, CALL, b"%d" % key)))


def first_payloads(desk: Desk, serial: int) -> list[bytes]:
    return next([task.payload for task in a.tasks] for a in desk.all(act.Send) if a.serial == serial)


def successor(desk: Desk, serial: int = 1, started: int = -1) -> int:
    """The engine dies; the serial of the one that takes its place, which is up."""
    desk.clear()
    desk.down(serial, started)
    ((_, new),) = desk.started
    desk.up(new)
    return new


def test_they_come_first_and_in_order_whatever_waits() -> None:
    desk = Desk(2)
    desk.submit(2)
    pinned = desk.submit(3, targets={0}, priority=9)
    desk.submit(20, priority=5)
    remember(desk, 0, 3, 1, 2)
    assert not [t for t in desk.s.tasks if t < 0], "who is there has done it"
    new = successor(desk, started=-1)
    assert first_payloads(desk, new) == [b"3", b"1", b"2"]
    for _ in range(3):
        desk.ran(new, next(iter(desk.s.fleet.engines[new].held)), seconds=LONG)
    assert {t.id for t in desk.s.fleet.engines[new].held.values()} & {t.id for t in pinned}


def test_what_is_forgotten_or_for_another_place_is_not_run() -> None:
    desk = Desk(2)
    remember(desk, 0, 1, 2)
    remember(desk, 1, 7)
    desk.tell(ev.Remembered(0, 1, None))
    desk.tell(ev.Remembered(0, 9, None))
    new = successor(desk)
    assert first_payloads(desk, new) == [b"2"]
    desk.ran(new, 0)
    desk.tell(ev.Remembered(0, 2, None))
    successor(desk, new)
    assert not desk.sent


def test_a_successor_that_dies_on_the_way_leaves_it_to_the_next() -> None:
    desk = Desk(1)
    remember(desk, 0, 1, 2)
    new = successor(desk)
    newer = successor(desk, new, started=-1)
    assert first_payloads(desk, newer) == [b"1", b"2"]
    assert len([t for t in desk.s.tasks if t < 0]) == 2


def test_what_kills_a_successor_is_not_tried_again() -> None:
    desk = Desk(1)
    remember(desk, 0, 1, 2)
    new = successor(desk)
    successor(desk, new, started=0)
    assert not desk.sent
    (task,) = desk.submit(1)
    assert desk.sent
    assert task.id in desk.s.tasks


def test_what_a_successor_gives_back_is_left_to_the_next() -> None:
    desk = Desk(1)
    remember(desk, 0, 1, 2)
    new = successor(desk)
    desk.tell(ev.Drain(0, restart=True))
    seqs = list(desk.s.fleet.engines[new].held)
    desk.tell(ev.GaveBack(new, seqs, seqs[1:]))
    desk.ran(new, seqs[0])
    _, newer = desk.started[-1]
    desk.up(newer)
    assert first_payloads(desk, newer) == [b"1", b"2"]
    assert len([t for t in desk.s.tasks if t < 0]) == 2


def test_a_pool_closes_when_they_have_run() -> None:
    desk = Desk(1)
    remember(desk, 0, 1)
    new = successor(desk)
    desk.tell(ev.Closed())
    desk.ran(new, 0)
    assert [a.serial for a in desk.all(act.StopEngine)] == [new]
    assert list(desk.settled.values()) == [OK]


def test_who_came_before_it_was_said_anew_catches_up() -> None:
    """A hub has come back, and an engine has taken a place before the client that remembers has."""
    desk = Desk(2)
    remember(desk, 1, 3)
    desk.submit(2, targets={0})
    desk.clear()
    for key in (1, 2):
        desk.s.handle(desk.now, ev.Remembered(0, key, Task(0, F, CALL, b"%d" % key), again=True))
    desk.submit(1, targets={0}, priority=9)
    assert first_payloads(desk, 1) == [b"1", b"2"]
    desk.tell(ev.Remembered(0, 1, Task(0, F, CALL, b"1"), again=True))  # it is known by now
    desk.tell(ev.Remembered(1, 3, Task(0, F, CALL, b"3"), again=True))
    assert len([t for t in desk.s.tasks if t < 0]) == 2
    new = successor(desk)
    assert first_payloads(desk, new) == [b"1", b"2"]


def test_who_was_there_in_the_life_before_has_run_it() -> None:
    desk = Desk(1, up=False, elastic=True)
    desk.tell(ev.Joined(1))
    desk.tell(ev.EngineUp(1, 0, (), 5))
    desk.tell(ev.Remembered(0, 1, Task(0, F, CALL, b"1"), again=True))
    assert not desk.sent


def test_nobody_is_there_to_catch_up() -> None:
    desk = Desk(1, up=False)
    desk.tell(ev.Remembered(0, 1, Task(0, F, CALL, b"1"), again=True))
    assert not desk.sent
    desk.up(1)
    assert first_payloads(desk, 1) == [b"1"]
    desk.s.handle(desk.now, ev.Remembered(0, 2, Task(0, F, CALL, b"2"), again=True))
    desk.down(1)  # before that could be sent
    ((_, new),) = desk.started
    desk.up(new)
    assert first_payloads(desk, new) == [b"1", b"2"]
