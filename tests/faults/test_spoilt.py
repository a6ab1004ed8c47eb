"""Tasks that spoil the process they run in: it costs their engine at the worst, and everybody else goes on meanwhile."""

from __future__ import annotations

import random
import struct

import pytest

import zexec
from tests.faults.conftest import make
from tests.helpers import leftovers, saboteurs, tasks
from tests.helpers.hosts import Flag, Host


def check(pool: zexec.Pool) -> None:
    """It works as if nothing had been."""
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))


def test_closes_all_descriptors_and_goes_on(anywhere: Host, flag: Flag) -> None:
    """It can neither give its result nor be heard of; and it does not end by itself."""
    pool = anywhere.pool()
    r = pool.apply_async(saboteurs.close_all_and_go_on, (flag("started"), flag("never")))
    tasks.wait_for(flag("started"))
    check(pool)
    with pytest.raises(zexec.EngineDied, match=r"it had closed or spoilt its connection|no way to it any more|SIGABRT"):
        r.get(30)
    check(pool)


def test_leaves_a_child_that_holds_its_descriptors(anywhere: Host, flag: Flag) -> None:
    pool = anywhere.pool()
    r = pool.apply_async(saboteurs.leave_a_child_behind, (flag("child"), flag("release")))
    with pytest.raises(zexec.EngineDied, match="SIGKILL"):
        r.get(30)
    check(pool)
    pool.close()
    pool.join()
    tasks.touch(flag("release"))


GARBAGE = {
    "zeros": bytes(100),
    "random": random.Random(1).randbytes(100),
    "a huge length": struct.pack("<IQ", 1, 1 << 62) + b"beginning",
    "no message in a frame": struct.pack("<IQ", 1, 5) + b"hello",
    "a pickle": struct.pack("<IQ", 1, 12) + b"cos\nsystem\n.",
}


@pytest.mark.parametrize("what", GARBAGE)
def test_writes_into_all_descriptors(fork: Host, what: str) -> None:
    """What the hub cannot read costs the engine its connection, and so its life."""
    spoil(fork.pool(), what)


@pytest.mark.parametrize("what", ["random", "a huge length"])
def test_writes_into_all_descriptors_on_a_cluster(
    what: str, nothing_left: leftovers.Before, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What libzmq takes for the beginning of a long message hides all that follows; then silence tells."""
    monkeypatch.setenv("ZEXEC_SILENCE", "2")
    host = make("cluster", nothing_left, monkeypatch)
    spoil(host.pool(), what)
    host.end()


def spoil(pool: zexec.Pool, what: str) -> None:
    r = pool.apply_async(saboteurs.write_everywhere, (GARBAGE[what],))
    r.wait(30)
    assert r.ready()
    # What comes next may find its engine's connection broken, or the end of it.
    pool.map(tasks.double, range(20), 1, return_exceptions=True)
    check(pool)
