"""Run one suite in its own process, and let no hang, crash or leak of it become one of ours.

The suite's process writes what it does into a report. Where the report stands still for longer than the deadline, all
processes of the suite write their stacks and are killed; where the process dies, its output is the evidence. Either way
the test that was running has failed, and a new process goes on behind it.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from compat.stdlib import processes, startup
from compat.stdlib.outcome import CRASH, FAILED, HANG, LEAK, Outcome
from compat.stdlib.suites import DEFAULT, START_METHODS, Suite

POLL_SECONDS = 0.1
# The interpreter's helpers (resource tracker, fork server, managers) end by themselves when the suite's process has.
LEFTOVER_SECONDS = 5.0
# A suite that hangs or dies this often is broken altogether; its other tests fail without being tried.
MAX_STARTS = 8
OUTPUT_LINES = 200


class Watch:
    """One suite, from its first process to the outcome of each of its tests."""

    def __init__(
        self, suite: Suite, python: Path, folder: Path, deadline: float, patterns: list[str], stand_in: str
    ) -> None:
        self.suite = suite
        self.outcomes: list[Outcome] = []
        self.seconds = 0.0
        self.on_outcome: Callable[[Outcome], None] = lambda outcome: None
        self._python, self._folder, self._deadline, self._patterns = python, folder, deadline, patterns
        self._stand_in = stand_in
        self._plan: list[str] | None = None
        self._fixtures: list[Outcome] = []
        #: those that stand in the outcome of each test of their class
        self._told: list[Outcome] = []

    def run(self) -> None:
        """Start processes until each planned test has an outcome."""
        began = time.monotonic()
        for number in range(1, MAX_STARTS + 1):
            before = len(self.outcomes)
            finished = Attempt(self, self._folder / str(number)).run()
            if finished or len(self.outcomes) == before:
                break
        for test in self._plan or []:
            if test not in self.done():
                self.add(self._outcome_of_unrun(test))
        self.outcomes += [
            fixture for fixture in self._fixtures if fixture.status == FAILED and fixture not in self._told
        ]
        self.seconds = time.monotonic() - began

    def done(self) -> set[str]:
        return {outcome.test for outcome in self.outcomes}

    def add(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)
        self.on_outcome(outcome)

    def add_fixture(self, outcome: Outcome) -> None:
        self._fixtures.append(outcome)
        self.on_outcome(outcome)

    def plan(self, tests: list[str]) -> None:
        self._plan = tests

    def command(self, report: Path, without: Path) -> list[str]:
        without.write_text(json.dumps(sorted(self.done())))
        patterns = [f"-k={pattern}" for pattern in self._patterns]
        names = [f"--suite={self.suite.name}", f"--start-method={self.suite.start_method}"]
        child = [str(self._python), "-X", "faulthandler", "-m", "compat.stdlib.child"]
        return [*child, *names, f"--report={report}", f"--without={without}", *patterns]

    def environment(self, token: str, stacks: Path, temporary: Path) -> dict[str, str]:
        method = START_METHODS[0] if self.suite.start_method == DEFAULT else self.suite.start_method
        ours = {
            startup.RUN: token,
            startup.STACKS: str(stacks),
            startup.STAND_IN: self._stand_in,
            startup.START_METHOD: method,
            "TMPDIR": str(temporary),
        }
        return {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | ours

    @property
    def deadline(self) -> float:
        return self._deadline

    def _outcome_of_unrun(self, test: str) -> Outcome:
        """A test that never started: its class's or module's set-up failed or was skipped, or its suite gave up."""
        for fixture in self._fixtures:
            name = fixture.test.partition("(")[2].rstrip(")")
            if fixture.test.startswith("setUp") and name and test.startswith(name + "."):
                self._told.append(fixture)
                return Outcome(test, fixture.status, detail=fixture.detail)
        return Outcome(test, FAILED, detail="did not run: its suite hung or died too often", kind=CRASH)


class Attempt:
    """One process of a suite."""

    def __init__(self, watch: Watch, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._watch = watch
        self._token = uuid.uuid4().hex
        self._folder = folder
        self._report, self._output, self._stacks = folder / "report", folder / "output", folder / "stacks"
        for file in (self._report, self._stacks):
            file.touch()
        self._temporary = folder / "t"
        self._temporary.mkdir()
        self._running: str | None = None
        self._output_from = 0
        self._ended = False

    def run(self) -> bool:
        """Watch the process until its end; True if it reported that end."""
        environment = self._watch.environment(self._token, self._stacks, self._temporary)
        with self._output.open("wb") as output, self._report.open() as report:
            process = subprocess.Popen(
                self._watch.command(self._report, self._folder / "without"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self._temporary,
                env=environment,
            )
            try:
                self._follow(process, report)
            finally:
                processes.end(self._token)
                process.wait()
        return self._ended

    def _follow(self, process: subprocess.Popen[bytes], report: TextIO) -> None:
        moved, rest = time.monotonic(), ""
        while True:
            code = process.poll()
            if read := report.read():
                *lines, rest = (rest + read).split("\n")
                for line in lines:
                    self._take(json.loads(line))
                moved = time.monotonic()
            elif code is not None:
                break
            if time.monotonic() - moved > self._watch.deadline:
                stacks = processes.dump(self._token, self._stacks)
                self._fail(HANG, f"no end within {self._watch.deadline:.0f} s. All stacks:\n{stacks}")
                return
            time.sleep(POLL_SECONDS)
        if not self._ended or code != 0:
            self._fail(CRASH, f"the suite's process ended here, with exit code {code}")
        self._check_leftovers()

    def _check_leftovers(self) -> None:
        found = []
        if left := processes.wait_until_gone(self._token, LEFTOVER_SECONDS):
            found.append(f"alive {LEFTOVER_SECONDS:.0f} s after the suite's end:")
            found += [processes.describe(process) for process in left]
            found.append(processes.dump(self._token, self._stacks))
        if self._ended and (files := sorted(str(path) for path in self._temporary.rglob("*"))):
            found += ["files left in the folder for temporary files:", *files]
        if found:
            title = f"end of suite ({self._watch.suite.title})"
            self._watch.add_fixture(Outcome(title, FAILED, 0.0, "\n".join(found), LEAK))

    def _take(self, event: dict[str, Any]) -> None:
        if "plan" in event:
            self._watch.plan(event["plan"])
        elif "start" in event:
            self._running = event["start"]
        elif "stop" in event:
            detail = self._with_output(event["detail"], event["output"], event["status"])
            self._watch.add(Outcome(event["stop"], event["status"], event["seconds"], detail, event["kind"]))
            self._running = None
        elif "fixture" in event:
            detail = self._with_output(event["detail"], event["output"], event["status"])
            self._watch.add_fixture(Outcome(event["fixture"], event["status"], 0.0, detail, event["kind"]))
        else:
            self._ended = True
        self._output_from = event["output"]

    def _fail(self, kind: str, detail: str) -> None:
        detail = self._with_output(detail, None, FAILED)
        if self._running is not None:
            self._watch.add(Outcome(self._running, FAILED, 0.0, detail, kind))
        else:
            self._watch.add_fixture(Outcome(f"between tests ({self._watch.suite.title})", FAILED, 0.0, detail, kind))

    def _with_output(self, detail: str, until: int | None, status: str) -> str:
        """The detail, and for a failure what the suite's process printed meanwhile."""
        printed = self._output.read_bytes()[self._output_from : until].decode(errors="replace").strip()
        if status == FAILED and printed:
            lines = printed.splitlines()[-OUTPUT_LINES:]
            return "\n".join([detail, "--- output:", *lines])
        return detail
