from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import _one_family, nothing_left, pytest_runtest_makereport  # noqa: F401  # by their names
from zexec.hub.store import open_store


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    store = open_store(request.param, tmp_path / "tasks.db")
    yield Settled(store)
    store.close()


class Settled:
    """A store of which every question is asked when all notes are durable, so that the tests ask what they mean."""

    def __init__(self, store: Any) -> None:
        self.store = store

    def __getattr__(self, name: str) -> Any:
        assert self.store.flush(30)
        return getattr(self.store, name)
