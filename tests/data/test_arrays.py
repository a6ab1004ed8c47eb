"""Arrays that live in shared memory, what is known of when they were sent, and types that users teach."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Iterator
from time import monotonic, sleep
from typing import Any

import numpy as np
import pytest

import zexec
from tests.helpers import data, tasks
from zexec.wire.arena import doors, memory, owner

N = 200_000


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    yield
    gc.collect()
    assert memory.blocks() == 0


# -- zexec.empty, zeros, asshared --------------------------------------------------------------------------------------


def test_they_are_numpys_arrays(nothing_left: object) -> None:
    for shape in (N, (N,), (2, 3, 4), (), 0, (0, 5), 1):
        for dtype in (float, "i1", "M8[s]", "S5", [("a", "i4"), ("b", "f8", (2,))], np.longdouble):
            for order in ("C", "F"):
                a, b = zexec.zeros(shape, dtype, order), np.zeros(shape, dtype, order)  # type: ignore[call-overload]
                assert (type(a), a.shape, a.dtype, a.strides) == (type(b), b.shape, b.dtype, b.strides)
                np.testing.assert_array_equal(a, b)
                assert not a.size or a.ctypes.data % 64 == 0
                assert a.flags.writeable
                assert zexec.empty(shape, dtype, order).shape == b.shape


def test_zeros_are_zeros_where_others_have_written(nothing_left: object) -> None:
    keep = zexec.empty(5)
    for _ in range(10):
        a = zexec.zeros(N)
        assert not a.any()
        a[:] = 7
        del a
    del keep


def test_asshared_copies_what_is_elsewhere_only(nothing_left: object) -> None:
    for b in (np.arange(N), np.asfortranarray(np.ones((20, 30))), np.arange(N)[::2], np.arange(10.0)[::-1]):
        a = zexec.asshared(b)
        np.testing.assert_array_equal(a, b)
        assert a.flags.f_contiguous >= (b.flags.f_contiguous and not b.flags.c_contiguous)
        assert zexec.asshared(a) is a
        assert a.ndim > 1 or np.shares_memory(zexec.asshared(a[1:]), a)
        assert not np.shares_memory(a, b)
    assert zexec.asshared([1, 2]).tolist() == [1, 2]


def test_what_cannot_be(nothing_left: object) -> None:
    with pytest.raises(ValueError, match="objects live in one process"):
        zexec.empty(5, object)
    with pytest.raises(ValueError, match="objects"):
        zexec.asshared(np.array([{}]))
    with pytest.raises(ValueError, match="order"):
        zexec.empty(5, order="K")
    with pytest.raises(ValueError, match="negative"):
        zexec.zeros(-1)


def test_where_there_is_no_shared_memory(pool: zexec.Pool) -> None:
    a = zexec.zeros(N)
    a[3] = 5
    assert pool.apply(data.total, (a,)) == 5


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_sent_without_a_copy(ctx: Any, nothing_left: object) -> None:
    """Made before there is a pool, made after; and the result likewise."""
    early = zexec.zeros(N)
    early[0] = 1
    with zexec.Pool(2, context=ctx) as pool:
        late = zexec.zeros(N)
        late[0] = 2
        arena = doors.arena()
        assert arena is not None
        peak = arena.peak
        assert pool.map(data.total, [early, late], 1) == [1, 2]
        assert pool.apply(data.total, (early[:10],)) == 1
        assert pool.client[:].apply_sync(data.total, late) == [2, 2]
        assert arena.peak == peak
        result = pool.options(targets=0).apply(data.shared_ones, (N,))
        assert (result.sum(), pool.options(targets=0).apply(data.arena_peak)) == (N, zexec_size(N))
        del early, late, result
    pool.join()


def zexec_size(n: int) -> int:
    """Bytes of an extent for so many doubles."""
    return -(-8 * n // 65536) * 65536


def test_a_task_writes_for_itself(shared: zexec.Pool) -> None:
    a = zexec.zeros(N)
    assert (shared.apply(data.fill, (a, 3.0)) == 3).all()
    assert not a.any()
    with pytest.raises(zexec.RemoteError, match="read-only"):
        shared.client[0].apply_sync(data.fill, a, 3.0)


def test_they_keep_their_segment_and_no_longer(shared: zexec.Pool) -> None:
    arena = doors.arena()
    assert arena is not None
    a = zexec.zeros(N)
    part = a[10:20][::2]
    del a
    assert arena.free == 0
    part += 1
    assert arena.free == 0
    del part
    assert arena.free == arena.taken


def test_the_arena_goes_with_the_last_that_needs_it(nothing_left: object) -> None:
    a = zexec.zeros(N)
    with zexec.Pool(1) as pool:
        assert pool.apply(data.total, (a,)) == 0
        door = doors.arena().door.token  # type: ignore[union-attr]
    pool.join()
    with zexec.Pool(1) as pool:
        assert doors.arena().door.token == door  # type: ignore[union-attr]
        assert pool.apply(data.total, (a,)) == 0
    pool.join()
    del a


def test_what_is_idle_is_given_back(monkeypatch: pytest.MonkeyPatch, nothing_left: object) -> None:
    """By a pool that has nothing to do, and by its engines."""
    monkeypatch.setattr(owner, "KEEP", 0.1)
    with zexec.Pool(1, context=multiprocessing.get_context("fork")) as pool:
        pool.apply(data.doubled, (np.ones(N),))
        arena = doors.arena()
        assert arena is not None
        assert arena.peak > 0
        until = monotonic() + 30
        while (arena.taken or pool.apply(data.arena_state)[0]) and monotonic() < until:
            sleep(0.05)
        assert (arena.taken, pool.apply(data.arena_state)) == (0, (0, 0))
        assert pool.apply(data.doubled, (np.ones(N),))[0] == 2
    pool.join()


# -- when it was sent --------------------------------------------------------------------------------------------------


def test_ordinary_arrays_are_sent_at_once(pool: zexec.Pool) -> None:
    view = pool.client[:]
    view.track = True
    a = np.zeros(N)
    with data.held(pool):
        result = view.apply_async(data.total, a)
        assert result.sent
        result.wait_on_send(0)
        a[:] = 1
    assert result.get(30) == [0, 0]


def test_shared_ones_when_nobody_has_them(shared: zexec.Pool) -> None:
    view = shared.client[:]
    view.track = True
    a = zexec.zeros(N)
    with data.held(shared):
        result = view.apply_async(data.total, a)
        assert not result.sent
        with pytest.raises(zexec.TimeoutError, match="still being used"):
            result.wait_on_send(0.01)
        a[:] = 1  # before it is sent: may be seen
    result.wait_on_send(30)
    assert result.sent
    assert result.get(30) in ([0, 0], [N, N], [0, N], [N, 0])


def test_and_not_as_long_as_an_engine_keeps_one(shared: zexec.Pool) -> None:
    view = shared.client[:]
    a = zexec.zeros(N)
    result = view.push({"a": a}, block=False)
    result.get(30)
    assert not result.sent
    a[:] = 1
    assert [each.sum() for each in view["a"]] == [N, N]  # which is what "not sent" means
    view.clear(block=True)
    result.wait_on_send(30)
    assert result.sent


def test_waiting_for_that_is_for_an_event(shared: zexec.Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine says when it lets go. (Only one that is killed does not.)"""
    from zexec.wire.arena import waiting

    looks: list[float] = []

    def look(self: Any, count: int, seconds: float, wait: Any = waiting.Releases.wait) -> None:
        looks.append(seconds)
        wait(self, count, seconds)

    monkeypatch.setattr(waiting, "LOOK", 100.0)
    monkeypatch.setattr(waiting.Releases, "wait", look)
    one = shared.client[0]
    result = one.push({"a": zexec.zeros(N)}, block=False)
    result.get(30)
    waiter = threading.Thread(target=result.wait_on_send, args=(50,))
    waiter.start()
    assert tasks.until(lambda: looks)
    one.clear(block=True)
    waiter.join(30)
    assert not waiter.is_alive()
    assert result.sent
    assert len(looks) < 10


@pytest.mark.parametrize("host", ["thread"])
def test_an_engine_that_is_killed_lets_go_as_well(shared: zexec.Pool) -> None:
    one = shared.options(targets=0)
    result = shared.client[0].push({"a": zexec.zeros(N)}, block=False)
    result.get(30)
    with pytest.raises(zexec.EngineDied):
        one.apply(os._exit, (1,))
    result.wait_on_send(30)


def test_after_that_no_engine_sees_a_change(shared: zexec.Pool) -> None:
    view = shared.client[0]
    a = zexec.zeros(N)
    for i in range(20):
        a[:] = i
        result = view.apply_async(data.total, a)
        result.wait_on_send(30)
        a[:] = -1
        assert result.get(30) == i * N


# -- serializers -------------------------------------------------------------------------------------------------------


@pytest.fixture
def registered() -> Iterator[None]:
    from zexec.wire import reducers

    before = reducers._serializers
    zexec.register_serializer(data.Table, data.parts_of_table, data.table_of_parts)
    yield
    reducers._serializers = before
    reducers._changes += 1


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_type_is_sent_its_own_way_in_both_directions(ctx: Any, registered: None, nothing_left: object) -> None:
    with zexec.Pool(1, context=ctx) as pool:
        made = pool.apply(data.make_table, (N,))  # an engine that has seen none
        assert (made.how, made.column.sum()) == ("deserialized", N)
        back = pool.apply(data.echo, ({"x": [data.Table(np.arange(N))]},))["x"][0]
        assert (back.how, back.column[-1]) == ("deserialized", N - 1)
        back.column[0] = 5  # writable, as all that a pool gives
        assert pool.client[0].apply_sync(data.how_it_came, data.Table(np.arange(N))) == ("deserialized", False)
    pool.join()


def test_its_buffers_are_not_copied(registered: None, shared: zexec.Pool) -> None:
    from tests.data.test_sharing import allocated

    table = data.Table(np.ones(N))
    assert allocated(lambda: shared.apply(data.nothing, (table,))) < 100_000


def test_subclasses_only_if_wanted(registered: None, shared: zexec.Pool) -> None:
    assert shared.apply(data.how_it_came, (data.WideTable(np.ones(N)),)) == ("pickled", True)
    zexec.register_serializer(data.Table, data.parts_of_table, data.table_of_parts, subclasses=True)
    assert shared.apply(data.how_it_came, (data.WideTable(np.ones(N)),)) == ("deserialized", True)


def test_by_protocol(registered: None, shared: zexec.Pool) -> None:
    zexec.register_serializer(data.Blobby, data.blob_of, data.of_blob, subclasses=True)
    assert shared.apply(data.echo, (data.HasBlob(b"x" * N),)).came == "as a blob"
    assert shared.apply(data.echo, ([1, {"a": np.ones(3)}],))[0] == 1  # others are as they were


def test_engines_learn_from_what_arrives(shared: zexec.Pool) -> None:
    """Registered after they have been started."""
    from zexec.wire import reducers

    before = reducers._serializers
    one = shared.options(targets=0)
    one.apply(data.nothing, (1,))
    zexec.register_serializer(data.Table, data.parts_of_table, data.table_of_parts)
    try:
        assert one.apply(data.echo, (data.Table(np.ones(N)),)).how == "deserialized"
        assert one.apply(data.make_table, (N,)).how == "deserialized"
    finally:
        reducers._serializers = before
        reducers._changes += 1


def test_what_is_no_serializer() -> None:
    with pytest.raises(TypeError, match="for a type"):
        zexec.register_serializer(5, id, id)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="callable"):
        zexec.register_serializer(int, id, None)  # type: ignore[arg-type]


def test_pyarrow_tables(registered: None, shared: zexec.Pool) -> None:
    """Need none: they have buffers as of pickle's protocol 5. docs/data.md shows one for streams all the same."""
    pyarrow = pytest.importorskip("pyarrow")
    table = pyarrow.table({"a": np.arange(N), "b": ["x"] * N})
    assert shared.apply(data.echo, (table,)).equals(table)
