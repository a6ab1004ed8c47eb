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
# Long enough for any machine; only a hang is supposed to meet it.
TIMEOUT = 60
# Warnings are errors in all of them. Python 3.12+ warns of a fork beside threads, as the stdlib's own pools do it.
OPTIONS = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")

START_METHODS = ["fork", "spawn", "forkserver"]


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
        with subprocess.Popen(
            [sys.executable, *OPTIONS, *command],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=TIMEOUT)
        return Ran(process.returncode, first + out, err)

    def _run(self, command: list[str], stdin: str) -> Ran:
        done = subprocess.run(
            command, cwd=self.folder, env=self.env, input=stdin, capture_output=True, text=True, timeout=TIMEOUT
        )
        return Ran(done.returncode, done.stdout, done.stderr)


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path)


@pytest.fixture(params=START_METHODS)
def method(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name
