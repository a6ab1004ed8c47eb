"""Engines come and go, and in the end all of them go."""

from __future__ import annotations

from typing import Any

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.claims import claim
from zexec.core.dependencies import Dependencies
from zexec.core.engines import LEAVING, STARTING, UP, Engine
from zexec.core.handing_out import send
from zexec.core.pinned import PinnedQueues
from zexec.core.state import NOBODY, State
from zexec.core.taking_back import take_back
from zexec.messages import BROKEN, CANCELLED, DIED, NO_ENGINE, SENT, TERMINATED, WAITING, Task

#: Engines that die before they are up, in a row, until the cluster gives up, while none has ever been up; and later those that
#: die so, or with tasks at hand of which they began none. Later it is not the start that fails: somebody kills engines, and in
#: a hail of kills many in a row do not come far.
FAILED_STARTS, FRUITLESS_LIVES = 3, 100


def begin(s: State) -> None:
    """Ask for all engines now."""
    while s.fleet.vacant:
        s.start(s.fleet.first_vacant())


def fill_places(s: State) -> None:
    """Start engines for vacant places: all, if there is or may be work; on demand, only as many as tasks wait for."""
    fleet = s.fleet
    if s.elastic:
        return  # engines come by themselves
    if not s.on_demand:
        if s.tasks or not s.closing:
            begin(s)
        return
    missing = len(s.ready) - fleet.starting
    while missing > 0 and fleet.vacant:
        s.start(fleet.first_vacant())
        missing -= 1
    if s.pinned and fleet.vacant:
        few, many = sorted((fleet.vacant, s.pinned.places), key=len)
        for id in [id for id in few if id in many]:
            s.start(id)


def on_joined(s: State, now: float, event: ev.Joined) -> None:
    """An engine that came by itself gets a place: the first that is promised, or else vacant, or one more."""
    if s.finished:
        return
    engine = s.fleet.start(_place(s, event.place), s.allowance)
    s.actions.append(act.Admit(event.token, engine.id, engine.serial))


def _place(s: State, before: int | None) -> int:
    """Where an engine goes that came by itself; ``before``: where it was in an earlier life of the hub."""
    fleet = s.fleet
    if before is not None and before in fleet.vacant:
        return before
    free = fleet.vacant - s.reserved if s.reserved else fleet.vacant
    if not free:
        s.places += 1
        fleet.grow(s.places)
        return s.places - 1
    missing = s.promised & free if s.promised else None
    if missing:
        return min(missing)
    return min(free) if s.reserved else fleet.first_vacant()


def on_promised(s: State, now: float, event: ev.Promised) -> None:
    s.promised = set(event.places)
    s.places = max([s.places, *(id + 1 for id in s.promised)])
    s.fleet.grow(s.places)


def give_up_places(s: State, now: float) -> None:
    """Fail what waits for places that nobody fills or will fill; forget those of them at the end."""
    vacant, promised = s.fleet.vacant, s.promised | s.reserved
    if s.pinned:
        few, many = sorted((vacant, s.pinned.places), key=len)
        lost = [id for id in few if id in many and id not in promised]
        if lost:
            for targets, tasks in s.pinned.hopeless(lost, lambda id: id in s.fleet.filled or id in promised):
                s.settle_each(now, tasks, NO_ENGINE, f"no engine {sorted(targets)}: it has left, or never was")
    last = s.places - 1
    if last in vacant and last not in promised:
        s.places = s.fleet.shrink(max(promised, default=-1) + 1)


def on_drain(s: State, now: float, event: ev.Drain) -> None:
    if not event.restart:
        s.promised.discard(event.id)
        if not s.elastic and s.exists(event.id):
            _close(s, now, event.id)
    engine = s.fleet.filled.get(event.id)
    if engine is None or engine.draining:
        return
    if engine.state is STARTING:
        s.kill(engine, "it is not wanted any more")
        return
    engine.draining = True
    seqs = [seq for seq, task in engine.held.items() if task.state is SENT and seq not in engine.stirred]
    if seqs:
        take_back(s, now, engine, seqs)
    s.settle_down(engine)


def _close(s: State, now: float, id: int) -> None:
    """Nobody will fill a place any more: fail what waits for it alone, or for any, if it was the last."""
    s.fleet.close(id)
    if s.is_empty:
        waiting = [*s.ready, *s.pinned, *(task for task in s.depending if task.state is WAITING)]
        s.ready = s.new_queue()
        s.pinned = PinnedQueues()
        s.settle_each(now, waiting, NO_ENGINE, NOBODY)
        return
    for targets, tasks in s.pinned.hopeless([id], s.exists):
        s.settle_each(now, tasks, NO_ENGINE, s.no_engine(targets))


def on_engine_up(s: State, now: float, event: ev.EngineUp) -> None:
    engine = s.fleet.engines.get(event.serial)
    if engine is None or engine.state is not STARTING:
        return
    s.fleet.rise(engine)
    engine.progress = now
    s.failed_starts = 0
    s.has_been_up = True
    if event.claims or event.next_seq:
        engine.fresh = False
        claim(s, now, engine, event)
    elif engine.id in s.rites and not (s.broken or s.terminated):
        s.newcomers[engine] = None
    s.sort(engine)
    if engine in s.fleet.idle:
        # Behind those that have been at work, and that were up before it.
        s.fleet.idle.move_to_end(engine, last=False)


def perform_rites(s: State, now: float) -> None:
    """Have engines that have come up run what is remembered for their places: whatever their credit, before all else."""
    newcomers, s.newcomers = s.newcomers, {}
    if s.closing and not s.tasks:
        return  # they have nothing to do here
    for engine, keys in newcomers.items():
        rites = s.rites.get(engine.id, {})
        wanted = [rite for key, rite in rites.items() if keys is None or key in keys]
        if engine.state is UP and wanted:
            _perform_rites(s, now, engine, wanted)


def _perform_rites(s: State, now: float, engine: Engine, rites: list[Task]) -> None:
    runs = []
    for rite in rites:
        s.rites_run += 1
        targets = frozenset((engine.id,))
        runs.append(Task(-s.rites_run, rite.function, rite.kind, rite.payload, targets=targets))
    s.tasks.update((task.id, task) for task in runs)
    send(s, now, engine, runs)
    s.sort(engine)


def on_remembered(s: State, now: float, event: ev.Remembered) -> None:
    if event.task is not None:
        known = s.rites.setdefault(event.place, {})
        if event.again and event.key not in known:
            _catch_up(s, event.place, event.key)
        known[event.key] = event.task
        return
    rites = s.rites.get(event.place, {})
    rites.pop(event.key, None)
    if not rites:
        s.rites.pop(event.place, None)


def _catch_up(s: State, place: int, key: int) -> None:
    """Somebody says anew what an earlier life of the hub knew; who has come since then, before this was said, lacks it."""
    engine = s.fleet.filled.get(place)
    if engine is None or engine.state is not UP or not engine.fresh:
        return
    keys = s.newcomers.setdefault(engine, set())
    if keys is not None:
        keys.add(key)


def on_engine_down(s: State, now: float, event: ev.EngineDown) -> None:
    engine = s.fleet.engines.get(event.serial)
    if engine is None:
        return
    was = engine.state
    s.leave(engine)
    _bury(s, now, engine, event)
    del s.fleet.engines[event.serial]
    if engine.condemned or s.finished or (s.closing and not s.tasks):
        return  # nobody's fault, or nobody's concern
    if s.elastic:
        return  # whoever starts engines sees to that
    if was is STARTING:
        s.failed_starts += 1
    starts = FRUITLESS_LIVES if s.has_been_up else FAILED_STARTS
    if s.failed_starts >= starts or s.fruitless_lives >= FRUITLESS_LIVES or (s.break_on_death and was is not LEAVING):
        break_down(s, now, event.death)


def _bury(s: State, now: float, engine: Engine, event: ev.EngineDown) -> None:
    """Decide what becomes of each task that a lost engine held."""
    held = engine.held
    if not held:
        return
    started = event.started
    if started is None or not -1 <= started < engine.next_seq:
        # Nobody knows, or something has written over what was known. Whatever did that would do it again elsewhere.
        started = next(iter(held))
    if started < next(iter(held)) and not engine.condemned:
        s.fruitless_lives += 1
    survivors, again = [], []
    for seq, task in held.items():
        status, detail = _fate(s, engine, task, seq == started, event)
        if status is None:
            survivors.append(task)
        elif s.may_retry(task, status):
            s.retry(now, task)
            again.append(task)
        else:
            s.settle(now, task, status, detail=detail, engine=engine.id, serial=engine.serial)
    held.clear()
    engine.asked.clear()
    engine.chained.clear()
    engine.stirred.clear()
    # Whatever killed the engine comes after those that did not.
    survivors += again
    if survivors:
        s.log.add(now, "rescued from", engine.id, [task.id for task in survivors])
        s.requeue(now, survivors)


def _fate(s: State, engine: Engine, task: Task, ran: bool, event: ev.EngineDown) -> tuple[int | None, Any]:
    """The status, and its detail, of a task whose engine is lost; None if it shall run elsewhere."""
    if task.seq in engine.stirred:
        return task.expired, task.timeout
    if task.id < 0:
        # Its successor begins anew; unless that is what it died of.
        if ran and not engine.condemned:
            s.rites.pop(engine.id, None)
        return CANCELLED, None
    if task.cancelling and (not ran or engine.condemned or task.id in s.hard):
        return CANCELLED, None  # also what ran, if that was in vain: it would have to run again
    if ran and not engine.condemned:
        return DIED, event.death
    # Not started, or finished with its result lost on the way, or in the way when another task was stopped by force:
    # it has to run.
    return None, None


def on_broke(s: State, now: float, event: ev.Broke) -> None:
    break_down(s, now, event.detail)


def break_down(s: State, now: float, detail: Any) -> None:
    if s.broken or s.finished:
        return
    s.broken = detail
    _end_all(s, now, BROKEN, detail, "the cluster is broken")


def on_closed(s: State, now: float, event: ev.Closed) -> None:
    s.closing = True


def on_terminated(s: State, now: float, event: ev.Terminated) -> None:
    s.closing = s.terminated = True
    _end_all(s, now, TERMINATED, None, "the cluster was terminated")


def _end_all(s: State, now: float, status: int, detail: Any, reason: str) -> None:
    for engine in s.fleet.engines.values():
        engine.held.clear()
        engine.asked.clear()
        engine.chained.clear()
        engine.stirred.clear()
        s.kill(engine, reason)
    s.ready = s.new_queue()
    s.pinned = PinnedQueues()
    s.depending = Dependencies()
    s.unclaimed = {}
    s.claims_end = None
    s.settle_each(now, list(s.tasks.values()), status, detail)
    s.following.strays.clear()


def wind_up(s: State) -> None:
    """Closed, and no task is open: send the engines home, and say so when the last has gone."""
    for engine in list(s.fleet.filled.values()):
        if engine.state is UP:
            s.retire(engine)
    if not s.fleet.engines and not s.finished:
        s.finished = True
        s.actions.append(act.Finished())
