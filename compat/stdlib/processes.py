"""Find, dump and end the processes of one run.

They are known by a token in their environment, which also finds those whose parent is gone; each is ended by its pid.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from pathlib import Path

import psutil

from compat.stdlib.startup import DUMP_SIGNAL, RUN

DUMP_SECONDS = 0.5


def alive(token: str) -> Iterator[psutil.Process]:
    """All running processes that carry the token."""
    for process in psutil.process_iter():
        try:
            if process.environ().get(RUN) == token and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except psutil.Error:
            continue


def describe(process: psutil.Process) -> str:
    try:
        return f"pid {process.pid}, parent {process.ppid()}: {shlex.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"pid {process.pid}, gone by now"


def dump(token: str, stacks: Path) -> str:
    """The stacks of all the run's interpreters, as each writes them into the file `stacks`."""
    for process in list(alive(token)):
        with stacks.open("a") as file:
            file.write(f"\n--- {describe(process)}\n")
        try:
            process.send_signal(DUMP_SIGNAL)
        except psutil.Error:
            continue
        time.sleep(DUMP_SECONDS)
    return stacks.read_text(errors="replace")


def end(token: str, timeout: float = 10) -> None:
    """Kill all of them, and whatever they start meanwhile."""
    until = time.monotonic() + timeout
    while found := list(alive(token)):
        if time.monotonic() > until:
            raise TimeoutError(f"cannot be killed: {[describe(process) for process in found]}")
        for process in found:
            try:
                process.kill()
            except psutil.Error:
                continue
        psutil.wait_procs(found, timeout=1)


def wait_until_gone(token: str, timeout: float) -> list[psutil.Process]:
    """Those which are still there after `timeout` seconds."""
    until = time.monotonic() + timeout
    while (found := list(alive(token))) and time.monotonic() < until:
        time.sleep(0.05)
    return found
