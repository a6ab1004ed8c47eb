"""What engines say of tasks that have ended."""

from __future__ import annotations

from typing import Any

from zexec.core import actions as act
from zexec.core import chains
from zexec.core import events as ev
from zexec.core.engines import Engine
from zexec.core.state import State
from zexec.messages import OK, SETTLED, UNMET, ResultRecord, Task


def on_ran(s: State, now: float, event: ev.Ran) -> None:
    engine = s.fleet.engines.get(event.serial)
    if engine is None:
        return  # a result that came after the engine was declared lost: its task is settled or runs elsewhere
    s.fleet.heard(engine, now)
    s.fruitless_lives = 0
    held, stirred, tasks = engine.held, engine.stirred, s.tasks
    pairs: list[tuple[Task, ResultRecord]] = []
    digest, size, seconds, load = b"", 0, 0.0, 0.0
    for record in event.records:
        task = held.pop(record[0], None)
        if task is None:
            continue
        load += task.cost
        if task.function.digest != digest:
            if size:
                s.costs.observe(digest, size, seconds)
            digest, size, seconds = task.function.digest, 0, 0.0
        size += task.size
        seconds += record[4]
        if record[1] != OK:
            _ended(s, now, task, engine, record)
        else:
            task.state = SETTLED
            del tasks[task.id]
            pairs.append((task, record))
    engine.load -= load
    if size:
        s.costs.observe(digest, size, seconds)
    if pairs:
        ids = [task.id for task, _ in pairs]
        s.log.add(now, "ran on", engine.id, ids)
        if engine.chained:
            chains.ran(s, engine, [task for task, _ in pairs])
        if s.hard:
            s.hard.difference_update(ids)
        if s.following:
            for id in ids:
                s.following.ended(id)
        s.actions.append(act.SettleBulk(engine.id, pairs, engine.serial))
    if stirred:
        stirred.intersection_update(held)
    s.settle_down(engine)


def _ended(s: State, now: float, task: Task, engine: Engine, record: ResultRecord) -> None:
    """A result that is not plainly good: an error, or the end of an interrupted task."""
    seq, status, payload, started, seconds = record
    engine.chained.discard(seq)
    detail: Any = None
    if seq in engine.stirred:
        status, payload, detail = task.expired, None, task.timeout
    if status == UNMET and _may_move(s, task, engine):
        s.log.add(now, "refused by", engine.id, (task.id,))
        s.requeue(now, (task,))
        return
    if s.may_retry(task, status):
        s.retry(now, task)
        s.requeue(now, (task,))
        return
    s.log.add(now, "ended on", engine.id, (task.id,))
    s.close_task(task)
    s.actions.append(act.Settle(task, status, payload, detail, engine.id, started, seconds, engine.serial))


def _may_move(s: State, task: Task, engine: Engine) -> bool:
    """Whether a task may run anywhere but here; then it does not come back here."""
    if task.cancelling or task.id in s.hard or s.broken:
        return False
    others = frozenset(s.open_places if task.targets is None else task.targets) - {engine.id}
    if not any(map(s.exists, others)):
        return False
    if task.id in s.following:
        s.following.forbid(task.id, engine.serial)
    task.targets = others
    return True
