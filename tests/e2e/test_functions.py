"""Lambdas, closures and local classes just work, on every start method."""

from __future__ import annotations

import functools
import multiprocessing
from typing import Any

import pytest

import zexec
from tests.helpers import tasks


@pytest.fixture
def pool(ctx: Any, nothing_left: Any) -> Any:
    with zexec.Pool(2, context=ctx) as pool:
        yield pool
    pool.join()


def test_lambdas(pool: zexec.Pool) -> None:
    assert pool.map(lambda x: x * 3, range(5)) == [0, 3, 6, 9, 12]
    assert pool.apply(lambda *a, **k: (a, k), (1,), {"b": 2}) == ((1,), {"b": 2})
    assert list(pool.imap(lambda x: x + 1, range(5), 2)) == [1, 2, 3, 4, 5]
    assert pool.starmap(lambda x, y=1: x + y, [(1,), (1, 2)]) == [2, 3]
    assert [pool.apply(lambda i=i: i) for i in range(5)] == list(range(5))


def test_closures(pool: zexec.Pool) -> None:
    n = 5

    def add(x: int) -> int:
        return x + n

    assert pool.map(add, [1, 2]) == [6, 7]
    n = 50
    assert pool.map(add, [1, 2]) == [51, 52]


def test_a_closures_state_is_of_the_call(pool: zexec.Pool) -> None:
    """As if it were pickled anew each time, which it is: nothing stays behind on the engine."""
    count = 0

    def step() -> int:
        nonlocal count
        count += 1
        return count

    assert [pool.apply(step) for _ in range(5)] == [1] * 5
    box: list[int] = []
    assert [pool.apply(lambda: (box.append(1), len(box))[1]) for _ in range(5)] == [1] * 5
    assert [pool.apply(lambda acc=[]: (acc.append(1), len(acc))[1]) for _ in range(5)] == [1] * 5


def test_recursive_closures(pool: zexec.Pool) -> None:
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    assert pool.map(factorial, range(6)) == [1, 1, 2, 6, 24, 120]


def test_decorated(pool: zexec.Pool) -> None:
    def twice(f: Any) -> Any:
        @functools.wraps(f)
        def wrapper(*args: Any) -> Any:
            return f(f(*args))

        return wrapper

    @twice
    def increment(x: int) -> int:
        return x + 1

    assert pool.map(increment, [1, 2]) == [3, 4]


def test_local_classes(pool: zexec.Pool) -> None:
    class Point:
        def __init__(self, x: int) -> None:
            self.x = x

        def shifted(self, by: int) -> Point:
            return Point(self.x + by)

        @staticmethod
        def make(x: int) -> Point:
            return Point(x)

    assert pool.apply(lambda p: p.x, (Point(3),)) == 3
    got = pool.map(Point(1).shifted, [1, 2])
    assert [p.x for p in got] == [2, 3]
    assert all(type(p) is Point for p in got)
    assert pool.map(Point.make, [7])[0].x == 7
    assert pool.map(Point, [8])[0].x == 8


def test_local_exceptions(pool: zexec.Pool) -> None:
    class LocalError(Exception):
        pass

    def fail(x: int) -> None:
        raise LocalError(x)

    with pytest.raises(LocalError) as caught:
        pool.map(fail, [5])
    assert caught.value.args == (5,)


def test_partials_and_bound_methods_of_local_things(pool: zexec.Pool) -> None:
    def add(x: int, y: int) -> int:
        return x + y

    assert pool.map(functools.partial(add, 10), [1]) == [11]
    assert pool.map(functools.partial(lambda x, y: x * y, y=4), [2]) == [8]


def test_lambdas_as_arguments_and_results(pool: zexec.Pool) -> None:
    assert pool.apply(lambda f: f(4), (lambda x: x * x,)) == 16
    assert pool.apply(lambda: lambda x: x + 1)(1) == 2


def test_functions_by_reference_are_not_sent_by_value(pool: zexec.Pool) -> None:
    """Their globals are the module's own, shared by all calls on an engine."""
    assert pool.options(targets=0).apply(tasks.remember, ("kept",)) is None
    assert pool.options(targets=0).apply(tasks.recall) == "kept"


def test_a_thousand_different_lambdas(pool: zexec.Pool) -> None:
    rs = [pool.apply_async(eval(f"lambda x: x + {i}"), (1,)) for i in range(1000)]
    assert [r.get(20) for r in rs] == [i + 1 for i in range(1000)]


def test_more_functions_than_an_engine_remembers(pool: zexec.Pool) -> None:
    fs = [eval(f"lambda x: x + {i}") for i in range(700)]
    for _ in range(2):
        rs = [pool.apply_async(f, (1,)) for f in fs]
        assert [r.get(20) for r in rs] == [i + 1 for i in range(700)]


def test_a_function_whose_module_cannot_be_imported_there(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under spawn, a module that exists only in this process: as the stdlib, the task fails, and says what is missing."""
    import sys
    import types

    module = types.ModuleType("zexec_test_ghost")
    exec("def f(x):\n    return x\n", vars(module))
    monkeypatch.setitem(sys.modules, "zexec_test_ghost", module)
    with zexec.Pool(1, context=multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(zexec.UnpicklingError, match="zexec_test_ghost"):
            pool.apply(module.f, (1,))
        assert pool.apply(tasks.double, (1,)) == 2
