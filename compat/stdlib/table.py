"""The table in docs/differences.md, made out of differences.toml.

python -m compat.stdlib.table [--check]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from compat.stdlib.differences import PYTHONS, Difference, read
from compat.stdlib.suites import START_METHODS

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "differences.md"
BEGIN = "<!-- made by `python -m compat.stdlib.table` from compat/stdlib/differences.toml: begin -->"
END = "<!-- end -->"
NONE = "None: on every Python and with every start method, each of them passes."


def table(differences: list[Difference]) -> str:
    """One line per entry."""
    if not differences:
        return NONE
    lines = ["| what differs, and why | what to do | the stdlib's test | where |", "|---|---|---|---|"]
    for difference in differences:
        tests = ", ".join(f"`{pattern}`" for pattern in difference.tests)
        lines.append(f"| {difference.reason} | {difference.instead} | {tests} | {_where(difference)} |")
    return "\n".join(lines)


def renew(text: str, differences: list[Difference]) -> str:
    """The document with its table made anew."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{DOCUMENT.name} lacks the line {END if begin else BEGIN!r}")
    return f"{before}{BEGIN}\n{table(differences)}\n{END}{after}"


def main() -> int:
    """Write the table, or with --check only say whether it is up to date."""
    parser = argparse.ArgumentParser(prog="python -m compat.stdlib.table", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if it is stale")
    options = parser.parse_args()
    old = DOCUMENT.read_text(encoding="utf-8")
    new = renew(old, read())
    if new == old:
        return 0
    if options.check:
        print("docs/differences.md is stale: run `python -m compat.stdlib.table`")
        return 1
    DOCUMENT.write_text(new, encoding="utf-8")
    return 0


def _where(difference: Difference) -> str:
    pythons = "" if difference.pythons == PYTHONS else "Python " + ", ".join(difference.pythons)
    methods = "" if difference.start_methods == START_METHODS else ", ".join(difference.start_methods)
    return "; ".join(part for part in (pythons, methods) if part) or "everywhere"


if __name__ == "__main__":
    sys.exit(main())
