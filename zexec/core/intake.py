"""Tasks come in: into a queue at once, or when those have ended that they wait for."""

from __future__ import annotations

from collections.abc import Iterable

from zexec.core import actions as act
from zexec.core import chains
from zexec.core import events as ev
from zexec.core.following import Where
from zexec.core.handing_out import assign
from zexec.core.state import NOBODY, InvalidTransition, State
from zexec.messages import BROKEN, IMPOSSIBLE, NO_ENGINE, OK, TERMINATED, WAITING, Task

#: why a task that follows others can never run
GONE = "the engine that ran what it follows is gone"
ELSEWHERE = "no engine that it may run on has run what it follows"


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
    elif s.is_empty:
        s.settle_each(now, tasks, NO_ENGINE, NOBODY)
    elif pinned:
        s.enqueue(now, tasks)
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
    elif s.is_empty:
        s.settle(now, task, NO_ENGINE, detail=NOBODY)
    else:
        s.depending.add(now, task, event.needs, event.ended)
        queue(s, now, task.id)


def on_parent_ended(s: State, now: float, event: ev.ParentEnded) -> None:
    for child in s.depending.ended(event.task_id, event.end):
        queue(s, now, child)


def release(s: State, now: float) -> None:
    """Tasks have ended, and are in the actions: let go those that waited for them. Their ends may let go others."""
    at = 0
    while at < len(s.actions):
        action = s.actions[at]
        at += 1
        if type(action) is act.SettleBulk:
            end = True, action.engine, action.serial
            ends = [(task.id, end) for task, _ in action.pairs]
        elif type(action) is act.Settle:
            ends = [(action.task.id, (action.status == OK, action.engine, action.serial))]
        else:
            continue
        for parent, end in ends:
            for child in s.depending.ended(parent, end):
                queue(s, now, child)
    assign(s, now)


def queue(s: State, now: float, task_id: int) -> None:
    """If a task waits for others no more, queue it, or say that it can never run."""
    if task_id in s.unclaimed:
        return  # an engine may have it already
    task = s.tasks.get(task_id)
    if task is not None and task.state is not WAITING:
        chains.parent_ended(s, task)
        return
    ripe = s.depending.ripe(task_id)
    if ripe is None:
        return
    task, why, followed = ripe
    if why is not None:
        s.settle(now, task, IMPOSSIBLE, detail=why)
    elif followed is not None:
        _bind(s, now, task, followed)
    else:
        s.enqueue(now, (task,))


def gather_unchained(s: State, now: float) -> None:
    """Look at tasks that an engine has given back because what they wait for has not ended well there."""
    unchained, s.unchained = s.unchained, []
    for task_id in unchained:
        task = s.tasks.get(task_id)
        if task is not None and task.state is WAITING and s.is_empty:
            s.settle(now, task, NO_ENGINE, detail=NOBODY)
        else:
            queue(s, now, task_id)


def _bind(s: State, now: float, task: Task, followed: Iterable[Where]) -> None:
    """Queue a task for the engines that ran what it follows, as far as they are there and it may run on them."""
    engines = []
    for place, serial in followed:
        engine = s.fleet.filled.get(place)
        if engine is not None and serial in (0, engine.serial):
            engines.append(engine)
    allowed = [engine for engine in engines if task.targets is None or engine.id in task.targets]
    if not allowed:
        s.settle(now, task, IMPOSSIBLE, detail=ELSEWHERE if engines else GONE)
        return
    task.targets = frozenset(engine.id for engine in allowed)
    s.following.bind(task.id, (engine.serial for engine in allowed))
    s.pin(now, task.targets, [task])


def gather_strays(s: State, now: float) -> None:
    """Look at bound tasks whose engines have left, or that have come back from an engine."""
    strays, s.following.strays = s.following.strays, []
    for task_id in dict.fromkeys(strays):
        task = s.tasks.get(task_id)
        if task is None or task.state is not WAITING:
            continue  # where it runs it may end; if it comes back from there it is a stray again
        engines = [s.fleet.engines[serial] for serial in s.following.serials(task_id)]
        if not engines:
            s.settle(now, task, IMPOSSIBLE, detail=GONE)
            s.pinned.left(task)
        elif task.targets != frozenset(engine.id for engine in engines):
            s.pinned.remove(task)
            task.targets = frozenset(engine.id for engine in engines)
            s.pinned.add(task.targets, [task])
