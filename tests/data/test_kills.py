"""Processes are killed at random moments while arrays move: nothing is lost but what they ran, nothing is left anywhere.

ZEXEC_KILLS says how often; 20 times of each kind by default.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import psutil
import pytest

import zexec
from tests.data.conftest import UP
from tests.helpers import data, leftovers, tasks
from tests.helpers.scripts import Scripts
from zexec.wire.arena import doors

#: of each kind
KILLS = int(os.environ.get("ZEXEC_KILLS", "20"))
N = 50_000  # doubles: 400 KB


@pytest.fixture
def mortal_cluster(nothing_left: leftovers.Before, monkeypatch: pytest.MonkeyPatch) -> Iterator[zexec.Cluster]:
    """Two engines that nobody needs afterwards."""
    monkeypatch.setenv("ZEXEC_HOME", os.path.join(nothing_left.folder, "home"))
    with zexec.Cluster(2) as cluster:
        cluster.wait_for_engines(2, UP)
        yield cluster


@pytest.fixture
def mortal(host: str, request: pytest.FixtureRequest, nothing_left: object) -> Iterator[zexec.Pool]:
    """A pool of such."""
    cluster = request.getfixturevalue("mortal_cluster") if host == "process" else None
    with zexec.Pool(2, cluster=cluster) as pool:
        yield pool
    pool.join()


@pytest.mark.slow
@pytest.mark.timeout(60 + 3 * KILLS)
def test_engines(mortal: zexec.Pool) -> None:
    """Each result is right or says that its engine died; afterwards all memory is free again."""
    shared = mortal
    random.seed(KILLS)
    arena = doors.arena()
    assert arena is not None
    view = [np.full(N, float(i)) for i in range(4)]
    stop = threading.Event()
    kills = deaths = good = 0

    def kill() -> None:
        nonlocal kills
        try:
            # Also until one has met a task (most may meet engines that wait) and until one task has ended: ever
            # slower, since on a busy machine an engine may need longer than that to import what its first one needs.
            while kills < KILLS or not deaths or not good:
                sleep(random.random() * 0.05 * (1 + kills // KILLS))
                processes = shared._pool
                if processes:
                    kill_one(random.choice(processes).pid)
                    kills += 1
        finally:
            stop.set()

    killer = threading.Thread(target=kill)
    killer.start()
    kept: list[Any] = []
    while not stop.is_set():
        results = [(i, shared.apply_async(data.doubled, (view[i % 4],))) for i in range(8)]
        for i, result in results:
            try:
                value = result.get(30)
            except zexec.EngineDied:
                deaths += 1
                continue
            good += 1
            assert (value == 2 * (i % 4)).all()
            kept = [*kept[-5:], value]  # of engines that live and of those that do not
        assert all((value == value[0]).all() for value in kept)
    killer.join()
    assert 0 < deaths <= kills
    assert shared.map(data.total, view, 1) == [i * N for i in range(4)]
    del kept, value, result, results
    assert arena.taken < 64 * 8 * N
    until = monotonic() + leftovers.DEADLINE
    while arena.free < arena.taken and monotonic() < until:
        sleep(0.01)
    assert arena.free == arena.taken


def test_results_that_are_read_when_their_engine_has_died(mortal_cluster: zexec.Cluster, tmp_path: Path) -> None:
    """The hub is busy elsewhere, so to speak, when they come. What had been sent is not lost; nothing else is delivered."""
    values = [np.full(N, float(i)) for i in range(2)]
    with zexec.Pool(2, cluster=mortal_cluster) as pool:
        rounds = good = 0
        # Until one had been sent before its engine died: each time there is more time for that.
        while rounds < 8 or not good:
            rounds += 1
            paths = [[str(tmp_path / f"{what}{rounds}.{i}") for what in ("started", "go")] for i in range(2)]
            results = [pool.apply_async(data.doubled_when, (values[i], paths[i][1], paths[i][0])) for i in range(2)]
            assert all(tasks.wait_for(started) for started, _ in paths)
            pids = [engine["pid"] for engine in mortal_cluster.engines()]
            os.kill(mortal_cluster.pid, signal.SIGSTOP)
            try:
                for _, go in paths:
                    tasks.touch(go)
                sleep(0.01 * rounds)
                for pid in pids:
                    kill_one(pid)
            finally:
                os.kill(mortal_cluster.pid, signal.SIGCONT)
            for i, result in enumerate(results):
                try:
                    np.testing.assert_array_equal(result.get(UP), 2 * values[i])
                    good += 1
                except zexec.EngineDied:
                    pass
            mortal_cluster.wait_for_engines(2, UP)
    pool.join()


def kill_one(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it is dead, and its hub will say so


SCRIPT = """
    import sys
    import numpy as np
    import zexec
    from tests.helpers import data

    if __name__ == "__main__":
        with zexec.Pool(2) as pool:
            a = zexec.zeros(50_000)
            kept = pool.map(data.doubled, [np.ones(50_000)] * 4, 1)
            print(*(p.pid for p in pool._pool), flush=True)
            while True:
                kept = [*kept[-5:], *pool.map(data.doubled, [a, *kept], 1)]
"""


#: A client of a cluster: those engines are not its own.
GUEST = SCRIPT.replace("zexec.Pool(2)", "zexec.Pool()")


@pytest.mark.slow
@pytest.mark.timeout(60 + 3 * KILLS)
@pytest.mark.parametrize("who", ["client", "both"])
def test_clients_of_a_cluster(scripts: Scripts, mortal_cluster: zexec.Cluster, who: str) -> None:
    """Alone, or with an engine: hub and engines let go of all that was theirs; others notice nothing."""
    random.seed(KILLS)
    path = scripts.write(GUEST)
    scripts.env.update(ZEXEC_CLUSTER=mortal_cluster.name, ZEXEC_HOME=os.environ["ZEXEC_HOME"])
    with zexec.Pool(cluster=mortal_cluster) as pool:
        ours = np.arange(N)
        for _ in range(KILLS):
            with scripts.start(path) as process:
                assert process.stdout is not None
                assert process.stdout.readline().split()
                sleep(random.random() * 0.03)
                process.kill()
                if who == "both":
                    kill_one(random.choice(mortal_cluster.engines())["pid"])
                process.wait()
            np.testing.assert_array_equal(pool.apply(data.doubled, (ours,)), 2 * ours)
        mortal_cluster.wait_for_engines(2, UP)
        # Each has its own, and that of whoever lives: this process, the hub, two engines.
        assert tasks.until(lambda: [0 < n <= 4 for n in open_arenas(mortal_cluster)] == [True] * 3)
    pool.join()


def open_arenas(cluster: zexec.Cluster) -> list[int]:
    """How many arenas' files the hub and each engine have open; none, if it was killed just now and is an engine still."""
    return [len(arenas(pid)) for pid in (cluster.pid, *(engine["pid"] for engine in cluster.engines()))]


def arenas(pid: int) -> set[int]:
    """Which arenas' files a process has open."""
    found = set()
    try:
        for path in Path(f"/proc/{pid}/fd").iterdir():
            try:
                if os.readlink(path).startswith("/memfd:zexec-arena"):
                    found.add(os.stat(path).st_ino)
            except FileNotFoundError:
                pass  # closed since
    except FileNotFoundError:
        pass  # it has ended
    return found


@pytest.mark.slow
@pytest.mark.timeout(60 + 6 * KILLS)
@pytest.mark.parametrize("who", ["client", "both", "engine, then client"])
def test_clients(scripts: Scripts, who: str) -> None:
    """Everything of theirs is gone within 5 seconds: processes, names in /dev/shm, files without a name."""
    random.seed(KILLS)
    others = {child.pid for child in psutil.Process().children(recursive=True)}
    path = scripts.write(SCRIPT)
    for _ in range(KILLS):
        with scripts.start(path) as process:
            assert process.stdout is not None
            pids = [int(pid) for pid in process.stdout.readline().split()]
            assert len(pids) == 2
            sleep(random.random() * 0.03)
            victims = {
                "client": [process.pid],
                "both": [process.pid, *pids],
                "engine, then client": [pids[0], process.pid],
            }
            for pid in victims[who]:
                os.kill(pid, signal.SIGKILL)
            process.wait()
        until = monotonic() + leftovers.DEADLINE
        while (left := having_arenas(others)) and monotonic() < until:
            leftovers.bury_orphans()
            sleep(0.01)
        assert not left
        assert not leftovers.segments()


def having_arenas(others: set[int]) -> list[int]:
    """Descendants that live, or that have an arena open or mapped, but for those."""
    found = []
    for child in psutil.Process().children(recursive=True):
        if child.pid in others | leftovers.helpers():
            continue
        try:
            if child.status() != psutil.STATUS_ZOMBIE or "memfd:zexec" in Path(f"/proc/{child.pid}/maps").read_text():
                found.append(child.pid)
        except (psutil.Error, OSError):
            pass
    return found
