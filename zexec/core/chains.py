"""Tasks sent behind the one that they wait for: a chain costs no round trip a link.

If an engine has room and nothing else to be given, and a task waits for nothing but the good end of the one that this engine
was sent last, then it is sent right behind it, *chained*: the engine runs it only if the task numbered before it has ended well
there, and gives it back unasked otherwise. Until its parent has ended here, too, it is among ``State.depending`` as before, so
that it comes to the same end wherever things go another way: the parent fails, is taken back or dies with its engine.

What a chained task waits for stands in front of it, so nobody could run it earlier: it is never stolen alone, and asked back
with its parent. Only where engines do not outlive the hub: a later life of it would not know of the condition.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from zexec.core import actions as act
from zexec.core.engines import Engine
from zexec.core.state import State
from zexec.messages import SENT, Task

#: How many of the engines that have room are looked at in a decision: those that something was sent to or heard of last.
SAMPLE = 8


def extend(s: State, now: float) -> None:
    """Send what can be chained; part of a decision, after all else has been handed out."""
    for engine in list(islice(reversed(s.fleet.roomy), SAMPLE)):
        batch = []
        while (child := _heir(s, engine)) is not None:
            _chain(s, engine, child)
            batch.append(child)
        if batch:
            s.log.add(now, "sent behind what it waits for to", engine.id, [task.id for task in batch])
            s.actions.append(act.Send(engine.serial, engine.next_seq - len(batch), batch, chained=True))


def _heir(s: State, engine: Engine) -> Task | None:
    """Who may be sent behind the last that an engine holds."""
    if engine.allowance is not None or not s.fleet.has_room(engine):
        return None
    seq, last = next(reversed(engine.held.items()))
    if seq != engine.next_seq - 1 or last.state is not SENT or seq in engine.stirred:
        return None
    child = s.depending.heir(last.id)
    if child is None or (child.targets is not None and engine.id not in child.targets):
        return None
    return child


def _chain(s: State, engine: Engine, task: Task) -> None:
    task.cost = s.costs.expect(task.function.digest, task.size)
    task.engine, task.seq = engine.serial, engine.next_seq
    s.move(task, SENT)
    engine.held[task.seq] = task
    engine.chained.add(task.seq)
    engine.load += task.cost
    engine.next_seq += 1
    s.sort(engine)


def followers(engine: Engine, seqs: Iterable[int]) -> list[int]:
    """What is chained to these tasks, and is not among them, and has not been asked for."""
    found = dict.fromkeys(seqs)
    first = len(found)
    for seq in list(found):
        while (seq := seq + 1) in engine.chained and seq not in found and engine.held[seq].state is SENT:
            found[seq] = None
    return list(found)[first:]


def parent_ended(s: State, task: Task) -> None:
    """A parent of a task that is with an engine has ended. If that was badly, the engine gives it back: it knows."""
    if s.depending.is_met(task.id):
        s.depending.drop(task.id)
        s.fleet.engines[task.engine].chained.discard(task.seq)


def ran(s: State, engine: Engine, tasks: Iterable[Task]) -> None:
    """These have run, so what they were chained to has. Its result may still be on the way, by the engine's other channel."""
    for task in tasks:
        if task.seq in engine.chained:
            engine.chained.discard(task.seq)
            if task.id in s.depending:
                s.depending.drop(task.id)
