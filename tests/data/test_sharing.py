"""Who may write, who sees it, how many segments and copies there are, and what keeps a segment."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import zexec
from tests.helpers import data, tasks
from zexec.wire import bundles
from zexec.wire.arena import doors, memory
from zexec.wire.arena.owner import Arena

N = 200_000  # doubles: 1.6 MB


@pytest.fixture
def arena(shared: zexec.Pool) -> Iterator[Arena]:
    """This process's. Afterwards nobody has anything of it."""
    arena = doors.arena()
    assert arena is not None
    arena.trim(0)
    yield arena
    gc.collect()
    assert memory.blocks() == 0


# -- writing ---------------------------------------------------------------------------------------------------------


def test_arguments_and_results_of_a_pool_can_be_written_to(pool: zexec.Pool) -> None:
    a = np.zeros(N)
    back = pool.apply(data.fill, (a, 1.0))
    assert not a.any()
    assert (back == 1).all()
    back += 1
    assert (pool.apply(data.fill, (back, 5.0)) == 5).all()
    assert (back == 2).all()


def test_no_task_sees_what_another_wrote(pool: zexec.Pool) -> None:
    a = np.zeros(N)
    found = pool.map(data.add_and_sum, [(a, i) for i in range(20)], 1)
    assert found == [float(i * N) for i in range(20)]
    # And within one chunk, where the stdlib's items share an object too, if they are one.
    assert pool.map(data.add_and_sum, [(a.copy(), i) for i in range(20)], 10) == [float(i * N) for i in range(20)]


def test_no_result_changes_with_another(pool: zexec.Pool) -> None:
    """Neither what two clients of one result got, nor what a task keeps and gives again."""
    one, two = (pool.client[0].apply_sync(data.keep_and_give, i, N).copy() for i in (1.0, 2.0))
    assert ((one == 1).all(), (two == 2).all()) == (True, True)
    results = [pool.apply(data.ones, (N,)) for _ in range(5)]
    results[0][:] = 7
    assert all((each == 1).all() for each in results[1:])


def test_those_of_views_cannot(pool: zexec.Pool) -> None:
    view = pool.client[0]
    a = np.zeros(N)
    for send in (a, np.zeros(2)):
        with pytest.raises(zexec.RemoteError, match="read-only"):
            view.apply_sync(data.fill, send, 1.0)
    for size in (N, 2):
        back = view.apply_sync(data.ones, size)
        assert not back.flags.writeable
        with pytest.raises(ValueError, match="WRITEABLE"):
            back.flags.writeable = True
    view.push({"a": a}, block=True)
    assert not view.apply_sync(lambda: a.flags.writeable)


def test_unless_asked_for(pool: zexec.Pool) -> None:
    view = pool.client[0]
    view.copy = True
    a = np.zeros(N)
    back = view.apply_sync(data.fill, a, 1.0)
    back += 1
    assert ((back == 2).all(), a.any()) == (True, False)


def test_pushed_names_are_each_engines_own(pool: zexec.Pool) -> None:
    view = pool.client[:]
    view.copy = True
    view.push({"a": np.zeros(N)}, block=True)
    pool.client[0].execute("a = a.copy(); a[:] = 1", block=True)
    assert [a.sum() for a in view["a"]] == [N, 0]


def test_changes_after_the_call_are_not_seen(pool: zexec.Pool) -> None:
    """The engines are held, so that none of the tasks has started when the array changes."""
    a = np.zeros(N)
    with data.held(pool) as release:
        results = [pool.apply_async(data.total, (a,)), pool.map_async(data.total, [a, a], 1)]
        results += [pool.starmap_async(data.total, [(a,)]), pool.client[0].apply_async(data.total, a)]
        lazily = pool.imap(data.total, [a], 1)
        wait_until_drawn(lazily)
        a[:] = 1
        release()
        assert [np.sum(r.get(30)) for r in results] == [0, 0, 0, 0]
        assert next(lazily) == 0


def wait_until_drawn(lazily: Any) -> None:
    while not lazily._exhausted:
        with lazily._cond:
            lazily._cond.wait(0.01)


# -- segments --------------------------------------------------------------------------------------------------------


def test_one_segment_for_all_who_get_the_same(arena: Arena, shared: zexec.Pool) -> None:
    view = shared.client[:]
    view.push({"a": np.ones(N)}, block=True)
    assert arena.peak < 8 * N * 1.1
    assert view.apply_sync(data.total, np.ones(N)) == [N, N]
    view.push({"a": None}, block=True)
    assert tasks.until(lambda: arena.free == arena.taken)
    view.apply_sync(data.total, np.ones(N))
    assert arena.peak < 2 * 8 * N * 1.1


def test_scattered_parts_are_copied_once(arena: Arena, shared: zexec.Pool) -> None:
    view = shared.client[:]
    a = np.arange(2 * N)
    view.scatter("a", a, block=True)
    assert 8 * 2 * N <= arena.peak < 8 * 2 * N * 1.2
    np.testing.assert_array_equal(view.gather("a", block=True), a)


def test_what_came_back_read_only_is_sent_on_as_it_is(arena: Arena, shared: zexec.Pool) -> None:
    view = shared.client[:]
    a = shared.client[0].apply_sync(data.ones, N)
    assert view.apply_sync(data.total, a) == [N, N]
    assert view.apply_sync(data.total, a[10:20]) == [10, 10]
    assert shared.apply(data.fill, (a, 3.0)).sum() == 3 * N
    assert arena.peak == 0


def test_and_so_is_what_an_engine_was_sent(arena: Arena, shared: zexec.Pool) -> None:
    one = shared.client[0]
    one.push({"a": np.arange(N)}, block=True)
    before = arena.peak
    back = one["a"]
    np.testing.assert_array_equal(back, np.arange(N))
    assert (one.apply_sync(data.arena_peak), arena.peak) == (0, before)


@pytest.mark.parametrize("what", ["nothing", "read", "first", "last", "the same value", "a small part", "a large part"])
def test_an_argument_that_is_given_back_is_copied_only_where_it_was_written_to(
    arena: Arena, shared: zexec.Pool, what: str
) -> None:
    """Writable or not: whether a task has written to it the system knows."""
    a = np.arange(N, dtype=float)
    one = shared.options(targets=0)
    back = one.apply(data.after, (a, what))
    np.testing.assert_array_equal(back, data.after(a.copy(), what))
    is_copied = what in ("first", "last", "the same value", "a small part")
    assert (one.apply(data.arena_peak) > 0) == is_copied
    back[:] = 7
    assert (one.apply(data.echo, (back,)) == 7).all()
    assert one.apply(data.total, (a,)) == a.sum()


def test_several_results_of_one_array_are_each_their_own(arena: Arena, shared: zexec.Pool) -> None:
    a = np.ones(N)
    left, right, whole = shared.apply(data.echo, ([a[: N // 2], a[N // 2 :], a],))
    left[:] = 2
    right[:] = 3
    assert (whole == 1).all()
    assert (a == 1).all()


@pytest.mark.parametrize("kind", ["empty", "result"])
def test_what_its_owner_may_write_to_is_given_back_as_it_was(arena: Arena, shared: zexec.Pool, kind: str) -> None:
    """Arrays that live in shared memory: those of this process, and of an engine."""
    if kind == "empty":
        a = zexec.empty(N)
        a[:] = 1
        back = shared.apply(data.echo, (a,))
        a[:] = 2
    else:
        one, two = shared.client[0], shared.options(targets=1)
        one.apply_sync(data.put, 1)
        back = two.apply(data.echo, (shared.options(targets=0).apply(data.put_shared, (N,)),))
        one.apply_sync(data.fill_kept, 2.0)
    assert (back == 1).all()


@pytest.mark.parametrize("file", ["/proc/self/nothing", "/dev/null", "/dev/zero"])
def test_where_the_system_does_not_tell(monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """Then everything that may have been written to is copied."""
    view = bundles.plain_memory(1 << 20)
    monkeypatch.setattr(memory, "_PAGEMAP", file)
    monkeypatch.setattr(memory, "_tells", None)
    assert not memory.is_untouched(memory.address_of(view), len(view))
    assert memory._tells is False


@pytest.mark.parametrize(
    "how", ["kept", "a slice", "a slice of a slice", "in an object", "transposed", "in an exception"]
)
def test_what_keeps_a_segment(arena: Arena, shared: zexec.Pool, how: str) -> None:
    """In the engine: its client's segment is in use until the last that refers to it is gone."""
    taken = shared.apply(data.keep, (np.ones((2, N)), how))
    assert taken == 1
    everything = arena.taken
    assert arena.free == 0
    for _ in range(3):  # others come and go
        shared.apply(data.total, (np.zeros(N),))
    assert shared.client[:].apply_sync(data.sum_of_kept).count(None) <= 1
    assert max(filter(None, shared.client[:].apply_sync(data.sum_of_kept))) in (10, 5, N, 2 * N)
    shared.client[:].apply_sync(data.let_go)
    arena.trim(0)
    assert (everything > 0, arena.taken) == (True, 0)


PARTS: dict[str, Callable[[Any], Any]] = {
    "all": lambda a: a,
    "a slice": lambda a: a[0, 10:20],
    "a slice of a slice": lambda a: a[0, 10:20][::2],
    "in an object": lambda a: {"x": [a[1]]},
    "a memoryview": lambda a: memoryview(a)[1:],
    "transposed": lambda a: a.T,
}


@pytest.mark.parametrize("part", PARTS)
def test_what_keeps_a_result(arena: Arena, shared: zexec.Pool, part: str) -> None:
    """Here: the engine's segment is in use until the last that refers to it is gone."""
    one = shared.options(targets=0)
    kept = PARTS[part](one.apply(data.ones, ((2, N),)))
    gc.collect()
    taken, free = one.apply(data.arena_state)
    assert (taken >= 2 * 8 * N, free) == (True, 0)
    del kept
    assert one.apply(data.arena_state) == (taken, taken)


# -- copies ----------------------------------------------------------------------------------------------------------


def allocated(call: Callable[[], Any]) -> int:
    """The most memory that was allocated at a time during a call, by what Python and numpy count; segments are not."""
    call()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        call()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


THINGS: dict[str, Callable[[], Any]] = {
    "an array": lambda: np.ones(N),
    "Fortran": lambda: np.asfortranarray(np.ones((400, N // 400))),
    "not contiguous": lambda: np.ones(2 * N)[::2],
    "transposed": lambda: np.ones((20, 100, N // 2000)).transpose(1, 0, 2),
    "read-only": lambda: np.broadcast_to(np.ones(N), (N,)),
    "dates": lambda: np.zeros(N, "M8[s]"),
    "structured": lambda: np.zeros(N, "f4,i4"),
    "masked": lambda: np.ma.masked_less(np.ones(N), 0.5),
    "a memmap": lambda: data.memmap(N),
    "a list of arrays": lambda: [np.ones(N // 10) for _ in range(10)],
    "a dataclass": lambda: data.Point(np.ones(N), []),
    "bytes": lambda: bytes(8 * N),
    "a bytearray": lambda: bytearray(8 * N),
    "a memoryview": lambda: memoryview(bytes(8 * N)),
    "array.array": lambda: data.standard_array(N),
}


#: what has memory of its own wherever it is. (An array.array takes a sixteenth more, to grow.)
OWN_MEMORY = {"bytes": 8 * N, "a bytearray": 8 * N, "array.array": 9 * N}


@pytest.mark.parametrize("name", THINGS)
def test_a_call_copies_into_the_segment_and_nowhere_else(arena: Arena, shared: zexec.Pool, name: str) -> None:
    thing = THINGS[name]()
    assert allocated(lambda: shared.apply(data.nothing, (thing,))) < 100_000
    assert allocated(lambda: shared.map(data.nothing, [thing], 1)) < 100_000
    assert arena.peak <= 6 * (8 * N + 10 * 65536)
    view = shared.client[0]
    assert allocated(lambda: view.apply_sync(data.nothing, thing)) < 100_000


@pytest.mark.parametrize("name", THINGS)
def test_the_engine_copies_nothing(arena: Arena, shared: zexec.Pool, name: str) -> None:
    """But for bytes and the like, which cannot be anywhere but in memory of their own."""
    thing = THINGS[name]()
    size = OWN_MEMORY.get(name, 0)
    one = shared.options(targets=0)
    one.apply(data.nothing, (thing,))  # which imports what it needs
    for _ in range(2):
        one.apply(data.trace)
        one.apply(data.nothing, (thing,))
        assert one.apply(data.traced) < 100_000 + size


@pytest.mark.parametrize("name", THINGS)
def test_results_neither(arena: Arena, shared: zexec.Pool, name: str) -> None:
    """The engine copies into its segment; here they are mapped."""
    one = shared.options(targets=0)
    one.apply(data.put, (THINGS[name](),))
    size = OWN_MEMORY.get(name, 0)
    assert allocated(lambda: one.apply(data.get)) < 100_000 + size
    one.apply(data.trace)
    one.apply(data.get)
    assert one.apply(data.traced) < 100_000


@pytest.mark.parametrize("name", ["an array", "not contiguous", "bytes", "a list of arrays", "masked"])
def test_by_frames_a_call_makes_one_copy(monkeypatch: pytest.MonkeyPatch, nothing_left: object, name: str) -> None:
    monkeypatch.setenv("ZEXEC_SHM_BYTES", "0")
    thing = THINGS[name]()
    again = 8 * N if name == "not contiguous" else 0  # it has to be made contiguous first
    with zexec.Pool(1) as pool:
        assert allocated(lambda: pool.apply(data.nothing, (thing,))) < 100_000 + again
        pool.apply(data.put, (thing,))
        pool.apply(data.trace)
        pool.apply(data.nothing, (thing,))
        assert pool.apply(data.traced) < 8 * N + 300_000 + OWN_MEMORY.get(name, 0)
    pool.join()


def test_pandas_frames(arena: Arena, shared: zexec.Pool) -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({name: np.ones(N) for name in "abc"})
    assert allocated(lambda: shared.apply(data.nothing, (frame,))) < 200_000
