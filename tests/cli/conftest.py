"""Run small programs twice, by plain python and by `python -m zexec run`, to hold the one against the other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

import zexec.cli

# Where zexec was imported from, for the interpreters that the tests start.
ROOT = str(Path(zexec.cli.__file__).parents[2])
# Only a hang is supposed to meet it; less than what a test may take (tests/conftest.py), so that the hang is ended.
TIMEOUT = 40
# Warnings are errors in all of them. Python 3.12+ warns of a fork beside threads, as the stdlib's own pools do it.
OPTIONS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")


class Ran(NamedTuple):
    """What became of a program; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


class Programs:
    """A folder of programs, and the two ways to run them."""

    root = ROOT

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "ZEXEC"))}
        self.env["PYTHONPATH"] = ROOT

    def write(self, name: str, source: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))
        return path

    def plain(self, *args: str, options: tuple[str, ...] = OPTIONS, stdin: str = "") -> Ran:
        return self._run([sys.executable, *options, *args], stdin)

    def ours(self, *args: str, options: tuple[str, ...] = OPTIONS, stdin: str = "") -> Ran:
        return self._run([sys.executable, *options, "-m", "zexec", "run", *args], stdin)

    def same(self, *args: str, options: tuple[str, ...] = OPTIONS, stdin: str = "") -> Ran:
        """Run both ways, expect the same to the byte, and say what it was."""
        ours, plain = self.ours(*args, options=options, stdin=stdin), self.plain(*args, options=options, stdin=stdin)
        assert ours == plain
        return ours

    def interrupted(self, *command: str) -> Ran:
        """Send SIGINT to a program as soon as it has written a line."""
        with self._started([sys.executable, *OPTIONS, *command]) as process:
            first = process.stdout.readline() if process.stdout else ""
            process.send_signal(signal.SIGINT)
            return self._ended(process, first)

    def _run(self, command: list[str], stdin: str) -> Ran:
        with self._started(command) as process:
            return self._ended(process, stdin=stdin)

    def _started(self, command: list[str]) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.env,
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )

    @staticmethod
    def _ended(process: subprocess.Popen[str], first: str = "", stdin: str = "") -> Ran:
        try:
            out, err = process.communicate(stdin, timeout=TIMEOUT)
        except subprocess.TimeoutExpired:
            # Its children hold the pipes as well, and would hang the test for good.
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Ran(process.returncode, first + out, err)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)
