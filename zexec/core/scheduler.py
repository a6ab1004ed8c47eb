"""Every scheduling decision, as a pure state machine: events in, actions out, the time passed in.

::

    events ─► Scheduler.handle ─► intake  reports  taking_back  timeouts  lives ─┐
                                                                                 ├─► state: the facts, and how tasks change
    actions ◄─ Scheduler.decide ◄─ handing_out  intake  chains  stealing  lives ─┘

    What state consists of:  ready, pinned   tasks that wait            fleet      engines and places
                             dependencies    tasks that wait for tasks  deadlines  what falls due
                             costs           what tasks take            log        the stories of tasks
                             following       tasks that may run only where others have

Rules for editors of this package
  1. No sockets, threads, clocks, pickle, logging or environment here; ``tests/test_layering.py`` holds that.
  2. ``handle`` changes state and may emit actions; ``decide`` hands out tasks and returns all actions since the last call.
     A host performs them in order, and tells what came of them as further events.
  3. Each task is settled exactly once. All exits go through ``State.close_task`` or the bulk path in ``reports.on_ran``.
  4. What an engine says may be late, said twice or a lie. It is looked up in what *this* engine holds, and ignored if it is
     not there.
  5. The cost of an event must not grow with the number of engines or tasks: no loop over all of them but where all end.
     ``compat/benchmark/core_alone.py`` measures it.
  6. What is always true stands in ``invariants.py``, and a state machine of hypothesis tries to break it.

The life of a task (``messages.py`` names the states)::

                    ┌──────────── given back, engine lost, retry ──────────┐
                    ▼                                                      │
    Submitted ─► WAITING ── decide ─► SENT ── decide, cancel ─► REVOKING ──┤
                    │                  │ ▲                          │      │
                    │                  │ └──── has started ─────────┤      │
                    ▼                  ▼                            ▼      │
                 SETTLED ◄───────── result, death, time-out, cancelled ────┘

A task that waits for others is WAITING, or SENT already, behind the last of those: see ``chains.py``.

Credit is time: an engine may hold about ``costs.HOLD`` seconds of work. What waits behind a task that turns out long is asked
back: ``stealing.py`` decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zexec.core import actions as act
from zexec.core import chains, claims, handing_out, intake, lives, reports, stealing, taking_back, timeouts
from zexec.core import events as ev
from zexec.core.engines import Engine
from zexec.core.state import State
from zexec.messages import REVOKING, WAITING, Task

#: Who takes in what.
HANDLERS: dict[type, Callable[[State, float, Any], None]] = {
    ev.Submitted: intake.on_submitted,
    ev.SubmittedAfter: intake.on_submitted_after,
    ev.ParentEnded: intake.on_parent_ended,
    ev.Restored: claims.on_restored,
    ev.ClaimsOver: claims.on_claims_over,
    ev.Joined: lives.on_joined,
    ev.Promised: lives.on_promised,
    ev.Drain: lives.on_drain,
    ev.EngineUp: lives.on_engine_up,
    ev.EngineDown: lives.on_engine_down,
    ev.Ran: reports.on_ran,
    ev.Running: timeouts.on_running,
    ev.GaveBack: taking_back.on_gave_back,
    ev.CancelWanted: taking_back.on_cancel_wanted,
    ev.CancelWithdrawn: taking_back.on_cancel_withdrawn,
    ev.CancelAll: taking_back.on_cancel_all,
    ev.Remembered: lives.on_remembered,
    ev.Broke: lives.on_broke,
    ev.Closed: lives.on_closed,
    ev.Terminated: lives.on_terminated,
    ev.Tick: timeouts.on_tick,
}


class Scheduler(State):
    """Decides which engine runs which task when.

    Args:
        places: number of engines wanted.
        on_demand: start engines as tasks need them rather than all at once.
        allowance: tasks after which an engine is replaced, None for never.
        break_on_death: an engine's death breaks the cluster, as in the stdlib, rather than costing one task.
        elastic: engines come and go by themselves, and there are several clients, who get equal shares.
    """

    def begin(self) -> None:
        """Ask for all engines now."""
        lives.begin(self)

    def handle(self, now: float, event: ev.Event) -> None:
        """Take in one event."""
        HANDLERS[type(event)](self, now, event)

    def decide(self, now: float) -> list[act.Action]:
        """Hand out what can be handed out; return everything that is to be done since the last call."""
        if self.unchained:
            intake.gather_unchained(self, now)
        if self.following.strays:
            intake.gather_strays(self, now)
        if self.elastic and self.fleet.vacant:
            lives.give_up_places(self, now)
        if not self.broken and not self.terminated:
            if self.newcomers:
                lives.perform_rites(self, now)
            handing_out.assign(self, now)
            if self.depending:
                intake.release(self, now)
                if self.fleet.roomy and not self.elastic:
                    chains.extend(self, now)
            if self.fleet.loaded:
                taking_back.steal(self, now)
            if self.fleet.vacant:
                lives.fill_places(self)
        if self.closing and not self.tasks:
            lives.wind_up(self)
        done, self.actions = self.actions, []
        return done

    def next_deadline(self) -> float | None:
        """When a Tick is due, or None."""
        due = self.deadlines.next()
        if self.depending:
            late = self.depending.next()
            due = late if due is None or (late is not None and late < due) else due
        if self.claims_end is not None and (due is None or self.claims_end < due):
            due = self.claims_end
        look = stealing.look_at(self.fleet, self.is_eager())
        if look is None or (due is not None and due < look):
            return due
        return look

    @property
    def filled(self) -> dict[int, Engine]:
        """Who fills each place."""
        return self.fleet.filled

    @property
    def hungry(self) -> bool:
        """Whether a task submitted now would be sent, settled, or an engine started for it, at once."""
        fleet = self.fleet
        return bool(
            fleet.idle
            or fleet.roomy
            or self.broken
            or self.terminated
            or self.is_empty
            or (self.on_demand and fleet.vacant and fleet.starting <= len(self.ready))
        )

    def is_running(self, task_id: int) -> bool:
        """Whether an engine has started it, as far as is known here: it is the oldest that its engine holds."""
        task = self.tasks.get(task_id)
        if task is None or task.state is WAITING:
            return False
        return next(iter(self.fleet.engines[task.engine].held)) == task.seq

    def held(self, serial: int, seq: int) -> Task | None:
        """The task that has this number on an engine, if it has not ended."""
        engine = self.fleet.engines.get(serial)
        return None if engine is None else engine.held.get(seq)

    def whereabouts(self, task_ids: Iterable[int]) -> dict[int, int]:
        """Which of these tasks are with an engine, started or not, and with which."""
        found = {}
        for task_id in task_ids:
            task = self.tasks.get(task_id)
            if task is not None and task.state is not WAITING:
                found[task_id] = self.fleet.engines[task.engine].id
        return found

    def queues(self) -> tuple[dict[int, tuple[int, int]], int]:
        """By place: how many tasks wait for it alone, and how many its engine has. And how many wait for anything else."""
        alone, filled = self.pinned.alone(), self.fleet.filled
        held = {id: len(engine.held) for id, engine in filled.items()}
        found = {id: (alone.get(id, 0), held.get(id, 0)) for id in {*alone, *held}}
        return found, len(self.tasks) - sum(alone.values()) - sum(held.values())

    def story(self, task_id: int) -> list[tuple[float, str]]:
        """What happened to a task, oldest first, as far back as the log goes: pairs of a time and a sentence."""
        return self.log.story(task_id)

    def explain(self, task_id: int) -> str:
        """Say in one sentence where a task is now, and what it waits for."""
        task = self.tasks.get(task_id)
        if task is None:
            return "it has ended, or was never submitted here"
        fleet = self.fleet
        if task_id in self.depending and task.state is WAITING:
            return f"it waits for the tasks {self.depending.awaited(task_id)}"
        if task_id in self.unclaimed:
            return "it waits for the engine to come back that may have had it before the hub's end"
        if task.state is WAITING:
            engines = f"{fleet.up} engines are up and have no room, {fleet.starting} are starting"
            if task.targets is None:
                return f"it waits, one of {len(self.ready)}: {engines}"
            return f"it waits for one of the engines {sorted(task.targets)}: in all, {engines}"
        engine = fleet.engines[task.engine]
        before = list(engine.held).index(task.seq)
        where = f"engine {engine.id} runs it" if not before else f"engine {engine.id} holds it behind {before} others"
        if task.seq in engine.stirred:
            return f"{where} and was told to stop it"
        if task.state is REVOKING:
            return f"{where} and was asked to give it back"
        return where


__all__ = ["HANDLERS", "Scheduler"]
