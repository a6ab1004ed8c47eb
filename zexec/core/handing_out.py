"""Giving tasks that wait to engines that have room: ``assign`` is part of every decision."""

from __future__ import annotations

from zexec.core import actions as act
from zexec.core.costs import HOLD
from zexec.core.engines import Engine
from zexec.core.ready import ReadyQueue
from zexec.core.state import State
from zexec.messages import SENT, WAITING, Task

#: What is being sent to each engine in one decision.
Batches = dict[Engine, list[Task]]


def assign(s: State, now: float) -> None:
    batches: Batches = {}
    fleet, ready = s.fleet, s.ready
    if s.pinned.woken:
        _assign_pinned(s, batches, now)
    while ready:
        if fleet.idle:
            level = ready.front()
            assert level is not None
            if level[0].function.spread or level[0].attempts:
                # The one that has rested for longest: so it is another than the one where it has failed, if there is another.
                engine = next(iter(fleet.idle))
            else:
                # The one that was last at work: its memory is warm and its core awake.
                engine = next(reversed(fleet.idle))
        elif fleet.roomy:
            engine = next(iter(fleet.roomy))
        else:
            break
        # Guided shares: never more than a part of what waits, so that the end of a map is spread evenly.
        share = len(ready) // (2 * fleet.up) or 1
        _fill(s, engine, ready, share, batches, now)
        fleet.sort(engine)
    if s.pinned.woken:
        _assign_pinned(s, batches, now)
    for engine, batch in batches.items():
        s.log.add(now, "sent to", engine.id, [task.id for task in batch])
        s.actions.append(act.Send(engine.serial, engine.next_seq - len(batch), batch))


def send(s: State, now: float, engine: Engine, tasks: list[Task]) -> None:
    """Send an engine these tasks, which are in no queue, whatever its credit."""
    base = engine.next_seq
    for seq, task in enumerate(tasks, base):
        task.cost = s.costs.expect(task.function.digest, task.size)
        task.state = SENT
        task.engine = engine.serial
        task.seq = seq
        engine.held[seq] = task
        engine.load += task.cost
    engine.next_seq += len(tasks)
    s.log.add(now, "sent before all else to", engine.id, [task.id for task in tasks])
    s.actions.append(act.Send(engine.serial, base, tasks))


def _assign_pinned(s: State, batches: Batches, now: float) -> None:
    """Give tasks with targets to places where something may have changed."""
    woken = s.pinned.woken
    for id in list(woken):
        if _serve_place(s, id, batches, now):
            del woken[id]


def _serve_place(s: State, id: int, batches: Batches, now: float) -> bool:
    """Give an engine tasks that want it. False if free tasks of higher priority have to be handed out first."""
    fleet, pinned = s.fleet, s.pinned
    engine = fleet.filled.get(id)
    while engine is not None and fleet.has_room(engine):
        best = pinned.best(id)
        if best is None:
            break
        queue, task = best
        free = s.ready.head()
        if free is not None and free.priority > task.priority:
            return False
        # Tasks of another queue may have to go between those of this one: then one by one.
        share = len(queue) if free is None and pinned.is_alone(id) else 1
        pinned.took(task.targets or frozenset(), _fill(s, engine, queue, share, batches, now))
        fleet.sort(engine)
    return True  # what is still there waits until the place is woken again


def _fill(s: State, engine: Engine, queue: ReadyQueue, share: int, batches: Batches, now: float) -> int:
    """Move up to ``share`` tasks, at least one, from the front of a queue to an engine, within its credit. How many."""
    level = queue.front()
    assert level is not None
    if engine.allowance is not None and engine.allowance < share:
        share = engine.allowance
    batch = batches.get(engine)
    if batch is None:
        batch = batches[engine] = []
    if not engine.held:
        engine.progress = now  # not else: what it was sent before may be running, and for long
    expect = s.costs.expect
    held, serial, seq, load = engine.held, engine.serial, engine.next_seq, engine.load
    left, leftovers = share, 0
    function, size, cost = None, 0, 0.0  # of the task before: nearly always those of the next one, too
    while left and level:
        task = level.popleft()
        if task.state is not WAITING:
            leftovers += 1
            continue
        if task.function is not function or task.size != size:
            function, size = task.function, task.size
            cost = expect(function.digest, size)
        task.cost = cost
        task.state = SENT
        task.engine = serial
        task.seq = seq
        held[seq] = task
        batch.append(task)
        seq += 1
        load += cost
        left -= 1
        if load >= HOLD:
            break
    engine.next_seq, engine.load = seq, load
    queue.took(share - left, leftovers)
    if engine.allowance is not None:
        engine.allowance -= share - left
    return share - left
