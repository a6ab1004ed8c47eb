"""Options are checked when they are made."""

from __future__ import annotations

from typing import Any

import pytest

from zexec.options import DEFAULT, Options


def test_default() -> None:
    assert Options.of() == DEFAULT
    assert (DEFAULT.timeout, DEFAULT.retries, DEFAULT.priority, DEFAULT.targets) == (None, 0, 0, None)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"timeout": 1}, {"timeout": 1}),
        ({"timeout": 0.5}, {"timeout": 0.5}),
        ({"retries": 3}, {"retries": 3}),
        ({"priority": -2}, {"priority": -2}),
        ({"targets": 1}, {"targets": frozenset({1})}),
        ({"targets": [0, 1, 1]}, {"targets": frozenset({0, 1})}),
        ({"targets": range(2)}, {"targets": frozenset({0, 1})}),
    ],
)
def test_good(given: dict[str, Any], kept: dict[str, Any]) -> None:
    options = Options.of(**given)
    assert {name: getattr(options, name) for name in kept} == kept


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ({"timeout": 0}, ValueError, "timeout must be greater than 0"),
        ({"timeout": -1}, ValueError, "timeout must be greater than 0"),
        ({"timeout": float("nan")}, ValueError, "timeout must be greater than 0"),
        ({"timeout": "5"}, TypeError, "timeout must be a number of seconds"),
        ({"timeout": True}, TypeError, "timeout must be a number of seconds"),
        ({"retries": -1}, ValueError, "retries must be 0 or more"),
        ({"retries": 1.0}, TypeError, "retries must be a whole number"),
        ({"retries": True}, TypeError, "retries must be a whole number"),
        ({"priority": 0.5}, TypeError, "priority must be a whole number"),
        ({"priority": None}, TypeError, "priority must be a whole number"),
        ({"targets": []}, ValueError, "targets must name at least one engine"),
        ({"targets": "ab"}, TypeError, "targets must be numbers of engines"),
        ({"targets": [0.0]}, TypeError, "targets must be numbers of engines"),
        ({"targets": True}, TypeError, "targets must be an engine's number or several"),
        ({"targets": 1.5}, TypeError, "targets must be an engine's number or several"),
    ],
)
def test_bad(given: dict[str, Any], error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        Options.of(**given)


def test_unknown() -> None:
    with pytest.raises(TypeError, match="timeouts"):
        Options.of(timeouts=1)  # type: ignore[call-arg]
