"""Batch systems of their own for tests: ``fake.py`` under the name of each command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import psutil
import pytest

from tests.e2e.conftest import _one_family, nothing_left, pytest_runtest_makereport  # noqa: F401  # by their names

COMMANDS = """sbatch srun squeue scancel scontrol qsub qstat qselect qdel qacct bsub bjobs bkill condor_submit condor_q condor_rm
kubectl ssh mpiexec end"""

#: An engine as launchers know it: it says who it is, and that it could read the connection file, and stays.
ENGINE = """
import os, sys, time
assert sys.argv[-2] == "--connect"
content = open(sys.argv[-1]).read()
folder = sys.argv[-3]
with open(f"{folder}/.{os.getpid()}", "w") as file:
    file.write(f"{os.getpid()} {content}")
os.rename(f"{folder}/.{os.getpid()}", f"{folder}/{os.environ['ZEXEC_TOKEN']}")
time.sleep(600)
"""


class Batch:
    """A machine room: the commands of every batch system, and what has come up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.up = folder / "up"
        self.bin = folder / "bin"
        self.shared = folder / "shared place"  # quoting is somebody's duty
        for each in (self.state, self.up, self.bin, self.shared):
            each.mkdir()
        self.card = self.shared / "engine.json"
        self.card.write_text('{"key": "it\'s a \\"secret\\""}')
        self.card.chmod(0o600)
        for name in COMMANDS.split():
            script = self.bin / name
            script.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("fake.py").read_text())
            script.chmod(0o755)
        self.engine = self.shared / "engine.py"
        self.engine.write_text(ENGINE)

    @property
    def command(self) -> list[str]:
        return [sys.executable, str(self.engine), str(self.up)]

    def wait_for(self, tokens: list[str]) -> dict[str, int]:
        """Wait until engines are up: the process of each. What they could read is what is there to read."""
        until = monotonic() + 30
        while not all((self.up / token).exists() for token in tokens):
            assert monotonic() < until, f"{tokens} wanted, there are {os.listdir(self.up)}"
            sleep(0.01)
        found = {}
        for token in tokens:
            pid, _, content = (self.up / token).read_text().partition(" ")
            assert content == self.card.read_text()
            found[token] = int(pid)
        return found

    def end(self, id: str, why: str) -> None:
        """The system ends a job."""
        subprocess.run([str(self.bin / "end"), id, why], check=True)

    def submitted(self) -> str:
        """What was submitted first."""
        return (self.state / "submitted-1000").read_text()


def wait_gone(pids: list[int]) -> None:
    """Wait until processes are gone."""
    for pid in pids:
        try:
            psutil.Process(pid).wait(30)
        except psutil.NoSuchProcess:
            pass


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nothing_left: object) -> Batch:  # noqa: F811
    made = Batch(tmp_path)
    monkeypatch.setenv("PATH", f"{made.bin}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_BATCH", str(made.state))
    return made
