"""Processes are killed at random moments while arrays move: nothing is lost but what they ran, nothing is left anywhere.

ZEXEC_KILLS says how often; 20 times of each kind by default.
"""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import psutil
import pytest

import zexec
from tests.helpers import data, leftovers
from tests.helpers.scripts import Scripts
from zexec.wire.arena import doors

KILLS = int(os.environ.get("ZEXEC_KILLS", "20"))
N = 50_000  # doubles: 400 KB


@pytest.mark.slow
@pytest.mark.timeout(60 + 3 * KILLS)
def test_engines(shared: zexec.Pool) -> None:
    """Each result is right or says that its engine died; afterwards all memory is free again."""
    random.seed(KILLS)
    arena = doors.arena()
    assert arena is not None
    view = [np.full(N, float(i)) for i in range(4)]
    stop = threading.Event()
    deaths = 0

    def kill() -> None:
        for _ in range(KILLS):
            sleep(random.random() * 0.05)
            processes = shared._pool
            if processes:
                with suppress(ProcessLookupError):  # it was killed just before, and is reaped meanwhile
                    os.kill(random.choice(processes).pid, signal.SIGKILL)
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
            assert (value == 2 * (i % 4)).all()
            kept = [*kept[-5:], value]  # of engines that live and of those that do not
        assert all((value == value[0]).all() for value in kept)
    killer.join()
    assert 0 < deaths <= KILLS
    assert shared.map(data.total, view, 1) == [i * N for i in range(4)]
    del kept, value, result, results
    assert arena.taken < 64 * 8 * N
    until = monotonic() + leftovers.DEADLINE
    while arena.free < arena.taken and monotonic() < until:
        sleep(0.01)
    assert arena.free == arena.taken


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


@pytest.mark.slow
@pytest.mark.timeout(60 + 6 * KILLS)
@pytest.mark.parametrize("who", ["client", "both", "engine, then client"])
def test_clients(scripts: Scripts, who: str) -> None:
    """Everything of theirs is gone within 5 seconds: processes, names in /dev/shm, files without a name."""
    random.seed(KILLS)
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
        while (left := having_arenas()) and monotonic() < until:
            leftovers.bury_orphans()
            sleep(0.01)
        assert not left
        assert not leftovers.segments()


def having_arenas() -> list[int]:
    """Descendants that live, or that have an arena open or mapped."""
    found = []
    for child in psutil.Process().children(recursive=True):
        if child.pid in leftovers.helpers():
            continue
        try:
            if child.status() != psutil.STATUS_ZOMBIE or "memfd:zexec" in Path(f"/proc/{child.pid}/maps").read_text():
                found.append(child.pid)
        except (psutil.Error, OSError):
            pass
    return found
