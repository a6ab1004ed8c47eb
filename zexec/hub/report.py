"""A hub's state in words, for people who want to know what it is waiting for."""

from __future__ import annotations

from time import monotonic

from zexec.core.engines import Engine
from zexec.hub.hub import Hub
from zexec.messages import WAITING, Task

#: Tasks that are named at most, of those that wait.
SOME = 10


def describe(hub: Hub) -> str:
    """What engines there are and what each holds, what waits and for what. The caller keeps others from the hub meanwhile."""
    s, now = hub.scheduler, monotonic()
    fleet = s.fleet
    held = sum(len(engine.held) for engine in fleet.engines.values())
    unseen = hub.unseen()
    depending = sum(task.state is WAITING for task in s.depending)
    lines = [
        f"{fleet.up} engines are up, {fleet.starting} starting; of {len(s.tasks) + len(unseen)} open tasks {held} are with"
        f" engines, {len(s.ready) + len(s.pinned) + len(unseen)} wait for one, {depending} for other tasks"
    ]
    if s.broken is not None:
        lines.append(f"broken: {getattr(s.broken, 'describe', lambda: s.broken)()}")
    if s.closing:
        lines.append("closed: it ends when the last of them has ended")
    for engine in fleet.engines.values():
        lines += _of_engine(hub, engine, now)
    waiting = [task for task in s.tasks.values() if task.state is WAITING][: SOME + 1]
    lines += [f"task {task.id}, {task.function.name}: {s.explain(task.id)}" for task in waiting[:SOME]]
    asleep = "it waits, and nobody has looked at it yet: no engine has room"
    lines += [f"{_name(task)}: {asleep}" for task in unseen[: max(0, SOME - len(waiting))]]
    if len(waiting) + len(unseen) > SOME:
        lines.append("... and more")
    return "\n".join(lines)


def _of_engine(hub: Hub, engine: Engine, now: float) -> list[str]:
    member = hub.launcher.engines.get(engine.serial)
    pid = "" if member is None else f", process {member.pid}"
    silent = f", nothing heard of it for {now - engine.progress:.1f} s" if engine.held else ""
    lines = [f"engine {engine.id}{pid}, {engine.state}, holds {len(engine.held)}{silent}"]
    for task in list(engine.held.values())[:1]:
        lines.append(f"  {_name(task)}: {hub.scheduler.explain(task.id)}")
    return lines


def _name(task: Task) -> str:
    retried = f", attempt {task.attempts + 1}" if task.attempts else ""
    return f"task {task.id}, {task.function.name}{retried}"


def with_stacks(state: str, stacks: dict[int, str], places: dict[int, int]) -> str:
    """What ``describe`` said, and the stacks of engines.

    Args:
        state: that.
        stacks: of each engine, by serial.
        places: the engines' numbers, by serial.
    """
    parts = [state]
    for serial, text in stacks.items():
        indented = "\n".join("  " + line for line in text.splitlines())
        parts.append(f"stacks of engine {places.get(serial, '?')}:\n{indented}")
    return "\n".join(parts)


def dump(hub: Hub) -> str:
    """All of it, where the hub's host has nothing else to do meanwhile: for half a second at the most."""
    places = {serial: engine.id for serial, engine in hub.scheduler.fleet.engines.items()}
    return with_stacks(describe(hub), hub.launcher.stacks(), places)
