"""A hub that comes back: what its earlier life had accepted, and engines that come back with some of it.

::

    Restored ─► unclaimed ─┬─ EngineUp with claims ───────────► SENT: it is not sent again
                           └─ patience over, or ClaimsOver ──► a queue, or it fails

Nobody knows at first which of the restored tasks are with engines: what was sent last was not written down, and need not be.
So all wait until the engines that were there have come back and said what they hold, or ``patience`` is over. An engine that
comes later is asked to give back what others may run by then; what it has started by then runs twice.
"""

from __future__ import annotations

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.engines import Engine
from zexec.core.intake import queue
from zexec.core.state import GRACE, State
from zexec.core.taking_back import take_back
from zexec.messages import BROKEN, CANCELLED, DIED, SENT, TERMINATED, TIMEOUT, Task


def on_restored(s: State, now: float, event: ev.Restored) -> None:
    s.log.add(now, "restored", None, [task.id for task in event.tasks])
    for task in event.tasks:
        if task.id in s.tasks:
            continue
        s.tasks[task.id] = task
        if s.broken:
            s.settle(now, task, BROKEN, detail=s.broken)
        elif s.terminated or s.finished:
            s.settle(now, task, TERMINATED)
        else:
            s.unclaimed[task.id] = task
            if task.id in event.needs:
                s.depending.add(now, task, *event.needs[task.id])
    s.doomed = {**s.doomed, **event.doomed}
    s.reserved |= event.places
    s.places = max([s.places, *(id + 1 for id in event.places)])
    s.fleet.grow(s.places)
    s.claims_end = now + event.patience


def claim(s: State, now: float, engine: Engine, event: ev.EngineUp) -> None:
    """An engine that was there in an earlier life says what it holds."""
    engine.next_seq = max([event.next_seq, *(seq + 1 for seq, _ in event.claims)])
    s.reserved.discard(engine.id)
    foreign, unwanted = [], []
    for seq, task_id in sorted(event.claims):
        task = s.unclaimed.pop(task_id, None)
        if task is None or seq in engine.held:
            foreign.append(seq)
            continue
        if task_id in s.depending:
            s.depending.drop(task_id)
        if task.targets is not None and engine.id not in task.targets:
            task.targets |= {engine.id}  # the place it was sent to has another number now
        s.move(task, SENT)
        task.cost = s.costs.expect(task.function.digest, task.size)
        task.engine, task.seq = engine.serial, seq
        engine.held[seq] = task
        engine.load += task.cost
        if seq in event.stirred:
            # It may have ended by that already, and its result be on the way. Why it was, nobody has written down.
            s.stir(now, engine, task, CANCELLED if task.timeout is None or task.cancelling else TIMEOUT)
        elif task.cancelling:
            unwanted.append(seq)
            if task_id in s.hard:
                s.deadlines.add(now + GRACE, "asked", engine.serial, seq)
    s.log.add(now, "claimed by", engine.id, [task.id for task in engine.held.values()])
    if foreign:
        # Settled, or somebody else's by now. Whatever the answer is, it is about nothing that it holds.
        s.actions.append(act.TakeBack(engine.serial, foreign))
    if unwanted:
        take_back(s, now, engine, unwanted)


def on_claims_over(s: State, now: float, event: ev.ClaimsOver) -> None:
    """Nobody will claim what has not been claimed."""
    s.claims_end = None
    s.reserved.clear()
    left, s.unclaimed = s.unclaimed, {}
    again: list[Task] = []
    for task in left.values():
        if task.cancelling:
            if task.id in s.depending:
                s.depending.drop(task.id)
            s.settle(now, task, CANCELLED)
        elif task.id in s.depending:
            queue(s, now, task.id)
        elif task.id in s.doomed and not s.may_retry(task, DIED):
            s.settle(now, task, DIED, detail=s.doomed[task.id], engine=s.doomed[task.id].engine)
        else:
            if task.id in s.doomed:
                s.retry(now, task)
            again.append(task)
    s.doomed = {}
    if again:
        s.log.add(now, "claimed by nobody", None, [task.id for task in again])
        s.enqueue(now, again)
