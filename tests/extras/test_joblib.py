"""The joblib backend: results, exceptions, aborts, nesting, and which engines serve whom."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

joblib = pytest.importorskip("joblib", reason="joblib is not installed: pip install zexec[joblib]")

from joblib import Parallel, delayed  # noqa: E402

import zexec  # noqa: E402
import zexec.joblib  # noqa: E402
from tests.conftest import ROOT  # noqa: E402


@pytest.fixture(autouse=True)
def _config() -> Iterator[None]:
    with joblib.parallel_config(backend="zexec", n_jobs=2):
        yield
    zexec.joblib._idle.drop()


def pids(parallel: Any = None, **kwargs: Any) -> set[int]:
    return set((parallel or Parallel(**kwargs))(delayed(_slow_pid)() for _ in range(6)))


def _slow_pid() -> int:
    time.sleep(0.02)
    return os.getpid()


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def _set(name: str, value: str) -> None:
    os.environ[name] = value


def _raise(x: int) -> int:
    if x == 7:
        raise LookupError(x)
    return x


def test_values_in_order() -> None:
    assert Parallel()(delayed(pow)(n, 2) for n in range(500)) == [n * n for n in range(500)]


def test_work_is_done_by_engines() -> None:
    assert os.getpid() not in pids()


def test_lambdas_and_local_classes() -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

    points = Parallel()(delayed(lambda n: Point(n))(n) for n in range(5))
    assert [type(p) for p in points] == [Point] * 5
    assert [p.x for p in points] == list(range(5))


def test_minus_one_is_all_cpus() -> None:
    backend = zexec.joblib.ZexecBackend()
    assert backend.effective_n_jobs(-1) == joblib.cpu_count()
    assert backend.effective_n_jobs(-1000) == 1
    assert backend.effective_n_jobs(None) == 1
    with pytest.raises(ValueError, match="n_jobs == 0"):
        backend.effective_n_jobs(0)


def test_one_job_runs_here() -> None:
    assert pids(n_jobs=1) == {os.getpid()}


def test_an_exception_arrives_as_itself_and_ends_the_rest() -> None:
    begun = time.monotonic()
    with pytest.raises(LookupError) as caught:
        Parallel(batch_size=1)(delayed(_raise if n < 8 else time.sleep)(n) for n in range(100))
    assert caught.value.args == (7,)
    assert "_raise" in str(caught.value.__cause__)  # the engine's traceback
    assert time.monotonic() - begun < 10


def test_an_engine_that_dies() -> None:
    with pytest.raises(zexec.EngineDied):
        Parallel()(delayed(os._exit)(3) for _ in range(2))


@pytest.mark.parametrize("first", [0, 50], ids=["submitted by the caller", "submitted by a callback"])
def test_an_argument_that_cannot_be_pickled(first: int) -> None:
    with pytest.raises(Exception, match="Could not pickle the task"):
        Parallel(batch_size=1)(delayed(id)(Unpicklable() if n >= first else n) for n in range(100))


def test_a_value_that_cannot_be_pickled() -> None:
    with pytest.raises(Exception, match="not me"):
        Parallel()(delayed(Unpicklable)() for _ in range(3))


def test_inputs_are_drawn_as_results_come() -> None:
    drawn = []

    def numbers() -> Iterator[Any]:
        for n in range(1000):
            drawn.append(n)
            yield delayed(time.sleep)(0.01)

    results = Parallel(return_as="generator", batch_size=1)(numbers())
    next(results)
    assert len(drawn) < 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib's, about the rest
        del results
        gc.collect()


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_generators(return_as: str) -> None:
    if return_as == "generator_unordered" and joblib.__version__.startswith("1.3."):
        pytest.skip("joblib has that since 1.4")
    results = Parallel(return_as=return_as)(delayed(pow)(n, 2) for n in range(50))
    assert sorted(results) == [n * n for n in range(50)]


def test_time_out() -> None:
    with pytest.raises(multiprocessing.TimeoutError):  # joblib's choice
        Parallel(timeout=0.2)(delayed(time.sleep)(20) for _ in range(2))


class TestEngines:
    def test_one_set_for_a_with_block(self) -> None:
        with Parallel() as parallel:
            assert pids(parallel) | pids(parallel) == set(parallel._backend._workers._processes)

    def test_they_wait_for_the_next_call(self) -> None:
        assert len(pids() | pids() | pids()) <= 2

    def test_another_number_is_another_set(self) -> None:
        assert not pids(n_jobs=2) & pids(n_jobs=3)

    def test_they_leave_after_a_while(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zexec.joblib, "IDLE", 0.1)
        first = pids()
        until = time.monotonic() + 10
        while zexec.joblib._idle._waiting is not None and time.monotonic() < until:
            time.sleep(0.01)
        assert not first & pids()

    def test_after_an_exception_the_with_block_goes_on(self) -> None:
        with Parallel() as parallel:
            with pytest.raises(LookupError):
                parallel(delayed(_raise)(n) for n in range(10))
            assert parallel(delayed(_raise)(n) for n in range(5)) == list(range(5))

    def test_calls_in_threads_have_their_own(self) -> None:
        found: list[set[int]] = []
        threads = [threading.Thread(target=lambda: found.append(pids(backend="zexec", n_jobs=2))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not found[0] & found[1]

    def test_initializer(self) -> None:
        with joblib.parallel_config("zexec", n_jobs=2, initializer=_set, initargs=("ZX", "set")):
            assert Parallel()(delayed(os.getenv)("ZX") for _ in range(4)) == ["set"] * 4
        assert Parallel()(delayed(os.getenv)("ZX") for _ in range(4)) == [None] * 4

    def test_threads_of_libraries_are_limited(self) -> None:
        with joblib.parallel_config("zexec", n_jobs=2, inner_max_num_threads=3):
            assert set(Parallel()(delayed(os.getenv)("OMP_NUM_THREADS") for _ in range(4))) == {"3"}

    def test_a_context_of_ones_own(self) -> None:
        with joblib.parallel_config("zexec", n_jobs=2, context=multiprocessing.get_context("fork")):
            assert Parallel()(delayed(os.getppid)() for _ in range(2)) == [os.getpid()] * 2


class TestNesting:
    def test_by_default_threads_then_nothing(self) -> None:
        def level(n: int) -> list[str]:
            with Parallel(n_jobs=2) as parallel:
                name = type(parallel._backend).__name__
                return [name] if n == 0 else [name, *parallel([delayed(level)(n - 1)])[0]]

        assert level(2) == ["ZexecBackend", "ThreadingBackend", "SequentialBackend"]

    def test_engines_of_engines_on_request(self) -> None:
        def inner(n: int) -> tuple[int, set[int]]:
            return os.getpid(), set(Parallel(n_jobs=2, backend="zexec")(delayed(os.getppid)() for _ in range(4)))

        for engine, parents in Parallel()(delayed(inner)(n) for n in range(2)):
            assert parents == {engine}


SCRIPT = """
import warnings
warnings.simplefilter("error")
import joblib, zexec.joblib

class Here:
    def __init__(self, x):
        self.x = x

def inner(n):
    return sum(joblib.Parallel(n_jobs=2, backend="zexec")(joblib.delayed(pow)(i, 2) for i in range(n)))

def outer(n):
    return Here(inner(n))

found = joblib.Parallel(n_jobs=2, backend="zexec")(joblib.delayed(outer)(n) for n in range(4))
print([type(here) is Here for here in found], [here.x for here in found])
"""


def test_a_script_without_a_guard_that_leaves_everything_open(tmp_path: Any) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "[True, True, True, True] [0, 0, 1, 5]\n"
