"""Which of several idle engines gets a task."""

from __future__ import annotations

from itertools import pairwise

from tests.helpers.desk import Desk
from zexec.messages import ERROR, OK, Function

AROUND = Function(b"a", b"", "a", spread=True)


def places(desk: Desk, count: int, function: Function | None = None) -> list[int]:
    """Where tasks run that come one after the other, each when the one before has ended."""
    found = []
    for _ in range(count):
        (task,) = desk.submit(1, function) if function else desk.submit(1)
        found.append(task.engine - 1)
        desk.ran(task.engine, task.seq)
    return found


def test_the_one_that_was_last_at_work() -> None:
    desk = Desk(4)
    first, *others = places(desk, 5)
    assert set(others) == {first}


def test_or_the_one_that_has_rested_for_longest() -> None:
    desk = Desk(4)
    once = places(desk, 4, AROUND)
    assert sorted(once) == [0, 1, 2, 3]
    assert places(desk, 8, AROUND) == once * 2


def test_what_has_failed_runs_elsewhere() -> None:
    desk = Desk(3)
    (task,) = desk.submit(1, retries=5)
    seen = []
    for _ in range(5):
        seen.append(task.engine)
        desk.ran(task.engine, task.seq, status=ERROR)
    assert all(before != now for before, now in pairwise(seen))
    assert set(seen) == {1, 2, 3}
    desk.ran(task.engine, task.seq)
    assert desk.settled == {task.id: OK}


def test_unless_there_is_nothing_else() -> None:
    desk = Desk(2)
    (other,) = desk.submit(1, targets={0})
    (task,) = desk.submit(1, retries=1)
    assert (other.engine, task.engine) == (1, 2)
    desk.ran(2, task.seq, status=ERROR)
    assert task.engine == 2
