"""What became of one test."""

from __future__ import annotations

from dataclasses import dataclass

PASSED, FAILED, SKIPPED, LISTED = "passed", "failed", "skipped", "listed"

# Why a test failed where it was not an assertion or an error of the test itself. None of these can be listed.
HANG, CRASH, LEAK = "hang", "crash", "leak"


@dataclass
class Outcome:
    """A test's id, its status, and the evidence: traceback, stacks, output, the reason of a skip."""

    test: str
    status: str
    seconds: float = 0.0
    detail: str = ""
    kind: str = ""
