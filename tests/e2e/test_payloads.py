"""What goes over and what cannot: arguments, results and exceptions, large, odd or unpicklable."""

from __future__ import annotations

import collections
import datetime
import decimal
import fractions
import hashlib
import multiprocessing
import pathlib
import pickle
import threading
import uuid
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

import zexec
from tests.e2e.conftest import MakePool
from tests.helpers import saboteurs, tasks

FORK = multiprocessing.get_context("fork")

VALUES = [
    None,
    True,
    -(2**70),
    1.5,
    float("inf"),
    complex(1, 2),
    "text \ud83d\ude00 \x00",
    b"\x00\xff",
    bytearray(b"abc"),
    [1, [2, [3]]],
    (1, ()),
    {1: {"a": {2}}},
    frozenset({1}),
    range(3),
    slice(1, 2),
    ...,
    NotImplemented,
    int,
    len,
    decimal.Decimal("1.1"),
    fractions.Fraction(1, 3),
    datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc),
    uuid.UUID(int=5),
    pathlib.PurePosixPath("/a"),
    collections.OrderedDict(a=1),
    collections.Counter("aab"),
    tasks.Adder(3),
]


def test_values_come_back_as_they_went(pool: zexec.Pool, executor: zexec.Executor) -> None:
    for value in VALUES:
        assert pool.apply(tasks.echo, (value,)) == (value,)
        assert executor.submit(tasks.echo, x=value).result(20) == ((), {"x": value})
    assert pool.map(tasks.echo, VALUES) == [(v,) for v in VALUES]
    assert [v for (v,) in pool.imap(tasks.echo, VALUES, 4)] == VALUES


def test_shared_parts_stay_shared_within_a_call(pool: zexec.Pool) -> None:
    part: list[int] = []
    a, b = pool.apply(tasks.echo, (part, part))
    assert a is b
    loop: list[Any] = []
    loop.append(loop)
    (got,) = pool.apply(tasks.echo, (loop,))
    assert got[0] is got


def test_arguments_are_taken_as_they_are_at_the_call(pool: zexec.Pool, flag: Any) -> None:
    held = [pool.apply_async(tasks.hold, (flag("started"), flag("release"))) for _ in range(2)]
    argument = [1]
    r = pool.apply_async(tasks.echo, (argument,))
    m = pool.map_async(tasks.echo, [argument], 1)
    argument.append(2)
    tasks.touch(flag("release"))
    assert r.get(20) == ([1],)
    assert m.get(20) == [([1],)]
    for h in held:
        h.get(20)


# -- what cannot be pickled ------------------------------------------------------------------------------------------

UNPICKLABLE: dict[str, Callable[[], Any]] = {
    "a lock": threading.Lock,
    "a generator": lambda: (i for i in [1]),
    "one that raises": saboteurs.ErrorAtPickle,
    "one without a repr": saboteurs.NoRepr,
}


@pytest.mark.parametrize("what", UNPICKLABLE)
def test_as_argument(both: MakePool, what: str) -> None:
    """The result fails, not the call, with what pickle says."""
    p = both(1)
    r = p.apply_async(tasks.take_one, (UNPICKLABLE[what](),))
    with pytest.raises((TypeError, RuntimeError, pickle.PicklingError), match="pickl"):
        r.get(20)
    heard: list[BaseException] = []
    p.apply_async(tasks.take_one, (UNPICKLABLE[what](),), error_callback=heard.append).wait(20)
    assert len(heard) == 1
    assert p.apply(tasks.double, (1,)) == 2


@pytest.mark.parametrize("what", UNPICKLABLE)
def test_as_argument_of_an_executor(both_executors: Any, what: str) -> None:
    ex = both_executors(1)
    f = ex.submit(tasks.take_one, UNPICKLABLE[what]())
    with pytest.raises((TypeError, RuntimeError, pickle.PicklingError), match="pickl"):
        f.result(20)
    assert ex.submit(tasks.double, 1).result(20) == 2


@pytest.mark.parametrize("call", ["map", "imap", "imap_unordered"])
def test_as_item(both: MakePool, call: str) -> None:
    p = both(1)
    with pytest.raises((TypeError, pickle.PicklingError), match="pickle"):
        list(getattr(p, call)(tasks.take_one, [1, threading.Lock()], 1))
    assert p.map(tasks.double, [1]) == [2]


def test_as_result(both: MakePool) -> None:
    p = both(1)
    with pytest.raises(multiprocessing.pool.MaybeEncodingError) as caught:  # type: ignore[attr-defined]
        p.apply(saboteurs.make, (saboteurs.ErrorAtPickle,))
    assert str(caught.value) == (
        "Error sending result: 'ErrorAtPickle()'. Reason: 'RuntimeError('no pickling of this')'"
    )
    with pytest.raises(multiprocessing.pool.MaybeEncodingError, match=r"Error sending result: '<.*_thread\.lock"):  # type: ignore[attr-defined]
        p.apply(saboteurs.make, (threading.Lock,))
    with pytest.raises(multiprocessing.pool.MaybeEncodingError):  # type: ignore[attr-defined]
        p.map(saboteurs.make, [int, threading.Lock], 2)
    assert p.apply(tasks.double, (1,)) == 2


def test_as_result_without_a_repr(pool: zexec.Pool) -> None:
    """The stdlib's pool loses its worker and hangs."""
    with pytest.raises(multiprocessing.pool.MaybeEncodingError, match="NoRepr object at"):  # type: ignore[attr-defined]
        pool.apply(saboteurs.make, (saboteurs.NoRepr,))


def test_as_result_of_an_executor(both_executors: Any) -> None:
    ex = both_executors(1)
    with pytest.raises(RuntimeError, match="no pickling of this"):
        ex.submit(saboteurs.make, saboteurs.ErrorAtPickle).result(20)
    with pytest.raises(TypeError, match="cannot pickle"):
        ex.submit(saboteurs.make, threading.Lock).result(20)
    assert ex.submit(tasks.double, 1).result(20) == 2


# -- what cannot be unpickled ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("cls", [saboteurs.ErrorAtUnpickle, saboteurs.DoubleAtUnpickle])
def test_argument_that_cannot_be_rebuilt(executor: zexec.Executor, pool: zexec.Pool, cls: type) -> None:
    """The stdlib's executor breaks for good, its pool loses the worker and hangs; here it costs the one task."""
    for r in (executor.submit(saboteurs.take, cls()), pool.apply_async(saboteurs.take, (cls(),))):
        with pytest.raises(BrokenProcessPool, match="could not be unpickled on the engine") as caught:
            r.result(20)
        assert type(caught.value) is zexec.UnpicklingError
        assert isinstance(caught.value.__cause__, RuntimeError | ImportError)
    with pytest.raises(zexec.UnpicklingError):
        pool.map(saboteurs.take, [1, cls()], 1)
    assert executor.submit(tasks.double, 1).result(20) == pool.apply(tasks.double, (1,)) == 2


@pytest.mark.parametrize("cls", [saboteurs.ErrorAtUnpickle, saboteurs.DoubleAtUnpickle])
def test_result_that_cannot_be_rebuilt(executor: zexec.Executor, pool: zexec.Pool, cls: type) -> None:
    for r in (executor.submit(saboteurs.make, cls), pool.apply_async(saboteurs.make, (cls,))):
        with pytest.raises(zexec.UnpicklingError, match="the result could not be unpickled"):
            r.result(20)
    assert executor.submit(tasks.double, 1).result(20) == pool.apply(tasks.double, (1,)) == 2
    with pytest.raises((zexec.UnpicklingError, RuntimeError, ImportError)):
        pool.map(saboteurs.make, [cls, int], 1)


@pytest.mark.parametrize(
    "task", [saboteurs.raise_needs_two, saboteurs.raise_carries_lock, saboteurs.raise_without_args]
)
def test_exception_that_cannot_travel(executor: zexec.Executor, pool: zexec.Pool, task: Any) -> None:
    """The stdlib hangs, or breaks; here it is told in words."""
    for r in (executor.submit(task), pool.apply_async(task), pool.map_async(task, [1])):
        with pytest.raises(Exception) as caught:
            r.result(20)
        assert type(caught.value) is zexec.RemoteError, caught.value
        assert task.__name__ in caught.value.traceback
        assert caught.value.ename in ("NeedsTwo", "CarriesLock", "raise_without_args.<locals>.Local")
        str(caught.value)
        repr(caught.value)
    assert pool.apply(tasks.double, (1,)) == 2


def test_exceptions_keep_their_attributes_and_causes(both: MakePool) -> None:
    p = both(1)
    with pytest.raises(FileNotFoundError) as caught:
        p.apply(open, ("/no/such/file",))
    assert caught.value.errno == 2
    assert caught.value.filename == "/no/such/file"
    with pytest.raises(KeyError) as caught_key:
        p.apply(tasks.raise_from)
    assert "ZeroDivisionError" in str(caught_key.value.__cause__)


# -- large -----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_200_megabytes(kind: Any) -> None:
    data = kind(200 * 2**20)
    data = kind(b"ab") + data[2:-2] + kind(b"yz")
    with zexec.Pool(1, context=FORK) as pool:
        assert pool.apply(tasks.length_and_ends, (data,)) == (200 * 2**20, b"ab", b"yz")
        back = pool.apply(tasks.make_bytes, (200 * 2**20,))
        assert (len(back), back[:2], back[-2:]) == (200 * 2**20, b"ab", b"yz")


@pytest.mark.parametrize("size", [0, 1, 2**10 - 1, 2**16 - 1, 2**16, 2**16 + 1, 2**20, 5_000_000])
def test_sizes(pool: zexec.Pool, size: int) -> None:
    data = hashlib.shake_128(b"seed").digest(size)
    assert pool.apply(tasks.digest, (data,)) == hashlib.sha1(data).hexdigest()
    assert pool.map(tasks.echo, [data] * 3, 1) == [(data,)] * 3
    assert pool.map(tasks.echo, [data] * 3, 3) == [(data,)] * 3


def test_many_large_ones_at_once(pool: zexec.Pool) -> None:
    data = [bytes([i]) * 3_000_000 for i in range(12)]
    assert [v for (v,) in pool.imap(tasks.echo, data)] == data


def test_arrays_come_back_writable(pool: zexec.Pool) -> None:
    np = pytest.importorskip("numpy")
    for size in (10, 1_000_000):
        (got,) = pool.apply(tasks.echo, (np.arange(size),))
        assert (got == np.arange(size)).all()
        got[0] = 5
    assert pool.apply(tasks.write_into, (np.zeros(1_000_000),)) == 1.0
    many = pool.map(tasks.echo, [np.ones(n) for n in (1, 1000, 100_000)], 1)
    assert [v.sum() for (v,) in many] == [1, 1000, 100_000]
