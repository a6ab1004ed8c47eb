"""One measurement's processes, seen from outside: started, watched, and ended to the last one when the time is over.

The orchestrator adopts orphans (a "subreaper"), so a peer's daemons stay its descendants whatever becomes of their
parents, and since there is one measurement at a time, every descendant belongs to the current one. Nothing but
descendants is ever signalled.
"""

from __future__ import annotations

import ast
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from compat.benchmark.child import COMMAND

ROOT = Path(__file__).resolve().parents[2]
PR_SET_CHILD_SUBREAPER = 36
# How long the processes of a pool that was closed may take to go before they count as left behind.
GRACE_SECONDS = 3.0


class Outcome(NamedTuple):
    reply: dict[str, Any]  # what the fresh process told: figures, version or error
    wall_s: float  # from before the start of the interpreter to its exit
    left_behind: list[str]  # names of processes that were still there


def adopt_orphans() -> None:
    """Become the parent of every descendant that loses its own (Linux only; elsewhere daemons could escape us)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def measure(arguments: list[str], settings: list[str], deadline_s: float, grace_s: float = GRACE_SECONDS) -> Outcome:
    """Run one row of one peer in a fresh process; never longer than its deadline and the grace."""
    scratch = tempfile.mkdtemp(prefix="zb-")  # short: Unix socket paths lie in it
    read_end, write_end = os.pipe()
    try:
        with open(os.path.join(scratch, "stderr"), "w+") as stderr:
            begin = time.perf_counter()
            process = subprocess.Popen(
                [sys.executable, *COMMAND, *arguments, str(write_end), *settings],
                stdin=subprocess.PIPE,
                stdout=stderr,
                stderr=stderr,
                pass_fds=[write_end],
                env=_environment(scratch),
                cwd=scratch,
                start_new_session=True,  # so that Ctrl-C comes here, and only here
            )
            os.close(write_end)
            write_end = -1
            reply = _converse(process, read_end, begin + deadline_s)
            wall_s = time.perf_counter() - begin
            if not reply:
                stderr.seek(0)
                last = stderr.read().strip().rpartition("\n")[2]
                reply = {"error": f"exited with {process.returncode} and no figures: {last}"[:300]}
        return Outcome(reply, wall_s, _end_descendants(grace_s))
    finally:
        _end_descendants(0)
        os.close(read_end)
        if write_end >= 0:
            os.close(write_end)
        shutil.rmtree(scratch, ignore_errors=True)


def _environment(scratch: str) -> dict[str, str]:
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {
        **inherited,  # without that one, as a start that compiles its modules each time is nobody's start
        "PYTHONPATH": os.pathsep.join(paths),
        "TMPDIR": scratch,
        "IPYTHONDIR": os.path.join(scratch, "ipython"),
        "RAY_USAGE_STATS_ENABLED": "0",
    }


def _converse(process: subprocess.Popen[bytes], pipe: int, deadline: float) -> dict[str, Any]:
    """Listen until the process is gone, do what it asks, and return what it told."""
    # The end of the pipe says nothing, as forked engines hold it too; the process itself does, at the very moment.
    gone = os.pidfd_open(process.pid)
    heard = [pipe, gone]
    reply: dict[str, Any] = {}
    unread = b""
    try:
        while (left := deadline - time.perf_counter()) > 0:
            ready = select.select(heard, [], [], left)[0]
            if pipe in ready:
                data = os.read(pipe, 65536)
                if not data:
                    heard.remove(pipe)
                *lines, unread = (unread + data).split(b"\n")
                for line in lines:
                    message = ast.literal_eval(line.decode())
                    if "observe" in message:
                        _answer(process, "{} {}\n".format(*observe(message["observe"])))
                    else:
                        reply |= message
            elif gone in ready:
                process.wait()
                return reply
        process.kill()
        process.wait()
        return {"error": f"over its deadline, {'at its end' if reply else 'with no figures'}", "timed_out": True}
    finally:
        os.close(gone)
        if process.stdin:
            process.stdin.close()


def _answer(process: subprocess.Popen[bytes], line: str) -> None:
    assert process.stdin
    try:
        process.stdin.write(line.encode())
        process.stdin.flush()
    except BrokenPipeError:
        pass  # it died meanwhile; its exit will say so


def observe(seconds: float) -> tuple[float, float]:
    """PSS in MiB of all processes of the measurement, and the processor use of all in percent of one core."""
    processes = psutil.Process().children(recursive=True)
    before = {process.pid: _processor_seconds(process.pid) for process in processes}
    begin = time.perf_counter()
    time.sleep(seconds)
    used = sum(max(0.0, _processor_seconds(pid) - seconds_before) for pid, seconds_before in before.items())
    percent = 100 * used / (time.perf_counter() - begin)
    total = 0
    for process in processes:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            pass
    return total / 2**20, percent


def _processor_seconds(pid: int) -> float:
    """Processor time of all threads, in nanosecond resolution: the usual clock ticks of 10 ms would be 0.3 % of 3 s."""
    total = 0
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/schedstat") as file:
                total += int(file.read().split()[0])
    except (FileNotFoundError, ProcessLookupError):
        pass  # it, or a thread of it, went away
    return total / 1e9


def _end_descendants(grace: float) -> list[str]:
    """Wait a little for all descendants to go, end those that stay, and return their names."""
    me = psutil.Process()
    names = [_name(process) for process in _wait_for_descendants(me, grace)]
    # SIGTERM first: it ends engines, but not the trackers that then remove what the engines had in /dev/shm.
    _signal(_living(me), signal.SIGTERM)
    while remaining := _wait_for_descendants(me, 1.0):  # again until none is left: one may fork meanwhile
        _signal(remaining, signal.SIGKILL)
    return names


def _wait_for_descendants(me: psutil.Process, seconds: float) -> list[psutil.Process]:
    end = time.monotonic() + seconds
    while (remaining := _living(me)) and time.monotonic() < end:
        time.sleep(0.02)
    return remaining


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            pass


def _living(me: psutil.Process) -> list[psutil.Process]:
    _reap()
    return [child for child in me.children(recursive=True) if child.is_running() and _name(child) != "?"]


def _reap() -> None:
    """Take the exit status of adopted orphans. Called only when the measurement's own process has been waited for."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def _name(process: psutil.Process) -> str:
    try:
        return "?" if process.status() == psutil.STATUS_ZOMBIE else process.name()
    except psutil.NoSuchProcess:
        return "?"
