"""dask: a graph computed on an Executor, and on a Pool."""

from __future__ import annotations

import operator
from itertools import pairwise

import dask
import dask.array
import dask.bag
import numpy
import pytest

import zexec
from compat.libraries.work import fail, square


def graph() -> dask.delayed.Delayed:
    squares = [dask.delayed(square)(n) for n in range(40)]
    return dask.delayed(sum)([dask.delayed(operator.add)(a, b) for a, b in pairwise(squares)])


def test_delayed(executor: zexec.Executor) -> None:
    assert graph().compute(scheduler=executor) == graph().compute(scheduler="synchronous")


def test_bag(executor: zexec.Executor) -> None:
    bag = dask.bag.from_sequence(range(500), npartitions=8)
    work = bag.map(square).filter(lambda n: n % 2).map(lambda n: n + 1)
    assert work.compute(scheduler=executor) == [n * n + 1 for n in range(500) if n % 2]


def test_array(executor: zexec.Executor) -> None:
    def block(x: numpy.ndarray) -> numpy.ndarray:
        return square(x)

    values = numpy.arange(90_000.0).reshape(300, 300)
    array = dask.array.from_array(values, chunks=(100, 100)).map_blocks(block, dtype=float)
    ours = (array @ array.T).sum(axis=0).compute(scheduler=executor)
    assert numpy.array_equal(ours, (array @ array.T).sum(axis=0).compute(scheduler="synchronous"))


def test_an_exception(executor: zexec.Executor) -> None:
    with pytest.raises(LookupError):
        dask.compute(*[dask.delayed(fail)(n) for n in range(6)], scheduler=executor)


def test_configured_pool(executor: zexec.Executor) -> None:
    with dask.config.set(pool=executor, scheduler="processes"):
        assert dask.compute(graph())[0] == graph().compute(scheduler="synchronous")
