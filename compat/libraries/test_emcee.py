"""emcee: an ensemble sampler on ``pool.map``."""

from __future__ import annotations

import emcee
import numpy

import zexec
from compat.libraries.work import here


def log_probability(x: numpy.ndarray, width: float) -> float:
    here()
    return -0.5 * float(numpy.sum((x / width) ** 2))


def chain(pool: object) -> numpy.ndarray:
    start = numpy.random.RandomState(1).randn(32, 4)
    sampler = emcee.EnsembleSampler(32, 4, log_probability, args=(2.0,), pool=pool)
    sampler.random_state = numpy.random.RandomState(2).get_state()
    sampler.run_mcmc(start, 40)
    return sampler.get_chain()


def test_pool(pool: zexec.Pool) -> None:
    assert numpy.array_equal(chain(pool), chain(None))


def test_executor(executor: zexec.Executor) -> None:
    assert numpy.array_equal(chain(executor), chain(None))
