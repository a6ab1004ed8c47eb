"""Who goes, and what becomes of the others: clients, engines, hubs, and those who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import psutil
import pytest

import zexec
from tests.helpers import saboteurs, tasks
from tests.helpers.scripts import Scripts
from zexec.net import cards

Start = Callable[..., zexec.Cluster]

USE = """
import sys, time, zexec
from tests.helpers import saboteurs, tasks
ex = zexec.Executor(cluster=sys.argv[1])
started, never = sys.argv[2], sys.argv[3]
fs = [ex.submit(tasks.hold, started, never) for _ in range(4)]
print("submitted", flush=True)
fs[0].result()
"""


def gone(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids)


def test_the_hub_is_killed(start: Start, way: dict[str, Any], flag: Callable[[str], str]) -> None:
    """Without a store: every open result fails within five seconds, and says why; engines leave."""
    cluster = start(2, **way)
    engines = [engine["pid"] for engine in cluster.engines()]
    ex, pool = zexec.Executor(cluster=cluster), zexec.Pool(cluster=cluster)
    running = ex.submit(tasks.hold, flag("started"), flag("never"))
    waiting = [ex.submit(tasks.double, i) for i in range(100)] + [
        pool.apply_async(tasks.hold, (flag("s"), flag("never")))
    ]
    assert tasks.wait_for(flag("started"))
    os.kill(cluster.pid, signal.SIGKILL)
    began = monotonic()
    with pytest.raises(
        zexec.BrokenClusterError, match=f"hub of cluster '{cluster.name}' .process {cluster.pid} on .* gone"
    ):
        running.result(5)
    for f in waiting:
        if f.exception(5) is not None:
            assert isinstance(f.exception(0), zexec.BrokenClusterError)
    assert tasks.until(lambda: gone(engines), 5)
    assert monotonic() - began < 5
    with pytest.raises(zexec.BrokenClusterError):
        ex.submit(tasks.double, 1).result(5)
    with pytest.raises(zexec.ClusterError, match="not running any more"):
        zexec.Pool(cluster=cluster.name)
    ex.shutdown()
    pool.terminate()
    pool.join()


def test_the_hub_is_killed_and_a_task_never_lets_go_of_the_interpreter(start: Start) -> None:
    cluster = start(1)
    (engine,) = cluster.engines()
    with zexec.Executor(cluster=cluster) as ex:
        f = ex.submit(saboteurs.keep_the_interpreter, 60)
        assert tasks.until(lambda: cluster.engines()[0]["holds"] == 1)
        os.kill(cluster.pid, signal.SIGKILL)
        assert tasks.until(lambda: gone([engine["pid"]]), 5)
        with pytest.raises(zexec.BrokenClusterError):
            f.result(5)


def test_the_cluster_is_stopped(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    pool = zexec.Pool(cluster=cluster)
    r = pool.apply_async(tasks.hold, (flag("started"), flag("never")))
    assert tasks.wait_for(flag("started"))
    cluster.stop()
    with pytest.raises(zexec.BrokenClusterError, match="has ended: it was stopped"):
        r.get(5)
    pool.terminate()
    pool.join()
    assert not cluster.folder.exists()


def test_a_client_is_killed(cluster: zexec.Cluster, flag: Callable[[str], str], tmp_path: Path) -> None:
    """What it has left unfinished is dropped: also what runs. The engines are there for others."""
    script = tmp_path / "use.py"
    script.write_text(USE)
    with subprocess.Popen(
        [sys.executable, str(script), cluster.name, flag("started"), flag("never")],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "submitted\n"
        assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
        client.kill()
    with zexec.Executor(cluster=cluster) as ex:
        assert [f.result(30) for f in [ex.submit(tasks.double, i) for i in range(10)]] == [2 * i for i in range(10)]
        assert tasks.until(lambda: cluster.status()["tasks"]["open"] == 0)
        assert len(cluster.status()["clients"]) == 1
    assert len(tasks.lines(flag("started"))) == 2


def test_who_started_it_is_killed(scripts: Scripts, home: Path, tmp_path: Path) -> None:
    script = tmp_path / "start.py"
    script.write_text(
        "import zexec, sys\nc = zexec.Cluster(2, name='bound')\nc.wait_for_engines(2)\n"
        "print('up', flush=True)\nsys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ) as maker:
        assert maker.stdout is not None
        assert maker.stdout.readline() == b"up\n"
        pids = [engine["pid"] for engine in zexec.Cluster.from_name("bound").engines()]
        hub = zexec.Cluster.from_name("bound").pid
        maker.kill()
    assert tasks.until(lambda: gone([hub, *pids]), 10)
    assert not cards.folder_of("bound").exists()


def test_an_engine_is_stopped_for_good(
    start: Start, monkeypatch: pytest.MonkeyPatch, flag: Callable[[str], str], way: dict[str, Any]
) -> None:
    """SIGSTOP: nothing says that it is gone but its silence. libzmq's own threads stand still as well."""
    monkeypatch.setenv("ZEXEC_SILENCE", "1")
    cluster = start(1, **way)
    (engine,) = cluster.engines()
    with zexec.Executor(cluster=cluster) as ex:
        f = ex.submit(tasks.hold, flag("started"), flag("never"))
        assert tasks.wait_for(flag("started"))
        os.kill(engine["pid"], signal.SIGSTOP)
        with pytest.raises(zexec.EngineDied):
            f.result(30)
        assert ex.submit(tasks.double, 1).result(30) == 2


SILENT = """
import os, signal, sys, zexec
from tests.helpers import tasks
with zexec.Cluster(1, options=sys.argv[1:]) as cluster:
    with zexec.Executor(cluster=cluster) as ex:
        assert ex.submit(tasks.double, 1).result(30) == 2
        f = ex.submit(tasks.nap, 60)
        os.kill(cluster.pid, signal.SIGSTOP)
        try:
            f.result(30)
        except zexec.BrokenClusterError as e:
            print(e)
    os.kill(cluster.pid, signal.SIGKILL)
"""


def test_the_hub_is_stopped_for_good(way: dict[str, Any], tmp_path: Path) -> None:
    script = tmp_path / "silent.py"
    script.write_text(SILENT)
    more = way.get("options", [])
    more = [*more, "--listen", way["listen"]] if more else more
    ran = subprocess.run(
        [sys.executable, str(script), *more],
        env={**os.environ, "ZEXEC_SILENCE": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert "is gone: the connection to" in ran.stdout, ran.stderr


def test_engines_leave_and_come(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        before = {engine["id"]: engine["pid"] for engine in cluster.engines()}
        cluster.restart_engines([0])
        assert tasks.until(
            lambda: {e["pid"] for e in cluster.engines() if e["state"] == "up" and e["id"] == 0} - {before[0]}
        )
        assert ex.options(targets=[0]).submit(os.getpid).result(30) not in before.values()
        assert ex.options(targets=[1]).submit(os.getpid).result(30) == before[1]
        cluster.stop_engines(1)
        assert tasks.until(lambda: [e["id"] for e in cluster.engines()] == [0])
        with pytest.raises(zexec.NoEngineError):
            ex.options(targets=[1]).submit(os.getpid).result(30)
        cluster.scale(3)
        cluster.wait_for_engines(3, 30)
        assert sorted({ex.options(targets=[id]).submit(os.getpid).result(30) for id in range(3)})
        # Who runs something ends it first.
        fs = [ex.submit(tasks.hold, flag("started"), flag("release"), i) for i in range(3)]
        assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 3)
        cluster.scale(1)
        tasks.touch(flag("release"))
        assert sorted(f.result(30) for f in fs) == [0, 1, 2]
        assert tasks.until(lambda: len(cluster.engines()) == 1)


def test_as_many_engines_as_there_is_work_for(start: Start, flag: Callable[[str], str]) -> None:
    cluster = start(0, maximum=3)
    with zexec.Executor(cluster=cluster) as ex:
        fs = [ex.submit(tasks.hold, flag("started"), flag("release"), i) for i in range(5)]
        assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 3)
        tasks.touch(flag("release"))
        assert [f.result(30) for f in fs] == list(range(5))
    assert len(cluster.engines()) <= 3


def test_engines_that_cannot_start(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys, os\nif 'engine' in sys.orig_argv: os._exit(7)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    cluster = start(0)
    cluster.scale(2)
    why = r"no engine could be started.*exit code 7"
    with zexec.Executor(cluster=cluster) as ex, pytest.raises(zexec.BrokenClusterError, match=why):
        ex.submit(tasks.double, 1).result(30)


def test_engines_started_by_hand(start: Start, way: dict[str, Any]) -> None:
    cluster = start(0, **way)
    file = cluster.folder / "engine.json"
    engines = [
        subprocess.Popen(
            [sys.executable, "-m", "zexec", "engine", "--connect", str(file)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(2)
    ]
    try:
        cluster.wait_for_engines(2, 30)
        with zexec.Executor(cluster=cluster) as ex:
            assert set(ex.map(tasks.pid, range(50))) <= {engine.pid for engine in engines}
            f = ex.options(targets=[0]).submit(os._exit, 5)
            with pytest.raises(zexec.EngineDied, match="the connection to it has ended"):
                f.result(30)
            assert ex.submit(tasks.double, 2).result(30) == 4
            with pytest.raises(zexec.NoEngineError):
                ex.options(targets=[0]).submit(os.getpid).result(30)
        cluster.stop()
        codes = sorted(engine.wait(10) for engine in engines)
        assert codes[1] == 5
    finally:
        for engine in engines:
            if engine.poll() is None:
                engine.kill()
                engine.wait()


def test_a_hub_that_does_not_come_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up, and ended."""
    monkeypatch.setattr("zexec.cluster.cluster.START", 0.01)
    with pytest.raises(zexec.ClusterError, match="has not come up within"):
        zexec.Cluster(1)
