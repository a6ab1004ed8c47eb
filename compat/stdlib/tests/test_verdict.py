"""What is listed may fail, and must fail."""

from __future__ import annotations

from compat.stdlib.differences import Difference
from compat.stdlib.outcome import FAILED, HANG, LISTED, PASSED, SKIPPED, Outcome
from compat.stdlib.verdict import judge, unmet

LISTS_B = [Difference(("Class.test_b*",), "why", "what to do", start_methods=("fork",))]


def judged(status: str, kind: str = "", python: str = "3.13", start_method: str = "fork") -> str:
    outcome = Outcome("module.Class.test_b1", status, kind=kind)
    judge([outcome], LISTS_B, python, start_method)
    return outcome.status


def test_listed_failure() -> None:
    assert judged(FAILED) == LISTED


def test_listed_success_is_a_failure() -> None:
    assert judged(PASSED) == FAILED


def test_listed_hang_is_a_failure() -> None:
    assert judged(FAILED, HANG) == FAILED


def test_listed_skip_stays_one() -> None:
    assert judged(SKIPPED) == SKIPPED


def test_another_start_method() -> None:
    assert judged(FAILED, start_method="spawn") == FAILED


def test_entry_without_a_test() -> None:
    assert unmet(LISTS_B, set(), "3.13") == ["Class.test_b*"]
    assert unmet(LISTS_B, {"Class.test_b*"}, "3.13") == []
