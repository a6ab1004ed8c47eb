"""What all tests share: where things are, and how long anything may take."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Spawned engines import ``tests.helpers`` by its name, whatever started pytest.
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background by a shell; the programs that tests start and interrupt would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

#: Seconds after which a test counts as hung: all stacks are written out and it fails.
HUNG = 60

START_METHODS = ("fork", "spawn", "forkserver")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(HUNG, method="signal"))


@pytest.fixture(params=START_METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    name: str = request.param
    return name
