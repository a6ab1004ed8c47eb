"""Every kind of large data arrives as it was sent, in both directions, and as multiprocessing has it arrive."""

from __future__ import annotations

import array
import multiprocessing
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zexec
from tests.helpers import data

N = 40_000

KINDS: dict[str, Callable[[], Any]] = {
    "doubles": lambda: np.arange(N, dtype=float),
    "ints": lambda: np.arange(N, dtype=np.int32).reshape(200, -1),
    "bools": lambda: np.arange(8 * N) % 3 == 0,
    "complex": lambda: np.arange(N) * 1j,
    "halves": lambda: (np.arange(4 * N) % 100).astype(np.float16),
    "long doubles": lambda: np.arange(N, dtype=np.longdouble),
    "big-endian": lambda: np.arange(N, dtype=">i8"),
    "text": lambda: np.array(["abc", "de"] * N),
    "byte strings": lambda: np.array([b"abc", b"de"] * N),
    "dates": lambda: np.arange(N).astype("M8[s]"),
    "durations": lambda: np.arange(N).astype("m8[ms]"),
    "void": lambda: np.arange(N).view("V8"),
    "structured": lambda: np.zeros(N, dtype=[("a", "i4"), ("b", "f8", (2,)), ("t", "M8[s]")]),
    "structured with a gap": lambda: np.ones(N, dtype=[("a", "i1"), ("b", "f8"), ("c", "i2")])[["a", "c"]],
    "records": lambda: np.rec.array([(1, 2.0)] * N, dtype=[("a", int), ("b", float)]),
    "objects": lambda: np.array([{"a": 1}, None, "x"] * N, dtype=object),
    "objects inside": lambda: np.array([np.arange(N), np.arange(3)], dtype=object),
    "Fortran": lambda: np.asfortranarray(np.arange(N).reshape(200, -1)),
    "transposed": lambda: np.arange(2 * N).reshape(2, 100, -1).transpose(1, 0, 2),
    "every third": lambda: np.arange(3 * N)[::3],
    "backwards": lambda: np.arange(N)[::-1],
    "a column": lambda: np.arange(2 * N).reshape(-1, 2)[:, 1],
    "a slice": lambda: np.arange(3 * N)[N : 2 * N],
    "broadcast": lambda: np.broadcast_to(np.arange(200), (200, 200)),
    "read-only": lambda: _read_only(np.arange(N)),
    "read-only dates": lambda: _read_only(np.arange(N).astype("M8[s]")),
    "on bytes": lambda: np.frombuffer(bytes(range(200)) * N, np.uint8),
    "empty": lambda: np.empty((0, 5)),
    "of empty strings": lambda: np.zeros(N, "S0"),
    "0-d": lambda: np.array(5.0),
    "0-d, large": lambda: np.array("x" * N),
    "one": lambda: np.ones(1),
    "masked": lambda: np.ma.masked_less(np.arange(N), 7),
    "masked, 2-d, filled": lambda: np.ma.array(np.ones((200, 200), order="F"), mask=np.eye(200), fill_value=-1),
    "masked, structured": lambda: np.ma.array(np.zeros(N, "i4,f8"), mask=[(0, 1)] * N),
    "masked, nothing": lambda: np.ma.array(np.arange(N)),
    "matrix": lambda: np.arange(N).reshape(200, -1).view(np.matrix),
    "memmap": lambda: _memmap(),
    "a class of its own": lambda: np.arange(N).view(data.Array),
    "bytes": lambda: bytes(range(256)) * N,
    "bytearray": lambda: bytearray(range(256)) * N,
    "str": lambda: "grün" * N,
    "array": lambda: array.array("d", range(N)),
    "short array": lambda: array.array("h", [1, 2]),
    "list": lambda: [np.arange(N), bytes(N), np.arange(3), bytearray(N)],
    "dict": lambda: {"a": {"b": (np.arange(N),)}, "c": np.arange(N)},
    "dataclass": lambda: data.Point(np.arange(N), [np.ones(N)]),
    "many small": lambda: [np.full(1000, i) for i in range(100)],
    "nested views": lambda: [np.arange(N), *[np.arange(N)[i::2] for i in range(3)]],
}


def _read_only(a: Any) -> Any:
    a.flags.writeable = False
    return a


def _memmap() -> Any:
    with tempfile.TemporaryFile() as file:
        a = np.memmap(file, float, shape=(N,), mode="w+")
        a[:] = np.arange(N)
        return a


@pytest.fixture(scope="module")
def oracle() -> Any:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        yield pool


def check(compare: Callable[[Any], None]) -> None:
    """Compare each kind; what is wrong with which."""
    wrong = {}
    for name, make in KINDS.items():
        try:
            compare(make())
        except Exception as e:
            wrong[name] = e
    assert not wrong


def test_arguments_and_results(pool: zexec.Pool, oracle: Any) -> None:
    """Described there as here, and so is what comes back. The stdlib's pool agrees."""

    def compare(thing: Any) -> None:
        assert pool.apply(data.describe, (thing,)) == oracle.apply(data.describe, (thing,))
        back = pool.apply(data.echo, (thing,))
        assert data.describe(back) == data.describe(oracle.apply(data.echo, (thing,)))
        data.assert_equal(back, thing)

    check(compare)


def test_maps(pool: zexec.Pool) -> None:
    def compare(thing: Any) -> None:
        for back in pool.map(data.echo, [thing] * 5, 2):
            data.assert_equal(back, thing)

    check(compare)


def test_keywords_and_executors(way: str, nothing_left: object) -> None:
    with zexec.Executor(1) as executor:
        check(lambda thing: data.assert_equal(executor.submit(data.echo, thing=thing).result(30), thing))


def test_views(pool: zexec.Pool) -> None:
    view = pool.client[:]
    view.block = True

    def compare(thing: Any) -> None:
        view["thing"] = thing
        for back in (*view["thing"], *view.apply(data.echo, thing)):
            data.assert_equal(back, thing)

    check(compare)


def test_memoryviews(pool: zexec.Pool) -> None:
    """Which the stdlib cannot send at all."""
    for view in (
        memoryview(bytes(N)),
        memoryview(bytearray(range(100)) * N),
        memoryview(array.array("d", range(N))),
        memoryview(np.arange(N).reshape(200, -1)),
        memoryview(np.arange(N))[::2],
        memoryview(b"short"),
    ):
        back = pool.apply(data.echo, (view,))
        assert (back, back.format, back.shape) == (view, view.format, view.shape)


def test_pandas(pool: zexec.Pool) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "a": np.arange(N),
            "b": np.arange(N) * 0.5,
            "c": ["x", "y"] * (N // 2),
            "d": pandas.date_range("2020", periods=N),
        }
    )
    frame["e"] = frame["c"].astype("category")
    back = pool.apply(data.echo, (frame,))
    pandas.testing.assert_frame_equal(back, frame)
    back["a"] += 1  # it is ours
    assert pool.apply(data.column_sum, (back, "a")) == back["a"].sum()


def test_alignment(pool: zexec.Pool) -> None:
    """What arrives is aligned, whatever came before it."""
    for first in (N, N + 1, N + 3):
        arrays = [np.zeros(first, np.uint8), np.zeros(N), np.zeros(N, np.longdouble)]
        assert set(pool.apply(data.misalignments, (arrays,))) == {0}
        assert set(data.misalignments(pool.apply(data.echo, (arrays,)))) == {0}
