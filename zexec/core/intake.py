"""Tasks come in: into a queue at once, or when those have ended that they wait for."""

from __future__ import annotations

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.handing_out import assign
from zexec.core.ready import by_queue
from zexec.core.state import InvalidTransition, State
from zexec.messages import BROKEN, IMPOSSIBLE, NO_ENGINE, OK, TERMINATED, Task


def on_submitted(s: State, now: float, event: ev.Submitted) -> None:
    tasks = event.tasks
    s.log.add(now, "submitted", None, [task.id for task in tasks])
    known = s.tasks
    expected = len(known) + len(tasks)
    pinned = False
    for task in tasks:
        known[task.id] = task
        if task.targets is not None:
            pinned = True
    if len(known) != expected:
        raise InvalidTransition(f"a task among {[task.id for task in tasks]} was submitted before")
    if s.broken:
        s.settle_each(now, tasks, BROKEN, s.broken)
    elif s.terminated or s.finished:
        s.settle_each(now, tasks, TERMINATED, None)
    elif pinned:
        free, with_targets = by_queue(tasks)
        s.ready.extend(free)
        for targets, some in with_targets.items():
            _pin(s, now, targets, some)
    else:
        s.ready.extend(tasks)


def on_submitted_after(s: State, now: float, event: ev.SubmittedAfter) -> None:
    task = event.task
    s.log.add(now, "submitted, after others", None, (task.id,))
    if task.id in s.tasks:
        raise InvalidTransition(f"task {task.id} was submitted before")
    s.tasks[task.id] = task
    if s.broken:
        s.settle(now, task, BROKEN, detail=s.broken)
    elif s.terminated or s.finished:
        s.settle(now, task, TERMINATED)
    else:
        s.depending.add(now, task, event.needs, event.ended)
        _look_at(s, now, task.id)


def on_parent_ended(s: State, now: float, event: ev.ParentEnded) -> None:
    for child in s.depending.ended(event.task_id, event.end):
        _look_at(s, now, child)


def release(s: State, now: float) -> None:
    """Tasks have ended, and are in the actions: let go those that waited for them. Their ends may let go others."""
    at = 0
    while at < len(s.actions):
        action = s.actions[at]
        at += 1
        if type(action) is act.SettleBulk:
            ends = [(task.id, (True, action.engine)) for task, _ in action.pairs]
        elif type(action) is act.Settle:
            ends = [(action.task.id, (action.status == OK, action.engine))]
        else:
            continue
        for parent, end in ends:
            for child in s.depending.ended(parent, end):
                _look_at(s, now, child)
    assign(s, now)


def _look_at(s: State, now: float, task_id: int) -> None:
    """If a task waits for others no more, queue it, or say that it can never run."""
    ripe = s.depending.ripe(task_id)
    if ripe is None:
        return
    task, why, targets = ripe
    if why is not None:
        s.settle(now, task, IMPOSSIBLE, detail=why)
        return
    task.targets = targets
    if targets is None:
        s.ready.extend((task,))
    else:
        _pin(s, now, targets, [task])


def _pin(s: State, now: float, targets: frozenset[int], tasks: list[Task]) -> None:
    if any(0 <= id < s.places for id in targets):
        s.pinned.add(targets, tasks)
    else:
        detail = f"no engine {sorted(targets)}: there are 0 to {s.places - 1}"
        s.settle_each(now, tasks, NO_ENGINE, detail)
