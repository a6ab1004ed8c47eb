"""Taking back what engines have not started: for others to run (``stealing`` says what), or for good (cancel)."""

from __future__ import annotations

from zexec.core import actions as act
from zexec.core import chains, stealing
from zexec.core import events as ev
from zexec.core.engines import Engine
from zexec.core.state import GRACE, State
from zexec.messages import CANCELLED, REVOKING, SENT, WAITING, Task


def steal(s: State, now: float) -> None:
    for engine, seqs in stealing.choose(s.fleet, now, s.is_eager()):
        take_back(s, now, engine, seqs)


def take_back(s: State, now: float, engine: Engine, seqs: list[int]) -> None:
    if engine.chained:
        seqs = [*seqs, *chains.followers(engine, seqs)]
    for seq in seqs:
        s.move(engine.held[seq], REVOKING)
    engine.asked.update(seqs)
    s.sort(engine)
    s.log.add(now, "asked back from", engine.id, [engine.held[seq].id for seq in seqs])
    s.actions.append(act.TakeBack(engine.serial, seqs))


def on_gave_back(s: State, now: float, event: ev.GaveBack) -> None:
    engine = s.fleet.engines.get(event.serial)
    if engine is None:
        return
    given = set(event.given)
    back = []
    for seq in event.asked:
        task = engine.held.get(seq)
        if seq not in engine.asked and (task is None or seq not in given or seq in engine.stirred):
            continue  # but what was chained to a task that has not ended well there is given back unasked
        engine.asked.discard(seq)
        if task is None:
            continue
        if seq not in given or seq in engine.stirred:
            _keep(s, now, task, engine)
            continue
        del engine.held[seq]
        engine.chained.discard(seq)
        engine.load -= task.cost
        if engine.allowance is not None:
            engine.allowance += 1
        if task.cancelling or task.id < 0:  # what is remembered for a place its next engine is sent anew
            s.settle(now, task, CANCELLED)
        else:
            back.append(task)
    if back:
        s.log.add(now, "given back by", engine.id, [task.id for task in back])
        s.requeue(now, back)
    s.fleet.heard(engine, now)
    s.settle_down(engine)


def _keep(s: State, now: float, task: Task, engine: Engine) -> None:
    """It has started: if it was to be cancelled, either that is that, or it is stopped by force."""
    s.move(task, SENT)
    if not task.cancelling:
        return
    task.cancelling = False
    if task.id not in s.hard:
        s.actions.append(act.RefuseCancel(task))
    elif task.seq not in engine.stirred:
        s.stir(now, engine, task, CANCELLED)


def on_cancel_wanted(s: State, now: float, event: ev.CancelWanted) -> None:
    task = s.tasks.get(event.task_id)
    if task is None:
        return  # settled meanwhile: the client has its answer by that
    if task.id in s.unclaimed:
        task.cancelling = True  # an engine may have started it: that will be seen
        if event.running:
            s.hard.add(task.id)
        return
    if task.state is WAITING:
        cancel_waiting(s, now, task)
        return
    engine = s.fleet.engines[task.engine]
    if event.running and task.id not in s.hard:
        s.hard.add(task.id)
        # An engine that is stopped or lost would owe its answer for ever.
        s.deadlines.add(now + GRACE, "asked", engine.serial, task.seq)
    if task.seq in engine.stirred:
        # It is being stopped already, so it runs.
        if not event.running:
            s.actions.append(act.RefuseCancel(task))
        return
    task.cancelling = True
    if task.state is SENT:
        take_back(s, now, engine, [task.seq])


def cancel_waiting(s: State, now: float, task: Task) -> None:
    if task.id in s.depending:
        s.depending.drop(task.id)
        s.settle(now, task, CANCELLED)
    elif task.targets is None:
        s.settle(now, task, CANCELLED)
        s.ready.left(task)
    else:
        s.settle(now, task, CANCELLED)
        s.pinned.left(task)


def on_cancel_withdrawn(s: State, now: float, event: ev.CancelWithdrawn) -> None:
    task = s.tasks.get(event.task_id)
    if task is not None:
        task.cancelling = False
        s.hard.discard(task.id)


def on_cancel_all(s: State, now: float, event: ev.CancelAll) -> None:
    # What runs, or would run if engines were up already, goes on: in the stdlib too, the first tasks are beyond recall
    # from the moment they are submitted, and its users count on that.
    for task in s.unclaimed.values():
        task.cancelling = True
    waiting = [
        *s.ready,
        *s.pinned,
        *(task for task in s.depending if task.state is WAITING and task.id not in s.unclaimed),
    ]
    for task in waiting[s.fleet.starting + len(s.fleet.idle) :]:
        cancel_waiting(s, now, task)
    for engine in s.fleet.engines.values():
        seqs = []
        for seq, task in list(engine.held.items())[1:]:
            if seq in engine.stirred:
                continue
            task.cancelling = True
            if task.state is SENT:
                seqs.append(seq)
        if seqs:
            take_back(s, now, engine, seqs)
