"""Clusters whose engines are started elsewhere: by the fakes of batch systems, ssh and mpiexec that their own tests have."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.helpers import tasks
from tests.launch.conftest import Batch, batch  # noqa: F401  # a fixture by its name

Start = Callable[..., zexec.Cluster]
ONLY_HERE = {"listen": "127.0.0.1"}


@pytest.mark.parametrize("kind", ["slurm", "pbs", "sge", "lsf", "htcondor", "mpi", "ssh"])
def test_engines_come_and_go(batch: Batch, start: Start, kind: str) -> None:  # noqa: F811
    more = ["--hosts=one,two"] if kind == "ssh" else []
    cluster = start(2, engines=kind, options=more, **ONLY_HERE)
    with zexec.Executor(cluster=cluster) as ex:
        assert list(ex.map(tasks.double, range(50))) == [2 * i for i in range(50)]
        pids = {id: ex.options(targets=[id]).submit(os.getpid).result(30) for id in (0, 1)}
        assert len(set(pids.values())) == 2
    cluster.scale(0)
    assert tasks.until(lambda: cluster.engines() == [])


def test_a_job_that_ends(batch: Batch, start: Start, flag: Callable[[str], str]) -> None:  # noqa: F811
    """By time limit, memory or cancel: its engines' connections end with it, and others are started."""
    cluster = start(1, engines="slurm", **ONLY_HERE)
    with zexec.Executor(cluster=cluster) as ex:
        f = ex.submit(tasks.hold, flag("started"), flag("never"))
        assert tasks.wait_for(flag("started"))
        (job,) = batch.state.glob("*.json")
        batch.end(job.stem, "TIMEOUT")
        with pytest.raises(zexec.EngineDied, match=r"engine 0 \(pid"):
            f.result(30)
        cluster.wait_for_engines(1, 40)
        assert ex.submit(tasks.double, 1).result(30) == 2


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"engines": "slum"}, "no kind of engines is called 'slum': there are local"),
        ({"engines": "ssh"}, "hosts for ssh are names"),
        ({"engines": "ssh", "options": ["--hosts=-oProxyCommand=x"]}, "hosts for ssh are names"),
    ],
)
def test_what_cannot_be(home: Path, options: dict[str, Any], why: str) -> None:
    with pytest.raises(zexec.ClusterError, match=why):
        zexec.Cluster(1, **options, **ONLY_HERE)


def test_a_system_that_is_not_there(home: Path, start: Start) -> None:
    cluster = start(0, engines="slurm", **ONLY_HERE)
    cluster.scale(1)
    with zexec.Executor(cluster=cluster) as ex, pytest.raises(zexec.BrokenClusterError, match="sbatch"):
        ex.submit(tasks.double, 1).result(40)


def test_the_command_line_passes_it_on(batch: Batch, home: Path) -> None:  # noqa: F811
    z = [sys.executable, "-m", "zexec"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    more = ["--engines=slurm", "--queue=long", "--time=3600", "--memory=500", "--cores=2", "--listen=127.0.0.1"]
    subprocess.run(
        [*z, "start", "-n", "1", "--name", "jobs", "--daemon", "--wait", "30", *more],
        env=environment,
        check=True,
        timeout=50,
        capture_output=True,
    )
    try:
        script = batch.submitted()
        assert "long" in script
        assert "1:00:00" in script
    finally:
        subprocess.run([*z, "stop", "jobs"], env=environment, check=True, timeout=50)
        subprocess.run([*z, "clean", "--store", "jobs"], env=environment, check=True, timeout=50, capture_output=True)
