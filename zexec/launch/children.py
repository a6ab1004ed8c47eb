"""Engines of a cluster as children of its hub's process: each an interpreter of its own that comes through the engines' door."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

from zexec.engine.ledger import Ledger
from zexec.launch import memory
from zexec.messages import ResultRecord

#: what an engine is told by its environment
TOKEN, LEDGER, LIFELINE = "ZEXEC_TOKEN", "ZEXEC_LEDGER", "ZEXEC_LIFELINE"


class Child:
    """One engine's process."""

    def __init__(
        self, token: str, process: subprocess.Popen[bytes], ledger: Ledger, line: int, forget: Callable[[str], Any]
    ) -> None:
        self.token = token
        self._forget = forget
        self.pid = process.pid
        #: becomes readable when it has ended
        self.sentinel = os.pidfd_open(process.pid)
        self._process = process
        #: the most memory that it had, in bytes, once it has ended, where the system says so
        self.peak: int | None = None
        # An executed process is said to have had the memory that its parent had: no peak below this is its own.
        self._inherited_peak = memory.own_peak()
        self._kills = memory.kills()
        self.ledger = ledger
        # The system ends it when this is closed, however the hub ends.
        self._line = line

    def poll(self) -> int | None:
        """Its exit code, as multiprocessing has them, if it has ended."""
        process = self._process
        if process.returncode is None:
            try:
                pid, status, usage = os.wait4(self.pid, os.WNOHANG)
            except ChildProcessError:
                return process.poll()  # somebody else has waited for it
            if pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                peak = usage.ru_maxrss * 1024
                self.peak = peak if peak > self._inherited_peak else None
        return process.returncode

    @property
    def cause(self) -> str:
        """The likely cause of its end, if that was SIGKILL and not by us."""
        return memory.cause(self.peak, self._kills) if self.poll() == -signal.SIGKILL else ""

    def kill(self, force: bool) -> None:
        """End it."""
        self.signal(signal.SIGKILL if force else signal.SIGTERM)
        self.signal(signal.SIGCONT)  # a stopped process keeps the other for later

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def reap(self) -> tuple[int | None, int, list[ResultRecord]]:
        """It has ended, or will not be used any more.

        Returns:
            its exit code, the newest task it had started, and results that it may not have sent.
        """
        started, results = self.ledger.started, self.ledger.results()
        exitcode = self.poll()
        self.ledger.close()
        os.close(self.sentinel)
        os.close(self._line)
        self._forget(self.token)
        return exitcode, started, results


class Children:
    """Starts engines.

    Args:
        card: path of the engines' connection file.
        watch, unwatch: called with a descriptor that becomes readable when an engine ends, and when it is of no interest.
        survive: engines go on when the hub's process is killed, and look for the next.
        log: makes the file that an engine's output goes to; None for where the hub's own goes.
    """

    def __init__(
        self,
        card: str,
        watch: Callable[[int], None],
        unwatch: Callable[[int], None],
        survive: bool = False,
        log: Callable[[], Any] | None = None,
    ) -> None:
        self._card = card
        self._watch = watch
        self._unwatch = unwatch
        self._log = log
        self._survive = survive
        #: by token; those that have not been reaped
        self.running: dict[str, Child] = {}
        #: those of them that have not come to the hub yet
        self._fresh: set[str] = set()

    def start(self, count: int) -> list[str]:
        """Start engines: the token of each."""
        return [self._start() for _ in range(count)]

    def _start(self) -> str:
        token = secrets.token_hex(8)
        ledger = Ledger()
        environment = {**os.environ, TOKEN: token, LEDGER: str(ledger.fileno())}
        theirs, ours = os.pipe()
        passed = [ledger.fileno()]
        if not self._survive:
            environment[LIFELINE] = str(theirs)
            passed.append(theirs)
        log = self._log() if self._log is not None else None
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "zexec", "engine", "--connect", self._card],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                pass_fds=passed,
                # Ctrl-C in the terminal is for whoever it belongs to.
                start_new_session=True,
            )
        except BaseException:
            os.close(ours)
            ledger.close()
            raise
        finally:
            os.close(theirs)
            if log is not None:
                log.close()
        self.running[token] = child = Child(token, process, ledger, ours, self._forget)
        self._fresh.add(token)
        self._watch(child.sentinel)
        return token

    def arrived(self, token: str) -> Child | None:
        """An engine has come to the hub: it is the hub's from now on. None if it is none of these."""
        self._fresh.discard(token)
        return self.running.get(token)

    def ended(self) -> dict[str, str]:
        """Those that have ended before they came, and how."""
        found = {}
        for token in list(self._fresh):
            child = self.running[token]
            if child.poll() is not None:
                self._unwatch(child.sentinel)
                exitcode, *_ = child.reap()
                found[token] = f"its process ended with {_how(exitcode)} before it reached the hub"
        return found

    def stop(self, tokens: Iterable[str]) -> None:
        """Call back those that have not come yet."""
        for token in tokens:
            if token in self._fresh:
                self.running[token].kill(force=False)

    def _forget(self, token: str) -> None:
        self.running.pop(token, None)
        self._fresh.discard(token)

    def close(self) -> None:
        """End all that still run: the hub ends in order, so nobody is to go on without it."""
        for child in list(self.running.values()):
            child.kill(force=True)
            child._process.wait()
            child.reap()


def _how(exitcode: int | None) -> str:
    if exitcode is None or exitcode >= 0:
        return f"exit code {exitcode}"
    return f"signal {signal.Signals(-exitcode).name}"
