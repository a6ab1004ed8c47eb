"""LoadBalancedViews: each call on one engine."""

from __future__ import annotations

import concurrent.futures
import itertools
from collections.abc import Callable
from typing import Any

import pytest

import zexec
from tests.helpers import tasks


def fails_at_first(log: str, times: int) -> int:
    tasks.append(log, "tried")
    tried = len(tasks.lines(log))
    if tried <= times:
        raise LookupError(f"attempt {tried}")
    return tried


def test_apply(balanced: zexec.LoadBalancedView) -> None:
    assert balanced.apply(tasks.double, 2) == 4
    assert balanced.apply_async(lambda x: -x, 2).get(20) == -2
    assert balanced.apply_sync(tasks.add, 1, y=3) == 4


def test_all_engines_work(balanced: zexec.LoadBalancedView) -> None:
    assert len(set(balanced.map(lambda _: (__import__("time").sleep(0.002), tasks.pid())[1], range(50)))) == 2


def ran_on(result: zexec.ViewResult) -> int:
    result.get(20)
    return result.engine_id


def test_one_after_the_other_they_go_around(balanced: zexec.LoadBalancedView) -> None:
    """As ipyparallel's do: whoever waits for each in turn meets all engines."""
    balanced.client[:].apply_sync(int)  # both are there
    found = [ran_on(balanced.apply_async(int)) for _ in range(4)]
    assert found[0] != found[1]
    assert found == found[:2] * 2


def test_targets(client: zexec.Client) -> None:
    for id in client.ids:
        view = client.load_balanced_view(id)
        assert set(view.map_sync(tasks.pid, range(20))) == {client[id].apply_sync(tasks.pid)}
    with pytest.raises(IndexError, match="there are 0, 1"):
        client.load_balanced_view([5])


def test_errors(balanced: zexec.LoadBalancedView) -> None:
    with pytest.raises(zexec.RemoteError, match=r"\[engine \d, pid \d+ on .*ZeroDivisionError") as caught:
        balanced.apply(lambda: 1 / 0)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_retries(client: zexec.Client, flag: Any) -> None:
    view = client.load_balanced_view(retries=2)
    assert view.apply_sync(fails_at_first, flag("a"), 2) == 3
    with pytest.raises(zexec.RemoteError, match="attempt 3"):
        view.apply_sync(fails_at_first, flag("b"), 3)


def test_timeout_is_for_what_a_task_waits_for(client: zexec.Client, flag: Callable[[str], str]) -> None:
    view = client.load_balanced_view()
    held = view.apply_async(tasks.hold, flag("started"), flag("go"))
    with view.temp_flags(timeout=0.05, after=held), pytest.raises(zexec.RemoteError, match="DependencyTimeout"):
        view.apply_sync(tasks.double, 1)
    with view.temp_flags(timeout=0.001):
        slow = view.apply_async(tasks.hold, flag("slow"), flag("go"), "as long as it takes")
    tasks.touch(flag("go"))
    assert slow.get(20) == "as long as it takes"
    with client[0].temp_flags(timeout=0.05) as direct, pytest.raises(zexec.RemoteError, match="time-out"):
        direct.apply_sync(tasks.nap, 30)


def test_imap_can_be_cancelled(balanced: zexec.LoadBalancedView) -> None:
    values = balanced.imap(tasks.double, itertools.count(), max_outstanding=3)
    assert [next(values) for _ in range(4)] == [0, 2, 4, 6]
    values.cancel()
    assert list(values) == []
    assert len(balanced.history) == 7
    failing = balanced.imap(tasks.reciprocal, [1, 0, 2])
    assert next(failing) == 1
    with pytest.raises(zexec.RemoteError, match="ZeroDivisionError"):
        next(failing)
    assert list(failing) == [], "as a generator's, its end"


def test_an_executor_of_a_view(client: zexec.Client) -> None:
    view = client.load_balanced_view()
    with view.executor as executor:
        assert isinstance(executor, concurrent.futures.Executor)
        assert executor.view is view
        one = executor.submit(tasks.nap, 0.05)
        many = executor.map(tasks.add, range(10), range(10))
    assert one.done()
    assert len(view.history) == 11
    assert list(many) == list(range(0, 20, 2))
    assert client.executor([1]).submit(tasks.double, 2).metadata.engine_id in (None, 1)
    with pytest.raises(TypeError, match="no time-out"):
        executor.map(tasks.double, [1], timeout=3)
    last = executor.submit(tasks.double, 1)
    executor.shutdown(cancel_futures=True)
    assert last.done()


def test_flags_that_are_wrong_say_so_at_once(balanced: zexec.LoadBalancedView) -> None:
    with pytest.raises(ValueError, match="timeout must be"):
        balanced.set_flags(timeout=-1)
    with pytest.raises(TypeError, match="retries must be"):
        balanced.set_flags(retries="two")
    assert (balanced.timeout, balanced.retries) == (None, 0)
    with pytest.raises(KeyError, match=r"there are block.*retries"):
        balanced.set_flags(retry=1)


@pytest.mark.parametrize("chunksize", [1, 3, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_map(balanced: zexec.LoadBalancedView, chunksize: int, ordered: bool) -> None:
    result = balanced.map_async(lambda x: x * x, range(20), chunksize=chunksize, ordered=ordered)
    values = list(result)
    assert sorted(values) == [x * x for x in range(20)]
    if ordered:
        assert values == sorted(values)
    assert result.get(20) == [x * x for x in range(20)]
    assert len(result) == 20
    assert len(result.msg_ids) == -(-20 // chunksize)


def test_map_of_several_and_of_none(balanced: zexec.LoadBalancedView) -> None:
    assert balanced.map(tasks.add, range(3), itertools.count(10)) == [10, 12, 14]
    assert balanced.map(tasks.double, []) == []
    with pytest.raises(ValueError, match="chunksize must be 1 or more"):
        balanced.map(tasks.double, [1], chunksize=0)


def test_errors_in_a_map(balanced: zexec.LoadBalancedView) -> None:
    invert = lambda x: 1 / x  # noqa: E731
    with pytest.raises(zexec.CompositeError, match="ZeroDivisionError"):
        balanced.map(invert, [1, 0, 2])
    values = balanced.map(invert, [1, 0, 2], return_exceptions=True, chunksize=3)
    assert (values[0], values[2]) == (1.0, 0.5)
    assert isinstance(values[1].__cause__, ZeroDivisionError)


def test_imap_of_an_endless_input(balanced: zexec.LoadBalancedView) -> None:
    drawn = []

    def numbers() -> Any:
        for n in itertools.count():
            drawn.append(n)
            yield n

    values = balanced.imap(tasks.double, numbers(), max_outstanding=3)
    assert [next(values) for _ in range(5)] == [0, 2, 4, 6, 8]
    assert len(drawn) == 8
    values.close()
    balanced.wait()


@pytest.mark.parametrize("ordered", [True, False])
def test_imap(balanced: zexec.LoadBalancedView, ordered: bool) -> None:
    assert sorted(balanced.imap(tasks.double, range(30), ordered=ordered)) == list(range(0, 60, 2))
    assert len(list(balanced.imap(tasks.double, range(5), max_outstanding=0))) == 5
    with pytest.raises(ValueError, match="max_outstanding"):
        balanced.imap(tasks.double, [1], max_outstanding=-1)


def test_imap_with_errors(balanced: zexec.LoadBalancedView) -> None:
    values = list(balanced.imap(lambda x: 1 / x, [1, 0], return_exceptions=True))
    assert values[0] == 1.0
    assert isinstance(values[1], zexec.RemoteError)
    with pytest.raises(zexec.RemoteError):
        list(balanced.imap(lambda x: 1 / x, [1, 0]))


def test_decorators(balanced: zexec.LoadBalancedView) -> None:
    assert balanced.remote()(tasks.double)(2) == 4
    squares = balanced.parallel(chunksize=2)(lambda xs: [x * x for x in xs])
    assert squares(range(5)) == [0, 1, 4, 9, 16]
    assert balanced.parallel()(tasks.double).map([1, 2]) == [2, 4]


def test_no_names_to_move(balanced: zexec.LoadBalancedView) -> None:
    assert not hasattr(balanced, "push")
    assert not hasattr(balanced, "scatter")


def test_sees_the_namespace_where_it_runs(client: zexec.Client, balanced: zexec.LoadBalancedView) -> None:
    client[:]["factor"] = 3
    assert balanced.map(lambda x: x * factor, range(3)) == [0, 3, 6]  # type: ignore[name-defined]  # noqa: F821


def test_sequences_of_all_kinds_are_mapped(balanced: zexec.LoadBalancedView, all: zexec.DirectView) -> None:
    import collections

    import numpy

    def pair(*items: Any) -> Any:
        return [item.item() if hasattr(item, "item") else item for item in items]

    kinds: list[Any] = [
        [0, 1, 2],
        (0, 1, 2),
        range(3),
        numpy.arange(3),
        collections.deque([0, 1, 2]),
        {0: "a", 1: "b", 2: "c"},
        bytes([0, 1, 2]),
    ]
    for view in (balanced, all):
        for kind in kinds:
            assert view.map_sync(pair, kind) == [[0], [1], [2]], kind
            assert view.map_sync(pair, kind, "abcd") == [[0, "a"], [1, "b"], [2, "c"]], kind
            assert view.map_sync(pair, iter(kind), itertools.count(5)) == [[0, 5], [1, 6], [2, 7]], kind
            assert view.map_sync(pair, kind, itertools.count(5)) == [[0, 5], [1, 6], [2, 7]], kind
        assert view.map_sync(pair, [], itertools.count()) == []
        assert view.map_sync(pair, iter([]), iter([])) == []


def test_a_long_map_makes_few_tasks(balanced: zexec.LoadBalancedView) -> None:
    result = balanced.map_async(tasks.double, range(1_000_000))
    assert len(result) == 1_000_000
    assert len(result.msg_ids) <= 4096
    assert result.get() == list(range(0, 2_000_000, 2))
    assert len(balanced.map_async(tasks.double, range(100)).msg_ids) == 100, "few are balanced one by one"
    assert len(balanced.map_async(tasks.double, range(10_000), chunksize=5).msg_ids) == 2000
