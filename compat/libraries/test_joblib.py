"""joblib: its own tests of backends, unmodified, with ours; and scikit-learn on it.

joblib's tests take the registered backends at import, so a plugin registers ours before that. Those that name a backend name
"loky", the one that ours stands beside: under that name they get ours too, in a second run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import joblib
import pytest

# Whatever else this imports comes after the registration in a user's program, too.
import zexec.joblib

ROOT = str(Path(__file__).parents[2])

#: Tests in which ours differs from the backend whose name it has been given, and why.
DIFFERENCES = {
    "test_backend_context_manager": "asks for the class LokyBackend",
    "test_backend_hinting_and_constraints": "asks for the class LokyBackend",
    "test_nested_parallelism_limit": "asks for the class LokyBackend",
    "test_auto_memmap_on_arrays_from_generator": "arrays do not go through files",
    "test_memmapping_leaks": "arrays do not go through files",
    "test_nested_parallel_warnings": "pools below threads and in engines are allowed, and its warning names loky",
    "test_multiple_generator_call_separated_gc": "wants a call to fail because another's generator is gone; ours succeeds",
    "test_nested_loop": "a worker of another backend does not know a backend that it has not imported",
}


def run(selected: str, **env: str) -> str:
    command = [sys.executable, "-m", "pytest", "-c", os.devnull, "-q", "-p", "compat.libraries.joblib_plugin"]
    command += ["-p", "no:cacheprovider", "--disable-warnings", "-k", selected, "--pyargs", "joblib.test.test_parallel"]
    env = {**os.environ, "PYTHONPATH": ROOT, **env}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


def test_joblibs_own_tests() -> None:
    """Those that it runs with every backend that is registered."""
    out = run("zexec and not (test_nested_loop and (loky-zexec or back_compat_backend-zexec))")
    assert " passed" in out


@pytest.mark.slow
def test_joblibs_own_tests_of_loky() -> None:
    others = "threading or multiprocessing or sequential"
    out = run(f"(loky or not ({others})) and not ({' or '.join(DIFFERENCES)})", ZEXEC_COMPAT_AS="loky")
    assert " passed" in out


def test_scikit_learn() -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    from sklearn.cluster import KMeans
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GridSearchCV, cross_val_score

    x, y = datasets.make_classification(400, random_state=0)
    # OpenMP has been used in this process, which no engine that is a fork of it would survive.
    KMeans(3, n_init=1, random_state=0).fit(x)
    model = HistGradientBoostingClassifier(max_iter=10, random_state=0)
    grid = {"max_depth": [2, 4], "learning_rate": [0.1, 0.3]}
    serial = GridSearchCV(model, grid, cv=3).fit(x, y)
    with joblib.parallel_config(backend="zexec"):
        ours = GridSearchCV(model, grid, cv=3, n_jobs=2).fit(x, y)
        scores = cross_val_score(model, x, y, cv=4, n_jobs=2)
        pids = joblib.Parallel(n_jobs=2)(joblib.delayed(os.getpid)() for _ in range(10))
    assert ours.best_params_ == serial.best_params_
    assert list(ours.cv_results_["mean_test_score"]) == list(serial.cv_results_["mean_test_score"])
    assert list(scores) == list(cross_val_score(model, x, y, cv=4))
    engines = set(zexec.joblib._idle._waiting[1]._processes)  # those that GridSearchCV had, kept for the next
    assert set(pids) <= engines
