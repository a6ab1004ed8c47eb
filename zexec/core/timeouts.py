"""What falls due: a task that runs too long, an engine that does not react."""

from __future__ import annotations

from zexec.core import events as ev
from zexec.core.claims import on_claims_over
from zexec.core.state import State
from zexec.messages import TIMEOUT, WAITED


def on_running(s: State, now: float, event: ev.Running) -> None:
    engine = s.fleet.engines.get(event.serial)
    task = engine.held.get(event.seq) if engine is not None else None
    if task is not None and task.timeout is not None:
        s.deadlines.add(now + task.timeout, "timeout", event.serial, event.seq)


def on_tick(s: State, now: float, event: ev.Tick) -> None:
    if s.claims_end is not None and s.claims_end <= now:
        on_claims_over(s, now, ev.ClaimsOver())
    if s.depending:
        for late in s.depending.expire(now):
            s.settle(now, late, WAITED, detail="what it waited for has not ended in time")
    for what, serial, seq in s.deadlines.expire(now):
        engine = s.fleet.engines[serial]
        task = engine.held[seq]
        if what == "timeout":
            if seq not in engine.stirred:
                s.stir(now, engine, task, TIMEOUT)
        elif what == "stirred":
            s.kill(engine, f"task {task.id} did not react to an interrupt")
        elif task.cancelling and task.id in s.hard:
            s.kill(engine, f"it did not answer whether task {task.id} has started")
