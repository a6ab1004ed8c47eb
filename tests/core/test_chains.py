"""Tasks sent behind the one that they wait for: what runs, in which order, and what becomes of them when that fails."""

from __future__ import annotations

from typing import Any

import pytest

from tests.helpers.desk import LONG, SHORT, F, ids
from tests.helpers.waiters import Waiters, sent
from zexec.core import actions as act
from zexec.core import events as ev
from zexec.messages import CANCELLED, DIED, ERROR, IMPOSSIBLE, NO_ENGINE, OK, WAITING, Task
from zexec.testing import Simulation


def known(places: int = 1, **options: Any) -> Waiters:
    """Engines are up and tasks are known to be short."""
    desk = Waiters(places, **options)
    desk.s.costs.observe(F.digest, 1, SHORT)
    return desk


def chain(desk: Waiters, links: int, **options: Any) -> list[Task]:
    """A task, and as many more, each after the one before."""
    tasks = desk.submit(1, **options)
    for _ in range(links):
        tasks.append(desk.after(tasks[-1]))
    return tasks


def chained(desk: Waiters) -> list[int]:
    """Ids of the tasks that were sent behind what they wait for."""
    return [task.id for a in desk.all(act.Send) if a.chained for task in a.tasks]


def test_a_chain_costs_no_round_trip() -> None:
    desk = known()
    tasks = chain(desk, 50)
    assert sent(desk) == ids(tasks)
    assert chained(desk) == ids(tasks[1:])
    assert desk.s.explain(tasks[5].id) == "engine 0 holds it behind 5 others"
    desk.ran(1, *range(20))
    desk.ran(1, *range(20, 51))
    assert [desk.settled[task.id] for task in tasks] == [OK] * 51
    assert not desk.s.depending
    assert not desk.s.fleet.engines[1].chained


def test_no_further_than_credit_goes() -> None:
    desk = known()
    tasks = chain(desk, 1_000)
    one_by_one = len(desk.all(act.Send))
    assert one_by_one == len(sent(desk)) < 1_000
    while desk.s.tasks:
        held = list(desk.s.fleet.engines[1].held)
        desk.ran(1, *held[: len(held) // 2 + 1])
    assert sent(desk) == ids(tasks)
    assert len(desk.all(act.Send)) - one_by_one < 50


def test_a_task_nobody_has_seen_run_goes_alone() -> None:
    desk = Waiters(1)
    tasks = chain(desk, 3)
    assert sent(desk) == ids(tasks[:1])
    desk.ran(1, 0)
    assert sent(desk) == ids(tasks)
    assert chained(desk) == ids(tasks[2:])


def test_what_is_behind_a_failure_is_given_back_and_can_never_run() -> None:
    desk = known()
    tasks = chain(desk, 4)
    desk.ran(1, 0, 1)
    desk.ran(1, 2, status=ERROR)
    assert desk.settled == dict(zip(ids(tasks), [OK, OK, ERROR], strict=False))
    desk.tell(ev.GaveBack(1, [3, 4], [3, 4]))
    assert [desk.settled[task.id] for task in tasks] == [OK, OK, ERROR, IMPOSSIBLE, IMPOSSIBLE]


def test_what_is_behind_a_failure_that_is_tried_again_waits_for_that() -> None:
    desk = known(2)
    tasks = chain(desk, 2, retries=1)
    (serial,) = {serial for serial, _ in desk.sent}
    desk.ran(serial, 0, status=ERROR)
    desk.tell(ev.GaveBack(serial, [1, 2], [1, 2]))
    assert len(sent(desk)) == 6
    desk.run_all()
    assert [desk.settled[task.id] for task in tasks] == [OK, OK, OK]


@pytest.mark.parametrize("how", [{"failure": True}, {"success": False, "failure": True}])
def test_what_runs_after_a_failure_too_is_free_then(how: dict[str, bool]) -> None:
    desk = known()
    (parent,) = desk.submit(1)
    child = desk.after(parent, **how)
    assert (child.id in chained(desk)) == ("success" not in how)
    desk.serve(1, ERROR)
    desk.run_all()
    assert desk.settled == {parent.id: ERROR, child.id: OK}


def test_the_last_of_several_parents() -> None:
    desk = known(2)
    one, two = desk.submit(1, targets={0})[0], desk.submit(1, targets={1})[0]
    both, either = desk.after(one, two), desk.after(one, two, all=False)
    assert both.id not in sent(desk)
    assert either.state is WAITING  # of several children only the first is looked at
    desk.ran(1, 0)
    assert either.id in sent(desk)
    assert chained(desk) == [both.id]
    desk.run_all()
    assert set(desk.settled.values()) == {OK}


def test_only_one_child_goes_behind() -> None:
    desk = known(2)
    (parent,) = desk.submit(1)
    children = [desk.after(parent) for _ in range(4)]
    assert chained(desk) == [children[0].id]
    desk.run_all()
    assert {desk.settled[task.id] for task in children} == {OK}


@pytest.mark.parametrize("why", ["patience", "follow", "target", "allowance", "elastic"])
def test_who_is_not_sent_behind(why: str) -> None:
    desk = known(2, up=why != "elastic", allowance=5 if why == "allowance" else None, elastic=why == "elastic")
    if why == "elastic":
        desk.tell(ev.Joined(1))
        desk.up(1)
    (parent,) = desk.submit(1, targets={0})
    options: dict[str, Any] = {
        "patience": {"patience": 5.0},
        "follow": {"where": True},
        "target": {"targets": {1}},
    }.get(why, {})
    child = desk.after(parent, **options)
    assert sent(desk) == [parent.id]
    desk.run_all()
    assert desk.settled[child.id] == OK


def test_what_a_task_is_chained_to_is_asked_back_with_it() -> None:
    desk = known(2)
    (long,) = desk.submit(1, targets={0})
    free = desk.submit(1, targets={0, 1})
    desk.later(0.0)
    (serial,) = {serial for serial, tasks in desk.sent if free[0].id in tasks}
    busy = desk.s.fleet.engines[serial]
    tail = list(busy.held.values())[-1]
    child = desk.after(tail)
    grandchild = desk.after(child)
    assert chained(desk) == ids([child, grandchild])
    desk.tell(ev.CancelWanted(tail.id))
    assert desk.taken_back == [(serial, [tail.seq, child.seq, grandchild.seq])]
    seqs = [tail.seq, child.seq, grandchild.seq]
    desk.tell(ev.GaveBack(serial, seqs, seqs))
    assert [desk.settled[task.id] for task in (tail, child, grandchild)] == [CANCELLED, IMPOSSIBLE, IMPOSSIBLE]
    desk.run_all()
    assert desk.settled[long.id] == OK


def test_a_chain_is_stolen_whole() -> None:
    """Behind a task that turns out long nothing stays that could run elsewhere, and nothing runs before its parent."""
    sim = Simulation(2)
    sim.submit([0.00001] * 4)
    sim.run()
    (long,) = sim.submit([5.0], targets=frozenset({0}))
    (first,) = sim.submit([0.00001], targets=frozenset({0, 1}))
    (blocker,) = sim.submit([0.01], targets=frozenset({1}), function="g")
    links = [first]
    for _ in range(3):
        links.append(sim.submit_after(0.00001, links[-1]))
    sim.run()
    assert {status for status, _ in sim.settled.values()} == {OK}
    ends = [sim.settled[task.id][1] for task in links]
    assert ends == sorted(ends)
    assert ends[-1] < sim.settled[long.id][1]
    assert blocker.id in sim.settled
    said = [what for _, what in sim.scheduler.story(links[-1].id)]
    assert any("sent behind what it waits for to" in what for what in said)
    assert any("asked back from" in what for what in said)


def test_children_of_a_task_that_is_cancelled_softly_but_has_started() -> None:
    desk = known()
    tasks = chain(desk, 2)
    desk.tell(ev.CancelWanted(tasks[0].id))
    desk.tell(ev.GaveBack(1, [0, 1, 2], [1, 2]))
    assert [a.task.id for a in desk.all(act.RefuseCancel)] == [tasks[0].id]
    desk.run_all()
    assert [desk.settled[task.id] for task in tasks] == [OK] * 3


def test_a_chained_task_is_cancelled_and_those_behind_it_can_never_run() -> None:
    desk = known()
    tasks = chain(desk, 3)
    desk.tell(ev.CancelWanted(tasks[1].id))
    desk.tell(ev.GaveBack(1, [1, 2, 3], [1, 2, 3]))
    desk.run_all()
    assert [desk.settled[task.id] for task in tasks] == [OK, CANCELLED, IMPOSSIBLE, IMPOSSIBLE]


@pytest.mark.parametrize("started", [-1, 0, 1])
def test_the_engine_dies(started: int) -> None:
    desk = known(2)
    tasks = chain(desk, 2)
    (serial,) = {serial for serial, _ in desk.sent}
    if started == 1:
        desk.ran(serial, 0)
    desk.down(serial, started=started)
    desk.run_all()
    want = {-1: [OK, OK, OK], 0: [DIED, IMPOSSIBLE, IMPOSSIBLE], 1: [OK, DIED, IMPOSSIBLE]}
    assert [desk.settled[task.id] for task in tasks] == want[started]


def test_it_dies_of_the_child_while_the_parents_result_is_on_the_way() -> None:
    """What ended has to run again, for its result is lost; what killed the engine has failed."""
    desk = known(2)
    tasks = chain(desk, 2)
    (serial,) = {serial for serial, _ in desk.sent}
    desk.down(serial, started=1)
    desk.run_all()
    assert [desk.settled[task.id] for task in tasks] == [OK, DIED, IMPOSSIBLE]


def test_the_childs_result_comes_first() -> None:
    """The engine has two channels; what is sent by one may be read before what was sent earlier by the other."""
    desk = known()
    tasks = chain(desk, 2)
    desk.ran(1, 1)
    assert desk.settled == {tasks[1].id: OK}
    desk.ran(1, 0)
    desk.ran(1, 2)
    assert [desk.settled[task.id] for task in tasks] == [OK] * 3
    assert not desk.s.depending


def test_a_child_that_fails_first_and_is_tried_again_waits_for_its_parent() -> None:
    desk = known()
    (parent,) = desk.submit(1)
    child = desk.after(parent)
    child.retries = 1
    desk.ran(1, 1, status=ERROR)
    assert child.state is WAITING
    desk.ran(1, 0)
    desk.run_all()
    assert desk.settled == {parent.id: OK, child.id: OK}
    assert child.attempts == 1


def test_all_engines_are_shut_down() -> None:
    desk = known()
    tasks = chain(desk, 2)
    desk.tell(ev.Drain(0, restart=False))
    ((_, seqs),) = desk.taken_back
    assert seqs == [0, 1, 2]
    desk.tell(ev.GaveBack(1, seqs, seqs[1:]))
    assert [desk.settled[task.id] for task in tasks[1:]] == [NO_ENGINE, NO_ENGINE]
    desk.ran(1, 0)
    assert desk.settled[tasks[0].id] == OK


@pytest.mark.parametrize("end", [ev.Terminated(), ev.Broke("why")])
def test_the_end_of_everything(end: Any) -> None:
    desk = known()
    tasks = chain(desk, 2)
    desk.tell(end)
    assert len(desk.settled) == len(tasks)
    desk.tell(ev.GaveBack(1, [1, 2], [1, 2]))
    assert not desk.s.tasks


def test_what_an_engine_gives_back_unasked_runs_elsewhere_or_again() -> None:
    desk = known(2)
    (task,) = desk.submit(1)
    serial = desk.sent[0][0]
    desk.tell(ev.GaveBack(serial, [0], [0]))
    desk.run_all()
    assert desk.settled == {task.id: OK}
    assert len(sent(desk)) == 2
    desk.tell(ev.GaveBack(serial, [0, 7], [7]))  # nothing that it holds


def test_long_tasks_are_chained_no_further_than_one_ahead() -> None:
    desk = known()
    desk.s.costs.observe(F.digest, 1, LONG)
    tasks = chain(desk, 3)
    assert sent(desk) == ids(tasks[:1])
    desk.run_all()
    assert sent(desk) == ids(tasks)
