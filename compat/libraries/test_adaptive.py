"""adaptive: a runner that asks the executor's futures, one by one, what to sample next."""

from __future__ import annotations

import adaptive
import pytest

import zexec
from compat.libraries.work import here


def peak(x: float) -> float:
    here()
    return x + 0.01 / (0.01 + x * x)


@pytest.fixture
def done() -> object:
    return lambda learner: learner.npoints >= 100


def test_learner_1d(executor: zexec.Executor, done: object) -> None:
    learner = adaptive.Learner1D(peak, (-1, 1))
    adaptive.BlockingRunner(learner, done, executor=executor, shutdown_executor=False)
    assert learner.npoints >= 100
    assert all(learner.data[x] == peak(x) for x in learner.data)
    assert max(learner.data.values()) > 0.98


def test_sequence_learner_with_lambda(executor: zexec.Executor) -> None:
    learner = adaptive.SequenceLearner(peak, [n / 50 for n in range(100)])
    adaptive.BlockingRunner(learner, lambda it: it.done(), executor=executor, shutdown_executor=False)
    assert learner.result() == [peak(n / 50) for n in range(100)]
