"""Choose the suites, run them, print the score."""

from __future__ import annotations

import argparse
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from compat.stdlib import differences, environment, score, verdict
from compat.stdlib.outcome import Outcome
from compat.stdlib.suites import ALL, DEFAULT, START_METHODS, Suite
from compat.stdlib.watch import Watch

PYTHON = ".".join(platform.python_version_tuple()[:2])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m compat.stdlib", description=__doc__)
    parser.add_argument("--suite", action="append", choices=sorted({suite.name for suite in ALL}))
    parser.add_argument("--start-method", action="append", choices=[*START_METHODS, DEFAULT])
    parser.add_argument("-k", dest="patterns", action="append", default=[], metavar="PATTERN", help="as unittest's")
    parser.add_argument("-v", "--verbose", action="store_true", help="a line per test, as it ends")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all outcomes there")
    parser.add_argument("--jobs", type=int, default=2, help="suites at a time (default: 2)")
    parser.add_argument("--deadline", type=float, default=120, help="seconds until a test hangs (default: 120)")
    parser.add_argument("--stand-in", choices=["stdlib"], default="", help="swap the stdlib's own classes in instead")
    return parser.parse_args()


def main() -> int:
    """Run what the arguments ask for; 0 if nothing failed."""
    options = arguments()
    chosen = [
        suite
        for suite in ALL
        if (not options.suite or suite.name in options.suite)
        and (not options.start_method or suite.start_method in options.start_method)
    ]
    missing = sorted({module for suite in chosen for module in suite.missing()})
    for module in missing:
        print(f"Python {platform.python_version()} ships without {module}: not run")
    folder = Path(tempfile.mkdtemp(prefix="zexec-compat-"))
    try:
        python = environment.create(folder / "python")
        watches = [
            Watch(suite, python, folder / str(number), options.deadline, options.patterns, options.stand_in)
            for number, suite in enumerate(chosen)
            if suite.modules()
        ]
        if options.verbose:
            for watch in watches:
                watch.on_outcome = _printer(watch.suite)
        with ThreadPoolExecutor(options.jobs) as threads:
            list(threads.map(Watch.run, watches))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    scores, unmet = _judge(watches)
    if len(chosen) == len(ALL) and not options.patterns and not missing:
        for pattern in unmet:
            print(f"differences.toml lists {pattern}: Python {platform.python_version()} has no such test")
    if options.json:
        score.write_json(options.json, scores, missing)
    failures = score.failures(scores)
    if failures:
        print(failures)
    print(f"Python {platform.python_version()}, {options.stand_in or 'zexec'}")
    print(score.table(scores))
    print(score.last_line(scores))
    return 1 if failures else 0


def _judge(watches: list[Watch]) -> tuple[list[score.Score], list[str]]:
    listed = differences.read()
    met: set[str] = set()
    scores = []
    for watch in watches:
        method = watch.suite.start_method
        met |= verdict.judge(watch.outcomes, listed, PYTHON, method)
        scores.append(score.Score(watch.suite.name, method, watch.seconds, watch.outcomes))
    return scores, verdict.unmet(listed, met, PYTHON)


def _printer(suite: Suite) -> Callable[[Outcome], None]:
    def on_outcome(outcome: Outcome) -> None:
        print(f"{suite.title}: {outcome.test} {outcome.status} ({outcome.seconds:.1f} s) {outcome.kind}", flush=True)

    return on_outcome


if __name__ == "__main__":
    sys.exit(main())
