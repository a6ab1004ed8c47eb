"""pymoo: elementwise evaluation by ``pool.starmap``."""

from __future__ import annotations

import numpy
import pymoo
from pymoo.algorithms.soo.nonconvex.ga import GA
from pymoo.core.problem import ElementwiseProblem
from pymoo.optimize import minimize

import zexec
from compat.libraries.work import rosenbrock

if tuple(map(int, pymoo.__version__.split(".")[:3])) >= (0, 6, 2):
    from pymoo.parallelization.starmap import StarmapParallelization
else:
    from pymoo.core.problem import StarmapParallelization


class Rosenbrock(ElementwiseProblem):
    def __init__(self, **kwargs: object) -> None:
        super().__init__(n_var=4, n_obj=1, xl=-2.0, xu=2.0, **kwargs)

    def _evaluate(self, x: numpy.ndarray, out: dict, *args: object, **kwargs: object) -> None:
        out["F"] = rosenbrock(x)


def test_starmap(pool: zexec.Pool) -> None:
    def solve(**kwargs: object) -> tuple[numpy.ndarray, numpy.ndarray]:
        found = minimize(Rosenbrock(**kwargs), GA(pop_size=20), ("n_gen", 15), seed=1)
        return found.X, found.F

    ours, serial = solve(elementwise_runner=StarmapParallelization(pool.starmap)), solve()
    assert numpy.array_equal(ours[0], serial[0])
    assert numpy.array_equal(ours[1], serial[1])
