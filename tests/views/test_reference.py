"""What References stand for, without an engine and with one."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

import zexec
from zexec import Reference

a, f, x = Reference("a"), Reference("f"), Reference("x")
HERE = {"a": 7, "f": lambda *args, **kwargs: (args, kwargs), "x": [10, 20, 30]}


@pytest.mark.parametrize(
    ("made", "plain"),
    [
        (a + 1, 8),
        (1 + a, 8),
        (a - 10, -3),
        (10 - a, 3),
        (a * a, 49),
        (a // 2 + a % 2, 4),
        (2**a, 128),
        (-a, -7),
        (abs(-a), 7),
        (a / 2, 3.5),
        ((a + 1) * 2, 16),
        (a & 3 | 8 ^ 1, 7 & 3 | 8 ^ 1),
        (a << 1 >> 2, 3),
        (f(1, "two", three=a), ((1, "two"), {"three": 7})),
        (x[1], 20),
        (x[1:], [20, 30]),
        (x[a - 6], 20),
        (a.real, 7),
        (x.index(30), 2),
        (f((a, [a, None])), (((7, [7, None]),), {})),
    ],
)
def test_expressions(made: Reference, plain: Any) -> None:
    assert eval(made.name, dict(HERE)) == plain


def test_what_cannot_be_combined_says_so() -> None:
    with pytest.raises(TypeError, match="push it"):
        a + object()


def test_no_expression() -> None:
    with pytest.raises(SyntaxError):
        Reference("a +")
    with pytest.raises(TypeError, match="a name or an expression"):
        Reference(3)  # type: ignore[arg-type]


def test_it_is_no_iterable() -> None:
    with pytest.raises(TypeError):
        iter(a)


def test_it_means_nothing_outside_views(pool: zexec.Pool) -> None:
    with pytest.raises(pickle.PicklingError, match="in the calls of a view only"):
        pool.apply(repr, (a,))


def test_resolved_on_each_engine(client: zexec.Client, all: zexec.DirectView) -> None:
    all.scatter("n", client.ids, flatten=True)
    n = Reference("n")
    assert all.apply(lambda v: v, n) == [0, 1]
    assert all.apply(lambda v: v, n * 10 + 1) == [1, 11]
    assert all.apply(lambda deep: deep["in"][0], {"in": [n]}) == [0, 1]
    assert all.apply(lambda *, key: key, key=n) == [0, 1]


def test_as_the_function(all: zexec.DirectView) -> None:
    all.execute("f = lambda x, y: x * y").get()
    all["t"] = 2
    assert all.map(Reference("f"), range(5), range(5)) == [0, 1, 4, 9, 16]
    assert all.apply(Reference("f"), 3, Reference("t")) == [6, 6]


def test_balanced(all: zexec.DirectView, balanced: zexec.LoadBalancedView) -> None:
    all["a"] = 123
    assert balanced.apply(lambda v: v, Reference("a")) == 123
    assert balanced.map(Reference("a").__class__("abs"), [-1, -2]) == [1, 2]


def test_a_name_that_is_not_there(one: zexec.DirectView) -> None:
    with pytest.raises(zexec.RemoteError, match=r"engine 0.*NameError: name 'nowhere' is not defined"):
        one.apply(lambda v: v, Reference("nowhere"))
