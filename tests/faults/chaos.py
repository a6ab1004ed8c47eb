"""A run of random steps against one pool: calls of all kinds, engines killed, stopped and slowed, cancels. Seeded.

On a cluster with a store its hub is killed as well, and started again some steps later.

The same seed gives the same steps; how they interleave with the engines is the machine's affair. ``python -m tests.faults.chaos
SEED`` shows the steps of one and runs them.
"""

from __future__ import annotations

import os
import random
import signal
import sys
from collections import Counter
from concurrent.futures import CancelledError
from time import sleep
from typing import Any

import zexec
from tests.helpers import saboteurs, tasks
from zexec.core.invariants import check
from zexec.map_result import MapResult

STEPS = 60
#: Seconds within which everything has settled once all engines may go on: a bound against hanging.
SETTLED = 60


def times(x: Any, factor: int) -> Any:
    return x * factor


class Call:
    """One call, and what is known to be able to become of it."""

    def __init__(self, result: zexec.AsyncResult, value: Any, *errors: type[BaseException]) -> None:
        self.result = result
        self.value = value
        self.errors = set(errors)
        self.settled = 0
        result.add_done_callback(self._count)

    def _count(self, result: Any) -> None:
        self.settled += 1


class Chaos:
    """See the module.

    Args:
        pool: of two engines or more.
        seed: of the steps.
        keeper: kills the hub, and starts it again; None: the hub is not to be killed.
    """

    def __init__(self, pool: Any, seed: int, keeper: Any = None) -> None:
        self.pool = pool
        self.keeper = keeper
        #: the hub is dead
        self.away = False
        #: the engines that there were when somebody asked last
        self.pids: list[int] = []
        self.rng = random.Random(seed)
        self.log: list[str] = []
        self.calls: list[Call] = []
        self.chains: list[list[Call]] = []
        self.deaths = 0
        self.stopped: set[int] = set()

    def run(self) -> None:
        """All steps, and the reckoning."""
        steps = [
            (self.submit_short, 6),
            (self.submit_large, 2),
            (self.submit_map, 2),
            (self.submit_chain, 2),
            (self.submit_failing, 1),
            (self.submit_late, 1),
            (self.submit_deadly, 1),
            (self.kill, 3),
            (self.stop, 1),
            (self.go_on, 2),
            (self.slow, 1),
            (self.cancel, 2),
            (self.pause, 3),
        ]
        if self.keeper is not None:
            steps += [(self.kill_hub, 2), (self.start_hub, 3)]
        # Engines that die before one has ever been up break the pool: then it is the start that fails.
        self.pool.apply(tasks.double, (1,))
        for step in self.rng.choices([step for step, _ in steps], [weight for _, weight in steps], k=STEPS):
            self.log.append(step.__name__)
            step()
        self.start_hub()
        self.go_on()
        self.reckon()

    # -- calls -------------------------------------------------------------------------------------------------------

    def _options(self) -> tuple[Any, list[type[BaseException]]]:
        retries = self.rng.choice([0, 0, 3])
        priority = self.rng.choice([0, 0, 0, 5, -5])
        # With retries a task still fails that was in the way of four deaths.
        return self.pool.options(retries=retries, priority=priority), [zexec.EngineDied]

    def submit_short(self) -> None:
        bound, errors = self._options()
        for i in range(self.rng.choice([1, 10, 200])):
            self.calls.append(Call(bound.apply_async(times, (i, 3)), 3 * i, *errors))

    def submit_large(self) -> None:
        bound, errors = self._options()
        for _ in range(self.rng.randrange(1, 4)):
            data = self.rng.randbytes(self.rng.choice([1_000, 70_000, 1_000_000]))
            self.calls.append(Call(bound.apply_async(times, (data, 2)), data * 2, *errors))

    def submit_map(self) -> None:
        bound, errors = self._options()
        size, chunk = self.rng.choice([1, 50, 500]), self.rng.choice([1, 7, 100])
        result = bound.map_async(tasks.double, range(size), chunk, return_exceptions=True)
        self.calls.append(Call(result, list(range(0, 2 * size, 2)), *errors))

    def submit_chain(self) -> None:
        """Each waits for the one before."""
        links: list[Call] = []
        for i in range(self.rng.choice([2, 20, 200])):
            bound = self.pool.options(after=[link.result for link in links[-1:]], retries=self.rng.choice([0, 1]))
            links.append(Call(bound.apply_async(times, (i, 7)), 7 * i, zexec.EngineDied, zexec.ImpossibleDependency))
        self.calls += links
        self.chains.append(links)

    def submit_failing(self) -> None:
        bound, errors = self._options()
        self.calls.append(Call(bound.apply_async(tasks.fail), None, ValueError, *errors))

    def submit_late(self) -> None:
        """Longer than it may."""
        bound = self.pool.options(timeout=0.05)
        self.calls.append(Call(bound.apply_async(tasks.nap, (30,)), None, zexec.TimeoutError, zexec.EngineDied))

    def submit_deadly(self) -> None:
        self.deaths += 1
        self.calls.append(Call(self.pool.apply_async(saboteurs.kill), None, zexec.EngineDied))

    # -- what happens to engines -------------------------------------------------------------------------------------

    def _some_engine(self) -> int | None:
        if not self.away:
            self.pids = [process.pid for process in self.pool._pool]
        return self.rng.choice(self.pids) if self.pids else None

    def _signal(self, pid: int | None, number: int) -> bool:
        try:
            if pid is not None:
                os.kill(pid, number)
                return True
        except ProcessLookupError:
            pass
        return False

    def kill(self) -> None:
        pid = self._some_engine()
        if self._signal(pid, signal.SIGKILL):
            self.deaths += 1

    def stop(self) -> None:
        pid = self._some_engine()
        if pid is not None and self._signal(pid, signal.SIGSTOP):
            self.stopped.add(pid)

    def go_on(self) -> None:
        for pid in self.stopped:
            self._signal(pid, signal.SIGCONT)
        self.stopped.clear()

    def slow(self) -> None:
        pid = self._some_engine()
        for _ in range(5):
            self._signal(pid, signal.SIGSTOP)
            sleep(0.002)
            self._signal(pid, signal.SIGCONT)

    def cancel(self) -> None:
        # With a stopped engine, or without a hub, the word on each would take its time.
        if self.calls and not self.stopped and not self.away:
            for call in self.rng.choices(self.calls, k=3):
                call.errors.add(CancelledError)
                call.result.cancel(running=self.rng.random() < 0.2)

    def pause(self) -> None:
        sleep(self.rng.random() * 0.03)

    # -- what happens to the hub -------------------------------------------------------------------------------------

    def kill_hub(self) -> None:
        if not self.away:
            self.keeper.kill_hub()
            self.away = True

    def start_hub(self) -> None:
        if self.away:
            self.keeper.start_hub()
            self.away = False

    # -- in the end --------------------------------------------------------------------------------------------------

    def reckon(self) -> None:
        """Everything has settled, once, and rightly; and nothing is remembered of it."""
        died: Counter[int] = Counter()
        for number, call in enumerate(self.calls):
            call.result.wait(SETTLED)
            assert call.result.done(), f"call {number} has not settled: {self.pool.story(call.result)}"
            error = CancelledError() if call.result.cancelled() else call.result.exception()
            if error is None and isinstance(call.value, list):
                # A map, whose items fail one by one.
                for i, value in enumerate(call.result.get()):
                    if isinstance(value, BaseException):
                        assert type(value) in call.errors, (number, value)
                        died[getattr(value, "pid", 0)] += 0
                    else:
                        assert value == call.value[i], (number, i)
            elif error is None:
                value = call.result.get()
                assert value == call.value, f"call {number}: {difference(value, call.value)}"
            else:
                assert type(error) in call.errors, (number, repr(error))
                died[getattr(error, "pid", 0)] += isinstance(error, zexec.EngineDied)
        for links in self.chains:
            well = [link.result.successful() for link in links]
            assert well == sorted(well, reverse=True), f"a link has run after one that failed: {well}"
        died.pop(0, None)
        assert all(count <= 1 for count in died.values()), f"two tasks of one engine failed: {died}"
        tasks.until(lambda: all(call.settled for call in self.calls))
        assert {call.settled for call in self.calls} <= {1}
        assert not self.pool._client._open
        if self.pool._client.ask is None:
            self._count_here()
        else:
            self._count_at_the_hub()
        assert self.pool.map(tasks.double, range(10), 1) == list(range(0, 20, 2))

    def _count_here(self) -> None:
        link = self.pool._client._link
        with link.lock:
            scheduler = link.hub.scheduler
            check(scheduler)
            assert not scheduler.tasks
            assert not any(engine.held for engine in scheduler.fleet.engines.values())

    def _count_at_the_hub(self) -> None:
        """It has as many as were submitted, none of them is open, and each ended as it did here."""
        ask = self.pool._client.ask
        status = ask("status")
        assert status["tasks"] == {"open": 0, "waiting": 0}
        (client,) = status["clients"]
        assert client["open"] == 0
        ids = {id: call for call in self.calls for id in ids_of(call.result)}
        assert len(ids) == sum(len(ids_of(call.result)) for call in self.calls)
        if self.keeper is None:
            assert client["submitted"] == len(ids) + 1, "the first call is none of these"
        ends = dict(ask("ends", list(ids)))
        assert set(ends) == set(ids)
        for id, call in ids.items():
            if isinstance(call.result, MapResult):
                assert ends[id] is not None
            else:
                assert ends[id] == how_it_ended(call.result), id


def difference(value: Any, wanted: Any) -> str:
    """In what a value is not what it should be."""
    if not (isinstance(value, bytes) and isinstance(wanted, bytes)):
        return f"{value!r} rather than {wanted!r}"
    places = [i for i, (one, other) in enumerate(zip(value, wanted, strict=False)) if one != other]
    zeros = sum(value[i] == 0 for i in places)
    return f"{len(value)} bytes rather than {len(wanted)}; {len(places)} differ, {zeros} are 0, in {places[:3]} to {places[-3:]}"


def ids_of(result: Any) -> list[int]:
    return result._ids if isinstance(result, MapResult) else [result._task_id]


def how_it_ended(result: zexec.AsyncResult) -> str:
    if result.cancelled():
        return "aborted"
    ends = {
        type(None): "ok",
        zexec.EngineDied: "died",
        zexec.TimeoutError: "timeout",
        zexec.ImpossibleDependency: "impossible",
    }
    return ends.get(type(result.exception()), "error")


def main() -> None:
    for seed in map(int, sys.argv[1:]):
        with zexec.Pool(2) as pool:
            chaos = Chaos(pool, seed)
            try:
                chaos.run()
            finally:
                print(f"seed {seed}:", *chaos.log)


if __name__ == "__main__":
    main()
