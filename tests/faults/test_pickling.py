"""What cannot be pickled or unpickled, on the way there or back: one call fails and says why, at once; no engine is lost."""

from __future__ import annotations

import pickle
import sys
import types
from multiprocessing.pool import MaybeEncodingError
from typing import Any

import pytest

import zexec
from tests.helpers import saboteurs, tasks
from tests.helpers.hosts import Host


def check(pool: zexec.Pool, pids: set[int]) -> None:
    """Everything else goes on, on the same engines."""
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))
    assert {process.pid for process in pool._pool} == pids


def failure(result: zexec.AsyncResult) -> BaseException:
    error = result.exception(30)
    assert error is not None
    return error


def test_each(shared: Host) -> None:
    pool = shared.pool()
    executor = shared.executor()
    pids = {process.pid for process in pool._pool}
    around = [pool.apply_async(tasks.double, (i,)) for i in range(50)]

    argument = failure(pool.apply_async(saboteurs.take, (saboteurs.ErrorAtPickle(),)))
    assert (type(argument), str(argument)) == (RuntimeError, "no pickling of this")
    assert "in __reduce__" in str(argument.__cause__), "where pickling failed"

    there = failure(pool.apply_async(saboteurs.take, (saboteurs.ErrorAtUnpickle(),)))
    assert type(there) is zexec.UnpicklingError
    assert "could not be unpickled on the engine" in str(there)
    assert "no unpickling of this" in str(there)

    result = failure(pool.apply_async(saboteurs.make, (saboteurs.ErrorAtPickle,)))
    assert type(result) is MaybeEncodingError
    assert "no pickling of this" in str(result)
    theirs = failure(executor.submit(saboteurs.make, saboteurs.ErrorAtPickle))
    assert (type(theirs), str(theirs)) == (RuntimeError, "no pickling of this")

    back = failure(pool.apply_async(saboteurs.make, (saboteurs.ErrorAtUnpickle,)))
    assert type(back) is zexec.UnpicklingError
    assert "no unpickling of this" in str(back)

    for raiser, name in ((saboteurs.raise_needs_two, "NeedsTwo"), (saboteurs.raise_carries_lock, "CarriesLock")):
        exception = failure(pool.apply_async(raiser))
        assert type(exception) is zexec.RemoteError
        assert exception.ename == name
        assert raiser.__name__ in exception.traceback

    assert [r.get(30) for r in around] == list(range(0, 100, 2))
    check(pool, pids)


def test_a_function_that_the_engines_do_not_have(shared: Host) -> None:
    """A module that exists in the client alone."""
    pool = shared.pool()
    pids = {process.pid for process in pool._pool}
    module: Any = types.ModuleType("only_here_and_now")
    exec("def f(x): return x", vars(module))
    sys.modules[module.__name__] = module
    try:
        error = failure(pool.apply_async(module.f, (1,)))
    finally:
        del sys.modules[module.__name__]
    assert type(error) is zexec.UnpicklingError
    assert "No module named 'only_here_and_now'" in str(error)
    check(pool, pids)


def test_in_maps_the_others_are_not_touched(shared: Host) -> None:
    pool = shared.pool()
    pids = {process.pid for process in pool._pool}
    things = [1, saboteurs.ErrorAtPickle(), 3, saboteurs.ErrorAtUnpickle(), 5]
    got = pool.map(saboteurs.take, things, 1, return_exceptions=True)
    assert [type(v) for v in got] == [str, RuntimeError, str, zexec.UnpicklingError, str]
    with pytest.raises((RuntimeError, zexec.UnpicklingError)):
        pool.map(saboteurs.take, things, 1)
    check(pool, pids)


def test_pickles_are_made_when_the_call_is(shared: Host) -> None:
    """So what is changed or broken after that does not matter."""
    pool = shared.pool()
    item = [1, 2]
    r = pool.apply_async(len, (item,))
    item.append(saboteurs.ErrorAtPickle())  # type: ignore[arg-type]
    assert r.get(30) == 2
    with pytest.raises((pickle.PicklingError, RuntimeError)):
        pool.apply(len, (item,))
