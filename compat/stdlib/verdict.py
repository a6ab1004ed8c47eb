"""Hold outcomes against differences.toml: what is listed may fail, and must fail."""

from __future__ import annotations

from collections.abc import Iterable

from compat.stdlib.differences import Difference
from compat.stdlib.outcome import FAILED, LISTED, PASSED, Outcome


def judge(outcomes: Iterable[Outcome], differences: list[Difference], python: str, start_method: str) -> set[str]:
    """Turn listed failures into `listed` and listed successes into failures; return the patterns that were met.

    A hang, a crash or a leak stays a failure, whatever is listed.
    """
    met = set()
    for outcome in outcomes:
        for difference in differences:
            pattern = difference.pattern_for(outcome.test) if difference.applies(python, start_method) else None
            if pattern is None:
                continue
            met.add(pattern)
            if outcome.status == FAILED and not outcome.kind:
                outcome.status = LISTED
            elif outcome.status == PASSED:
                outcome.status = FAILED
                outcome.detail = f"it passed, and differences.toml lists it as {pattern!r}: take that out"
    return met


def unmet(differences: list[Difference], met: set[str], python: str) -> list[str]:
    """The patterns for this Python that none of its tests has answered to: another release of it may have the test."""
    patterns = [pattern for difference in differences if python in difference.pythons for pattern in difference.tests]
    return [pattern for pattern in patterns if pattern not in met]
