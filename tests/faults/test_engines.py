"""Engines that die or stop: whenever that is, one task is lost at the most, and the place is filled again."""

from __future__ import annotations

import os
import signal
import termios
from array import array
from concurrent.futures.process import BrokenProcessPool
from fcntl import ioctl
from typing import Any

import pytest

import zexec
from tests.faults.conftest import make
from tests.helpers import leftovers, saboteurs, tasks
from tests.helpers.hosts import Flag, Host


def check(pool: Any) -> None:
    """Everything goes on."""
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))


def pids(pool: Any) -> set[int]:
    return {process.pid for process in pool._pool}


@pytest.mark.parametrize("how", saboteurs.DEATHS)
def test_in_a_task(anywhere: Host, how: str) -> None:
    """``os._exit``, SIGKILL, a crash: that task fails and says whose end it was; with ``retries=`` nobody notices."""
    pool = anywhere.pool()
    before = [pool.apply_async(tasks.double, (i,)) for i in range(20)]
    with pytest.raises(zexec.EngineDied) as caught:
        pool.apply(saboteurs.act, (how,))
    e = caught.value
    assert f"engine {e.engine_id} (pid {e.pid} on {e.host}) died: " in str(e)
    assert saboteurs.WORDS[how] in str(e)
    assert str(e).endswith("while it ran act")
    assert [r.get(30) for r in before] == list(range(0, 40, 2))
    check(pool)


def test_with_retries(anywhere: Host, flag: Flag) -> None:
    pool = anywhere.pool()
    assert pool.options(retries=1).apply(saboteurs.act_once, ("kill", flag("once"))) == "alive"
    with pytest.raises(zexec.EngineDied):
        pool.options(retries=2).apply(saboteurs.log_and_leave, (flag("log"),))
    assert len(set(tasks.lines(flag("log")))) == 3, "so many engines it killed"
    check(pool)


def test_in_a_map_the_item_is_named(anywhere: Host) -> None:
    pool = anywhere.pool()
    got = pool.starmap(saboteurs.act_if, [("kill", i == 3, i) for i in range(8)], 1, return_exceptions=True)
    assert [v for i, v in enumerate(got) if i != 3] == [0, 1, 2, 4, 5, 6, 7]
    assert type(got[3]) is zexec.EngineDied
    assert "while it ran act_if on item 3 of the map" in str(got[3])


def test_while_idle(anywhere: Host) -> None:
    """Nobody is told: nothing was lost."""
    pool = anywhere.pool()
    check(pool)
    before = pids(pool)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    check(pool)
    tasks.until(lambda: len(pids(pool)) == 2 and not pids(pool) & before)


def test_all_at_once_at_work(anywhere: Host, flag: Flag) -> None:
    pool = anywhere.pool()
    rs = [pool.apply_async(tasks.hold, (flag("started"), flag("release"), i)) for i in range(6)]
    tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    for pid in map(int, tasks.lines(flag("started"))):
        os.kill(pid, signal.SIGKILL)
    tasks.touch(flag("release"))
    errors = [r.exception(30) for r in rs]
    assert [type(e) for e in errors if e is not None] == [zexec.EngineDied] * 2
    check(pool)


def test_while_it_registers(host: Host, flag: Flag) -> None:
    """Killed twice on its way up, before any has been up: the third is as good as the first would have been."""
    pool = host.pool(1, initializer=saboteurs.die_the_first_times, initargs=(flag("starts"), 2))
    assert pool.apply(tasks.double, (4,)) == 8
    assert len(tasks.lines(flag("starts"))) == 3


def test_again_and_again_before_one_is_up(host: Host, flag: Flag) -> None:
    """Three times in a row: it is the start that fails, and everybody is told how."""
    pool = host.pool(1, initializer=saboteurs.die_the_first_times, initargs=(flag("starts"), 100))
    open_ = pool.apply_async(tasks.double, (4,))
    with pytest.raises(zexec.BrokenClusterError, match="killed by signal SIGKILL"):
        open_.get(30)
    with pytest.raises(zexec.BrokenClusterError, match="killed by signal SIGKILL"):
        pool.apply(tasks.double, (4,))
    assert len(tasks.lines(flag("starts"))) == 3


def test_the_replacement_dies_too(host: Host, flag: Flag) -> None:
    """Once one has been up it is not the start that fails: the next comes, and the next."""
    pool = host.pool(1, initializer=saboteurs.die_after_the_first, initargs=(flag("starts"), 5))
    assert pool.apply(tasks.double, (1,)) == 2
    (first,) = pids(pool)
    os.kill(first, signal.SIGKILL)
    assert pool.apply(tasks.double, (2,)) == 4
    assert len(tasks.lines(flag("starts"))) == 7


def test_while_its_result_is_half_sent(fork: Host, flag: Flag, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub takes nothing until the engine stands in the middle of it, with more than any socket holds."""
    monkeypatch.setenv("ZEXEC_SHM_BYTES", "0")
    pool = fork.pool(1)
    link: Any = pool._client._link
    r = pool.apply_async(saboteurs.hold_and_make_a_long_list, (flag("started"), flag("release"), 3_000_000))
    assert tasks.until(lambda: tasks.lines(flag("started")))
    (pid,) = map(int, tasks.lines(flag("started")))
    with link.lock:
        tasks.touch(flag("release"))
        waiting = array("i", [0])

        def is_sending() -> bool:
            for connection in link.hub.channel._by_fd.values():
                ioctl(connection.fd, termios.FIONREAD, waiting)
                if waiting[0] > 50_000:
                    return True
            return False

        tasks.until(is_sending)
        os.kill(pid, signal.SIGKILL)
    with pytest.raises(zexec.EngineDied, match=f"pid {pid} "):
        r.get(30)
    check(pool)


def test_stopped_for_good_while_idle(anywhere: Host) -> None:
    """It cannot begin what it is given: seconds later others do, and another engine takes the place."""
    pool = anywhere.pool()
    check(pool)
    for stopped in pids(pool):
        os.kill(stopped, signal.SIGSTOP)
    before = pids(pool)
    rs = [pool.apply_async(tasks.double, (i,)) for i in range(40)]
    assert [r.get(30) for r in rs] == list(range(0, 80, 2))
    assert pids(pool) - before, "somebody new has run them; a stopped engine that was given nothing may still be there"


def test_stopped_while_idle_and_nothing_to_do(anywhere: Host) -> None:
    """Then it is let be, and goes on when it may."""
    pool = anywhere.pool()
    check(pool)
    before = pids(pool)
    for stopped in before:
        os.kill(stopped, signal.SIGSTOP)
    for stopped in before:
        os.kill(stopped, signal.SIGCONT)
    check(pool)
    assert pids(pool) == before


def test_stopped_at_work(anywhere: Host, flag: Flag) -> None:
    """It has not died: its task goes on when it may. Others are not held up."""
    pool = anywhere.pool()
    r = pool.apply_async(tasks.hold, (flag("started"), flag("release"), "held"))
    assert tasks.until(lambda: tasks.lines(flag("started")))
    (pid,) = map(int, tasks.lines(flag("started")))
    os.kill(pid, signal.SIGSTOP)
    tasks.touch(flag("release"))
    check(pool)
    assert not r.ready()
    os.kill(pid, signal.SIGCONT)
    assert r.get(30) == "held"


def test_stopped_at_work_for_good_on_a_cluster(nothing_left: leftovers.Before, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be told from a machine that is gone: silence ends it."""
    monkeypatch.setenv("ZEXEC_SILENCE", "2")
    host = make("cluster", nothing_left, monkeypatch)
    pool = host.pool()
    with pytest.raises(zexec.EngineDied, match="there was no way to it any more"):
        pool.apply_async(saboteurs.stop).get(30)
    check(pool)
    host.end()


def test_stopped_for_good_with_a_time_out(anywhere: Host, flag: Flag) -> None:
    """The task ends by its time-out, the engine a second after that."""
    pool = anywhere.pool()
    r = pool.options(timeout=0.5).apply_async(tasks.hold, (flag("started"), flag("never")))
    assert tasks.until(lambda: tasks.lines(flag("started")))
    (pid,) = map(int, tasks.lines(flag("started")))
    os.kill(pid, signal.SIGSTOP)
    with pytest.raises(zexec.TimeoutError):
        r.get(30)
    check(pool)
    tasks.until(lambda: pid not in pids(pool))


def test_stopped_for_good_and_the_pool_is_ended(anywhere: Host) -> None:
    pool = anywhere.pool()
    r = pool.apply_async(saboteurs.stop)
    check(pool)
    pool.terminate()
    with pytest.raises(zexec.TerminatedError):
        r.get(0)
    pool.join()


def test_breaking_as_in_the_stdlib(host: Host) -> None:
    """``on_engine_death="break"``: everything that is open fails, and nothing more can be submitted."""
    executor = host.executor(on_engine_death="break")
    held = executor.submit(tasks.nap, 60)
    dead = executor.submit(saboteurs.kill)
    for f in (held, dead):
        with pytest.raises(BrokenProcessPool, match="killed by signal SIGKILL"):
            f.result(30)
    with pytest.raises(zexec.BrokenClusterError):
        executor.submit(tasks.double, 1)
