"""Clusters: hubs and engines in processes of their own. After every test nothing may be left of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
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

#: Seconds within which engines must be up: a bound against hanging, not a measure.
UP = 40


@pytest.fixture(autouse=True)
def home(
    nothing_left: leftovers.Before,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """Where the clusters of this test have their files. Nothing may be left there."""
    folder = Path(nothing_left.folder) / "home"
    monkeypatch.setenv("ZEXEC_HOME", str(folder))
    yield folder
    left = [str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".log"]
    assert not left, f"left behind: {left}"


@pytest.fixture
def start(home: Path) -> Iterator[Callable[..., zexec.Cluster]]:
    """Start clusters, which end with the test."""
    made: list[zexec.Cluster] = []

    def make(n: int = 2, **options: Any) -> zexec.Cluster:
        cluster = zexec.Cluster(n, **options)
        made.append(cluster)
        cluster.wait_for_engines(n, UP)
        return cluster

    yield make
    for cluster in made:
        cluster.stop()


@pytest.fixture
def cluster(start: Callable[..., zexec.Cluster]) -> zexec.Cluster:
    """Two engines, reached by sockets in the file system."""
    return start(2)


@pytest.fixture(params=["ipc", "curve"])
def way(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Each way to reach a cluster in turn: what it is started with."""
    over: dict[str, dict[str, Any]] = {"ipc": {}, "curve": {"listen": "127.0.0.1", "options": ["--only-tcp"]}}
    return over[request.param]
