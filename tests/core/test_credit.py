"""How many tasks an engine is given, and which: credit, guided shares, priorities."""

from __future__ import annotations

from tests.helpers.desk import LONG, SHORT, Desk, G, ids
from zexec.core.costs import AHEAD, HOLD, Costs


def test_an_unknown_function_gets_one_task_per_engine() -> None:
    desk = Desk(3)
    tasks = ids(desk.submit(10))
    assert desk.sent == [(1, tasks[:1]), (2, tasks[1:2]), (3, tasks[2:3])]


def test_credit_grows_once_tasks_were_short() -> None:
    desk = Desk(1)
    desk.submit(1000)
    desk.clear()
    desk.ran(1, 0, seconds=SHORT)
    assert sum(len(tasks) for _, tasks in desk.sent) > 100


def test_credit_does_not_grow_for_long_tasks() -> None:
    desk = Desk(1)
    desk.submit(1000)
    for seq in range(5):
        desk.clear()
        desk.ran(1, seq, seconds=LONG)
        assert [len(tasks) for _, tasks in desk.sent] == [1]


def test_credit_is_time_not_a_number() -> None:
    desk = Desk(1)
    desk.learn(HOLD / 8)
    desk.submit(1000)
    (engine,) = desk.s.fleet.engines.values()
    assert 8 <= len(engine.held) <= 9
    assert HOLD <= engine.load < HOLD * 1.2


def test_what_is_known_of_one_function_says_nothing_of_another() -> None:
    desk = Desk(1)
    desk.learn(SHORT)
    desk.submit(10, G)
    assert [len(tasks) for _, tasks in desk.sent] == [1]


def test_a_function_that_turns_out_slow_loses_its_credit_at_once() -> None:
    costs = Costs()
    for _ in range(100):
        costs.observe(b"f", 1, SHORT)
    costs.observe(b"f", 1, LONG)
    assert costs.expect(b"f", 1) > AHEAD


def test_a_chunk_is_expected_to_cost_what_its_items_do() -> None:
    costs = Costs()
    costs.observe(b"f", 100, 1.0)
    assert costs.expect(b"f", 10) == 0.1


def test_what_is_no_duration_teaches_nothing_harmful() -> None:
    costs = Costs()
    for seconds in (float("nan"), -5.0):
        costs.observe(b"f", 1, seconds)
        assert 0 < costs.expect(b"f", 1) < 1


def test_middling_tasks_are_fetched_one_ahead_and_long_ones_are_not() -> None:
    desk = Desk(1)
    desk.learn(AHEAD / 2)
    desk.submit(5)
    assert sum(len(tasks) for _, tasks in desk.sent) == 2
    desk = Desk(1)
    desk.learn(AHEAD * 2)
    desk.submit(5)
    assert sum(len(tasks) for _, tasks in desk.sent) == 1


def test_shares_are_guided() -> None:
    """Few short tasks are spread over all engines, though one could hold them all."""
    desk = Desk(4)
    desk.learn(SHORT)
    desk.submit(40)
    held = [len(engine.held) for engine in desk.s.fleet.engines.values()]
    assert sum(held) == 40
    assert max(held) <= 15
    assert min(held) >= 5


def test_an_engine_is_sent_more_before_it_runs_dry() -> None:
    desk = Desk(1)
    desk.learn(0.001)
    desk.submit(10)
    (engine,) = desk.s.fleet.engines.values()
    assert len(engine.held) == 4
    desk.ran(1, 1, 2, seconds=0.001)
    assert len(engine.held) == 4


def test_higher_priority_goes_first_and_equals_in_order() -> None:
    desk = Desk(1)
    desk.submit(1)
    desk.clear()
    low, high, high2 = desk.submit(1, priority=-1), desk.submit(1, priority=5), desk.submit(1, priority=5)
    middle = desk.submit(1)
    for seq in range(4):
        desk.ran(1, seq, seconds=LONG)
    assert [tasks for _, tasks in desk.sent] == [ids(high), ids(high2), ids(middle), ids(low)]


def test_a_free_task_of_higher_priority_goes_before_one_with_targets() -> None:
    desk = Desk(1)
    desk.submit(1)
    desk.clear()
    pinned, urgent = desk.submit(1, targets={0}), desk.submit(1, priority=1)
    desk.ran(1, 0, seconds=LONG)
    desk.ran(1, 1, seconds=LONG)
    assert [tasks for _, tasks in desk.sent] == [ids(urgent), ids(pinned)]


def test_hungry_says_whether_a_task_would_go_out_at_once() -> None:
    desk = Desk(1)
    assert desk.s.hungry
    desk.submit(1)
    assert not desk.s.hungry
    desk.ran(1, 0)
    assert desk.s.hungry
