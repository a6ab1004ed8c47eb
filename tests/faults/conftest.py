"""The fault table: every row of docs/faults.md has its test here. After every test nothing may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import (  # noqa: F401  # fixtures by their names
    _one_family,
    flag,
    nothing_left,
    pytest_runtest_makereport,
    scripts,
)
from tests.helpers import leftovers
from tests.helpers.hosts import METHODS, ClusterHost, Host, StoreHost


def make(name: str, before: leftovers.Before, monkeypatch: pytest.MonkeyPatch) -> Host:
    """One by its name."""
    if name in ("cluster", "store"):
        cls = ClusterHost if name == "cluster" else StoreHost
        return cls(str(Path(before.folder) / "home"), monkeypatch)
    return Host(name)


@pytest.fixture(params=METHODS)
def host(
    request: pytest.FixtureRequest,
    nothing_left: leftovers.Before,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Host]:
    """A hub in this process, with engines of each start method in turn."""
    host = make(request.param, nothing_left, monkeypatch)
    yield host
    host.end()


@pytest.fixture(params=[*METHODS, "cluster"])
def anywhere(
    request: pytest.FixtureRequest,
    nothing_left: leftovers.Before,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Host]:
    """The same, and a hub in a process of its own."""
    host = make(request.param, nothing_left, monkeypatch)
    yield host
    host.end()


@pytest.fixture
def fork(nothing_left: Any) -> Iterator[Host]:  # noqa: F811
    """Forked engines, where the way of starting them makes no difference."""
    host = Host("fork")
    yield host
    host.end()
