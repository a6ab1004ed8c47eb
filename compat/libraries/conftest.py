"""Engines to hand to a library. A test in which they did no work, or somebody else did it, fails."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = str(Path(__file__).parents[2])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

import zexec  # noqa: E402
from compat.libraries import work  # noqa: E402
from compat.libraries.programs import Programs  # noqa: E402


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[int]]:
    """Where the engines' pids are to be put; afterwards, theirs and only theirs must be the marks of work."""
    folder = tmp_path / "marks"
    folder.mkdir()
    monkeypatch.setenv(work.FOLDER, str(folder))
    pids: set[int] = set()
    yield pids
    # The library may compute something here as well, to learn what it will get.
    seen = {int(name) for name in os.listdir(folder)} - {os.getpid()}
    assert seen, "no engine has done any work"
    assert seen <= pids, "others than the engines have done it"


@pytest.fixture
def pool(engines: set[int]) -> Iterator[zexec.Pool]:
    with zexec.Pool(2) as pool:
        yield pool
        engines.update(process.pid for process in pool._pool)


@pytest.fixture
def executor(engines: set[int]) -> Iterator[zexec.Executor]:
    with zexec.Executor(2) as executor:
        yield executor
        engines.update(executor._processes or ())


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    return Programs(tmp_path, ROOT)
