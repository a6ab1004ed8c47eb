"""Large data between clients and engines of one host, through a hub that only passes references on.

What arrays of all kinds do is in tests/data, for this host too; here is what only clusters have.
"""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import zexec
from tests.helpers import data, tasks
from zexec.wire.arena import doors
from zexec.wire.bundles import Bundle

Start = Callable[..., zexec.Cluster]

MB = 1 << 20
N = 3 * MB // 8


def peak(pid: int) -> int:
    """The most memory that a process ever had in its own name and others', in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no such line")


def arenas_of(pid: int) -> int:
    """How many arenas' files a process has open."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            if os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/memfd:zexec-arena"):
                found.add(os.stat(f"/proc/{pid}/fd/{fd}").st_ino)
        except OSError:
            pass
    return len(found)


def lane(pool: Any) -> Any:
    return pool._client._link._line.lane


# -- what it costs the hub -------------------------------------------------------------------------------------------


def test_the_hub_has_none_of_it(cluster: zexec.Cluster) -> None:
    """300 MB there, 300 MB back: the hub does not so much as look at them."""
    with zexec.Pool(cluster=cluster) as pool:
        assert pool.apply(data.ramp, (N,))[-1] == N - 1
        before = peak(cluster.pid)
        a = np.ones(300 * MB // 8)
        assert pool.apply(data.ends, (a,)) == (1, 1, a.nbytes)
        assert pool.apply(data.ramp, (len(a),))[-1] == len(a) - 1
        assert peak(cluster.pid) - before < 10 * MB


def test_hundreds_of_arrays_use_the_memory_of_a_few(cluster: zexec.Cluster) -> None:
    with zexec.Pool(cluster=cluster) as pool:
        for back in pool.imap(data.doubled, (np.full(N, float(i)) for i in range(300)), 1):
            assert back[0] == back[-1]
        arena = doors.arena()
        assert arena is not None
        assert arena.peak < 40 * 8 * N
        assert max(pool.map(data.peak_of, range(20), 1)) < 40 * 8 * N
        del back
        assert tasks.until(lambda: arena.free == arena.taken)
        assert pool._client._link._lost == {}  # type: ignore[attr-defined]


# -- where it does not go ----------------------------------------------------------------------------------------------


def exchange(pool: zexec.Pool) -> None:
    a = np.arange(float(N))
    np.testing.assert_array_equal(pool.apply(data.doubled, (a,)), 2 * a)
    assert pool.client[:].apply_sync(data.total, a) == [a.sum()] * 2


@pytest.mark.parametrize("who", ["hub and engines", "client"])
def test_where_one_side_has_none(start: Start, monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    monkeypatch.setenv("ZEXEC_SHM_BYTES", "0")
    if who == "client":
        monkeypatch.delenv("ZEXEC_SHM_BYTES")
    cluster = start(2)
    if who == "client":
        monkeypatch.setenv("ZEXEC_SHM_BYTES", "0")
    else:
        monkeypatch.delenv("ZEXEC_SHM_BYTES")
    with zexec.Pool(cluster=cluster) as pool:
        assert lane(pool) is None
        exchange(pool)


@pytest.mark.parametrize("way", ["to the hub", "from the hub", "both"])
def test_where_one_cannot_see_the_other(
    cluster: zexec.Cluster, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    """As across hosts, containers and users: what is said to be somewhere is not there. One line says so, nothing else."""
    if way != "from the hub":
        monkeypatch.setattr(doors, "address_of", lambda home: (os.urandom(16).hex(), os.getpid(), home.door.fd))
    if way != "to the hub":
        monkeypatch.setattr(doors, "find", lambda address: False)
    with caplog.at_level(logging.DEBUG, "zexec"), zexec.Pool(cluster=cluster) as pool:
        assert (lane(pool) is None) == (way != "from the hub")
        exchange(pool)
        exchange(pool)
    assert [record.levelname for record in caplog.records if "by frames" in record.message] == ["DEBUG"]
    assert doors._found == {}


@pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")
def test_other_users_cannot() -> None:
    """Who is not let see into a process does not find what it has."""
    home = doors.home()
    assert home is not None
    address = home.address

    def look(user: int) -> int:
        pid = os.fork()
        if not pid:
            os.setresuid(user, user, user)
            os._exit(doors.find(address))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    assert (look(0), look(65534)) == (True, False)


# -- deaths ------------------------------------------------------------------------------------------------------------


def test_a_task_that_runs_again_has_its_data(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    """Its first engine wrote to it, and died."""
    with zexec.Pool(cluster=cluster) as pool:
        a = np.ones(N)
        again = pool.options(retries=1).apply_async(data.spoil_and_die_once, (a, flag("died")))
        a[:] = 5
        assert again.get(30) == N
        with pytest.raises(zexec.EngineDied):
            pool.apply(os._exit, (1,))
        exchange(pool)


def test_a_result_outlives_its_engine(start: Start) -> None:
    cluster = start(1)
    with zexec.Pool(cluster=cluster) as pool:
        kept = [pool.apply(data.ramp, (N,)) for _ in range(2)]
        late = pool.apply_async(data.ramp, (N,))
        late.wait(30)
        with pytest.raises(zexec.EngineDied):
            pool.apply(os._exit, (1,))
        cluster.wait_for_engines(1, 30)
        kept.append(late.get())
        kept += [pool.apply(data.ramp, (N,)) for _ in range(3)]
        for each in kept:
            np.testing.assert_array_equal(each, np.arange(N))
        # What is not in use of an engine that has died is let go of, by everybody.
        del kept, each, late
        assert tasks.until(lambda: arenas_of(cluster.pid) <= 3)
        assert tasks.until(lambda: arenas_of(os.getpid()) <= 3)


def test_what_an_engine_keeps_of_a_client_that_has_gone(cluster: zexec.Cluster) -> None:
    with zexec.Pool(cluster=cluster) as pool:
        pool.client[:].push({"a": np.ones(N), "b": np.ones(N)}, block=True)
        pool.client[:].execute("b = None", block=True)
    pool.join()
    with zexec.Pool(cluster=cluster) as pool:
        exchange(pool)
        assert pool.client[:].apply_sync(lambda: a.sum()) == [N, N]  # type: ignore[name-defined]  # noqa: F821
        pool.client[:].clear(block=True)
        for engine in cluster.engines():
            assert tasks.until(lambda pid=engine["pid"]: arenas_of(pid) <= 4)


STOPPED = """
import sys, os, signal, numpy as np, zexec
from tests.helpers import data
pool = zexec.Pool(cluster=sys.argv[1])
r = pool.apply_async(data.ramp_when, (100_000, sys.argv[2]))
print("ready", flush=True)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_client_that_is_stopped_keeps_only_its_own(
    cluster: zexec.Cluster, flag: Callable[[str], str], tmp_path: Path
) -> None:
    """Its result waits; those of others are free as soon as they have them."""
    (tmp_path / "stopped.py").write_text(STOPPED)
    with subprocess.Popen(
        [sys.executable, str(tmp_path / "stopped.py"), cluster.name, flag("go")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert tasks.until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
        with zexec.Pool(cluster=cluster) as pool:
            tasks.touch(flag("go"))
            one = pool.options(targets=0)
            for _ in range(100):
                one.apply(data.ramp, (N,))
            assert one.apply(data.arena_peak) < 20 * 8 * N
        process.kill()


# -- what outlives those who made it -----------------------------------------------------------------------------------

LEAVE = """
import sys, numpy as np, zexec
from tests.helpers import data, tasks
ex = zexec.Executor(cluster=sys.argv[1])
held = [ex.submit(data.doubled_when, np.full(400_000, float(i)), sys.argv[2]) for i in range(6)]
ex.shutdown(detach=True)
print(*(f.metadata.msg_id for f in held))
"""


def test_a_client_that_leaves(cluster: zexec.Cluster, flag: Callable[[str], str], tmp_path: Path) -> None:
    """Arguments outlive the client, results wait for whoever asks, also when their engine has died."""
    (tmp_path / "leave.py").write_text(LEAVE)
    ids = subprocess.run(
        [sys.executable, str(tmp_path / "leave.py"), cluster.name, flag("go")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=50,
        check=True,
    ).stdout.split()
    with zexec.Client(cluster) as client:
        early = client.get_result(ids[0])
        tasks.touch(flag("go"))
        assert early.get(30)[-1] == 0
        assert tasks.until(lambda: not client.result_status(ids, status_only=True)["pending"])
        with pytest.raises(zexec.RemoteError):
            client[:].apply_sync(os._exit, 1)
        for i, id in enumerate(ids[1:], 1):
            back = client.get_result(id).get(30)
            assert (back[0], back[-1], len(back)) == (2 * i, 2 * i, 400_000)


def test_what_the_hub_remembers(cluster: zexec.Cluster) -> None:
    """A copy of what is small. The rest is its owner's, who wants to use that memory again."""
    with zexec.Client(cluster) as client, zexec.Client(cluster) as other:
        view = client.load_balanced_view()
        small, large = view.apply_async(data.doubled, np.ones(20_000)), view.apply_async(data.doubled, np.ones(N))
        assert [r.get(30).sum() for r in (small, large)] == [40_000, 2 * N]
        arena = doors.arena()
        assert arena is not None
        assert tasks.until(lambda: arena.free == arena.taken)
        assert other.get_result(small.msg_ids[0]).get(30).sum() == 40_000
        assert client.resubmit(small.msg_ids).get(30).sum() == 40_000
        (record,) = other.db_query({"msg_id": large.msg_ids[0]}, keys=["status", "buffers"])
        assert (record["status"], record["buffers"]) == ("ok", [])
        with pytest.raises(KeyError, match="nobody has kept"):
            other.get_result(large.msg_ids[0])
        with pytest.raises(zexec.ClusterError, match="were large, and have not been kept"):
            client.resubmit(large.msg_ids)
        with zexec.Pool(cluster=cluster) as pool:
            exchange(pool)


def test_a_store_in_a_file_has_all_of_it(start: Start, home: Path) -> None:
    cluster = start(2, store="sqlite", name="stored")
    with zexec.Client(cluster) as client:
        done = client.load_balanced_view().apply_async(data.doubled, np.ones(N))
        assert done.get(30).sum() == 2 * N
        assert client.resubmit(done.msg_ids).get(30).sum() == 2 * N
        with zexec.Client(cluster) as other:
            assert other.get_result(done.msg_ids[0]).get(30).sum() == 2 * N
    cluster.stop()
    shutil.rmtree(home / "clusters" / "stored")  # the store stays when a cluster ends


# -- references that lead nowhere ----------------------------------------------------------------------------------------


def test_a_result_that_cannot_be_had_is_asked_for_again(
    cluster: zexec.Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hub has kept comes by frames; what it has not is an error of that task's, and of no other."""
    with zexec.Pool(cluster=cluster) as pool:
        exchange(pool)
        monkeypatch.setattr(Bundle, "is_lost", property(lambda self: bool(self.keepers)))
        assert pool.apply(np.ones, (30_000,)).sum() == 30_000
        monkeypatch.undo()
        doors.forget()
        monkeypatch.setattr(doors, "attach", lambda *where: None)
        assert pool.apply(np.ones, (30_000,)).sum() == 30_000
        with pytest.raises(zexec.UnpicklingError, match="SegmentLostError"):
            pool.apply(np.ones, (N,))
        monkeypatch.undo()
        exchange(pool)
