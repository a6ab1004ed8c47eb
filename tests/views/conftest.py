"""Clients of two forked engines. After every test nothing may be left of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import zexec
from tests.e2e.conftest import (  # noqa: F401  # fixtures by their names
    _one_family,
    flag,
    nothing_left,
    pool,
    pytest_runtest_makereport,
    scripts,
)


@pytest.fixture
def client(pool: zexec.Pool) -> Iterator[zexec.Client]:  # noqa: F811
    """A client of two forked engines."""
    return pool.client


@pytest.fixture
def one(client: zexec.Client) -> zexec.DirectView:
    """A blocking view of engine 0."""
    view = client[0]
    view.block = True
    return view


@pytest.fixture
def all(client: zexec.Client) -> zexec.DirectView:
    """A blocking view of both."""
    view = client[:]
    view.block = True
    return view


@pytest.fixture
def balanced(client: zexec.Client) -> zexec.LoadBalancedView:
    """A blocking balanced view."""
    view = client.load_balanced_view()
    view.block = True
    return view
