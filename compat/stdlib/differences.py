"""differences.toml: the stdlib's tests that zexec fails on purpose, each with its reason."""

from __future__ import annotations

import fnmatch
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compat.stdlib.suites import START_METHODS, short

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("differences.toml")
PYTHONS = ("3.10", "3.11", "3.12", "3.13")


@dataclass(frozen=True)
class Difference:
    """One entry: `Class.test_method` patterns, where they apply, why, and what a user does about it."""

    tests: tuple[str, ...]
    reason: str
    instead: str
    pythons: tuple[str, ...] = PYTHONS
    start_methods: tuple[str, ...] = START_METHODS

    def applies(self, python: str, start_method: str) -> bool:
        return python in self.pythons and (start_method in self.start_methods or start_method not in START_METHODS)

    def pattern_for(self, test_id: str) -> str | None:
        """Which of its patterns names this test?"""
        name = short(test_id)
        return next((pattern for pattern in self.tests if fnmatch.fnmatchcase(name, pattern)), None)


def read(file: Path = FILE) -> list[Difference]:
    """All entries of the file."""
    return [_difference(**entry) for entry in tomllib.loads(file.read_text(encoding="utf-8")).get("difference", [])]


def _difference(**entry: Any) -> Difference:
    for key, known in (("pythons", PYTHONS), ("start_methods", START_METHODS)):
        if unknown := set(entry.get(key, ())) - set(known):
            raise ValueError(f"{FILE.name}: {key} {sorted(unknown)} of {entry['tests']}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Difference(**values)
