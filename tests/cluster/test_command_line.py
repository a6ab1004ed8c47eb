"""zexec start, status, stop, list, clean, run --cluster."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import zexec
from tests.helpers import tasks
from zexec.net import cards

Z = [sys.executable, "-m", "zexec"]

POOL = """
import multiprocessing, os, concurrent.futures
def parent(_):
    return os.getppid()
if __name__ == "__main__":
    with multiprocessing.Pool(2) as pool:
        print(*set(pool.map(parent, range(10))))
    with concurrent.futures.ProcessPoolExecutor() as ex:
        print(ex.submit(parent, 1).result())
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}


def z(*args: str, code: int = 0, seconds: float = 50) -> str:
    """Run a command; what it says."""
    ran = subprocess.run([*Z, *args], env=environment(), capture_output=True, text=True, timeout=seconds)
    assert ran.returncode == code, ran.stderr
    return ran.stdout if code == 0 else ran.stderr


@pytest.fixture
def daemon(home: Path) -> Iterator[str]:
    """A cluster of that name, with one engine."""
    z("start", "-n", "1", "--name", "mine", "--daemon", "--wait", "30")
    yield "mine"
    subprocess.run([*Z, "stop", "mine"], env=environment(), capture_output=True, timeout=50)
    z("clean", "--store")


def test_a_life(home: Path, tmp_path: Path) -> None:
    said = z("start", "-n", "1", "--daemon", "--wait", "30")
    assert str(home / "clusters" / "default") in said
    hub = int(said.split("process ")[1].split(";")[0])
    assert "1 up, 0 starting, 1 wanted" in z("status")
    status = json.loads(z("status", "--json"))
    assert (status["name"], status["pid"], len(status["engines"]), status["clients"]) == ("default", hub, 1, [])
    listed = z("list")
    assert "running" in listed
    assert f"hub {hub}" in listed
    assert "is running already" in z("start", "-n", "1", "--daemon", code=1)
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    assert z("run", "--cluster", "default", str(script)).split() == [str(hub)] * 2
    assert z("stop") == ""
    assert "no cluster 'default' is running; there is none" in z("status", code=1)
    assert "no cluster" in z("stop", code=1)
    assert z("list") == ""
    assert cards.start_of(hub) == -1


def test_in_the_foreground(home: Path) -> None:
    with subprocess.Popen(
        [*Z, "start", "-n", "1", "--name", "here"], env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("cluster 'here': hub is process ")
        cluster = zexec.Cluster.from_name("here")
        cluster.wait_for_engines(1, 30)
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not cards.folder_of("here").exists()


def test_stuck(daemon: str, flag: Callable[[str], str]) -> None:
    with zexec.Executor(cluster=daemon) as ex:
        f = ex.submit(tasks.hold, flag("started"), flag("release"))
        behind = ex.submit(tasks.nothing)
        assert tasks.wait_for(flag("started"))
        said = z("status", daemon, "--stuck")
        assert "runs hold" in said
        assert "engine 0 has run hold for" in said
        tasks.touch(flag("release"))
        f.result(30)
        behind.result(30)


def test_watching_ends_with_the_cluster(daemon: str) -> None:
    with subprocess.Popen(
        [*Z, "status", daemon, "--watch", "--json", "--interval", "0.05"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for _ in range(3):
            assert json.loads(process.stdout.readline())["name"] == daemon
        z("stop", daemon)
        process.communicate(timeout=20)
        assert process.returncode == 1


def test_watching_into_a_pipe_that_closes(daemon: str) -> None:
    with subprocess.Popen(
        [*Z, "status", daemon, "--watch", "--interval", "0.01"],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) in (0, 120)
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


def test_what_dead_clusters_leave(daemon: str) -> None:
    cluster = zexec.Cluster.from_name(daemon)
    os.kill(cluster.pid, signal.SIGKILL)
    assert tasks.until(lambda: cluster.card.is_stale())
    (listed,) = json.loads(z("list", "--json"))
    assert listed["state"] == "dead"
    assert "not running any more" in z("status", daemon, code=1)
    sockets = Path(cluster.card.endpoints[0].removeprefix("ipc://")).parent
    assert sockets.exists()
    assert f"removed what was left of cluster '{daemon}'" in z("clean")
    assert not sockets.exists()
    assert z("list") == ""


def test_what_runs_is_not_cleaned(daemon: str) -> None:
    assert z("clean") == ""
    assert "is running: stop it first" in z("clean", daemon, code=1)
    assert "1 up" in z("status", daemon)


def test_the_name_is_taken_again_after_a_death(daemon: str) -> None:
    os.kill(zexec.Cluster.from_name(daemon).pid, signal.SIGKILL)
    assert tasks.until(lambda: cards.read(cards.folder_of(daemon) / "client.json").is_stale())
    z("start", "-n", "1", "--name", daemon, "--daemon", "--wait", "30")
    with zexec.Executor(cluster=daemon) as ex:
        assert ex.submit(tasks.double, 1).result(30) == 2


@pytest.mark.parametrize("command", ["start", "status", "stop", "list", "clean", "hub", "engine"])
def test_each_explains_itself(home: Path, command: str) -> None:
    assert z(command, "--help").startswith(f"usage: zexec {command}")
    assert "unrecognized arguments: --nonsense" in z(command, "--nonsense", code=2) or command == "engine"


def test_engines_say_why_they_cannot_come(home: Path, tmp_path: Path) -> None:
    assert "no connection file" in z("engine", "--connect", str(tmp_path / "none.json"), code=1)
    (tmp_path / "open.json").write_text("{}")
    (tmp_path / "open.json").chmod(0o644)
    assert "can be used by other users" in z("engine", "--connect", str(tmp_path / "open.json"), code=1)
    (tmp_path / "bad.json").write_text("{}")
    (tmp_path / "bad.json").chmod(0o600)
    assert "is no connection file" in z("engine", "--connect", str(tmp_path / "bad.json"), code=1)
