"""No task waits behind a long one while somebody could run it."""

from __future__ import annotations

from tests.helpers.desk import SHORT, Desk, G, ids
from zexec.core import events as ev
from zexec.core.stealing import OVERDUE, STUCK
from zexec.messages import OK, REVOKING, SENT


def two_engines_one_loaded(seconds: float, count: int = 3) -> Desk:
    """Engine 1 holds ``count`` tasks, and engine 2 has just run all it had."""
    desk = Desk(2)
    desk.learn(seconds, serial=2)
    desk.submit(1, G, targets={1})  # fills engine 2 meanwhile
    desk.submit(count)
    desk.clear()
    return desk


def test_worth_stealing_is_taken_at_once_and_half_of_it() -> None:
    desk = two_engines_one_loaded(0.0009)
    one, two = desk.s.fleet.engines.values()
    assert len(one.held) == 3
    behind = len(one.held) - 1
    desk.ran(2, *two.held, seconds=0.0009)
    # Nothing waits any more, engine 2 idles, some milliseconds of work lie behind what engine 1 runs.
    ((serial, seqs),) = desk.taken_back
    assert serial == 1
    assert len(seqs) == -(-behind // 2)
    assert min(seqs) > next(iter(one.held)), "not the one that runs"


def test_what_was_given_back_goes_to_the_idle_engine() -> None:
    desk = two_engines_one_loaded(0.0009)
    one, two = desk.s.fleet.engines.values()
    desk.ran(2, *two.held, seconds=0.0009)
    ((_, seqs),) = desk.taken_back
    moved = [one.held[seq].id for seq in seqs]
    desk.clear()
    desk.tell(ev.GaveBack(1, seqs, seqs))
    assert (2, moved) in desk.sent


def test_too_little_is_left_alone_until_it_is_overdue() -> None:
    desk = two_engines_one_loaded(SHORT)
    one, two = desk.s.fleet.engines.values()
    behind = list(one.held)[1:]
    assert behind
    desk.ran(2, *two.held)
    assert not desk.taken_back
    assert desk.s.next_deadline() == one.progress + OVERDUE
    desk.later(OVERDUE * 0.9)
    assert not desk.taken_back
    desk.later(OVERDUE * 0.2)
    assert desk.taken_back == [(1, behind)], "all of it: the engine is deep in something long"


def test_an_engine_found_in_a_long_task_is_given_nothing_more() -> None:
    desk = two_engines_one_loaded(SHORT)
    _, two = desk.s.fleet.engines.values()
    desk.ran(2, *two.held)
    desk.later(OVERDUE)
    ((_, seqs),) = desk.taken_back
    desk.clear()
    desk.tell(ev.GaveBack(1, seqs, seqs))
    desk.submit(50)
    assert desk.sent
    assert {serial for serial, _ in desk.sent} == {2}


def test_what_has_started_stays() -> None:
    desk = two_engines_one_loaded(SHORT)
    one, two = desk.s.fleet.engines.values()
    desk.ran(2, *two.held)
    desk.later(OVERDUE)
    ((_, seqs),) = desk.taken_back
    tasks = [one.held[seq] for seq in seqs]
    assert {task.state for task in tasks} == {REVOKING}
    desk.clear()
    desk.tell(ev.GaveBack(1, seqs, seqs[1:]))
    assert tasks[0].state is SENT
    desk.ran(1, *one.held)
    assert desk.settled[tasks[0].id] == OK


def test_a_second_answer_changes_nothing() -> None:
    desk = two_engines_one_loaded(SHORT)
    _, two = desk.s.fleet.engines.values()
    desk.ran(2, *two.held)
    desk.later(OVERDUE)
    ((_, seqs),) = desk.taken_back
    for given in (seqs[1:], seqs[1:], seqs, []):
        desk.tell(ev.GaveBack(1, seqs, given))


def test_order_is_kept_when_tasks_come_back() -> None:
    desk = Desk(2)
    desk.learn(SHORT)
    desk.submit(1, G, targets={1})
    tasks = ids(desk.submit(5, targets={0}))
    desk.down(1, started=0)
    desk.clear()
    desk.up(3)
    assert [sent for serial, sent in desk.sent if serial == 3] == [tasks]


def test_behind_a_stuck_engine_nothing_waits_for_the_whole_queue() -> None:
    """No engine is idle, many tasks wait: those behind the long one would be overtaken by all of them."""
    desk = Desk(2)
    desk.learn(SHORT)
    desk.submit(20_000)
    one, two = desk.s.fleet.engines.values()
    behind = list(one.held)[1:]
    for _ in range(12):
        desk.ran(2, *list(two.held)[:3])
        desk.later(STUCK / 10)
    assert (1, behind) in desk.taken_back


def test_an_idle_cluster_asks_for_no_time() -> None:
    desk = Desk(2)
    desk.submit(2)
    assert desk.s.next_deadline() is None
    desk.ran(1, 0)
    desk.ran(2, 0)
    assert desk.s.next_deadline() is None


def test_tasks_of_one_target_are_not_asked_for_again_and_again() -> None:
    desk = Desk(2)
    desk.learn(SHORT)
    desk.submit(5, targets={0})
    desk.later(OVERDUE * 2)
    assert not desk.taken_back
    assert desk.s.next_deadline() is None


def test_tasks_of_several_targets_are_taken_for_one_of_them_only() -> None:
    desk = Desk(3)
    desk.learn(SHORT)
    desk.submit(1, G, targets={1})
    tasks = desk.submit(4, targets={0, 1})
    assert {task.engine for task in tasks} == {1}
    desk.clear()
    desk.later(OVERDUE)  # engine 3 idles, but may not run them
    assert not desk.taken_back
    desk.ran(2, 0)
    desk.later(OVERDUE)
    assert desk.taken_back == [(1, [task.seq for task in tasks[1:]])]


def test_on_demand_a_task_behind_a_long_one_gets_an_engine_of_its_own() -> None:
    desk = Desk(2, on_demand=True)
    desk.submit(1)
    desk.up(1)
    desk.ran(1, 0)
    tasks = desk.submit(2)
    assert [task.engine for task in tasks] == [1, 1]
    desk.clear()
    desk.later(OVERDUE)
    assert desk.taken_back == [(1, [tasks[1].seq])]
    desk.tell(ev.GaveBack(1, [tasks[1].seq], [tasks[1].seq]))
    assert desk.started == [(1, 2)]
    desk.up(2)
    assert tasks[1].engine == 2
