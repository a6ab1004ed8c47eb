"""Engines behind a process: ssh and mpiexec, and a real sshd where there is one."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.launch.conftest import Batch, wait_gone
from tests.launch.test_batch import Rung
from zexec.launch.spawned import SpawnedStarter, by_mpi, over_ssh, starter


@pytest.fixture
def rung() -> Rung:
    return Rung()


@pytest.fixture(params=["ssh", "mpi"])
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def made(batch: Batch, rung: Rung, kind: str) -> Iterator[SpawnedStarter]:
    options: dict[str, Any] = {"hosts": ["one", "two"]} if kind == "ssh" else {}
    made: SpawnedStarter = starter(kind, rung, card=batch.card, command=batch.command, **options)
    yield made
    made.close()


def test_engines_come_up_and_go(batch: Batch, made: SpawnedStarter) -> None:
    tokens = made.start(3)
    assert len(set(tokens)) == 3
    pids = batch.wait_for(tokens)
    made.close()
    wait_gone(list(pids.values()))
    assert made.ended().keys() == set(tokens)


def test_an_engine_that_dies_is_noticed(batch: Batch, made: SpawnedStarter, rung: Rung, kind: str) -> None:
    (token,) = made.start(1)
    os.kill(batch.wait_for([token])[token], signal.SIGKILL)
    why = rung.ended(made, 1)[token]
    assert why.startswith("ssh one ended with exit code 137" if kind == "ssh" else "mpiexec ended with exit code")


def test_engines_that_nobody_wants(batch: Batch, made: SpawnedStarter, rung: Rung, kind: str) -> None:
    tokens = made.start(2)
    pids = batch.wait_for(tokens)
    made.stop(tokens)
    rung.ended(made, 2)
    wait_gone(list(pids.values()))


def test_the_other_machine_keeps_nothing(batch: Batch, rung: Rung, monkeypatch: pytest.MonkeyPatch) -> None:
    there = batch.folder / "there"
    there.mkdir()
    monkeypatch.setenv("TMPDIR", str(there))
    made = starter("ssh", rung, card=batch.card, command=batch.command, hosts=["one"])
    pids = batch.wait_for(made.start(2))
    assert len(list(there.glob("*/engine.json"))) == 2
    assert {path.stat().st_mode & 0o777 for path in there.glob("*/engine.json")} == {0o600}
    made.close()
    wait_gone(list(pids.values()))
    while list(there.iterdir()):
        pass  # the shell there has yet to do it


def test_a_host_that_is_not_there_says_why(batch: Batch, rung: Rung) -> None:
    made = starter("ssh", rung, card=batch.card, command=batch.command, hosts=["nowhere"])
    (token,) = made.start(1)
    assert "Could not resolve hostname" in rung.ended(made, 1)[token]
    made.close()


@pytest.mark.parametrize("hosts", [[], ["-oProxyCommand=evil"], [""]])
def test_hosts_are_no_options(batch: Batch, hosts: list[str]) -> None:
    with pytest.raises(ValueError, match="hosts for ssh"):
        over_ssh(hosts, batch.card, batch.command)


def test_no_mpiexec(batch: Batch) -> None:
    made = SpawnedStarter(by_mpi(batch.card, batch.command, program="no-mpiexec"))
    with pytest.raises(FileNotFoundError):
        made.start(1)
    made.close()


def test_unknown_kinds_say_which_there_are() -> None:
    with pytest.raises(ValueError, match=r"'cloud'.* local, ssh, mpi, slurm, pbs"):
        starter("cloud", lambda: None)


# -- a real one ------------------------------------------------------------------------------------------------------


def find_sshd() -> str | None:
    return os.environ.get("ZEXEC_SSHD") or shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")


class Server:
    """An ssh server on the loopback, which lets in one key: sshd, or one by asyncssh."""

    def __init__(self, folder: Path, sshd: str | None) -> None:
        folder.chmod(0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        (folder / "keys").write_text((folder / "user.pub").read_text())
        (folder / "keys").chmod(0o600)
        self.process, port = self._start_sshd(folder, sshd) if sshd else self._start_asyncssh(folder)
        self.options = [
            *("-p", str(port), "-i", str(folder / "user"), "-F", "none"),
            *("-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={folder}/known", "-o", "LogLevel=ERROR"),
        ]

    def _start_sshd(self, folder: Path, sshd: str) -> tuple[subprocess.Popen[str], int]:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        (folder / "config").write_text(
            f"ListenAddress 127.0.0.1:{port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/keys\nStrictModes no\n"
            f"PidFile none\nUsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nPermitUserEnvironment no\n"
        )
        process = subprocess.Popen([sshd, "-D", "-e", "-f", str(folder / "config")], stderr=subprocess.PIPE, text=True)
        assert process.stderr is not None
        said = []
        for line in process.stderr:
            said.append(line)
            if "listening" in line:
                return process, port
        pytest.fail(f"sshd did not start: {said}")

    def _start_asyncssh(self, folder: Path) -> tuple[subprocess.Popen[str], int]:
        command = [sys.executable, "-m", "tests.helpers.ssh_server", str(folder / "host"), str(folder / "keys")]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    def close(self) -> None:
        self.process.terminate()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.process.wait(30)


@pytest.fixture(params=["sshd", "asyncssh"])
def server(request: pytest.FixtureRequest, tmp_path: Path, nothing_left: object) -> Iterator[Server]:
    """Each real server that there is."""
    sshd = find_sshd() if request.param == "sshd" else None
    if request.param == "sshd" and sshd is None:
        pytest.skip("there is no sshd on this machine (ZEXEC_SSHD may name one)")
    if request.param == "asyncssh" and find_spec("asyncssh") is None:
        pytest.skip("asyncssh is not installed (it is for tox -e lib-fast)")
    if shutil.which("ssh") is None or shutil.which("ssh-keygen") is None:
        pytest.skip("there is no ssh on this machine")
    keys = tmp_path / "ssh"
    keys.mkdir()
    made = Server(keys, sshd)
    yield made
    made.close()


def test_a_real_server(tmp_path: Path, rung: Rung, server: Server) -> None:
    batch = Batch(tmp_path)
    command = [sys.executable, str(batch.engine), str(batch.up)]
    made = starter("ssh", rung, card=batch.card, command=command, hosts=["127.0.0.1"], options=server.options)
    tokens = made.start(3)
    pids = batch.wait_for(tokens)
    os.kill(pids[tokens[0]], signal.SIGKILL)
    assert "exit code 137" in rung.ended(made, 1)[tokens[0]]
    # An ssh that is killed takes its engine along.
    made.running[0].process.kill()
    assert rung.ended(made, 1).keys() == {tokens[1]}
    wait_gone([pids[tokens[1]]])
    made.close()
    wait_gone([pids[tokens[2]]])


def test_a_cluster_whose_engines_come_through_a_real_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it: the hub starts them by ssh, they get the connection file that way, and come back over TCP with CURVE."""
    monkeypatch.setenv("ZEXEC_HOME", str(tmp_path / "home"))
    root = Path(__file__).parents[2]
    options = [
        "--hosts",
        "127.0.0.1",
        "--setup",
        f"export PYTHONPATH={root}",
        *[f"--argument={o}" for o in server.options],
    ]
    with zexec.Cluster(2, engines="ssh", listen="127.0.0.1", host="127.0.0.1", options=options) as cluster:
        cluster.wait_for_engines(2, 60)
        pids = [engine["pid"] for engine in cluster.engines()]
        with zexec.Pool(cluster=cluster) as pool:
            assert pool.map(abs, range(-20, 0)) == list(range(20, 0, -1))
            with pytest.raises(zexec.EngineDied):
                pool.apply(os._exit, (3,))
            cluster.wait_for_engines(2, 60)
            assert pool.apply(pow, (2, 10)) == 1024
    wait_gone(pids)
