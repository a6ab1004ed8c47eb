"""scipy: everything there that takes ``workers=pool.map``."""

from __future__ import annotations

import numpy
from scipy import integrate, optimize

import zexec
from compat.libraries.work import here, rosenbrock

BOUNDS = [(-2.0, 2.0)] * 3


def wave(x: float) -> numpy.ndarray:
    here()
    return numpy.sin(numpy.arange(5) * x)


def test_differential_evolution(pool: zexec.Pool) -> None:
    def solve(workers: object) -> optimize.OptimizeResult:
        return optimize.differential_evolution(
            rosenbrock, BOUNDS, seed=1, maxiter=30, updating="deferred", workers=workers
        )

    ours, serial = solve(pool.map), solve(map)
    assert ours.nfev == serial.nfev
    assert numpy.array_equal(ours.x, serial.x)
    assert ours.fun == serial.fun


def test_brute(pool: zexec.Pool) -> None:
    def solve(workers: object) -> tuple:
        return optimize.brute(rosenbrock, ((-2, 2, 0.5),) * 2, full_output=True, workers=workers)

    for mine, serial in zip(solve(pool.map), solve(map), strict=True):
        assert numpy.array_equal(mine, serial)


def test_quad_vec(pool: zexec.Pool) -> None:
    ours, serial = (integrate.quad_vec(wave, 0, 3, workers=workers)[0] for workers in (pool.map, map))
    assert numpy.array_equal(ours, serial)


def test_executor_map(executor: zexec.Executor) -> None:
    def solve(workers: object) -> numpy.ndarray:
        return optimize.differential_evolution(
            rosenbrock, BOUNDS, seed=2, maxiter=10, updating="deferred", workers=workers
        ).x

    assert numpy.array_equal(solve(executor.map), solve(map))
