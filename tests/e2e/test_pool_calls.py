"""Every call of a Pool gives what the stdlib's gives: each test runs against multiprocessing.Pool first."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

from tests.e2e.conftest import MakePool
from tests.helpers import saboteurs, tasks


@pytest.fixture
def p(both: MakePool) -> Any:
    return both(2)


def test_apply(p: Any) -> None:
    assert p.apply(tasks.add, (1, 2)) == 3
    assert p.apply(tasks.add, (1,), {"y": 5}) == 6
    assert p.apply(tasks.add, [1]) == 101
    assert p.apply(tasks.echo, iter("ab")) == ("a", "b")
    assert p.apply(tasks.echo) == ()
    assert p.apply(tasks.echo, (1,), {"args_": 2, "func": 3, "timeout": 4}) == (
        (1,),
        {"args_": 2, "func": 3, "timeout": 4},
    )


def test_apply_async(p: Any) -> None:
    results = [p.apply_async(tasks.double, (i,)) for i in range(20)]
    assert [r.get(10) for r in results] == [2 * i for i in range(20)]
    assert all(r.ready() and r.successful() for r in results)


@pytest.mark.parametrize("size", [0, 1, 2, 7, 8, 9, 100])
@pytest.mark.parametrize("chunksize", [None, 1, 3, 1000])
def test_map(p: Any, size: int, chunksize: int | None) -> None:
    assert p.map(tasks.double, range(size), chunksize) == [2 * i for i in range(size)]


@pytest.mark.parametrize("kind", [list, tuple, iter, set, dict.fromkeys, lambda r: (i for i in r), lambda r: r])
def test_map_takes_any_iterable(p: Any, kind: Any) -> None:
    assert sorted(p.map(tasks.double, kind(range(5)))) == [0, 2, 4, 6, 8]


def test_map_takes_strings_and_bytes(p: Any) -> None:
    assert p.map(tasks.double, "abc") == ["aa", "bb", "cc"]
    assert p.map(tasks.double, b"ab") == [194, 196]
    assert p.starmap(tasks.echo, ["ab", "cd"]) == [("a", "b"), ("c", "d")]


def test_map_async(p: Any) -> None:
    r = p.map_async(tasks.double, [1, 2, 3], chunksize=2)
    r.wait()
    assert r.ready()
    assert r.successful()
    assert r.get() == [2, 4, 6]


def test_starmap(p: Any) -> None:
    assert p.starmap(tasks.add, [(1, 2), (3,), [4, 5], iter((6, 7))][:3]) == [3, 103, 9]
    assert p.starmap(tasks.add, (), 3) == []
    assert p.starmap_async(tasks.add, zip(range(5), range(5), strict=True), 2).get(10) == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("chunksize", [1, 2, 7])
@pytest.mark.parametrize("size", [0, 1, 20])
def test_imap(p: Any, size: int, chunksize: int) -> None:
    assert list(p.imap(tasks.double, range(size), chunksize)) == [2 * i for i in range(size)]
    assert sorted(p.imap_unordered(tasks.double, range(size), chunksize)) == [2 * i for i in range(size)]


def test_imap_has_next_with_timeout(p: Any, flag: Any) -> None:
    release = flag("release")
    it = p.imap(tasks.wait_for, [release])
    with pytest.raises(multiprocessing.TimeoutError):
        it.next(timeout=0.01)
    with pytest.raises(multiprocessing.TimeoutError):
        it.next(0)
    tasks.touch(release)
    assert it.next(10) is True
    with pytest.raises(StopIteration):
        it.next(1)
    with pytest.raises(StopIteration):
        next(it)
    assert iter(it) is it


@pytest.mark.parametrize("name", ["imap", "imap_unordered"])
def test_an_item_that_fails_does_not_end_an_imap(p: Any, name: str) -> None:
    it = getattr(p, name)(tasks.fail_if_odd, range(4))
    seen: list[Any] = []
    while True:
        try:
            seen.append(next(it))
        except StopIteration:
            break
        except ValueError as e:
            seen.append(str(e))
    assert sorted(seen, key=str) == [0, "1 is odd", 2, "3 is odd"]


@pytest.mark.parametrize("chunksize", [1, 2, 5])
def test_an_item_that_fails_fails_the_map(p: Any, chunksize: int) -> None:
    # Of several, the stdlib raises the one that came first.
    with pytest.raises(ValueError, match="is odd"):
        p.map(tasks.fail_if_odd, range(6), chunksize)
    r = p.map_async(tasks.fail_if_odd, range(2), chunksize)
    with pytest.raises(ValueError, match="1 is odd"):
        r.get(10)
    assert r.ready()
    assert not r.successful()


def test_the_exception_is_the_original_with_the_traceback_as_its_cause(p: Any) -> None:
    r = p.apply_async(tasks.reciprocal, (0,))
    with pytest.raises(ZeroDivisionError, match="division by zero") as caught:
        r.get(10)
    cause = caught.value.__cause__
    assert type(cause) is multiprocessing.pool.RemoteTraceback  # type: ignore[attr-defined]
    assert "in reciprocal" in str(cause)
    assert 'tasks.py", line' in str(cause)
    assert caught.value.args == ("division by zero",)


def test_an_input_that_fails_fails_the_map(p: Any) -> None:
    for call in (p.map, p.map_async, p.starmap):
        with pytest.raises(ZeroDivisionError, match="the input failed"):
            call(tasks.double, tasks.broken_after(3))


@pytest.mark.parametrize("chunksize", [1, 2, 10])
def test_an_input_that_fails_fails_the_imap_at_its_place(p: Any, chunksize: int) -> None:
    it = p.imap(tasks.double, tasks.broken_after(4), chunksize)
    whole = 4 // chunksize * chunksize
    assert [next(it) for _ in range(whole)] == [0, 2, 4, 6][:whole]
    seen = []
    with pytest.raises(ZeroDivisionError, match="the input failed"):
        while True:
            seen.append(next(it))
    # The stdlib drops what was drawn of an unfinished chunk; we hand it out.
    assert seen in ([], [0, 2, 4, 6][whole:])
    with pytest.raises(StopIteration):
        next(it)


def test_an_input_that_fails_fails_the_unordered_imap(p: Any) -> None:
    it = p.imap_unordered(tasks.double, tasks.broken_after(3))
    with pytest.raises(ZeroDivisionError, match="the input failed"):
        for _ in range(4):
            next(it)
    assert p.map(tasks.double, [1]) == [2]


def test_results_come_in_order_however_long_they_take(p: Any) -> None:
    durations = [0.03, 0.0, 0.02, 0.0, 0.01, 0.0]
    assert p.map(tasks.nap, durations, 1) == durations
    assert list(p.imap(tasks.nap, durations)) == durations


def test_imap_unordered_gives_what_is_there_first(p: Any, flag: Any) -> None:
    release = flag("release")
    it = p.imap_unordered(tasks.hold_or_return, [(release, "slow"), (None, "fast")])
    assert it.next(10) == "fast"
    tasks.touch(release)
    assert it.next(10) == "slow"


def test_default_chunksize_is_a_quarter_of_each_engines_share(both: MakePool) -> None:
    p = both(2)
    # 100 items on 2 engines: 8 chunks of 13.
    chunks = p.map(tasks.chunk_number, range(100))
    sizes = [chunks.count(c) for c in dict.fromkeys(chunks)]
    assert sizes == [13] * 7 + [9]


def test_explicit_chunksize_is_obeyed(both: MakePool) -> None:
    p = both(2)
    for call in (p.map, p.imap):
        chunks = list(call(tasks.chunk_number, range(20), 6))
        assert [chunks.count(c) for c in dict.fromkeys(chunks)] == [6, 6, 6, 2]


def test_arguments_are_pickled_at_the_call(p: Any) -> None:
    items = [[i] for i in range(50)]
    r = p.map_async(tasks.double, items, 1)
    r.get(10)
    items[0].append(7)
    assert r.get()[0] == [0, 0]


def test_many_kinds_of_callable(p: Any) -> None:
    import functools
    import operator

    assert p.map(int, ["1", "2"]) == [1, 2]
    assert p.map(str.upper, ["a"]) == ["A"]
    assert p.map("-".join, [["a", "b"]]) == ["a-b"]
    assert p.map(functools.partial(tasks.add, y=1), [1]) == [2]
    assert p.map(operator.itemgetter(0), ["xyz"]) == ["x"]
    assert p.map(tasks.Adder(5), [1]) == [6]
    assert p.map(tasks.Adder(5).plus, [1]) == [6]
    assert p.map(tasks.Adder.of, [1]) == [tasks.Adder(1)]


def test_none_as_value_and_as_item(p: Any) -> None:
    assert p.map(tasks.echo, [None, None]) == [(None,), (None,)]
    assert p.apply(tasks.nothing) is None
    assert list(p.imap(tasks.nothing, [1, 2])) == [None, None]


def test_a_stop_iteration_ends_nothing_silently(p: Any) -> None:
    with pytest.raises(StopIteration, match="from a task"):
        p.apply(saboteurs.stop_iteration)
    it = p.imap(saboteurs.stop_iteration, [1])
    with pytest.raises(StopIteration, match="from a task"):
        next(it)
    assert p.map(tasks.double, [1]) == [2]


def test_map_over_a_large_range(p: Any) -> None:
    assert p.map(tasks.double, range(50_000)) == list(range(0, 100_000, 2))


def test_iterables_longer_than_their_len_says(p: Any) -> None:
    assert p.map(tasks.double, tasks.Squares(4)) == [0, 2, 8, 18]


def test_lists_that_iterate_over_something_else(p: Any) -> None:
    assert p.map(tasks.double, tasks.Doubles([1, 2, 3]), 2) == [4, 8, 12]
