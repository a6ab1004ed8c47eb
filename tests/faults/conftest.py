"""The fault table: every row of docs/faults.md has its test here. After every test nothing may be left."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import (  # noqa: F401  # fixtures by their names
    _one_family,
    flag,
    nothing_left,
    pytest_runtest_makereport,
    scripts,
)
from tests.helpers.hosts import METHODS, Host


@pytest.fixture(params=METHODS)
def host(request: pytest.FixtureRequest, nothing_left: Any) -> Iterator[Host]:  # noqa: F811
    """Where engines come from, each way in turn."""
    host = Host(request.param)
    yield host
    host.end()


@pytest.fixture
def fork(nothing_left: Any) -> Iterator[Host]:  # noqa: F811
    """Forked engines, where the way of starting them makes no difference."""
    host = Host("fork")
    yield host
    host.end()
