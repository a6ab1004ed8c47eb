"""What a test has left behind: processes, threads, descriptors, files, segments.

``Before`` is taken before a test; ``left`` waits, with a deadline, until everything is as it was then, and says what is not.

The test process is made a subreaper: whatever loses its parent, such as the engines of a killed script, becomes a child of it,
so that nobody gets away.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import signal
import threading
from multiprocessing import forkserver, resource_tracker
from time import monotonic, sleep
from typing import Any

import psutil

#: Seconds within which all has to be gone. The promise to users gives the engines of a killed client five.
DEADLINE = 5.0
#: Seconds between two looks at what nobody sends an event for: threads, descriptors, files.
LOOK = 0.01

PR_SET_CHILD_SUBREAPER = 36


def prepare() -> None:
    """Once per test run: start what the stdlib starts once and keeps, and adopt orphans."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    resource_tracker.ensure_running()
    forkserver.ensure_running()
    import numpy  # noqa: F401  # its BLAS starts threads that stay

    global _arena
    _arena = multiprocessing.Value("i")  # shared values are cut from one arena that stays


_arena: Any = None


def helpers() -> set[int]:
    """The processes that the stdlib keeps for itself."""
    return {resource_tracker._resource_tracker._pid, forkserver._forkserver._forkserver_pid}  # type: ignore[attr-defined]


def processes() -> dict[int, psutil.Process]:
    """Everybody who descends from this process, but for the stdlib's helpers."""
    known = helpers()
    return {p.pid: p for p in psutil.Process().children(recursive=True) if p.pid not in known}


def threads() -> set[str]:
    return {f"thread {t.name!r} ({t.ident})" for t in threading.enumerate()}


def native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def descriptors() -> dict[int, str]:
    found = {}
    for fd in os.listdir("/proc/self/fd"):
        try:
            found[int(fd)] = os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass  # the listing's own
    return found


def segments() -> set[str]:
    """Segments in shared memory with our name on them."""
    try:
        return {f"/dev/shm/{name}" for name in os.listdir("/dev/shm") if name.startswith("zexec")}
    except FileNotFoundError:
        return set()


def signals() -> Any:
    """What is blocked, and what Ctrl-C does."""
    return signal.pthread_sigmask(signal.SIG_BLOCK, ()), signal.getsignal(signal.SIGINT)


class Before:
    """How things were before a test.

    Args:
        folder: where the test's temporary files go.
        ours: whether zexec is what is tested; the stdlib's pools now and then leave descriptors, when they are dropped.
    """

    def __init__(self, folder: str, ours: bool = True) -> None:
        self.folder = folder
        self.ours = ours
        self.processes = set(processes())
        self.threads = threads()
        self.native_threads = native_threads()
        self.descriptors = descriptors()
        self.segments = segments()
        self.signals = signals()

    def left(self, deadline: float = DEADLINE) -> list[str]:
        """What there is now that was not there before, after ``deadline`` seconds at most."""
        gc.collect()
        until = monotonic() + deadline
        while True:
            found = self._look()
            if not found or monotonic() > until:
                return found
            # Not psutil's wait: it would take the exit status away from whoever started the process.
            sleep(LOOK)

    def _look(self) -> list[str]:
        bury_orphans()
        found = [describe(p) for pid, p in processes().items() if pid not in self.processes]
        found += sorted(threads() - self.threads)
        if not found and native_threads() > self.native_threads:
            found.append(f"{native_threads() - self.native_threads} threads that are not Python's")
        if not self.ours:
            return found
        now = descriptors()
        found += [f"descriptor {fd}: {what}" for fd, what in now.items() if self.descriptors.get(fd) != what]
        found += sorted(segments() - self.segments)
        if signals() != self.signals:
            found.append(f"signals: {signals()} where there were {self.signals}")
        for path, _, files in os.walk(self.folder):
            found += [os.path.join(path, name) for name in files if "zexec-" in path]
            if "zexec-" in os.path.basename(path):
                found.append(path)
        return found


def describe(process: psutil.Process) -> str:
    try:
        return f"process {process.pid}, {process.status()}: {' '.join(process.cmdline())[:200]}"
    except psutil.Error:
        return f"process {process.pid}"


def bury_orphans() -> None:
    """Reap what we have adopted and what has ended since; the children of this process are reaped by who started them."""
    ours = {p.pid for p in multiprocessing.active_children()}
    for process in psutil.Process().children():
        try:
            if process.status() == psutil.STATUS_ZOMBIE and process.pid not in ours:
                os.waitpid(process.pid, os.WNOHANG)
        except (psutil.Error, ChildProcessError):
            pass


def remove(before: Before) -> None:
    """End processes that were left, so that they are no trouble to the next test."""
    for pid, process in processes().items():
        if pid not in before.processes:
            try:
                process.kill()
            except psutil.Error:
                pass
    bury_orphans()
