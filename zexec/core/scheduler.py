"""Every scheduling decision, as a pure state machine: events in, actions out, the time passed in.

::

    events ─► Scheduler.handle ─┐   ready, pinned   tasks that wait            fleet      engines and places
                                ├─  costs           what tasks take            deadlines  what falls due
    actions ◄─ Scheduler.decide ┘   stealing        what to ask back           log        the stories of tasks

Rules for editors of this package
  1. No sockets, threads, clocks, pickle, logging or environment here; ``tests/test_layering.py`` holds that.
  2. ``handle`` changes state and may emit actions; ``decide`` hands out tasks and returns all actions since the last call.
     A host performs them in order, and tells what came of them as further events.
  3. Each task is settled exactly once. All exits go through ``_close_task`` or the bulk path in ``_on_ran``.
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

Credit is time: an engine may hold about ``costs.HOLD`` seconds of work. What waits behind a task that turns out long is asked
back: ``stealing.py`` decides when.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core import stealing
from zexec.core.costs import HOLD, Costs
from zexec.core.deadlines import Deadlines
from zexec.core.dependencies import Dependencies
from zexec.core.engines import LEAVING, STARTING, UP, Engine
from zexec.core.fleet import Fleet
from zexec.core.log import Log
from zexec.core.pinned import PinnedQueues
from zexec.core.ready import ReadyQueue, by_queue
from zexec.messages import (
    BROKEN,
    CANCELLED,
    DIED,
    IMPOSSIBLE,
    NO_ENGINE,
    OK,
    REVOKING,
    SENT,
    SETTLED,
    TERMINATED,
    TIMEOUT,
    UNMET,
    WAITED,
    WAITING,
    ResultRecord,
    Task,
)

#: Which state may follow which. ``_move`` enforces it.
TRANSITIONS: dict[str, frozenset[str]] = {
    WAITING: frozenset({SENT, SETTLED}),
    SENT: frozenset({REVOKING, WAITING, SETTLED}),
    REVOKING: frozenset({SENT, WAITING, SETTLED}),
    SETTLED: frozenset(),
}

#: How long an interrupted task may go on, or an engine owe the answer to a cancel by force, before the engine is replaced.
GRACE = 1.0
#: Engines that die before they are up, in a row, until the cluster gives up, while none has ever been up; and later those that
#: die so, or with tasks at hand of which they began none. Later it is not the start that fails: somebody kills engines, and in
#: a hail of kills many in a row do not come far.
FAILED_STARTS, FRUITLESS_LIVES = 3, 100

#: What is being sent to each engine in one decision.
Batches = dict[Engine, list[Task]]


class InvalidTransition(RuntimeError):
    """A bug in the scheduler: a task was to go where it cannot. The message tells its story."""


class Scheduler:
    """Decides which engine runs which task when.

    Args:
        places: number of engines wanted.
        on_demand: start engines as tasks need them rather than all at once.
        allowance: tasks after which an engine is replaced, None for never.
        break_on_death: an engine's death breaks the cluster, as in the stdlib, rather than costing one task.
    """

    def __init__(
        self,
        places: int,
        *,
        on_demand: bool = False,
        allowance: int | None = None,
        break_on_death: bool = False,
    ) -> None:
        self.places = places
        self.on_demand = on_demand
        self.allowance = allowance
        self.break_on_death = break_on_death
        self.closing = False
        self.terminated = False
        self.finished = False
        #: why nothing can run any more, or None
        self.broken: Any = None
        #: all open tasks: every state but SETTLED
        self.tasks: dict[int, Task] = {}
        self.fleet = Fleet(places)
        self.ready = ReadyQueue()
        #: those that wait and have targets
        self.pinned = PinnedQueues()
        #: those that wait for other tasks
        self.depending = Dependencies()
        self.costs = Costs()
        self.deadlines = Deadlines(self._is_held)
        self._failed_starts = 0
        self._has_been_up = False
        self._fruitless_lives = 0
        #: ids of open tasks that are to be stopped even if they run
        self._hard: set[int] = set()
        self._actions: list[act.Action] = []
        self._log = Log()
        self._handlers: dict[type, Callable[[float, Any], None]] = {
            ev.Submitted: self._on_submitted,
            ev.SubmittedAfter: self._on_submitted_after,
            ev.ParentEnded: self._on_parent_ended,
            ev.EngineUp: self._on_engine_up,
            ev.EngineDown: self._on_engine_down,
            ev.Ran: self._on_ran,
            ev.Running: self._on_running,
            ev.GaveBack: self._on_gave_back,
            ev.CancelWanted: self._on_cancel_wanted,
            ev.CancelWithdrawn: self._on_cancel_withdrawn,
            ev.CancelAll: self._on_cancel_all,
            ev.Broke: self._on_broke,
            ev.Closed: self._on_closed,
            ev.Terminated: self._on_terminated,
            ev.Tick: self._on_tick,
        }

    # -- what a host calls -------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Ask for all engines now."""
        while self.fleet.vacant:
            self._start(self.fleet.first_vacant())

    def handle(self, now: float, event: ev.Event) -> None:
        """Take in one event."""
        self._handlers[type(event)](now, event)

    def decide(self, now: float) -> list[act.Action]:
        """Hand out what can be handed out; return everything that is to be done since the last call."""
        if not self.broken and not self.terminated:
            self._assign(now)
            if self.depending:
                self._release(now)
            if self.fleet.loaded:
                self._steal(now)
            if self.fleet.vacant:
                self._fill_places()
        if self.closing and not self.tasks:
            self._wind_up()
        done, self._actions = self._actions, []
        return done

    def next_deadline(self) -> float | None:
        """When a Tick is due, or None."""
        due = self.deadlines.next()
        if self.depending:
            late = self.depending.next()
            due = late if due is None or (late is not None and late < due) else due
        look = stealing.look_at(self.fleet, self._is_eager())
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
            or (self.on_demand and fleet.vacant and fleet.starting <= len(self.ready))
        )

    def is_running(self, task_id: int) -> bool:
        """Whether an engine has started it, as far as is known here: it is the oldest that its engine holds."""
        task = self.tasks.get(task_id)
        if task is None or task.state is WAITING:
            return False
        return next(iter(self.fleet.engines[task.engine].held)) == task.seq

    def whereabouts(self, task_ids: Iterable[int]) -> dict[int, int]:
        """Which of these tasks are with an engine, started or not, and with which."""
        found = {}
        for task_id in task_ids:
            task = self.tasks.get(task_id)
            if task is not None and task.state is not WAITING:
                found[task_id] = self.fleet.engines[task.engine].id
        return found

    def story(self, task_id: int) -> list[tuple[float, str]]:
        """What happened to a task, oldest first, as far back as the log goes: pairs of a time and a sentence."""
        return self._log.story(task_id)

    def explain(self, task_id: int) -> str:
        """Say in one sentence where a task is now, and what it waits for."""
        task = self.tasks.get(task_id)
        if task is None:
            return "it has ended, or was never submitted here"
        fleet = self.fleet
        if task_id in self.depending:
            return f"it waits for the tasks {self.depending.awaited(task_id)}"
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

    # -- tasks come in -----------------------------------------------------------------------------------------------

    def _on_submitted(self, now: float, event: ev.Submitted) -> None:
        tasks = event.tasks
        self._log.add(now, "submitted", None, [task.id for task in tasks])
        known = self.tasks
        expected = len(known) + len(tasks)
        pinned = False
        for task in tasks:
            known[task.id] = task
            if task.targets is not None:
                pinned = True
        if len(known) != expected:
            raise InvalidTransition(f"a task among {[task.id for task in tasks]} was submitted before")
        if self.broken:
            self._settle_each(now, tasks, BROKEN, self.broken)
        elif self.terminated or self.finished:
            self._settle_each(now, tasks, TERMINATED, None)
        elif pinned:
            free, with_targets = by_queue(tasks)
            self.ready.extend(free)
            for targets, some in with_targets.items():
                self._pin(now, targets, some)
        else:
            self.ready.extend(tasks)

    def _on_submitted_after(self, now: float, event: ev.SubmittedAfter) -> None:
        task = event.task
        self._log.add(now, "submitted, after others", None, (task.id,))
        if task.id in self.tasks:
            raise InvalidTransition(f"task {task.id} was submitted before")
        self.tasks[task.id] = task
        if self.broken:
            self._settle(now, task, BROKEN, detail=self.broken)
        elif self.terminated or self.finished:
            self._settle(now, task, TERMINATED)
        else:
            self.depending.add(now, task, event.needs, event.ended)
            self._look_at(now, task.id)

    def _on_parent_ended(self, now: float, event: ev.ParentEnded) -> None:
        for child in self.depending.ended(event.task_id, event.end):
            self._look_at(now, child)

    def _release(self, now: float) -> None:
        """Tasks have ended, and are in the actions: let go those that waited for them. Their ends may let go others."""
        at = 0
        while at < len(self._actions):
            action = self._actions[at]
            at += 1
            if type(action) is act.SettleBulk:
                ends = [(task.id, (True, action.engine)) for task, _ in action.pairs]
            elif type(action) is act.Settle:
                ends = [(action.task.id, (action.status == OK, action.engine))]
            else:
                continue
            for parent, end in ends:
                for child in self.depending.ended(parent, end):
                    self._look_at(now, child)
        self._assign(now)

    def _look_at(self, now: float, task_id: int) -> None:
        """If a task waits for others no more, queue it, or say that it can never run."""
        ripe = self.depending.ripe(task_id)
        if ripe is None:
            return
        task, why, targets = ripe
        if why is not None:
            self._settle(now, task, IMPOSSIBLE, detail=why)
            return
        task.targets = targets
        if targets is None:
            self.ready.extend((task,))
        else:
            self._pin(now, targets, [task])

    def _pin(self, now: float, targets: frozenset[int], tasks: list[Task]) -> None:
        if any(0 <= id < self.places for id in targets):
            self.pinned.add(targets, tasks)
        else:
            detail = f"no engine {sorted(targets)}: there are 0 to {self.places - 1}"
            self._settle_each(now, tasks, NO_ENGINE, detail)

    # -- handing out -------------------------------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        batches: Batches = {}
        fleet, ready = self.fleet, self.ready
        if self.pinned.woken:
            self._assign_pinned(batches, now)
        while ready:
            if fleet.idle:
                # The one that was last at work: its memory is warm and its core awake.
                engine = next(reversed(fleet.idle))
            elif fleet.roomy:
                engine = next(iter(fleet.roomy))
            else:
                break
            # Guided shares: never more than a part of what waits, so that the end of a map is spread evenly.
            share = len(ready) // (2 * fleet.up) or 1
            self._fill(engine, ready, share, batches, now)
            fleet.sort(engine)
        if self.pinned.woken:
            self._assign_pinned(batches, now)
        for engine, batch in batches.items():
            self._log.add(now, "sent to", engine.id, [task.id for task in batch])
            self._actions.append(act.Send(engine.serial, engine.next_seq - len(batch), batch))

    def _assign_pinned(self, batches: Batches, now: float) -> None:
        """Give tasks with targets to places where something may have changed."""
        woken = self.pinned.woken
        for id in list(woken):
            if self._serve_place(id, batches, now):
                del woken[id]

    def _serve_place(self, id: int, batches: Batches, now: float) -> bool:
        """Give an engine tasks that want it. False if free tasks of higher priority have to be handed out first."""
        fleet, pinned = self.fleet, self.pinned
        engine = fleet.filled.get(id)
        while engine is not None and fleet.has_room(engine):
            best = pinned.best(id)
            if best is None:
                break
            queue, task = best
            free = self.ready.head()
            if free is not None and free.priority > task.priority:
                return False
            # Tasks of another queue may have to go between those of this one: then one by one.
            share = len(queue) if free is None and pinned.is_alone(id) else 1
            pinned.took(task.targets or frozenset(), self._fill(engine, queue, share, batches, now))
            fleet.sort(engine)
        return True  # what is still there waits until the place is woken again

    def _fill(self, engine: Engine, queue: ReadyQueue, share: int, batches: Batches, now: float) -> int:
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
        expect = self.costs.expect
        held, serial, seq, load = engine.held, engine.serial, engine.next_seq, engine.load
        left, leftovers = share, 0
        while left and level:
            task = level.popleft()
            if task.state is not WAITING:
                leftovers += 1
                continue
            task.cost = cost = expect(task.function.digest, task.size)
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

    def _sort(self, engine: Engine) -> None:
        if self.fleet.sort(engine) and engine.id in self.pinned.places:
            self.pinned.woken[engine.id] = None

    # -- taking back -------------------------------------------------------------------------------------------------

    def _is_eager(self) -> bool:
        """Whether a task that is taken back would run at once."""
        return bool(self.fleet.idle or (self.on_demand and self.fleet.vacant))

    def _steal(self, now: float) -> None:
        for engine, seqs in stealing.choose(self.fleet, now, self._is_eager()):
            self._take_back(now, engine, seqs)

    def _take_back(self, now: float, engine: Engine, seqs: list[int]) -> None:
        for seq in seqs:
            self._move(engine.held[seq], REVOKING)
        engine.asked.update(seqs)
        self._sort(engine)
        self._log.add(now, "asked back from", engine.id, [engine.held[seq].id for seq in seqs])
        self._actions.append(act.TakeBack(engine.serial, seqs))

    def _on_gave_back(self, now: float, event: ev.GaveBack) -> None:
        engine = self.fleet.engines.get(event.serial)
        if engine is None:
            return
        given = set(event.given)
        back = []
        for seq in event.asked:
            if seq not in engine.asked:
                continue
            engine.asked.discard(seq)
            task = engine.held.get(seq)
            if task is None:
                continue
            if seq not in given or seq in engine.stirred:
                self._keep(now, task, engine)
                continue
            del engine.held[seq]
            engine.load -= task.cost
            if engine.allowance is not None:
                engine.allowance += 1
            if task.cancelling:
                self._settle(now, task, CANCELLED)
            else:
                back.append(task)
        if back:
            self._log.add(now, "given back by", engine.id, [task.id for task in back])
            self._requeue(back)
        self.fleet.heard(engine, now)
        self._sort(engine)

    def _keep(self, now: float, task: Task, engine: Engine) -> None:
        """It has started: if it was to be cancelled, either that is that, or it is stopped by force."""
        self._move(task, SENT)
        if not task.cancelling:
            return
        task.cancelling = False
        if task.id not in self._hard:
            self._actions.append(act.RefuseCancel(task))
        elif task.seq not in engine.stirred:
            self._stir(now, engine, task, CANCELLED)

    # -- what engines report -----------------------------------------------------------------------------------------

    def _on_ran(self, now: float, event: ev.Ran) -> None:
        engine = self.fleet.engines.get(event.serial)
        if engine is None:
            return  # a result that came after the engine was declared lost: its task is settled or runs elsewhere
        self.fleet.heard(engine, now)
        self._fruitless_lives = 0
        held, stirred, tasks = engine.held, engine.stirred, self.tasks
        pairs: list[tuple[Task, ResultRecord]] = []
        digest, size, seconds, load = b"", 0, 0.0, 0.0
        for record in event.records:
            task = held.pop(record[0], None)
            if task is None:
                continue
            load += task.cost
            if task.function.digest != digest:
                if size:
                    self.costs.observe(digest, size, seconds)
                digest, size, seconds = task.function.digest, 0, 0.0
            size += task.size
            seconds += record[4]
            if record[1] != OK:
                self._ended(now, task, engine, record)
            else:
                task.state = SETTLED
                del tasks[task.id]
                pairs.append((task, record))
        engine.load -= load
        if size:
            self.costs.observe(digest, size, seconds)
        if pairs:
            ids = [task.id for task, _ in pairs]
            self._log.add(now, "ran on", engine.id, ids)
            if self._hard:
                self._hard.difference_update(ids)
            self._actions.append(act.SettleBulk(engine.id, pairs))
        if stirred:
            stirred.intersection_update(held)
        if engine.allowance == 0 and not held and engine.state is UP:
            self._retire(engine)
        else:
            self._sort(engine)

    def _ended(self, now: float, task: Task, engine: Engine, record: ResultRecord) -> None:
        """A result that is not plainly good: an error, or the end of an interrupted task."""
        seq, status, payload, started, seconds = record
        detail: Any = None
        if seq in engine.stirred:
            status, payload, detail = task.expired, None, task.timeout
        if status == UNMET and self._may_move(task, engine):
            self._log.add(now, "refused by", engine.id, (task.id,))
            self._requeue((task,))
            return
        if self._may_retry(task, status):
            self._retry(now, task)
            self._requeue((task,))
            return
        self._log.add(now, "ended on", engine.id, (task.id,))
        self._close_task(task)
        self._actions.append(act.Settle(task, status, payload, detail, engine.id, started, seconds))

    def _may_move(self, task: Task, engine: Engine) -> bool:
        """Whether a task may run anywhere but here; then it does not come back here."""
        if task.cancelling or task.id in self._hard or self.broken:
            return False
        others = frozenset(range(self.places) if task.targets is None else task.targets) - {engine.id}
        if not any(0 <= id < self.places for id in others):
            return False
        task.targets = others
        return True

    def _may_retry(self, task: Task, status: int) -> bool:
        """Whether a task that failed runs again. Somebody who wants it cancelled is told of the failure instead."""
        if status in (CANCELLED, UNMET) or task.attempts >= task.retries:
            return False
        return not (task.cancelling or task.id in self._hard or self.broken)

    def _retry(self, now: float, task: Task) -> None:
        task.attempts += 1
        self._log.add(now, f"attempt {task.attempts} failed, tried again", None, (task.id,))

    def _requeue(self, tasks: Sequence[Task]) -> None:
        """Back to the front of the queue, in the given order."""
        for task in tasks:
            self._move(task, WAITING)
        free, with_targets = by_queue(tasks)
        self.ready.put_back(free)
        for targets, some in with_targets.items():
            self.pinned.add(targets, some, front=True)

    # -- time-outs ---------------------------------------------------------------------------------------------------

    def _is_held(self, serial: int, seq: int) -> bool:
        engine = self.fleet.engines.get(serial)
        return engine is not None and seq in engine.held

    def _on_running(self, now: float, event: ev.Running) -> None:
        engine = self.fleet.engines.get(event.serial)
        task = engine.held.get(event.seq) if engine is not None else None
        if task is not None and task.timeout is not None:
            self.deadlines.add(now + task.timeout, "timeout", event.serial, event.seq)

    def _on_tick(self, now: float, event: ev.Tick) -> None:
        if self.depending:
            for late in self.depending.expire(now):
                self._settle(now, late, WAITED, detail="what it waited for has not ended in time")
        for what, serial, seq in self.deadlines.expire(now):
            engine = self.fleet.engines[serial]
            task = engine.held[seq]
            if what == "timeout":
                if seq not in engine.stirred:
                    self._stir(now, engine, task, TIMEOUT)
            elif what == "stirred":
                self._kill(engine, f"task {task.id} did not react to an interrupt")
            elif task.cancelling and task.id in self._hard:
                self._kill(engine, f"it did not answer whether task {task.id} has started")

    def _stir(self, now: float, engine: Engine, task: Task, status: int) -> None:
        task.expired = status
        engine.stirred.add(task.seq)
        self._log.add(now, "interrupted on", engine.id, (task.id,))
        self._actions.append(act.Stir(engine.serial, task.seq))
        self.deadlines.add(now + GRACE, "stirred", engine.serial, task.seq)

    def _kill(self, engine: Engine, reason: str) -> None:
        """Have it ended. It gets nothing more and its place is filled anew; what it holds is decided when it is gone."""
        engine.condemned = True
        self.fleet.leave(engine)
        self._actions.append(act.KillEngine(engine.serial, reason))

    # -- engines come and go -----------------------------------------------------------------------------------------

    def _start(self, id: int) -> None:
        engine = self.fleet.start(id, self.allowance)
        self._actions.append(act.StartEngine(id, engine.serial))

    def _fill_places(self) -> None:
        """Start engines for vacant places: all, if there is or may be work; on demand, only as many as tasks wait for."""
        fleet = self.fleet
        if not self.on_demand:
            if self.tasks or not self.closing:
                self.begin()
            return
        missing = len(self.ready) - fleet.starting
        while missing > 0 and fleet.vacant:
            self._start(fleet.first_vacant())
            missing -= 1
        if self.pinned and fleet.vacant:
            few, many = sorted((fleet.vacant, self.pinned.places), key=len)
            for id in [id for id in few if id in many]:
                self._start(id)

    def _on_engine_up(self, now: float, event: ev.EngineUp) -> None:
        engine = self.fleet.engines.get(event.serial)
        if engine is None or engine.state is not STARTING:
            return
        self.fleet.rise(engine)
        engine.progress = now
        self._failed_starts = 0
        self._has_been_up = True
        self._sort(engine)
        if engine in self.fleet.idle:
            # Behind those that have been at work, and that were up before it.
            self.fleet.idle.move_to_end(engine, last=False)

    def _on_engine_down(self, now: float, event: ev.EngineDown) -> None:
        engine = self.fleet.engines.get(event.serial)
        if engine is None:
            return
        was = engine.state
        self.fleet.leave(engine)
        self._bury(now, engine, event)
        del self.fleet.engines[event.serial]
        if engine.condemned or self.finished or (self.closing and not self.tasks):
            return  # nobody's fault, or nobody's concern
        if was is STARTING:
            self._failed_starts += 1
        starts = FRUITLESS_LIVES if self._has_been_up else FAILED_STARTS
        if (
            self._failed_starts >= starts
            or self._fruitless_lives >= FRUITLESS_LIVES
            or (self.break_on_death and was is not LEAVING)
        ):
            self._break(now, event.death)

    def _bury(self, now: float, engine: Engine, event: ev.EngineDown) -> None:
        """Decide what becomes of each task that a lost engine held."""
        held = engine.held
        if not held:
            return
        started = next(iter(held)) if event.started is None else event.started
        if started < next(iter(held)) and not engine.condemned:
            self._fruitless_lives += 1
        survivors, again = [], []
        for seq, task in held.items():
            status, detail = self._fate(engine, task, seq == started, event)
            if status is None:
                survivors.append(task)
            elif self._may_retry(task, status):
                self._retry(now, task)
                again.append(task)
            else:
                self._settle(now, task, status, detail=detail, engine=engine.id)
        held.clear()
        engine.asked.clear()
        engine.stirred.clear()
        # Whatever killed the engine comes after those that did not.
        survivors += again
        if survivors:
            self._log.add(now, "rescued from", engine.id, [task.id for task in survivors])
            self._requeue(survivors)

    def _fate(self, engine: Engine, task: Task, ran: bool, event: ev.EngineDown) -> tuple[int | None, Any]:
        """The status, and its detail, of a task whose engine is lost; None if it shall run elsewhere."""
        if task.seq in engine.stirred:
            return task.expired, task.timeout
        if task.cancelling and (not ran or task.id in self._hard):
            return CANCELLED, None
        if ran and not engine.condemned:
            return DIED, event.death
        # Not started, or finished with its result lost on the way, or in the way when another task was stopped by force:
        # it has to run.
        return None, None

    def _retire(self, engine: Engine) -> None:
        """An engine has run all it may: let it leave. Its place is filled anew."""
        self.fleet.leave(engine)
        self._actions.append(act.StopEngine(engine.serial))

    # -- cancelling --------------------------------------------------------------------------------------------------

    def _on_cancel_wanted(self, now: float, event: ev.CancelWanted) -> None:
        task = self.tasks.get(event.task_id)
        if task is None:
            return  # settled meanwhile: the client has its answer by that
        if task.state is WAITING:
            self._cancel_waiting(now, task)
            return
        engine = self.fleet.engines[task.engine]
        if event.running and task.id not in self._hard:
            self._hard.add(task.id)
            # An engine that is stopped or lost would owe its answer for ever.
            self.deadlines.add(now + GRACE, "asked", engine.serial, task.seq)
        if task.seq in engine.stirred:
            # It is being stopped already, so it runs.
            if not event.running:
                self._actions.append(act.RefuseCancel(task))
            return
        task.cancelling = True
        if task.state is SENT:
            self._take_back(now, engine, [task.seq])

    def _cancel_waiting(self, now: float, task: Task) -> None:
        if task.id in self.depending:
            self.depending.drop(task.id)
            self._settle(now, task, CANCELLED)
        elif task.targets is None:
            self._settle(now, task, CANCELLED)
            self.ready.left()
        else:
            self._settle(now, task, CANCELLED)
            self.pinned.left(task)

    def _on_cancel_withdrawn(self, now: float, event: ev.CancelWithdrawn) -> None:
        task = self.tasks.get(event.task_id)
        if task is not None:
            task.cancelling = False
            self._hard.discard(task.id)

    def _on_cancel_all(self, now: float, event: ev.CancelAll) -> None:
        # What runs, or would run if engines were up already, goes on: in the stdlib too, the first tasks are beyond recall
        # from the moment they are submitted, and its users count on that.
        waiting = [*self.ready, *self.pinned, *self.depending]
        for task in waiting[self.fleet.starting + len(self.fleet.idle) :]:
            self._cancel_waiting(now, task)
        for engine in self.fleet.engines.values():
            seqs = []
            for seq, task in list(engine.held.items())[1:]:
                if seq in engine.stirred:
                    continue
                task.cancelling = True
                if task.state is SENT:
                    seqs.append(seq)
            if seqs:
                self._take_back(now, engine, seqs)

    # -- ends --------------------------------------------------------------------------------------------------------

    def _on_broke(self, now: float, event: ev.Broke) -> None:
        self._break(now, event.detail)

    def _break(self, now: float, detail: Any) -> None:
        if self.broken or self.finished:
            return
        self.broken = detail
        self._end_all(now, BROKEN, detail, "the cluster is broken")

    def _on_closed(self, now: float, event: ev.Closed) -> None:
        self.closing = True

    def _on_terminated(self, now: float, event: ev.Terminated) -> None:
        self.closing = self.terminated = True
        self._end_all(now, TERMINATED, None, "the cluster was terminated")

    def _end_all(self, now: float, status: int, detail: Any, reason: str) -> None:
        for engine in self.fleet.engines.values():
            engine.held.clear()
            engine.asked.clear()
            engine.stirred.clear()
            self._kill(engine, reason)
        self.ready = ReadyQueue()
        self.pinned = PinnedQueues()
        self.depending = Dependencies()
        self._settle_each(now, list(self.tasks.values()), status, detail)

    def _wind_up(self) -> None:
        """Closed, and no task is open: send the engines home, and say so when the last has gone."""
        for engine in list(self.fleet.filled.values()):
            if engine.state is UP:
                self._retire(engine)
        if not self.fleet.engines and not self.finished:
            self.finished = True
            self._actions.append(act.Finished())

    # -- the only ways to change a task ------------------------------------------------------------------------------

    def _move(self, task: Task, state: str) -> None:
        if state not in TRANSITIONS[task.state]:
            raise InvalidTransition(f"{task!r} cannot become {state}; its story: {self.story(task.id)}")
        task.state = state

    def _settle(self, now: float, task: Task, status: int, *, detail: Any = None, engine: int = -1) -> None:
        self._log.add(now, "settled without a result", None, (task.id,))
        self._close_task(task)
        self._actions.append(act.Settle(task, status, None, detail, engine))

    def _settle_each(self, now: float, tasks: Iterable[Task], status: int, detail: Any) -> None:
        for task in tasks:
            self._settle(now, task, status, detail=detail)

    def _close_task(self, task: Task) -> None:
        self._move(task, SETTLED)
        task.cancelling = False
        del self.tasks[task.id]
        self._hard.discard(task.id)


__all__ = ["TRANSITIONS", "InvalidTransition", "Scheduler"]
