"""Engines as jobs of a batch system, whichever: ``systems`` says how each is spoken to.

A thread of its own speaks to the system, whose commands may take seconds: it submits what ``start`` has asked for, looks every
POLL seconds which jobs are still there, and cancels. The hub is told of what has ended by ``ring``, and asks ``ended``.

A job counts as ended when it is listed as such, or is not listed any more, twice in a row: a system may need a moment to list a
new one. When the system does not answer, nothing counts as ended: its engines may well be at work.
"""

from __future__ import annotations

import getpass
import json
import logging
import os
import re
import shlex
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from zexec.launch.systems import Needs, System

LOGGER = logging.getLogger("zexec")

#: Seconds between two looks at the system's list of jobs, and how often in a row a job is to be missing there: what a job's end
#: takes to be known. Systems with thousands of users do not like to be asked more often.
POLL, MISSING = 15.0, 2
#: Seconds that one of the system's commands may take.
PATIENCE = 60.0


@dataclass
class Job:
    """One job, and which engines are in it."""

    name: str
    tokens: list[str]
    script: Path | None = None
    #: what the system calls it, once it has it
    id: str = ""
    missing: int = 0
    #: those of its engines that nobody wants any more
    unwanted: set[str] = field(default_factory=set)


class BatchStarter:
    """Starts engines as jobs.

    Args:
        system: how to speak to the batch system.
        card: the engines' connection file. Their hosts must see it under the same path (but for Kubernetes).
        folder: for scripts and logs; seen by the hosts as well.
        command: what an engine is, as arguments; ``--connect`` and the card are added.
        needs: what the engines need.
        ring: called, in a thread of its own, when ``ended`` has something to tell.
        name: what the jobs' names begin with.
    """

    def __init__(
        self,
        system: System,
        card: Path,
        folder: Path,
        command: list[str],
        needs: Needs | None = None,
        ring: Callable[[], None] = lambda: None,
        name: str = "zexec",
    ) -> None:
        self._system = system
        self._card = card
        self._folder = folder
        self._command = command
        self._needs = needs or Needs()
        self._ring = ring
        self._name = name
        self._count = 0
        #: jobs that have not ended, by name
        self.jobs: dict[str, Job] = {}
        self._ended: dict[str, str] = {}
        self._to_submit: list[Job] = []
        self._to_cancel: list[Job] = []
        self._closing = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"zexec-{system.name}", daemon=True)
        self._thread.start()

    # -- what the hub calls --------------------------------------------------------------------------------------------

    def start(self, count: int) -> list[str]:
        """Have engines started as one job: a token for each."""
        with self._wake:
            self._count += 1
            # Names are unique even if the hub comes back: jobs of its earlier life may still be there.
            name = f"{self._name}-{os.urandom(3).hex()}-{self._count}"
            job = Job(name, [f"{name}.{index}" for index in range(count)])
            self.jobs[job.name] = job
            self._to_submit.append(job)
            self._wake.notify_all()
            return list(job.tokens)

    def ended(self) -> dict[str, str]:
        """Engines whose job has ended since the last call, and why."""
        with self._wake:
            ended, self._ended = self._ended, {}
            return ended

    def stop(self, tokens: Iterable[str]) -> None:
        """These are not wanted any more: a job of which none is wanted is cancelled."""
        with self._wake:
            gone = set(tokens)
            for job in self.jobs.values():
                job.unwanted.update(gone.intersection(job.tokens))
                if len(job.unwanted) == len(job.tokens) and job not in self._to_cancel:
                    self._to_cancel.append(job)
            self._wake.notify_all()

    def close(self) -> None:
        """Cancel all jobs, and end."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        self._thread.join()

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        look_at = 0.0
        while True:
            with self._wake:
                self._wake.wait_for(
                    lambda: self._closing or self._to_submit or self._to_cancel,
                    max(0.0, look_at - monotonic()) if self.jobs else None,
                )
                if self._closing:
                    break
                submit, self._to_submit = self._to_submit, []
            for job in submit:
                if not any(other.id for other in self.jobs.values()):
                    look_at = monotonic() + POLL
                self._submit(job)
            with self._wake:
                cancel, self._to_cancel = self._to_cancel, []
            for job in cancel:
                self._cancel(job)
            if self.jobs and monotonic() >= look_at:
                self._look()
                look_at = monotonic() + POLL
        for job in list(self.jobs.values()):
            self._cancel(job)

    def _submit(self, job: Job) -> None:
        system = self._system
        try:
            script = fill(system, job, self._card, self._folder, self._command, self._needs)
            # An engine's output and the tokens are nobody else's.
            job.script = self._folder / f"{job.name}.job"
            job.script.touch(mode=0o600)
            job.script.write_text(script)
            said = self._call(system.submit, {"script": str(job.script)}, script if system.stdin else None)
            found = re.search(system.job, said, re.MULTILINE)
            if found is None:
                raise OSError(f"{system.submit[0]} did not name a job, but said: {said.strip()[:200]!r}")
        except (OSError, subprocess.SubprocessError, ValueError) as e:
            self._end(job, f"its job could not be submitted: {_complaint(e)}")
            return
        job.id = found.group(1)
        LOGGER.info("%s job %s: %d engines", system.name, job.id, len(job.tokens))

    def _look(self) -> None:
        system = self._system
        try:
            said = self._call(system.poll, {})
        except (OSError, subprocess.SubprocessError) as e:
            LOGGER.warning("%s cannot be asked for its jobs: %s", system.name, _complaint(e))
            return
        there: set[str] = set()
        ended: dict[str, str] = {}
        for found in re.finditer(system.line, said, re.MULTILINE):
            id, state = found.group(1), found.group(found.re.groups) if found.re.groups > 1 else ""
            if not system.alive or state in system.alive:
                there.add(id)
            else:
                ended[id] = state
        for job in [job for job in self.jobs.values() if job.id]:
            if job.id in there:
                job.missing = 0
                continue
            job.missing += 1
            if job.missing >= MISSING or job.id in ended:
                self._end(job, f"its {system.name} job {job.id} has ended: {self._why(job, ended.get(job.id, ''))}")

    def _why(self, job: Job, state: str) -> str:
        try:
            said = self._call(self._system.why, {"job": job.id})
        except (OSError, subprocess.SubprocessError):
            said = ""
        found = re.search(self._system.reason, said, re.MULTILINE)
        return found.group(1).strip() if found is not None else state or "it is not listed any more"

    def _cancel(self, job: Job) -> None:
        if job.id and job.name in self.jobs:
            try:
                self._call(self._system.cancel, {"job": job.id})
            except (OSError, subprocess.SubprocessError) as e:
                LOGGER.warning("%s job %s cannot be cancelled: %s", self._system.name, job.id, _complaint(e))
                return
            self._end(job, f"its {self._system.name} job {job.id} was cancelled: it is not wanted any more")

    def _end(self, job: Job, why: str) -> None:
        if job.script is not None:
            job.script.unlink(missing_ok=True)
        with self._wake:
            self.jobs.pop(job.name, None)
            self._ended.update(dict.fromkeys(job.tokens, why))
        self._ring()

    def _call(self, command: Iterable[str], values: Mapping[str, str], stdin: str | None = None) -> str:
        values = {"user": getpass.getuser(), **values}
        arguments = [_fill_in(word, values) for word in command]
        run = subprocess.run(
            arguments,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=True,
        )
        return run.stdout


def fill(system: System, job: Job, card: Path, folder: Path, command: list[str], needs: Needs) -> str:
    """What a system is given for a job.

    Raises:
        OSError: the connection file cannot be read.
        ValueError: something that goes into the job cannot be in one.
    """
    count = len(job.tokens)
    values: dict[str, Any] = {
        "queue": needs.queue,
        "memory": needs.memory,
        "cores": needs.cores,
        "account": needs.account,
    }
    values["time"] = None if needs.time is None else system.clock(needs.time)
    words = [str(value) for value in values.values() if value is not None]
    if any(character in word for word in words for character in "\n'\""):
        raise ValueError(f"what engines need must be plain words, not {words}")
    lines = {name: text.format(values[name]) for name, text in system.options.items() if values.get(name) is not None}
    engine = shlex.join([*command, "--connect", str(card)])
    filled = {
        "name": job.name,
        "count": str(count),
        "prefix": job.name,
        "index": system.index,
        "log": shlex.quote(str(folder / f"{job.name}.log")),
        "setup": needs.setup,
        "command": engine,
        # For shells that are started by something else: one word.
        "quoted": shlex.quote(f"export ZEXEC_TOKEN={job.name}.{system.index}; exec {engine}"),
        "condor": f"{needs.setup}; exec {engine}".replace("'", "''").replace('"', '""'),
        "array": system.options["array"].format(count - 1) + "\n" if count > 1 and "array" in system.options else "",
        "options": "\n".join([*lines.values(), *needs.extra]),
    }
    if system.name == "kubernetes":
        inside = shlex.join([*command, "--connect", "/etc/zexec/engine.json"])
        shell = f"{needs.setup}; export ZEXEC_TOKEN={job.name}.{system.index}; exec {inside}"
        filled["content"] = json.dumps(card.read_text())
        filled["shell"] = json.dumps(shell)
        filled["image"] = needs.image
        filled["resources"] = ", ".join(text for name, text in lines.items() if name in ("memory", "cores"))
        filled["options"] = "\n".join([*(text for name, text in lines.items() if name == "time"), *needs.extra])
        return _fill_in(system.template, filled, "%")
    return _fill_in(system.template, filled)


def _fill_in(text: str, values: Mapping[str, str], mark: str = "") -> str:
    """Put values in place of their names in braces; other braces are the shell's."""
    return re.sub(mark + r"(?<!\$)\{(\w+)\}", lambda found: values.get(found.group(1), found.group(0)), text)


def _complaint(error: Exception) -> str:
    """What a command's failure was about, in a line."""
    if isinstance(error, subprocess.CalledProcessError):
        said = (error.stderr or error.stdout or "").strip()
        return f"{error.cmd[0]} ended with {error.returncode}: {said[-300:] or 'it said nothing'}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"{error.cmd[0]} did not end within {error.timeout:g} s"
    if isinstance(error, FileNotFoundError) and error.filename is not None:
        return f"there is no {error.filename} here"
    return str(error)
