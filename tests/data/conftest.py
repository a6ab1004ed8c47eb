"""Large data: by segments of shared memory and, unless a test is about those, by frames. Afterwards nothing may be left."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator

import pytest

import zexec
from tests.e2e.conftest import (  # noqa: F401  # fixtures by their names
    _one_family,
    ctx,
    flag,
    nothing_left,
    pytest_runtest_makereport,
    scripts,
)


@pytest.fixture(params=["segments", "frames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How large data travels."""
    name: str = request.param
    if name == "frames":
        monkeypatch.setenv("ZEXEC_SHM_BYTES", "0")
    return name


@pytest.fixture
def pool(way: str, nothing_left: object) -> Iterator[zexec.Pool]:  # noqa: F811
    """Two forked engines."""
    with zexec.Pool(2, context=multiprocessing.get_context("fork")) as pool:
        yield pool
    pool.join()


@pytest.fixture
def shared(nothing_left: object) -> Iterator[zexec.Pool]:  # noqa: F811
    """Two forked engines that share memory with this process."""
    with zexec.Pool(2, context=multiprocessing.get_context("fork")) as pool:
        yield pool
    pool.join()
