"""Every scheduling decision, as a pure state machine: events in, actions out, the time passed in.

Rules for editors of this package
  1. No sockets, threads, clocks, pickle, logging or environment here; ``tests/test_layering.py`` holds that.
  2. ``handle`` changes state and may emit actions; ``decide`` hands out tasks and returns all actions since the last call.
     A host performs them in order, and tells what came of them as further events.
  3. Each task is settled exactly once. All exits go through ``_settle`` or the bulk path in ``_on_ran``.

The life of a task (``messages.py`` names the states)::

                    ┌──────────── given back, engine lost, retry ──────────┐
                    ▼                                                      │
    Submitted ─► WAITING ── decide ─► SENT ── decide, cancel ─► REVOKING ──┤
                    │                  │ ▲                          │      │
                    │                  │ └──── has started ─────────┤      │
                    ▼                  ▼                            ▼      │
                 SETTLED ◄───────── result, death, time-out, cancelled ────┘

Credit is time: an engine may hold about ``costs.HOLD`` seconds of work. When an engine has nothing to do and nothing waits,
tasks that others hold and have not started are asked back (``_steal``), at once where much work is expected to lie there,
and after a moment where little was expected but the engine does not get on.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Any

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.costs import AHEAD, HOLD, Costs
from zexec.core.deadlines import Deadlines
from zexec.core.engines import LEAVING, STARTING, UP, Engine
from zexec.core.ready import ReadyQueue
from zexec.messages import (
    BROKEN,
    CANCELLED,
    DIED,
    NO_ENGINE,
    OK,
    REVOKING,
    SENT,
    SETTLED,
    TERMINATED,
    TIMEOUT,
    WAITING,
    Death,
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

#: Work expected behind an engine's running task that is worth a revoke (a round trip is about 0.2 ms of it).
WORTH_STEALING = 0.001
#: An engine that has shown no progress for this long is deep in something unexpected: take everything back from it.
OVERDUE = 0.005
#: How long an interrupted task may go on before its engine is replaced.
GRACE = 1.0
#: Engines that die before they are up, in a row, until the cluster gives up.
FAILED_STARTS = 3
#: How many events the log keeps for ``story``.
LOG = 1_000


class InvalidTransition(RuntimeError):
    """A bug in the scheduler: a task was to go where it cannot. The message tells its story."""


class Scheduler:
    """Decides which engine runs which task when.

    Args:
        places: number of engines wanted.
        on_demand: start engines as tasks need them rather than all with ``begin``.
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
        self.finished = False
        #: why nothing can run any more, or None
        self.broken: Any = None
        #: all open tasks: every state but SETTLED
        self.tasks: dict[int, Task] = {}
        #: engines that are starting, up or leaving, by serial
        self.engines: dict[int, Engine] = {}
        #: who fills each place; an engine that leaves has given up its place already
        self.filled: dict[int, Engine] = {}
        self.costs = Costs()
        self.deadlines = Deadlines()
        self._ready = ReadyQueue()
        #: tasks with targets, in the queue of every target
        self._pinned: dict[int, ReadyQueue] = {}
        # Engines that are up and may be sent something: _idle hold nothing, _roomy hold less than their credit. _loaded hold
        # more than they can be running. OrderedDicts, because a plain dict that is popped at the front scans its holes.
        self._idle: OrderedDict[Engine, None] = OrderedDict()
        self._roomy: OrderedDict[Engine, None] = OrderedDict()
        self._loaded: OrderedDict[Engine, None] = OrderedDict()
        self._up = 0
        self._starting = 0
        self._serial = 0
        self._failed_starts = 0
        self._look_at: float | None = None
        #: ids of tasks that are to be stopped even if they run
        self._hard: set[int] = set()
        self._actions: list[act.Action] = []
        self._log: deque[tuple[float, str, Any, Any]] = deque(maxlen=LOG)
        self._handlers: dict[type, Callable[[float, Any], None]] = {
            ev.Submitted: self._on_submitted,
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
        for id in range(self.places):
            if id not in self.filled:
                self._start(id)

    def handle(self, now: float, event: ev.Event) -> None:
        """Take in one event."""
        self._handlers[type(event)](now, event)

    def decide(self, now: float) -> list[act.Action]:
        """Hand out what can be handed out; return everything that is to be done since the last call."""
        if not self.broken:
            self._assign(now)
            if self.on_demand:
                self._start_on_demand()
        if self.closing and not self.tasks:
            self._wind_up()
        done, self._actions = self._actions, []
        return done

    def next_deadline(self) -> float | None:
        """When a Tick is due, or None."""
        due = self.deadlines.next()
        look = self._look_at
        if look is None or (due is not None and due < look):
            return due
        return look

    @property
    def hungry(self) -> bool:
        """Whether a task submitted now would be sent (or an engine started for it) at once."""
        return bool(
            self._idle
            or self._roomy
            or self.broken
            or (self.on_demand and len(self.filled) < self.places and self._starting <= len(self._ready))
        )

    def is_running(self, task_id: int) -> bool:
        """Whether an engine has started it, as far as is known here: it is the oldest that its engine holds."""
        task = self.tasks.get(task_id)
        if task is None or task.state is WAITING:
            return False
        engine = self.engines.get(task.engine)
        return engine is not None and next(iter(engine.held), None) == task.seq

    def story(self, task_id: int) -> list[tuple[float, str]]:
        """What happened to a task, oldest first, as far back as the log goes: pairs of a time and a sentence."""
        found = []
        for when, what, who, ids in self._log:
            if task_id in ids:
                found.append((when, what if who is None else f"{what} engine {who}"))
        return found

    # -- tasks come in -----------------------------------------------------------------------------------------------

    def _on_submitted(self, now: float, event: ev.Submitted) -> None:
        tasks = event.tasks
        self._note(now, "submitted", None, [task.id for task in tasks])
        known = self.tasks
        for task in tasks:
            known[task.id] = task
        if self.broken:
            for task in tasks:
                self._settle(now, task, BROKEN, detail=self.broken)
            return
        free = [task for task in tasks if task.targets is None]
        self._ready.extend(free)
        if len(free) < len(tasks):
            for task in tasks:
                if task.targets is not None:
                    self._pin(now, task)

    def _pin(self, now: float, task: Task) -> None:
        assert task.targets is not None
        exist = [id for id in task.targets if 0 <= id < self.places]
        if not exist:
            detail = f"no engine {sorted(task.targets)}: there are 0 to {self.places - 1}"
            self._settle(now, task, NO_ENGINE, detail=detail)
            return
        for id in exist:
            self._pinned.setdefault(id, ReadyQueue()).extend((task,))

    # -- handing out -------------------------------------------------------------------------------------------------

    def _assign(self, now: float) -> None:
        batches: dict[Engine, list[Task]] = {}
        if self._pinned:
            self._assign_pinned(batches)
        ready = self._ready
        while ready:
            if self._idle:
                engine = next(iter(self._idle))
            elif self._roomy:
                engine = next(iter(self._roomy))
            else:
                break
            # Guided shares: never more than a part of what waits, so that the end of a map is spread evenly.
            share = len(ready) // (2 * self._up) or 1
            self._fill(engine, ready, share, batches.setdefault(engine, []))
            self._place(engine)
        for engine, batch in batches.items():
            base = engine.next_seq - len(batch)
            engine.progress = max(engine.progress, now) if len(engine.held) > len(batch) else now
            self._note(now, "sent to", engine.id, [task.id for task in batch])
            self._actions.append(act.Send(engine.serial, base, batch))
        if self._idle and self._loaded and not ready:
            self._steal(now)

    def _assign_pinned(self, batches: dict[Engine, list[Task]]) -> None:
        for id in [id for id, queue in self._pinned.items() if not queue]:
            del self._pinned[id]
        for id, queue in self._pinned.items():
            engine = self.filled.get(id)
            while engine is not None and queue and (engine in self._idle or engine in self._roomy):
                self._fill(engine, queue, len(queue), batches.setdefault(engine, []))
                self._place(engine)

    def _fill(self, engine: Engine, queue: ReadyQueue, share: int, batch: list[Task]) -> None:
        """Move up to ``share`` tasks, at least one, from a queue to an engine, within its credit."""
        expect = self.costs.expect
        held, serial, seq, load = engine.held, engine.serial, engine.next_seq, engine.load
        if engine.allowance is not None and engine.allowance < share:
            share = engine.allowance
        left = share
        while left and queue:
            task = queue.pop()
            if task.targets is not None:
                self._unpin(task, queue)
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
        if engine.allowance is not None:
            engine.allowance -= share - left

    def _unpin(self, task: Task, taken_from: ReadyQueue | None = None) -> None:
        """Keep the counts of the other targets' queues true when a task with targets leaves WAITING."""
        for id in task.targets or ():
            queue = self._pinned.get(id)
            if queue is not None and queue is not taken_from:
                queue.discard(task)

    def _place(self, engine: Engine) -> None:
        """Put an engine into those of _idle, _roomy and _loaded where it belongs now, at the end."""
        self._idle.pop(engine, None)
        self._roomy.pop(engine, None)
        held = len(engine.held)
        if engine.state is not UP:
            self._loaded.pop(engine, None)
            return
        if held > 1:
            self._loaded[engine] = None
        else:
            self._loaded.pop(engine, None)
        if engine.allowance == 0:
            return
        if not held:
            engine.load = 0.0
            self._idle[engine] = None
        elif engine.load < HOLD / 2 or (held == 1 and engine.load <= AHEAD):
            # Half, so that an engine that runs short tasks is refilled in bulk, not task by task.
            self._roomy[engine] = None

    def _steal(self, now: float) -> None:
        """An engine is idle and nothing waits: ask back tasks that others hold and have not started."""
        self._look_at = None
        for _ in range(min(len(self._idle), len(self._loaded))):
            engine = max((e for e, _ in zip(self._loaded, range(8), strict=False)), key=lambda e: e.load)
            seqs = [
                seq
                for seq, task in list(engine.held.items())[1:]
                if task.state is SENT and (task.targets is None or self._fits_idle(task))
            ]
            if not seqs or engine.asked:
                self._loaded.move_to_end(engine)
                continue
            if now - engine.progress >= OVERDUE:
                self._take_back(now, engine, seqs)
            else:
                behind = sum(engine.held[seq].cost for seq in seqs)
                if behind >= WORTH_STEALING:
                    self._take_back(now, engine, seqs[len(seqs) // 2 :])
                else:
                    due = engine.progress + OVERDUE
                    self._look_at = due if self._look_at is None else min(due, self._look_at)
            self._loaded.move_to_end(engine)

    def _fits_idle(self, task: Task) -> bool:
        return any(engine.id in (task.targets or ()) for engine in self._idle)

    def _take_back(self, now: float, engine: Engine, seqs: list[int]) -> None:
        for seq in seqs:
            self._move(engine.held[seq], REVOKING)
        engine.asked.update(seqs)
        self._note(now, "asked back from", engine.id, [engine.held[seq].id for seq in seqs])
        self._actions.append(act.TakeBack(engine.serial, seqs))

    # -- what engines report -----------------------------------------------------------------------------------------

    def _on_ran(self, now: float, event: ev.Ran) -> None:
        engine = self.engines.get(event.serial)
        if engine is None:
            return  # a result that came after the engine was declared lost: its task is settled or runs elsewhere
        engine.progress = now
        held, tasks = engine.held, self.tasks
        pairs: list[tuple[Task, ResultRecord]] = []
        digest, size, seconds = b"", 0, 0.0
        for record in event.records:
            task = held.pop(record[0], None)
            if task is None:
                continue
            engine.load -= task.cost
            if task.function.digest != digest:
                if size:
                    self.costs.observe(digest, size, seconds)
                digest, size, seconds = task.function.digest, 0, 0.0
            size += task.size
            seconds += record[4]
            if record[1] != OK or record[0] == engine.stirred:
                self._ended(now, task, engine, record)
            else:
                task.state = SETTLED
                del tasks[task.id]
                pairs.append((task, record))
        if size:
            self.costs.observe(digest, size, seconds)
        if pairs:
            self._note(now, "ran on", engine.id, [task.id for task, _ in pairs])
            if self._hard:
                self._hard.difference_update(task.id for task, _ in pairs)
            self._actions.append(act.SettleBulk(engine.id, pairs))
        if engine.allowance == 0 and not held and engine.state is UP:
            self._retire(engine)
        else:
            self._place(engine)

    def _ended(self, now: float, task: Task, engine: Engine, record: ResultRecord) -> None:
        """A result that is not plainly good: an error, or the end of an interrupted task."""
        seq, status, payload, started, seconds = record
        detail: Any = None
        if seq == engine.stirred:
            engine.stirred = None
            if status != OK:
                status, payload, detail = task.expired, None, task.timeout
        if status not in (OK, CANCELLED) and self._retry(now, task):
            return
        self._note(now, "ended on", engine.id, (task.id,))
        self._close_task(task)
        self._actions.append(act.Settle(task, status, payload, detail, engine.id, started, seconds))

    def _retry(self, now: float, task: Task) -> bool:
        if task.attempts >= task.retries or task.id in self._hard or self.broken:
            return False
        task.attempts += 1
        self._note(now, f"attempt {task.attempts} failed, tried again", None, (task.id,))
        self._requeue((task,))
        return True

    def _requeue(self, tasks: Iterable[Task]) -> None:
        """Back to the front of the queue, in the given order."""
        free = []
        for task in tasks:
            self._move(task, WAITING)
            task.cancelling = False
            if task.targets is None:
                free.append(task)
            else:
                for id in task.targets:
                    self._pinned.setdefault(id, ReadyQueue()).put_back((task,))
        self._ready.put_back(free)

    def _on_running(self, now: float, event: ev.Running) -> None:
        engine = self.engines.get(event.serial)
        task = engine.held.get(event.seq) if engine is not None else None
        if task is not None and task.timeout is not None:
            self.deadlines.add(now + task.timeout, "timeout", (event.serial, event.seq))

    def _on_gave_back(self, now: float, event: ev.GaveBack) -> None:
        engine = self.engines.get(event.serial)
        if engine is None:
            return
        given = set(event.given)
        back = []
        for seq in event.asked:
            engine.asked.discard(seq)
            task = engine.held.get(seq)
            if task is None:
                continue
            if seq in given:
                del engine.held[seq]
                engine.load -= task.cost
                if engine.allowance is not None:
                    engine.allowance += 1
                if task.cancelling:
                    self._settle(now, task, CANCELLED)
                else:
                    back.append(task)
            else:
                self._move(task, SENT)
                if task.cancelling:
                    task.cancelling = False
                    self._refuse(now, task, engine)
        if back:
            self._note(now, "given back by", engine.id, [task.id for task in back])
            self._requeue(back)
        self._place(engine)

    def _refuse(self, now: float, task: Task, engine: Engine) -> None:
        """It runs: either that is that, or it is stopped by force."""
        if task.id in self._hard:
            self._stir(now, engine, task, CANCELLED)
        else:
            self._actions.append(act.RefuseCancel(task))

    def _stir(self, now: float, engine: Engine, task: Task, status: int) -> None:
        task.expired = status
        engine.stirred = task.seq
        self._note(now, "interrupted on", engine.id, (task.id,))
        self._actions.append(act.Stir(engine.serial, task.seq))
        self.deadlines.add(now + GRACE, "kill", (engine.serial, task.seq))

    # -- engines come and go -----------------------------------------------------------------------------------------

    def _start(self, id: int) -> None:
        self._serial += 1
        engine = Engine(self._serial, id, self.allowance)
        self.engines[engine.serial] = engine
        self.filled[id] = engine
        self._starting += 1
        self._actions.append(act.StartEngine(id, engine.serial))

    def _start_on_demand(self) -> None:
        missing = len(self._ready) - self._starting if not self._idle else 0
        for id in range(self.places) if missing > 0 or self._pinned else ():
            if id not in self.filled and (missing > 0 or id in self._pinned):
                self._start(id)
                missing -= 1

    def _on_engine_up(self, now: float, event: ev.EngineUp) -> None:
        engine = self.engines.get(event.serial)
        if engine is None or engine.state is not STARTING:
            return
        engine.state = UP
        engine.progress = now
        self._starting -= 1
        self._up += 1
        self._failed_starts = 0
        self._place(engine)

    def _on_engine_down(self, now: float, event: ev.EngineDown) -> None:
        engine = self.engines.pop(event.serial, None)
        if engine is None:
            return
        was = engine.state
        if was is UP:
            self._up -= 1
        elif was is STARTING:
            self._starting -= 1
        engine.state = LEAVING
        self._place(engine)
        if self.filled.get(engine.id) is engine:
            del self.filled[engine.id]
        if was is STARTING and not self.closing:
            self._failed_starts += 1
            if self._failed_starts >= FAILED_STARTS:
                self._break(now, event.death)
                return
        self._bury(now, engine, event)
        if self.break_on_death and was is not LEAVING and not self.finished:
            self._break(now, event.death)
        if not self.broken and (not self.closing or self.tasks) and engine.id not in self.filled:
            self._start(engine.id)

    def _bury(self, now: float, engine: Engine, event: ev.EngineDown) -> None:
        """Decide what becomes of each task that a lost engine held."""
        started = event.started
        if started is None:
            started = next(iter(engine.held), -1)
        survivors = []
        for seq, task in engine.held.items():
            if seq == started:
                if engine.stirred == seq:
                    status, detail = task.expired, task.timeout
                else:
                    status, detail = DIED, event.death
                if status == CANCELLED or not self._retry(now, task):
                    self._settle(now, task, status, detail=detail, engine=engine.id)
            elif task.cancelling:
                self._settle(now, task, CANCELLED)
            else:
                # Not started, or finished with its result lost on the way: either way it has to run.
                survivors.append(task)
        engine.held.clear()
        if survivors:
            self._note(now, "rescued from", engine.id, [task.id for task in survivors])
            self._requeue(survivors)

    def _retire(self, engine: Engine) -> None:
        """An engine has run all it may: let it leave and fill its place anew."""
        engine.state = LEAVING
        self._up -= 1
        self._place(engine)
        del self.filled[engine.id]
        self._actions.append(act.StopEngine(engine.serial))
        if (not self.closing or self.tasks) and not self.on_demand:
            self._start(engine.id)

    # -- cancelling --------------------------------------------------------------------------------------------------

    def _on_cancel_wanted(self, now: float, event: ev.CancelWanted) -> None:
        task = self.tasks.get(event.task_id)
        if task is None:
            return  # settled meanwhile: the client has its answer by that
        if event.running:
            self._hard.add(task.id)
        if task.state is WAITING:
            self._withdraw(task)
            self._settle(now, task, CANCELLED)
            return
        engine = self.engines[task.engine]
        if engine.stirred == task.seq:
            # It is being stopped already, so it runs.
            if not event.running:
                self._actions.append(act.RefuseCancel(task))
            return
        task.cancelling = True
        if task.state is SENT:
            self._take_back(now, engine, [task.seq])

    def _on_cancel_withdrawn(self, now: float, event: ev.CancelWithdrawn) -> None:
        task = self.tasks.get(event.task_id)
        if task is not None:
            task.cancelling = False

    def _on_cancel_all(self, now: float, event: ev.CancelAll) -> None:
        for task in list(self.tasks.values()):
            self._on_cancel_wanted(now, ev.CancelWanted(task.id))

    def _withdraw(self, task: Task) -> None:
        """Take a waiting task out of its queues; its state changes right after."""
        if task.targets is None:
            self._ready.left()
        else:
            self._unpin(task)

    # -- ends --------------------------------------------------------------------------------------------------------

    def _on_broke(self, now: float, event: ev.Broke) -> None:
        self._break(now, event.detail)

    def _break(self, now: float, detail: Any) -> None:
        if self.broken:
            return
        self.broken = detail
        self._settle_all(now, BROKEN, detail)
        for engine in list(self.engines.values()):
            self._actions.append(act.KillEngine(engine.serial, "the cluster is broken"))

    def _on_closed(self, now: float, event: ev.Closed) -> None:
        self.closing = True

    def _on_terminated(self, now: float, event: ev.Terminated) -> None:
        self.closing = True
        self._settle_all(now, TERMINATED, None)
        for engine in self.engines.values():
            self._actions.append(act.KillEngine(engine.serial, "the cluster was terminated"))

    def _settle_all(self, now: float, status: int, detail: Any) -> None:
        for engine in self.engines.values():
            engine.held.clear()
            engine.asked.clear()
            self._place(engine)
        for task in list(self.tasks.values()):
            if task.state is WAITING:
                self._withdraw(task)
            self._settle(now, task, status, detail=detail)

    def _wind_up(self) -> None:
        """Closed, and no task is open: send the engines home, and say so when the last has gone."""
        for engine in list(self.engines.values()):
            if engine.state is UP:
                engine.state = LEAVING
                self._up -= 1
                self._place(engine)
                self.filled.pop(engine.id, None)
                self._actions.append(act.StopEngine(engine.serial))
        if not self.engines and not self.finished:
            self.finished = True
            self._actions.append(act.Finished())

    def _on_tick(self, now: float, event: ev.Tick) -> None:
        if self._look_at is not None and self._look_at <= now:
            self._look_at = None  # decide() looks again
        for what, (serial, seq) in self.deadlines.expire(now):
            engine = self.engines.get(serial)
            task = engine.held.get(seq) if engine is not None else None
            if engine is None or task is None:
                continue
            if what == "timeout" and engine.stirred != seq:
                self._stir(now, engine, task, TIMEOUT)
            elif what == "kill":
                self._actions.append(act.KillEngine(serial, f"task {task.id} did not react to an interrupt"))

    # -- the only ways to change a task ------------------------------------------------------------------------------

    def _move(self, task: Task, state: str) -> None:
        if state not in TRANSITIONS[task.state]:
            raise InvalidTransition(f"{task!r} cannot become {state}; its story: {self.story(task.id)}")
        task.state = state

    def _settle(self, now: float, task: Task, status: int, *, detail: Any = None, engine: int = -1) -> None:
        self._note(now, "settled without a result", None, (task.id,))
        self._close_task(task)
        self._actions.append(act.Settle(task, status, None, detail, engine))

    def _close_task(self, task: Task) -> None:
        self._move(task, SETTLED)
        del self.tasks[task.id]
        self._hard.discard(task.id)

    def _note(self, now: float, what: str, who: int | None, ids: Any) -> None:
        self._log.append((now, what, who, ids))


__all__ = ["TRANSITIONS", "Death", "InvalidTransition", "Scheduler"]
