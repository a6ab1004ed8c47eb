"""Real processes. After every test nothing may be left of them."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.helpers import leftovers
from tests.helpers.scripts import Scripts

FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="session", autouse=True)
def _one_family(tmp_path_factory: pytest.TempPathFactory) -> None:
    leftovers.prepare()
    tmp_path_factory.getbasetemp()  # made before any test says where its own temporary files go


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(autouse=True)
def nothing_left(
    _one_family: None, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Iterator[leftovers.Before]:
    """Fail a test that leaves a process, thread, descriptor, socket, file or segment."""
    # A short path: sockets must fit. And not tmp_path, which pytest keeps.
    folder = tempfile.mkdtemp(prefix="zx", dir="/tmp")
    monkeypatch.setattr(tempfile, "tempdir", folder)
    monkeypatch.setenv("TMPDIR", folder)
    callspec = getattr(request.node, "callspec", None)
    before = leftovers.Before(folder, ours=callspec is None or "stdlib" not in callspec.params.values())
    yield before
    # pytest keeps what fixtures gave, and a pool of the stdlib keeps its pipes for as long as it lives.
    request.node.funcargs.clear()
    left = before.left(0.5 if request.node.stash.get(FAILED, False) else leftovers.DEADLINE)
    if left:
        leftovers.remove(before)
    shutil.rmtree(folder, ignore_errors=True)
    # A failed test has a traceback, and that holds on to whatever it will.
    assert not left or request.node.stash.get(FAILED, False), "left behind:\n" + "\n".join(left)


@pytest.fixture
def scripts(tmp_path: Path, nothing_left: leftovers.Before) -> Scripts:
    """Programs of their own, to be run in a process of their own."""
    return Scripts(tmp_path)


@pytest.fixture
def flag(tmp_path: Path) -> Callable[[str], str]:
    """Paths of files by which processes tell each other things."""

    def make(name: str) -> str:
        return str(tmp_path / name)

    return make


@pytest.fixture
def ctx(method: str) -> Any:
    """The context of each start method in turn."""
    return multiprocessing.get_context(method)


@pytest.fixture
def pool(nothing_left: leftovers.Before) -> Iterator[zexec.Pool]:
    """Two forked engines."""
    with zexec.Pool(2, context=multiprocessing.get_context("fork")) as pool:
        yield pool
    pool.join()


@pytest.fixture
def executor(nothing_left: leftovers.Before) -> Iterator[zexec.Executor]:
    """Two forked engines."""
    with zexec.Executor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        yield executor


class MakePool:
    """Makes pools of one class, forked unless told otherwise."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._made: list[Any] = []

    def __call__(self, *args: Any, context: Any = None, **kwargs: Any) -> Any:
        context = context or multiprocessing.get_context("fork")
        pool = context.Pool(*args, **kwargs) if self.kind == "stdlib" else zexec.Pool(*args, context=context, **kwargs)
        self._made.append(pool)
        return pool

    def end(self) -> None:
        for pool in self._made:
            pool.terminate()
            pool.join()
        self._made.clear()


@pytest.fixture(params=["stdlib", "zexec"])
def both(request: pytest.FixtureRequest, nothing_left: leftovers.Before) -> Iterator[MakePool]:
    """Makes pools, of the stdlib's class and then of ours: the same test for both, and so the stdlib is its oracle."""
    make = MakePool(request.param)
    yield make
    make.end()


@pytest.fixture(params=["stdlib", "zexec"])
def both_executors(request: pytest.FixtureRequest, nothing_left: leftovers.Before) -> Iterator[Callable[..., Any]]:
    """Makes executors, of the stdlib's class and then of ours."""
    from concurrent.futures import ProcessPoolExecutor

    executors: list[Any] = []
    cls = ProcessPoolExecutor if request.param == "stdlib" else zexec.Executor

    def create(*args: Any, mp_context: Any = None, **kwargs: Any) -> Any:
        executors.append(cls(*args, mp_context=mp_context or multiprocessing.get_context("fork"), **kwargs))
        return executors[-1]

    yield create
    for executor in executors:
        executor.shutdown(wait=True, cancel_futures=True)


def pytest_report_header() -> str:
    return f"temporary files: {tempfile.gettempdir()}, cpus: {os.cpu_count()}"
