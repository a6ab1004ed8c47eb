"""Engines killed at any moment: one death costs one task, and every task runs once."""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from time import sleep
from typing import Any

import pytest

import zexec
from tests.helpers import tasks
from tests.helpers.hosts import Flag, Host


def kill_some(pool: zexec.Pool, rng: random.Random, done: Any, pause: float, most: int) -> set[int]:
    """SIGKILL engines at random until ``done()`` or so many are dead; their pids."""
    killed: set[int] = set()
    while len(killed) < most and not done():
        engines = [process.pid for process in pool._pool]
        assert pool._client.broken is None
        if engines:
            pid = rng.choice(engines)
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue  # it was dead already
            killed.add(pid)
        sleep(rng.random() * pause)
    return killed


def kill_another(pool: zexec.Pool, rng: random.Random, killed: set[int]) -> int:
    """SIGKILL an engine that has not been killed before; its pid."""
    engines: list[int] = []

    def are_there() -> bool:
        engines[:] = [process.pid for process in pool._pool if process.pid not in killed]
        return bool(engines)

    assert tasks.until(are_there)
    pid = rng.choice(engines)
    os.kill(pid, signal.SIGKILL)
    return pid


def test_each_task_runs_once_and_only_those_that_ran_fail(fork: Host, flag: Flag) -> None:
    """Tasks far shorter than a message: most results wait in the engine for others when it is killed."""
    pool = fork.pool()
    log = flag("log")
    rng = random.Random(7)
    results = [pool.apply_async(tasks.log_and_return, (log, i)) for i in range(20_000)]
    killed = kill_some(pool, rng, lambda: all(r.ready() for r in results[-50:]), 0.02, 40)
    failed = check(results, killed)
    ran = Counter(map(int, tasks.lines(log)))
    assert set(ran.values()) == {1}, "a task ran twice"
    assert set(range(20_000)) - set(ran) <= failed, "a task has a result and never ran"


def check(results: list[zexec.AsyncResult], killed: set[int]) -> set[int]:
    """Every result is right, or says whose death it was, each death of one task; which are the latter."""
    failed = {}
    for i, r in enumerate(results):
        error = r.exception(60)
        if error is None:
            assert r.get() == i
            continue
        assert type(error) is zexec.EngineDied
        assert error.exitcode == -signal.SIGKILL
        assert f"pid {error.pid} on {error.host}) died: killed by signal SIGKILL" in str(error)
        failed[i] = error.pid
    assert len(set(failed.values())) == len(failed), "two tasks of one engine failed"
    assert set(failed.values()) <= killed
    return set(failed)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("retries", [0, 1000])
def test_a_thousand_deaths_during_a_hundred_thousand_tasks(fork: Host, retries: int) -> None:
    pool = fork.pool()
    rng = random.Random(retries)
    submit = pool.options(retries=retries).apply_async
    results: list[zexec.AsyncResult] = []
    killed: set[int] = set()
    oldest = 0
    while len(killed) < 1000:
        results += [submit(tasks.echo_one, (i,)) for i in range(len(results), len(results) + 100)]
        killed.add(kill_another(pool, rng, killed))
        # Not the next before something has come of these: who kills engines as fast as they start breaks the pool in the end.
        results[oldest].exception(60)
        while oldest < len(results) - 1 and results[oldest].ready():
            oldest += 1
    assert len(results) == 100_000
    failed = check(results, killed)
    assert len(killed) == 1000
    if retries:
        assert not failed
    assert pool.map(tasks.double, range(100), 1) == list(range(0, 200, 2))
