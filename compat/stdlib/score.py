"""Count what became of the tests, and say it."""

from __future__ import annotations

import json
import platform
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path

from compat.stdlib.outcome import FAILED, LISTED, PASSED, SKIPPED, Outcome

COLUMNS = (PASSED, FAILED, SKIPPED, LISTED)


@dataclass
class Score:
    """The outcomes of one suite with one start method."""

    suite: str
    start_method: str
    seconds: float
    outcomes: list[Outcome] = field(default_factory=list)

    def count(self) -> Counter[str]:
        return Counter(outcome.status for outcome in self.outcomes)


def table(scores: list[Score]) -> str:
    """A line per suite and start method, and their sum."""
    head = f"{'suite':20} {'start method':12} {'run':>5} " + " ".join(f"{column:>8}" for column in COLUMNS)
    lines = [f"{head} {'seconds':>8}"]
    total: Counter[str] = Counter()
    for score in scores:
        lines.append(_line(score.suite, score.start_method, score.count(), score.seconds))
        total += score.count()
    lines.append(_line("all", "", total, sum(score.seconds for score in scores)))
    return "\n".join(lines)


def failures(scores: list[Score]) -> str:
    """Each failure with its evidence."""
    parts = []
    for score in scores:
        for outcome in score.outcomes:
            if outcome.status == FAILED:
                kind = f" [{outcome.kind}]" if outcome.kind else ""
                title = f"FAILED{kind} {score.suite} ({score.start_method}): {outcome.test}"
                parts.append("\n".join(["=" * 100, title, "-" * 100, outcome.detail, ""]))
    return "\n".join(parts)


def last_line(scores: list[Score]) -> str:
    total: Counter[str] = Counter()
    for score in scores:
        total += score.count()
    return f"{total[PASSED]} passed, {total[FAILED]} failed, {total[SKIPPED]} skipped"


def write_json(file: Path, scores: list[Score], missing: list[str]) -> None:
    content = {
        "python": platform.python_version(),
        "missing": missing,
        "suites": [{**asdict(score), "count": score.count()} for score in scores],
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


def _line(suite: str, start_method: str, count: Counter[str], seconds: float) -> str:
    run = sum(count.values()) - count[SKIPPED]
    return f"{suite:20} {start_method:12} {run:5} " + " ".join(f"{count[c]:8}" for c in COLUMNS) + f" {seconds:8.0f}"
