"""The process in which one suite's tests run; it writes one JSON line per event to the report file.

`{"plan": [id, …]}` first; per test `{"start": id}` and `{"stop": id, "status": …, "detail": …}`; `{"fixture": …}` for
what goes wrong in set-up or tear-down of a class or module, or is left behind after it; `{"end": true}` last.
A missing line means that the process hung or died there: watch.py finds out.
"""

from __future__ import annotations

import argparse
import fnmatch
import gc
import json
import os
import sys
import threading
import time
import traceback
import unittest
from pathlib import Path
from types import TracebackType
from typing import Any

Problem = (
    tuple[type[BaseException], BaseException, TracebackType]
    | tuple[None, None, None]
    | tuple[type[BaseException], BaseException, TracebackType | None]
)
SETTLE_SECONDS = 1.0
LEFT_BEHIND = "it left something behind (test.support.environment_altered), see the output"


class Reporter(unittest.TestResult):
    """Write each test's outcome as it becomes known."""

    def __init__(self, report: Path) -> None:
        super().__init__()
        self._file = report.open("a", encoding="utf-8")
        self._pid = os.getpid()
        self._current: unittest.TestCase | None = None
        self._last_class = ""
        self._status, self._details, self._began = "passed", [""], 0.0

    def write(self, **event: Any) -> None:
        """Write one event, with where the process's output stands; a forked child that strays in here writes none."""
        if os.getpid() != self._pid:
            return
        sys.stdout.flush()
        sys.stderr.flush()
        event["output"] = os.fstat(2).st_size
        self._file.write(json.dumps(event) + "\n")
        self._file.flush()

    def check_left_behind(self) -> None:
        """Report what the tear-down of the last class or module left behind."""
        if self._altered():
            self.write(fixture=f"tearDown ({self._last_class})", status="failed", detail=LEFT_BEHIND, kind="leak")

    def startTest(self, test: unittest.TestCase) -> None:
        self.check_left_behind()
        if self._status == "failed":
            _let_go()
        super().startTest(test)
        self._current, self._last_class = test, test.id().rpartition(".")[0]
        self._status, self._details, self._began = "passed", [], time.monotonic()
        self.write(start=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        kind = ""
        if self._altered():
            kind = "" if self._status == "failed" else "leak"
            self._set("failed", LEFT_BEHIND)
        seconds = time.monotonic() - self._began
        detail = "\n".join(self._details)
        self.write(stop=test.id(), status=self._status, detail=detail, kind=kind, seconds=seconds)
        self._current = None
        super().stopTest(test)

    def addError(self, test: unittest.TestCase, err: Problem) -> None:
        self._add_problem(test, err)

    def addFailure(self, test: unittest.TestCase, err: Problem) -> None:
        self._add_problem(test, err)

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Problem | None) -> None:
        if err is not None:
            self._set("failed", str(subtest))
            self._add_problem(test, err)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        if self._current is None:
            self.write(fixture=test.id(), status="skipped", detail=reason, kind="")
        elif test is self._current and self._status == "passed":
            self._set("skipped", reason)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self._set("failed", "the stdlib expects this test to fail, and it passed")

    def _add_problem(self, test: unittest.TestCase, err: Problem) -> None:
        text = "".join(traceback.format_exception(*err))
        traceback.clear_frames(err[2])
        if self._current is None:
            self.write(fixture=test.id(), status="failed", detail=text, kind="")
        else:
            self._set("failed", text)

    def _set(self, status: str, detail: str) -> None:
        self._status = status
        self._details.append(detail)

    @staticmethod
    def _altered() -> bool:
        from test import support

        altered: bool = support.environment_altered
        support.environment_altered = False
        return altered


def _let_go() -> None:
    """Let what the last test's exception held end now: the next test's checks would find its threads."""
    gc.collect()
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join(SETTLE_SECONDS)


def wanted(test_id: str, patterns: list[str]) -> bool:
    """As `unittest -k`: a substring, or a pattern with `*` on the whole id."""
    return not patterns or any(fnmatch.fnmatchcase(test_id, p if "*" in p else f"*{p}*") for p in patterns)


def main() -> None:
    """Run the suite that the arguments name."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--suite", required=True)
    parser.add_argument("--start-method", required=True)
    parser.add_argument("--report", type=Path, required=True)
    parser.add_argument("--without", type=Path, required=True, help="a JSON list of test ids that have run already")
    parser.add_argument("-k", dest="patterns", action="append", default=[])
    options = parser.parse_args()

    import multiprocessing.pool

    if multiprocessing.pool.Pool.__module__ == "multiprocessing.pool":
        sys.exit("zexec's classes are not swapped in: see what the start of this interpreter printed above")

    from test import support

    from compat.stdlib.suites import Suite

    support.verbose = 0
    without = set(json.loads(options.without.read_text()))
    found = [test for test in Suite(options.suite, options.start_method).tests() if wanted(test.id(), options.patterns)]
    reporter = Reporter(options.report)
    reporter.write(plan=[test.id() for test in found])
    unittest.TestSuite(test for test in found if test.id() not in without).run(reporter)
    reporter.check_left_behind()
    reporter.write(end=True)


if __name__ == "__main__":
    main()
