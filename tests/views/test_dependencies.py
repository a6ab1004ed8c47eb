"""What runs after what, and where: as users say it."""

from __future__ import annotations

import multiprocessing
from typing import Any

import pytest

import zexec
from tests.helpers import tasks


def test_after_results_of_a_pool(pool: zexec.Pool, flag: Any) -> None:
    held = pool.apply_async(tasks.hold, (flag("started"), flag("release")))
    assert tasks.wait_for(flag("started"))
    child = pool.options(after=[held]).apply_async(tasks.append, (flag("log"), "child"))
    grandchild = pool.options(after=child).apply_async(tasks.lines, (flag("log"),))
    assert pool.apply(tasks.lines, (flag("log"),)) == []
    tasks.touch(flag("release"))
    assert grandchild.get(20) == ["child"]
    assert pool.options(after=[held, child]).apply(tasks.double, (1,)) == 2  # those have ended


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_after_results_of_an_executor(method: str, nothing_left: Any) -> None:
    with zexec.Executor(2, mp_context=multiprocessing.get_context(method)) as executor:
        one = executor.submit(tasks.double, 1)
        assert executor.options(after=one).submit(tasks.double, 2).result(30) == 4
        assert list(executor.options(after=one).map(tasks.double, range(4))) == [0, 2, 4, 6]


def test_failures(pool: zexec.Pool) -> None:
    failed = pool.apply_async(divmod, (1, 0))
    child = pool.options(after=failed).apply_async(tasks.double, (1,))
    with pytest.raises(zexec.ImpossibleDependency, match=r"double was not run: task \d+ failed"):
        child.get(20)
    either = zexec.Dependency([failed, child], failure=True)
    assert pool.options(after=either).apply(tasks.double, (1,)) == 2
    only = zexec.Dependency(failed, success=False, failure=True)
    assert pool.options(after=only).apply(tasks.double, (2,)) == 4
    good = pool.apply_async(tasks.double, (1,))
    assert pool.options(after=zexec.Dependency([failed, good], all=False)).apply(tasks.double, (3,)) == 6


def test_a_parent_that_could_not_even_be_pickled(pool: zexec.Pool) -> None:
    never = pool.apply_async(tasks.double, ((x for x in ()),))
    with pytest.raises(zexec.ImpossibleDependency):
        pool.options(after=never).apply(tasks.double, (1,))


def test_cancelled_parents(pool: zexec.Pool, flag: Any) -> None:
    held = [pool.options(targets=i).apply_async(tasks.hold, (flag("started"), flag("release"))) for i in (0, 1)]
    tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    behind = pool.apply_async(tasks.double, (1,))
    child = pool.options(after=behind).apply_async(tasks.double, (1,))
    assert behind.cancel()
    with pytest.raises(zexec.ImpossibleDependency):
        child.get(20)
    tasks.touch(flag("release"))
    assert [r.get(20) for r in held] == [None, None]


def test_children_can_be_cancelled(pool: zexec.Pool, flag: Any) -> None:
    held = pool.apply_async(tasks.hold, (flag("started"), flag("release")))
    child = pool.options(after=held).apply_async(tasks.double, (1,))
    assert child.cancel()
    assert child.cancelled()
    tasks.touch(flag("release"))
    held.get(20)


def test_after_a_whole_map(pool: zexec.Pool, flag: Any) -> None:
    mapped = pool.map_async(tasks.append, [], 1)
    mapped = pool.starmap_async(tasks.append, [(flag("log"), str(i)) for i in range(50)], 1)
    assert len(pool.options(after=mapped).apply(tasks.lines, (flag("log"),))) == 50
    bad = pool.map_async(tasks.double, [1, None, 3], 1)
    with pytest.raises(zexec.ImpossibleDependency):
        pool.options(after=bad).apply(tasks.double, (1,))


def test_follow(pool: zexec.Pool) -> None:
    for place in (0, 1, 0):
        leader = pool.options(targets=place).apply_async(tasks.pid)
        followers = [pool.options(follow=leader).apply_async(tasks.pid) for _ in range(5)]
        assert {f.get(20) for f in followers} == {leader.get(20)}
    apart = [pool.options(targets=i).apply_async(tasks.pid) for i in (0, 1)]
    with pytest.raises(zexec.ImpossibleDependency, match="several engines"):
        pool.options(follow=apart).apply(tasks.pid)


def test_the_engine_that_it_was_to_follow_to_is_gone(pool: zexec.Pool, flag: Any) -> None:
    """Its replacement has the number, but nothing of what the leader left there."""
    leader = pool.options(targets=0).apply_async(tasks.pid)
    held = pool.options(targets=0).apply_async(tasks.hold, (flag("started"), flag("release")))
    waiting = pool.options(follow=leader).apply_async(tasks.pid)
    assert tasks.wait_for(flag("started"))
    pool.client.send_signal("SIGKILL", 0)
    with pytest.raises(zexec.ImpossibleDependency, match="is gone"):
        waiting.get(20)
    with pytest.raises(zexec.EngineDied):
        held.get(20)
    with pytest.raises(zexec.ImpossibleDependency, match="is gone"):
        pool.options(follow=leader).apply(tasks.pid)
    with pytest.raises(zexec.ImpossibleDependency, match="is gone"):
        pool.options(follow=zexec.Dependency(held, failure=True)).apply(tasks.pid)
    mapped = pool.options(targets=0).map_async(tasks.double, range(10), 5)
    mapped.wait()
    assert pool.options(follow=mapped).apply(tasks.pid) == pool.options(targets=0).apply(tasks.pid)


def test_patience(pool: zexec.Pool, flag: Any) -> None:
    held = pool.apply_async(tasks.hold, (flag("started"), flag("release")))
    child = pool.options(after=held, patience=0.05).apply_async(tasks.double, (1,))
    with pytest.raises(zexec.DependencyTimeout):
        child.get(20)
    with pytest.raises(zexec.TimeoutError):
        child.get(20)
    tasks.touch(flag("release"))
    held.get(20)


def test_what_cannot_be_waited_for(pool: zexec.Pool, flag: Any) -> None:
    with pytest.raises(KeyError, match="nothing is known here of task '99'"):
        pool.options(after="99")
    with pytest.raises(TypeError, match="results and ids"):
        pool.options(after=3)
    with pytest.raises(ValueError, match="can never be met"):
        zexec.Dependency([], success=False)
    with pytest.raises(ValueError, match="patience"):
        pool.options(patience=-1)
    with zexec.Pool(1, context=multiprocessing.get_context("fork")) as other:
        foreign = other.apply_async(tasks.hold, (flag("started"), flag("release")))
        with pytest.raises(ValueError, match="of another pool"):
            pool.options(after=foreign).apply_async(tasks.double, (1,))
        tasks.touch(flag("release"))
        foreign.get(20)
        assert pool.options(after=foreign).apply(tasks.double, (1,)) == 2  # it has ended: that much is known
    other.join()
    assert pool.apply(tasks.double, (1,)) == 2


def chain_of(pool: Any, calls: list[tuple[Any, tuple[Any, ...]]], **options: Any) -> list[Any]:
    """The results of calls of which each waits for the one before."""
    results: list[Any] = []
    for f, args in calls:
        results.append(pool.options(after=results[-1:], **options).apply_async(f, args))
    return results


def test_a_chain_runs_each_link_once_and_in_order(pool: zexec.Pool, flag: Any) -> None:
    """Also two at once, though most of it is sent to engines long before what it waits for has ended."""
    logs = [flag("one"), flag("two")]
    both = [chain_of(pool, [(tasks.append, (log, str(i))) for i in range(1_000)]) for log in logs]
    for log, results in zip(logs, both, strict=True):
        results[-1].get(30)
        assert tasks.lines(log) == [str(i) for i in range(1_000)]
        assert all(result.successful() for result in results)


def test_a_link_that_fails_ends_its_chain(pool: zexec.Pool, flag: Any) -> None:
    before = [(tasks.append, (flag("log"), str(i))) for i in range(100)]
    after = [(tasks.append, (flag("log"), "never"))] * 100
    results = chain_of(pool, [*before, (divmod, (1, 0)), *after])
    with pytest.raises(ZeroDivisionError):
        results[100].get(30)
    for result in results[101:]:
        with pytest.raises(zexec.ImpossibleDependency):
            result.get(30)
    assert tasks.lines(flag("log")) == [str(i) for i in range(100)]
    assert chain_of(pool, [(tasks.double, (i,)) for i in range(100)])[-1].get(30) == 198


def test_a_link_that_is_tried_again_holds_up_those_behind_it(pool: zexec.Pool, flag: Any) -> None:
    log = flag("log")
    results = chain_of(pool, [(tasks.append_at_the_second_try, (log, i)) for i in range(100)], retries=1)
    results[-1].get(30)
    assert [line for line in tasks.lines(log) if "failed" not in line] == [str(i) for i in range(100)]
    assert len(tasks.lines(log)) == 110


@pytest.mark.parametrize("retries", [0, 1])
def test_a_link_that_its_engine_dies_of(pool: zexec.Pool, flag: Any, retries: int) -> None:
    log = flag("log")
    results = chain_of(pool, [(tasks.append_or_die, (log, i)) for i in range(100)], retries=retries)
    if retries:
        results[-1].get(30)
        # What had ended, and whose result was lost with the engine, runs again.
        assert list(dict.fromkeys(tasks.lines(log))) == [str(i) for i in range(100)]
        assert [result.successful() for result in results] == [True] * 100
        return
    with pytest.raises(zexec.EngineDied):
        results[50].get(30)
    for result in results[51:]:
        with pytest.raises(zexec.ImpossibleDependency):
            result.get(30)
    assert list(dict.fromkeys(tasks.lines(log))) == [str(i) for i in range(51)]


def test_a_link_in_the_middle_is_cancelled(pool: zexec.Pool, flag: Any) -> None:
    calls: list[Any] = [(tasks.double, (i,)) for i in range(20)]
    calls[5] = tasks.hold, (flag("started"), flag("release"))
    results = chain_of(pool, calls)
    assert tasks.wait_for(flag("started"))
    assert not results[5].cancel()
    assert results[10].cancel()
    tasks.touch(flag("release"))
    assert results[9].get(30) == 18
    assert results[10].cancelled()
    for result in results[11:]:
        with pytest.raises(zexec.ImpossibleDependency):
            result.get(30)


def test_many_races_at_once(pool: zexec.Pool) -> None:
    """Parents that end just then are neither lost nor waited for twice."""
    children = []
    for i in range(500):
        parent = pool.apply_async(tasks.double, (i,))
        children.append(pool.options(after=[parent]).apply_async(tasks.double, (i,)))
    assert [child.get(30) for child in children] == [2 * i for i in range(500)]


def test_a_pool_that_closes_runs_what_waits(pool: zexec.Pool, flag: Any) -> None:
    held = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 1))
    child = pool.options(after=held).apply_async(tasks.double, (2,))
    pool.close()
    tasks.touch(flag("release"))
    pool.join()
    assert child.get(0) == 4


# -- views -----------------------------------------------------------------------------------------------------------


def test_flags_of_a_balanced_view(client: zexec.Client, balanced: zexec.LoadBalancedView, flag: Any) -> None:
    pushed = client[:].push({"x": 3})
    with balanced.temp_flags(after=pushed):
        result = balanced.apply_async(lambda: x)  # type: ignore[name-defined]  # noqa: F821
    assert result.get(20) == 3
    assert result.after == pushed.msg_ids
    assert result.metadata.follow == []
    assert balanced.after is None


def test_ids(client: zexec.Client, balanced: zexec.LoadBalancedView) -> None:
    one, two = client[0].apply(tasks.pid), client[1].apply(tasks.pid)
    for result in (one, two):
        with balanced.temp_flags(follow=result.msg_ids[0]):
            assert balanced.apply(tasks.pid) == result.get(20)
    with pytest.raises(KeyError, match="nothing is known of task 'nonsense'"):
        balanced.set_flags(after=["nonsense"])


def test_errors_of_views(client: zexec.Client, balanced: zexec.LoadBalancedView, flag: Any) -> None:
    bad = client[0].apply(lambda: 1 / 0)
    with balanced.temp_flags(after=bad), pytest.raises(zexec.RemoteError) as caught:
        balanced.apply(tasks.pid)
    assert isinstance(caught.value.__cause__, zexec.ImpossibleDependency)
    held = client[0].apply(tasks.hold, flag("started"), flag("release"))
    with balanced.temp_flags(after=held, timeout=0.05), pytest.raises(zexec.RemoteError) as caught:
        balanced.apply(tasks.pid)
    assert isinstance(caught.value.__cause__, zexec.DependencyTimeout)
    tasks.touch(flag("release"))
    held.get(20)


def test_one_engine_of_several_is_followed(client: zexec.Client, balanced: zexec.LoadBalancedView) -> None:
    both = client[:].apply(tasks.pid)
    with balanced.temp_flags(follow=zexec.Dependency(both, all=False)):
        assert balanced.apply(tasks.pid) in both.get(20)
    part = client.get_result(both.msg_ids[1])
    with balanced.temp_flags(follow=part):
        assert balanced.apply(tasks.pid) == both.get(20)[1]


def test_a_dependency_is_its_ids(client: zexec.Client) -> None:
    result = client[:].apply(tasks.pid)
    dependency = zexec.Dependency([result, "7"])
    assert list(dependency) == [*result.msg_ids, "7"]
    assert len(dependency) == 3
    assert list(zexec.Dependency(dependency)) == list(dependency)
    result.get(20)


# -- what an engine must have ----------------------------------------------------------------------------------------


def is_at(path: str) -> bool:
    """Whether this is the process that was noted."""
    return str(tasks.pid()) in tasks.lines(path)


def test_depend(pool: zexec.Pool, balanced: zexec.LoadBalancedView, flag: Any) -> None:
    pid = pool.options(targets=1).apply(tasks.pid)
    tasks.append(flag("pid"), str(pid))
    where = zexec.depend(is_at, flag("pid"))(tasks.pid)
    assert [balanced.apply(where) for _ in range(5)] == [pid] * 5
    assert [pool.apply(where) for _ in range(5)] == [pid] * 5
    assert balanced.map(zexec.depend(is_at, flag("pid"))(lambda x: x + 1), range(6), chunksize=2) == list(range(1, 7))
    with pytest.raises(zexec.UnmetDependency):
        pool.options(targets=0).apply(where)
    with pytest.raises(zexec.UnmetDependency):
        where()


def test_depend_on_what_nobody_has(pool: zexec.Pool, balanced: zexec.LoadBalancedView) -> None:
    never = zexec.depend(lambda: False)(tasks.pid)
    with pytest.raises(zexec.RemoteError, match="UnmetDependency: pid cannot run here") as caught:
        balanced.apply(never)
    assert isinstance(caught.value.__cause__, zexec.UnmetDependency)
    with pytest.raises(zexec.UnmetDependency):
        pool.apply(never)


def test_require(balanced: zexec.LoadBalancedView) -> None:
    import colorsys

    def helper(x: int) -> int:
        return x * 10

    @zexec.require("bisect", colorsys, helper, factor=3)
    def work(x: int) -> Any:
        """Works."""
        here = globals()
        return here["helper"](x) * here["factor"], here["bisect"].__name__, here["colorsys"].__name__

    assert balanced.apply(work, 2) == (60, "bisect", "colorsys")
    assert work.__doc__ == "Works."
    with pytest.raises(zexec.RemoteError, match="UnmetDependency"):
        balanced.apply(zexec.require("no_such_module_anywhere")(tasks.pid))
    with pytest.raises(TypeError, match="no name of its own"):
        zexec.require(3)


def test_a_dependency_can_be_asked() -> None:
    done, lost = ["0", "2"], ["1"]
    table = [
        # ids, all, success, failure, met, unreachable
        (done, True, True, False, True, False),
        (["0", "1"], True, True, False, False, True),
        (["0", "1"], False, True, False, True, False),
        (["0", "1"], True, True, True, True, False),
        (["0", "9"], True, True, False, False, False),
        (["1"], False, True, False, False, True),
        (["1"], True, False, True, True, False),
        (["0"], False, False, True, False, True),
        ([], True, True, False, True, False),
        ([], False, True, False, True, False),
    ]
    for ids, all, success, failure, met, unreachable in table:
        dependency = zexec.Dependency(ids, all=all, success=success, failure=failure)
        assert dependency.check(done, lost) is met, ids
        assert dependency.unreachable(done, lost) is unreachable, ids


def test_an_unknown_id_is_an_error_at_the_call(balanced: zexec.LoadBalancedView) -> None:
    with pytest.raises(zexec.InvalidDependency, match=r"nothing is known of task '?12345") as caught:
        balanced.set_flags(after="12345")
    assert isinstance(caught.value, KeyError)
    assert isinstance(caught.value, zexec.ImpossibleDependency)
    assert str(caught.value).startswith("nothing")
