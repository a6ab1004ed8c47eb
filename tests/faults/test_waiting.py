"""A task that waits for other tasks of its own pool does not wait for ever."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.helpers import leftovers, tasks, waiting
from tests.helpers.hosts import Flag, Host, standing_cluster


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zexec.Cluster]:
    """Two engines for all tests here."""
    with standing_cluster(tmp_path_factory) as cluster:
        yield cluster


@pytest.fixture
def cluster(standing: zexec.Cluster, nothing_left: leftovers.Before, monkeypatch: pytest.MonkeyPatch) -> str:
    """Their name, for tests that change nothing about them."""
    monkeypatch.setenv("ZEXEC_HOME", str(standing.folder.parent.parent))
    return standing.name


@pytest.fixture
def own_cluster(nothing_left: leftovers.Before, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a cluster of two engines for one test alone."""
    monkeypatch.setenv("ZEXEC_HOME", str(Path(nothing_left.folder) / "home"))
    with zexec.Cluster(2) as cluster:
        cluster.wait_for_engines(2, 40)
        yield cluster.name


@pytest.mark.parametrize("how", waiting.WAYS)
def test_three_levels_on_two_engines(cluster: str, how: str) -> None:
    """Each task of the first two levels waits for three others, on engines that are all taken by such tasks."""
    with zexec.Pool(cluster=cluster) as pool:
        got = pool.map(waiting.tree, [(cluster, how, 3)] * 3, 1)
    assert got == [waiting.leaves(3)] * 3


@pytest.mark.parametrize("levels", [1, 6])
def test_a_chain_deeper_than_there_are_engines(cluster: str, levels: int) -> None:
    with zexec.Executor(cluster=cluster) as executor:
        assert executor.submit(waiting.chain, cluster, levels).result(60) == levels


def test_many_threads_of_one_task(cluster: str) -> None:
    with zexec.Pool(cluster=cluster) as pool:
        assert pool.map(waiting.from_threads, [cluster] * 2, 1) == [[2 * i for i in range(8)]] * 2


def test_what_fails_there_fails_as_it_does_elsewhere(cluster: str) -> None:
    with zexec.Pool(cluster=cluster) as pool:
        names = pool.map(waiting.failing, [cluster] * 2, 1)
    assert names == [["ValueError", "ZeroDivisionError", "SystemExit"]] * 2


def test_what_waits_for_other_tasks_besides(cluster: str) -> None:
    """``after``: the task that is waited for cannot run before another has, which no engine is free for."""
    with zexec.Pool(cluster=cluster) as pool:
        assert pool.map(waiting.dependent, [cluster] * 2, 1) == [6, 6]


def test_with_a_time_out_it_gives_up_in_time(cluster: str, flag: Flag) -> None:
    """It stays what it was: a limit. So what nobody has started is not begun here either."""
    with zexec.Pool(cluster=cluster) as pool:
        held = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 1))
        tasks.wait_for(flag("started"))
        assert pool.apply(waiting.impatient, (cluster, flag("other"), flag("release"))) == "TimeoutError"
        tasks.touch(flag("release"))
        assert held.get(30) == 1


def test_a_time_out_of_what_is_run_meanwhile(cluster: str) -> None:
    """It is interrupted there and then, and whoever waits for it goes on; also if it waits itself."""
    with zexec.Pool(cluster=cluster) as pool:
        got = pool.starmap(waiting.too_long, [(cluster, 1.0, 60)] * 2, 1)
    for first, second, third in got:
        assert first == "TimeoutError('nap ran longer than its time-out of 1.0 s')"
        assert second == "TimeoutError('wait_for_a_nap ran longer than its time-out of 1.0 s')"
        assert third == "3"


def test_who_only_looks_is_not_helped(own_cluster: str) -> None:
    """Then it takes an engine that is free: one more will do. Until there is one, a dump says what waits."""
    with zexec.Pool(cluster=own_cluster) as pool:
        results = [pool.apply_async(waiting.polling, (own_cluster,)) for _ in range(2)]
        tasks.until(lambda: "4 open tasks" in dumped(pool))
        text = dumped(pool)
        assert "0 starting; of 4 open tasks 2 are with engines, 2 wait for one" in text
        assert text.count("in polling") == 2
        zexec.Cluster.from_name(own_cluster).start_engines(1)
        assert [result.get(30) for result in results] == [3, 3]


def test_of_engines_that_wait_for_each_other(own_cluster: str, tmp_path: Path) -> None:
    """Nobody else may run what each waits for. That is for ever, so it is for the user to see, and to end."""
    with zexec.Pool(cluster=own_cluster) as pool:
        for place in (0, 1):
            pool.options(targets=place).apply_async(waiting.of_each_other, (own_cluster, 1 - place, str(tmp_path)))
        tasks.until(lambda: "of 4 open tasks" in dumped(pool))
        assert dumped(pool).count("in of_each_other") == 2
        pool.terminate()


def dumped(pool: zexec.Pool) -> str:
    out = io.StringIO()
    pool.dump(out)
    return out.getvalue()


_inherited: Any = None


def ask_inherited(how: str) -> str:
    try:
        if how == "apply":
            return str(_inherited.apply(tasks.double, (1,)))
        return str(_inherited.submit(tasks.double, 1).result())
    except RuntimeError as e:
        return str(e)


@pytest.mark.parametrize("how", ["apply", "submit"])
def test_a_pool_that_engines_have_inherited_says_that_it_is_not_theirs(fork: Host, how: str) -> None:
    """With a hub in the client's process no engine can reach it: a clear error, at once, and no deadlock."""
    global _inherited
    _inherited = fork.pool() if how == "apply" else fork.executor()
    try:
        call = _inherited.apply_async if how == "apply" else _inherited.submit
        if how == "apply":
            # A pool's first engines were forked before it was there; those that take their places have it.
            before = {process.pid for process in _inherited._pool}
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            tasks.until(lambda: len(_inherited._pool) == 2 and not before & {p.pid for p in _inherited._pool})
        said = call(ask_inherited, (how,) if how == "apply" else how).result(30)
    finally:
        _inherited = None
    assert "belongs to the process that made it; after a fork, make one of your own" in said


def test_pools_of_pools_need_no_help(shared: Host) -> None:
    """Each level has engines of its own."""
    with shared.pool() as pool:
        assert pool.map(waiting.own_pools, [3, 3], 1) == [["bottom"], ["bottom"]]
