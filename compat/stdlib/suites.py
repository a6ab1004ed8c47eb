"""Which of the interpreter's tests are run, in which groups.

Taken is what makes a Pool or a ProcessPoolExecutor, found by reading and by tracing who constructs one. Not taken:

- `concurrent.futures` on threads and bare futures, and whatever else in `_test_multiprocessing` makes no pool: nothing
  of zexec is in them. (ThreadPool is taken: it is a subclass of the class that is swapped.)
- `test_venv` `test_multiprocessing*`: runs in a fresh virtual environment, where only the stdlib is installed.
- `test_compileall` where it replaces ProcessPoolExecutor by a mock of its own, or starts an interpreter with `-S`, which
  leaves out the place from which zexec's classes are swapped in.
"""

from __future__ import annotations

import fnmatch
import importlib.util
import unittest
from collections.abc import Iterator
from dataclasses import dataclass

START_METHODS = ("fork", "spawn", "forkserver")
DEFAULT = "default"

FUTURES = "concurrent.futures"
MULTIPROCESSING = "multiprocessing"
MAIN_HANDLING = "main handling"
ELSEWHERE = "elsewhere"
SELF_TEST = "self-test"

MULTIPROCESSING_POOLS = (
    "WithProcessesTestPool.*",
    "WithManagerTestPool.*",
    "WithProcessesTestPoolWorkerErrors.*",
    "WithProcessesTestPoolWorkerLifetime.*",
    "TestInitializers.test_pool_initializer",
    "TestStdinBadfiledescriptor.test_pool_in_process",
    "TestPoolNotLeakOnFailure.*",
    "TestSyncManagerTypes.test_pool",
    "MiscTestCase.test_large_pool",
)
POOLS_ELSEWHERE = (
    "WithThreadsTestPool.*",
    "ThreadPoolExecutorTest.test_hang_global_shutdown_lock",
    "*.test_get_event_loop_new_process",
    "ConfigDictTest.test_config_queue_handler_multiprocessing_context",
    "ThreadedImportTests.test_multiprocessing_pool_circular_import",
    "*.test_ddir*_multiple_workers",
)


@dataclass(frozen=True)
class Suite:
    """One process's worth of tests: a group of them, for one start method."""

    name: str
    start_method: str

    @property
    def title(self) -> str:
        return f"{self.name} ({self.start_method})"

    def modules(self) -> list[str]:
        """The modules with its tests, as far as this interpreter ships them."""
        return [name for name in _modules(self.name) if _is_shipped(name)]

    def missing(self) -> list[str]:
        """The packages with tests of it that this interpreter ships without."""
        return [name for name in _sources(self.name) if not _is_shipped(name)]

    def takes(self, test: unittest.TestCase) -> bool:
        """Is this test of those modules one of the suite's?"""
        if self.name == FUTURES:
            by_class = getattr(type(test), "ctx", None)
            return self.start_method in (by_class, test._testMethodName.removeprefix("test_"))
        if self.name == SELF_TEST:
            return True
        if self.name == MAIN_HANDLING:
            return bool(getattr(type(test), "start_method", None) == self.start_method)
        patterns = MULTIPROCESSING_POOLS if self.name == MULTIPROCESSING else POOLS_ELSEWHERE
        return any(fnmatch.fnmatchcase(short(test.id()), pattern) for pattern in patterns)

    def tests(self) -> Iterator[unittest.TestCase]:
        """Import its modules and yield its tests, in their order there."""
        for module in self.modules():
            for test in _flat(unittest.defaultTestLoader.loadTestsFromName(module)):
                if self.takes(test):
                    yield test


ALL = [Suite(name, method) for method in START_METHODS for name in (FUTURES, MULTIPROCESSING, MAIN_HANDLING)]
ALL.append(Suite(ELSEWHERE, DEFAULT))


def short(test_id: str) -> str:
    """`Class.test_method`: the part of a test's id that is the same on every Python."""
    return ".".join(test_id.split(".")[-2:])


def _sources(name: str) -> list[str]:
    return {
        FUTURES: ["test.test_concurrent_futures"],
        MULTIPROCESSING: ["test._test_multiprocessing"],
        MAIN_HANDLING: ["test.test_multiprocessing_main_handling"],
    }.get(name, [])


def _modules(name: str) -> list[str]:
    package = "test.test_concurrent_futures"
    is_package = _is_shipped(package + ".util")
    if name == FUTURES:
        parts = ("process_pool", "as_completed", "wait", "init", "shutdown", "deadlock")
        return [f"{package}.test_{part}" for part in parts] if is_package else [package]
    if name == MULTIPROCESSING:
        return ["compat.stdlib.multiprocessing_tests"] if _is_shipped("test._test_multiprocessing") else []
    if name == SELF_TEST:
        return ["compat.stdlib.tests.cases"]
    if name == MAIN_HANDLING:
        return ["test.test_multiprocessing_main_handling"]
    return [
        *_modules(MULTIPROCESSING),
        package + ".test_thread_pool" if is_package else package,
        "test.test_asyncio.test_events",
        "test.test_logging",
        "test.test_importlib.test_threaded_import",
        "test.test_compileall",
    ]


def _is_shipped(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _flat(suite: unittest.TestSuite | unittest.TestCase) -> Iterator[unittest.TestCase]:
    if isinstance(suite, unittest.TestCase):
        yield suite
    else:
        for part in suite:
            yield from _flat(part)
