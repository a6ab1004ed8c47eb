"""What tests of large data run on engines, and how they compare."""

from __future__ import annotations

import array
import dataclasses
import gc
import os
import tempfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, runtime_checkable

import numpy as np

import zexec


class Array(np.ndarray):  # type: ignore[type-arg]
    """An array of a class of its own."""


@dataclasses.dataclass
class Point:
    a: Any
    b: list[Any]


def echo(thing: Any) -> Any:
    return thing


def describe(thing: Any) -> Any:
    """What a receiver can see of it, but for its values."""
    if isinstance(thing, np.ma.MaskedArray):
        return type(thing), thing.dtype, thing.shape, thing.flags.writeable, repr(thing.fill_value)
    if isinstance(thing, np.ndarray):
        order = (thing.flags.c_contiguous, thing.flags.f_contiguous)
        # The stdlib has numbers arrive in this machine's byte order, zexec in their own.
        return type(thing), thing.dtype.newbyteorder("="), thing.shape, order, thing.flags.writeable
    if isinstance(thing, dict):
        return {key: describe(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return type(thing), [describe(each) for each in thing]
    if dataclasses.is_dataclass(thing):
        return type(thing), [describe(getattr(thing, field.name)) for field in dataclasses.fields(thing)]
    return type(thing), len(thing)


def assert_equal(a: Any, b: Any) -> None:
    assert type(a) is type(b)
    if isinstance(a, np.ma.MaskedArray):
        np.testing.assert_array_equal(a.filled(), b.filled())
        np.testing.assert_array_equal(np.ma.getmaskarray(a), np.ma.getmaskarray(b))
    elif isinstance(a, np.ndarray):
        assert a.dtype == b.dtype
        if a.dtype == object:
            assert_equal(list(a), list(b))
        else:
            np.testing.assert_array_equal(a, b)
    elif isinstance(a, (list, tuple)):
        for one, other in zip(a, b, strict=True):
            assert_equal(one, other)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        assert_equal(list(a.values()), list(b.values()))
    elif dataclasses.is_dataclass(a):
        for field in dataclasses.fields(a):
            assert_equal(getattr(a, field.name), getattr(b, field.name))
    else:
        assert a == b


def column_sum(frame: Any, name: str) -> Any:
    return frame[name].sum()


def misalignments(arrays: list[Any]) -> list[int]:
    """By how many bytes the beginnings miss a multiple of 16."""
    return [a.ctypes.data % 16 for a in arrays]


class Counted:
    """Holds an array, and counts how often it is pickled."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.pickled = 0

    def __getstate__(self) -> dict[str, Any]:
        self.pickled += 1
        return {"array": self.array, "pickled": 0}

    def add(self, i: int) -> tuple[int, float, int]:
        """Change the array. The argument, what is in it now, and where."""
        self.array[0] += 1
        return i, self.array.sum(), os.getpid()

    __call__ = add

    def add_two(self, _: int, i: int) -> tuple[int, float, int]:
        return self.add(i)


def add(counted: Counted, i: int) -> tuple[int, float, int]:
    return counted.add(i)


# -- writing, and keeping ----------------------------------------------------------------------------------------------


def fill(a: Any, value: float) -> Any:
    a[:] = value
    return a


def add_and_sum(pair: tuple[Any, float]) -> float:
    a, value = pair
    a += value
    return float(a.sum())


def total(a: Any) -> float:
    return float(a.sum())


def doubled(a: Any) -> Any:
    return a * 2


def ends(a: Any) -> tuple[float, float, int]:
    return a[0], a[-1], a.nbytes


def ramp(n: int) -> Any:
    return np.arange(n, dtype=float)


def peak_of(_: int) -> int:
    return arena_peak()


def ones(shape: Any) -> Any:
    return np.ones(shape)


def nothing(thing: Any) -> None:
    pass


def memmap(n: int) -> Any:
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, float, shape=(n,), mode="w+")


def standard_array(n: int) -> Any:
    return array.array("d", bytes(8 * n))


_kept: dict[str, Any] = {}


class Kept(Exception):
    """Refers to an array."""


def keep_and_give(value: float, n: int) -> Any:
    """Write to an array that stays here, and give it away."""
    a = _kept.setdefault("given", np.zeros(n))
    a[:] = value
    return a


def keep(a: Any, how: str) -> int:
    if how == "kept":
        _kept["a"] = a
    elif how == "a slice":
        _kept["a"] = a[0, 10:20]
    elif how == "a slice of a slice":
        _kept["a"] = a[0, 10:20][::2]
    elif how == "in an object":
        _kept["a"] = {"x": [(a[0],)]}
    elif how == "transposed":
        _kept["a"] = a.T
    else:
        try:
            raise Kept(a[0])
        except Kept as e:
            _kept["a"] = e
    return 1


def sum_of_kept() -> float | None:
    a = _kept.get("a")
    if a is None:
        return None
    if isinstance(a, dict):
        a = a["x"][0][0]
    if isinstance(a, Kept):
        a = a.args[0]
    return float(a.sum())


def let_go() -> None:
    _kept.clear()
    gc.collect()


def after(a: Any, what: str) -> Any:
    """Give an array, or a part of it, back, after having looked at it or written to it."""
    if what == "read":
        assert a.sum() >= 0
    elif what == "first":
        a[0] = 5
    elif what == "last":
        a[-1] = 5
    elif what == "the same value":
        a[1000] = a[1000]
    elif what == "a small part":
        return a[: len(a) // 4]
    elif what == "a large part":
        return a[len(a) // 4 :]
    return a


def begin_anew() -> None:
    """In an engine that others have used."""
    from zexec.wire.arena import doors

    let_go()
    arena = doors.arena()
    if arena is not None:
        arena.trim(0)
        arena.peak = arena.taken


def put(thing: Any) -> None:
    _kept["thing"] = thing


def put_shared(n: int) -> Any:
    """An array of ones that lives in the arena here: kept, and given."""
    _kept["thing"] = a = zexec.empty(n)
    a[:] = 1
    return a


def fill_kept(value: float) -> None:
    _kept["thing"][:] = value


def get() -> Any:
    return _kept["thing"]


def trace() -> None:
    gc.collect()
    tracemalloc.stop()
    tracemalloc.start()


def traced() -> int:
    """The most memory allocated at a time since ``trace``."""
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def arena_peak() -> int:
    from zexec.wire.arena import doors

    arena = doors.arena()
    return 0 if arena is None else arena.peak


def forget_peak() -> None:
    """From now on ``arena_peak`` says what is taken from now on."""
    from zexec.wire.arena import doors

    gc.collect()
    arena = doors.arena()
    if arena is not None:
        arena.trim(0)
        arena.peak = arena.taken


def arena_state() -> tuple[int, int]:
    """Bytes taken and free, of this process's arena."""
    from zexec.wire.arena import doors

    gc.collect()
    arena = doors.arena()
    return (0, 0) if arena is None else (arena.taken, arena.free)


# -- types with ways of their own --------------------------------------------------------------------------------------


class Table:
    """Says how it came to be."""

    how = "made"

    def __init__(self, column: Any) -> None:
        self.column = column

    def __reduce__(self) -> Any:
        return _pickled, (type(self), self.column)


def _pickled(kind: type[Table], column: Any) -> Table:
    table = kind(column)
    table.how = "pickled"
    return table


class WideTable(Table):
    """Is a Table."""


def parts_of_table(table: Table) -> list[Any]:
    return [table.column]


def table_of_parts(parts: list[Any]) -> Table:
    table = Table(parts[0])
    table.how = "deserialized"
    return table


def make_table(n: int) -> Table:
    return Table(np.ones(n))


def how_it_came(table: Table) -> tuple[str, bool]:
    return table.how, table.column.flags.writeable


@runtime_checkable
class Blobby(Protocol):
    def blob(self) -> bytes: ...


class HasBlob:
    came = "made"

    def __init__(self, data: bytes) -> None:
        self._data = data

    def blob(self) -> bytes:
        return self._data


def blob_of(blobby: Blobby) -> bytes:
    return blobby.blob()


def of_blob(data: bytes) -> HasBlob:
    blob = HasBlob(data)
    blob.came = "as a blob"
    return blob


def shared_ones(n: int) -> Any:
    a = zexec.empty(n)
    a[:] = 1
    return a


# -- holding engines ---------------------------------------------------------------------------------------------------


@contextmanager
def held(pool: Any) -> Iterator[Callable[[], None]]:
    """Keep all engines of a pool busy until what this gives is called."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        ready, gate = (os.path.join(folder, name) for name in ("ready", "gate"))
        os.mkfifo(ready)
        os.mkfifo(gate)
        # For both directions, so that nobody waits for anybody to open it.
        there, *ends = (os.open(path, os.O_RDWR) for path in (ready, gate))
        busy = [pool.options(targets=i).apply_async(wait_at, (ready, gate)) for i in range(len(pool._pool))]
        for _ in busy:
            os.read(there, 1)
        os.close(there)

        def release() -> None:
            while ends:
                os.close(ends.pop())

        try:
            yield release
        finally:
            release()
            for each in busy:
                each.get(30)


def wait_at(ready: str, gate: str) -> None:
    with open(gate, "rb", 0) as file:
        with open(ready, "wb", 0) as here:
            here.write(b".")
        file.read(1)


# -- in a cluster ------------------------------------------------------------------------------------------------------


def spoil_and_die_once(a: Any, path: str) -> float:
    from tests.helpers import tasks

    if not tasks.lines(path):
        tasks.append(path, "died")
        a[:] = 9
        os._exit(1)
    return float(a.sum())


def doubled_when(a: Any, path: str, started: str | None = None) -> Any:
    from tests.helpers import tasks

    if started is not None:
        tasks.touch(started)
    tasks.wait_for(path)
    return 2 * a


def ramp_when(n: int, path: str) -> Any:
    from tests.helpers import tasks

    tasks.wait_for(path)
    return ramp(n)
