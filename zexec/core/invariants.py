"""What is always true of a Scheduler between two events. Tests call ``check`` after each step."""

from __future__ import annotations

from zexec.core.engines import STARTING, UP
from zexec.core.scheduler import Scheduler
from zexec.messages import REVOKING, SENT, WAITING


def check(s: Scheduler) -> None:
    """Assert every invariant.

    Raises:
        AssertionError: one does not hold.
    """
    held = {}
    for serial, engine in s.engines.items():
        assert engine.serial == serial
        assert list(engine.held) == sorted(engine.held), "an engine runs its tasks in the order of their numbers"
        assert all(seq < engine.next_seq for seq in engine.held)
        for seq, task in engine.held.items():
            assert task.id not in held, "two engines hold the same task"
            held[task.id] = task
            assert task.engine == serial
            assert task.seq == seq
            assert task.state in (SENT, REVOKING)
            if task.state is REVOKING:
                assert seq in engine.asked, "a task is being revoked that nobody was asked for"
        if engine.state is STARTING:
            assert not engine.held
        if engine.allowance is not None:
            assert engine.allowance >= 0
    waiting = list(s._ready)
    assert len(waiting) == len(s._ready)
    pinned = {}
    for id, queue in s._pinned.items():
        found = list(queue)
        assert len(found) == len(queue)
        for task in found:
            assert id in task.targets
            pinned[task.id] = task
    ids = {task.id for task in waiting}
    assert len(ids) == len(waiting), "a task waits twice"
    assert not ids & set(pinned)
    # Every open task is in exactly one place, and nothing else is anywhere.
    assert ids | set(pinned) | set(held) == set(s.tasks)
    assert all(s.tasks[id].state is WAITING for id in ids | set(pinned))
    for engine in s._idle:
        assert engine.state is UP
        assert not engine.held
        assert engine.allowance != 0
    for engine in s._roomy:
        assert engine.state is UP
        assert engine.held
    for engine in s._loaded:
        assert engine.state is UP
        assert len(engine.held) > 1
    assert s._up == sum(e.state is UP for e in s.engines.values())
    assert s._starting == sum(e.state is STARTING for e in s.engines.values())
    assert all(s.engines.get(e.serial) is e for e in s.filled.values())
    assert set(s.filled) <= set(range(s.places))
    # After a decision, work never waits while an engine that could take it is idle.
    if not s._actions and not s.broken:
        assert not (waiting and (s._idle or s._roomy))
