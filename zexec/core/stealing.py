"""Which tasks to ask back from engines that hold more than they run, so that none waits where another engine could run it.

Three reasons, by how much is known:

  worth      an engine is idle and, by what is expected, there is work behind another's running task that is worth the round
             trip: take half of it, at once;
  overdue    an engine is idle and another has not been heard of for longer than all it holds was expected to take: it is
             deep in something unexpected, so take all that it has not started;
  stuck      nobody is idle, but an engine has not been heard of for so long that whatever is behind its running task would be
             overtaken by the whole queue: the same.

All look only at the few engines in front of ``fleet.loaded``, those not heard of for longest, so that the cost of a decision
does not grow with the cluster. An engine that is not in front comes there within OVERDUE, or is heard of.
"""

from __future__ import annotations

from itertools import islice

from zexec.core.engines import Engine
from zexec.core.fleet import Fleet
from zexec.messages import SENT, Task

#: Work expected behind an engine's running task that is worth a revoke (a round trip is about 0.2 ms of it).
WORTH_STEALING = 0.001
#: Seconds without a word from an engine after which what it runs counts as long, if there is an idle one; and if not.
#: The second is well above what may be expected of two tasks of AHEAD.
OVERDUE, STUCK = 0.005, 0.1
#: How many engines are compared.
SAMPLE = 8
#: What a task that turned out long is taken to cost from then on: no engine that runs one has room for another.
LONG = 1.0


def look_at(fleet: Fleet, eager: bool) -> float | None:
    """When somebody should look again, if nothing happens until then."""
    if not fleet.loaded or (fleet.up < 2 and not eager):
        return None
    oldest = next(iter(fleet.loaded))
    return oldest.progress + (OVERDUE if eager else STUCK)


def choose(fleet: Fleet, now: float, eager: bool) -> list[tuple[Engine, list[int]]]:
    """Decide from whom to ask back what. ``eager``: there is an idle engine, or a place that would be filled, for them."""
    chosen: list[tuple[Engine, list[int]]] = []
    fruitless = 0
    while fruitless < SAMPLE:
        due = look_at(fleet, eager)
        if due is None or due > now:
            break
        engine = next(iter(fleet.loaded))
        seqs = _stealable(fleet, engine)
        if seqs:
            _turned_out_long(engine)
            chosen.append((engine, seqs))
            del fleet.loaded[engine]
        else:
            fruitless += 1
            _pass_over(fleet, engine, now)
    while eager and fruitless < SAMPLE and len(chosen) < len(fleet.idle) and fleet.loaded:
        engine = max(islice(fleet.loaded, SAMPLE), key=_behind)
        if _behind(engine) < WORTH_STEALING:
            break
        seqs = _stealable(fleet, engine)
        if seqs:
            chosen.append((engine, seqs[len(seqs) // 2 :]))
            del fleet.loaded[engine]
        else:
            fruitless += 1
            _pass_over(fleet, engine, now)
    return chosen


def _behind(engine: Engine) -> float:
    """Seconds of work expected behind the task that it runs."""
    return engine.load - next(iter(engine.held.values())).cost


def _stealable(fleet: Fleet, engine: Engine) -> list[int]:
    """Numbers of the tasks that it has not started, as far as is known, and that somebody else could run."""
    return [
        seq
        for seq, task in islice(engine.held.items(), 1, None)
        if task.state is SENT and seq not in engine.chained and (task.targets is None or _fits_elsewhere(fleet, task))
    ]


def _fits_elsewhere(fleet: Fleet, task: Task) -> bool:
    """Whether one of its targets is idle, or would be started for it."""
    for id in task.targets or ():
        engine = fleet.filled.get(id)
        if id in fleet.vacant or (engine is not None and engine in fleet.idle):
            return True
    return False


def _pass_over(fleet: Fleet, engine: Engine, now: float) -> None:
    """It holds nothing to take. That may change only if one of its tasks has several targets."""
    if any(len(task.targets or ()) > 1 for task in engine.held.values()):
        engine.progress = now
        fleet.loaded.move_to_end(engine)
    else:
        del fleet.loaded[engine]  # until it is heard of


def _turned_out_long(engine: Engine) -> None:
    running = next(iter(engine.held.values()))
    if running.cost < LONG:
        engine.load += LONG - running.cost
        running.cost = LONG
        # The caller asks for tasks and sorts the engine when the answer comes; until then it must not be given more.
