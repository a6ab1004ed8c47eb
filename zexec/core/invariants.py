"""What is always true of a Scheduler between two events, and between decisions. Tests call ``check`` after each step."""

from __future__ import annotations

from zexec.core.costs import AHEAD, REFILL
from zexec.core.engines import LEAVING, STARTING, UP, Engine
from zexec.core.fleet import Fleet
from zexec.core.scheduler import Scheduler
from zexec.messages import REVOKING, SENT, WAITING, Task


def check(s: Scheduler, decided: bool = False) -> None:
    """Assert every invariant.

    Args:
        s: any scheduler.
        decided: ``decide`` was the last call, so those hold too that say that nothing was left undone.

    Raises:
        AssertionError: one does not hold.
    """
    held: dict[int, Task] = {}
    for serial, engine in s.fleet.engines.items():
        assert engine.serial == serial
        _check_engine(s, engine)
        for task in engine.held.values():
            assert task.id not in held, "two engines hold the same task"
            held[task.id] = task
    waiting = _check_queues(s)
    chained = {task.id for task in s.depending if task.state is not WAITING}
    s.depending.check(s.tasks, {*s.unclaimed, *s.unchained, *chained})
    s.following.check(s.tasks, (engine.serial for engine in s.fleet.filled.values()))
    assert not {task.id for task in s.depending} & set(waiting)
    waiting.update((task.id, task) for task in s.depending if task.id not in chained)
    assert not set(s.unclaimed) & {task.id for task in (*s.ready, *s.pinned)}
    assert all(task.state is WAITING for task in s.unclaimed.values())
    assert not s.unclaimed or s.claims_end is not None, "nobody will ever look at what is unclaimed"
    waiting.update(s.unclaimed)
    # Every open task is in exactly one place, and nothing else is anywhere.
    assert not set(waiting) & set(held)
    assert set(waiting) | set(held) == set(s.tasks)
    assert all(s.tasks[id] is task for id, task in (waiting | held).items())
    assert s.hard <= set(s.tasks)
    _check_fleet(s.fleet, s.places)
    if decided:
        _check_decided(s)


def _check_engine(s: Scheduler, engine: Engine) -> None:
    assert list(engine.held) == sorted(engine.held), "an engine runs its tasks in the order of their numbers"
    assert all(seq < engine.next_seq for seq in engine.held)
    for seq, task in engine.held.items():
        assert task.engine == engine.serial
        assert task.seq == seq
        assert task.state in (SENT, REVOKING)
        assert (task.state is REVOKING) == (seq in engine.asked), "being revoked is being asked for"
        assert task.state is REVOKING or not task.cancelling, "a cancel is on its way that nobody asked the engine for"
        assert task.targets is None or engine.id in task.targets
    assert engine.chained <= set(engine.held)
    assert not (engine.chained and s.elastic), "a later life of the hub would not know of the condition"
    assert all(engine.held[seq].id in s.depending for seq in engine.chained), "it is chained and waits for nothing"
    assert engine.stirred <= set(engine.held)
    if engine.stirred and not engine.condemned:
        kills = {(serial, seq) for _, _, what, serial, seq in s.deadlines._heap if what == "stirred"}
        assert all((engine.serial, seq) in kills for seq in engine.stirred), "an interrupt that nobody follows up"
    assert engine.state is UP or engine.condemned or not engine.held, "only an engine that is up holds tasks"
    assert not engine.condemned or engine.state is LEAVING
    assert engine.allowance is None or engine.allowance >= 0
    if engine.held:
        assert abs(engine.load - sum(task.cost for task in engine.held.values())) < 1e-6


def _check_queues(s: Scheduler) -> dict[int, Task]:
    """The tasks that wait, by id."""
    free, pinned = list(s.ready), list(s.pinned)
    assert len(free) == len(s.ready)
    assert len(pinned) == len(s.pinned)
    waiting = {task.id: task for task in free + pinned}
    assert len(waiting) == len(free) + len(pinned), "a task waits twice"
    assert all(task.state is WAITING and not task.cancelling for task in waiting.values())
    assert all(task.targets is None for task in free)
    for targets, queue in s.pinned._queues.items():
        assert queue, "an empty queue is kept"
        assert all(task.targets == targets for task in queue)
    assert {(id, key) for key in s.pinned._queues for id in key} == {
        (id, key) for id, keys in s.pinned.places.items() for key in keys
    }
    return waiting


def _check_fleet(fleet: Fleet, places: int) -> None:
    engines = fleet.engines
    assert fleet.up == sum(e.state is UP for e in engines.values())
    assert fleet.starting == sum(e.state is STARTING for e in engines.values())
    assert fleet.filled == {e.id: e for e in engines.values() if e.state is not LEAVING}
    assert set(fleet.filled) | fleet.vacant | fleet.closed == set(range(places)) | fleet.closed
    assert not fleet.vacant & (fleet.closed | set(fleet.filled))
    assert all(fleet.filled[id].draining for id in fleet.closed if id in fleet.filled)
    assert fleet.vacant <= set(fleet._vacant_order)
    for engine in engines.values():
        held, open_ = len(engine.held), engine.state is UP and engine.allowance != 0 and not engine.draining
        assert (engine in fleet.idle) == (open_ and not held)
        if engine in fleet.roomy:
            assert open_
            assert engine.load < REFILL or (held == 1 and engine.load <= AHEAD)
        if engine in fleet.loaded:
            assert engine.state is UP
            assert held > 1
            assert not engine.asked
    gone = [e for group in (fleet.idle, fleet.roomy, fleet.loaded) for e in group if engines.get(e.serial) is not e]
    assert not gone


def _check_decided(s: Scheduler) -> None:
    """Nothing waits that could go on."""
    fleet = s.fleet
    assert not s.unchained, "a task that came back was not looked at"
    if s.broken or s.terminated:
        assert not s.tasks
        return
    assert not s.following.strays, "a bound task was not looked at"
    for task in s.following.bound(s.tasks):
        if task.state is WAITING:
            serials = {fleet.filled[id].serial for id in task.targets or () if id in fleet.filled}
            assert serials == s.following.serials(task.id), "a bound task waits for somebody else"
    room = [*fleet.idle, *fleet.roomy]
    assert not (s.ready and room), "a task waits although an engine has room"
    assert not any(engine.id in s.pinned.places for engine in room), "a task waits although its target has room"
    if s.elastic:
        assert s.places > max([-1, *s.promised, *fleet.filled])
        for task in s.pinned:
            assert task.targets
            # A place may have been left by this very decision.
            assert any(
                id in fleet.filled or id in s.promised or id in s.reserved or id in fleet.vacant for id in task.targets
            )
        return  # engines come or do not come
    if s.ready:
        assert fleet.up + fleet.starting > 0, "a task waits and nobody will ever run it"
    if s.tasks and not s.on_demand:
        assert not fleet.vacant
    for task in s.pinned:
        assert any(id in fleet.filled for id in task.targets or ()), "a task waits for a place that nobody will fill"
