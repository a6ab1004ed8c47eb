"""The fault table: every row of docs/faults.md has its test here. After every test nothing may be left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.e2e.conftest import (  # noqa: F401  # fixtures by their names
    _one_family,
    flag,
    nothing_left,
    pytest_runtest_makereport,
    scripts,
)
from tests.helpers import leftovers
from tests.helpers.hosts import METHODS, ClusterHost, Host, SharedHost, StoreHost, standing_cluster


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


@pytest.fixture(scope="module", params=[*METHODS, "cluster"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str | zexec.Cluster]:
    """A start method, or a cluster that all tests of a file share. Of a scope by which pytest sorts them."""
    if request.param != "cluster":
        yield request.param
        return
    with standing_cluster(tmp_path_factory) as cluster:
        yield cluster


@pytest.fixture
def shared(place: str | zexec.Cluster, nothing_left: leftovers.Before) -> Iterator[Host]:  # noqa: F811
    """As ``anywhere``, for tests that cost no engine."""
    host = Host(place) if isinstance(place, str) else SharedHost(place)
    yield host
    host.end()


@pytest.fixture
def fork(nothing_left: Any) -> Iterator[Host]:  # noqa: F811
    """Forked engines, where the way of starting them makes no difference."""
    host = Host("fork")
    yield host
    host.end()
