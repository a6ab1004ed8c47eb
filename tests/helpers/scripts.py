"""Programs that run in a process, session and process group of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = str(Path(__file__).parents[2])

#: Long enough for any machine; only a hang is supposed to meet it.
TIMEOUT = 40


class Ran(NamedTuple):
    """What became of a program; a negative code is the signal that killed it."""

    code: int
    out: str
    err: str


class Scripts:
    """Writes programs into a folder and runs them.

    Warnings are errors in all of them. Python 3.12+ warns of a fork beside threads, as the stdlib's own pools do it.
    """

    options = ("-W", "error", "-W", "ignore:This process:DeprecationWarning")

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "PYTHONPATH": ROOT}

    def write(self, source: str, name: str = "script.py") -> str:
        path = self.folder / name
        path.write_text(textwrap.dedent(source))
        return str(path)

    def run(self, source: str, *args: str, stdin: str = "") -> Ran:
        """Run a program from a file to its end."""
        return self.command(self.write(source), *args, stdin=stdin)

    def good(self, source: str, *args: str) -> str:
        """Run a program that is to end well and say nothing on stderr; what it printed."""
        ran = self.run(source, *args)
        assert ran.code == 0, ran.err
        assert ran.err == ""
        return ran.out

    def command(self, *args: str, stdin: str = "", timeout: float = TIMEOUT) -> Ran:
        """Run python with these arguments."""
        with self.start(*args) as process:
            try:
                out, err = process.communicate(stdin, timeout)
            except subprocess.TimeoutExpired:
                # A program that hangs says where it does.
                process.send_signal(signal.SIGABRT)
                out, err = process.communicate(timeout=TIMEOUT)
                raise AssertionError(f"hung: {' '.join(args)}\n{out}\n{err}") from None
        return Ran(process.returncode, out, err)

    @contextmanager
    def start(self, *args: str) -> Iterator[subprocess.Popen[str]]:
        """Start python with these arguments; its process group is killed in the end."""
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        process = subprocess.Popen(
            [sys.executable, *flags, *self.options, "-X", "faulthandler", *args],
            cwd=self.folder,
            env=self.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            try:
                yield process
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
