"""Pool and Executor on a cluster: as on engines of their own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

Start = Callable[..., zexec.Cluster]


def test_calls_and_maps(start: Start, way: dict[str, Any]) -> None:
    with zexec.Pool(cluster=start(2, **way)) as pool:
        assert pool.map(tasks.double, range(1000), 7) == [2 * i for i in range(1000)]
        rs = [pool.apply_async(tasks.double, (i,)) for i in range(3000)]
        assert [r.get(30) for r in rs] == [2 * i for i in range(3000)]
        assert list(pool.imap(tasks.double, range(50))) == [2 * i for i in range(50)]
        assert sorted(pool.imap_unordered(tasks.double, range(50), 3)) == [2 * i for i in range(50)]
        assert len(set(pool.map(tasks.pid, range(100), 1)) | {os.getpid()}) > 1
        assert {p.pid for p in pool._pool} >= set(pool.map(tasks.pid, range(100), 1))


def test_lambdas_closures_and_classes_of_main(start: Start) -> None:
    n = 17

    class Local:
        def __init__(self, x: int) -> None:
            self.x = x + n

    with zexec.Executor(cluster=start(1)) as ex:
        assert list(ex.map(lambda x: x + n, range(5))) == [17, 18, 19, 20, 21]
        back = ex.submit(Local, 3).result(30)
        assert isinstance(back, Local)
        assert back.x == 20


@pytest.mark.parametrize("size", [0, 1, 40_000, 1 << 20, 5_000_000])
def test_sizes(start: Start, way: dict[str, Any], size: int) -> None:
    with zexec.Executor(cluster=start(1, **way)) as ex:
        data = os.urandom(size)
        assert ex.submit(tasks.echo_one, data).result(30) == data
        assert ex.submit(bytes, size).result(30) == bytes(size)
        assert [ex.submit(len, b"x" * size).result(30) for _ in range(3)] == [size] * 3


def test_exceptions_are_those_of_the_stdlib(cluster: zexec.Cluster) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        with pytest.raises(ZeroDivisionError) as raised:
            ex.submit(divmod, 1, 0).result(30)
        assert "divmod" in str(raised.value.__cause__) or raised.value.__cause__ is not None
        with pytest.raises(TypeError):
            ex.submit(lambda: None, lock=threading.Lock()).result(30)


def test_a_death_costs_its_task(start: Start, way: dict[str, Any]) -> None:
    cluster = start(2, **way)
    with zexec.Pool(cluster=cluster) as pool:
        dead = pool.apply_async(os._exit, (3,))
        with pytest.raises(zexec.EngineDied) as raised:
            dead.get(30)
        assert raised.value.exitcode == 3
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        assert pool.map(tasks.double, range(100), 1) == [2 * i for i in range(100)]
        cluster.wait_for_engines(2, 30)
        assert [engine["id"] for engine in cluster.engines()] == [0, 1]


def test_retries_priorities_targets_and_time_outs(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        path = flag("attempts")
        assert ex.options(retries=2).submit(tasks.fail_times, path, 2).result(30) == 3
        with pytest.raises(zexec.TimeoutError):
            ex.options(timeout=0.2).submit(tasks.nap, 60).result(30)
        assert ex.submit(tasks.double, 4).result(30) == 8
        pids = {id: ex.options(targets=[id]).submit(os.getpid).result(30) for id in (0, 1)}
        assert len(set(pids.values())) == 2
        with pytest.raises(zexec.NoEngineError):
            ex.options(targets=[7]).submit(os.getpid).result(30)


def test_cancel_and_revoke(start: Start, flag: Callable[[str], str]) -> None:
    with zexec.Executor(cluster=start(1)) as ex:
        started, release = flag("started"), flag("release")
        first = ex.submit(tasks.hold, started, release)
        assert tasks.wait_for(started)
        rest = [ex.submit(tasks.nothing) for _ in range(50)]
        assert not first.cancel()
        assert first.running()
        assert all(r.cancel() for r in rest)
        stopped = ex.submit(tasks.hold, started, flag("never"))
        tasks.touch(release)
        first.result(30)
        assert tasks.until(lambda: len(tasks.lines(started)) == 2)
        assert stopped.cancel(running=True)
        assert ex.submit(tasks.double, 2).result(30) == 4


def test_what_waits_behind_a_long_task_goes_elsewhere(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        release = flag("release")
        long = ex.submit(tasks.hold, flag("started"), release)
        assert [f.result(30) for f in [ex.submit(tasks.double, i) for i in range(200)]] == [2 * i for i in range(200)]
        tasks.touch(release)
        long.result(30)


def test_dependencies(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        release = flag("release")
        first = ex.submit(tasks.hold, flag("started"), release, 5)
        after = ex.options(after=[first]).submit(tasks.double, 1)
        follow = ex.options(follow=[first]).submit(os.getpid)
        assert not after.done()
        tasks.touch(release)
        assert after.result(30) == 2
        assert follow.result(30) in {engine["pid"] for engine in cluster.engines()}
        bad = ex.submit(divmod, 1, 0)
        with pytest.raises(zexec.ImpossibleDependency):
            ex.options(after=[bad]).submit(tasks.double, 1).result(30)
        assert ex.options(after=[first]).submit(tasks.double, 3).result(30) == 6


def test_an_initializer_runs_once_for_each_engine_and_client(
    cluster: zexec.Cluster, flag: Callable[[str], str]
) -> None:
    path = flag("initialized")
    with zexec.Pool(2, tasks.append, (path, "one"), cluster=cluster) as pool:
        pool.map(tasks.double, range(100), 1)
        with zexec.Pool(2, tasks.append, (path, "two"), cluster=cluster) as other:
            other.map(tasks.double, range(100), 1)
        pool.map(tasks.nothing, range(100), 1)
    assert 1 <= tasks.lines(path).count("one") <= 2
    assert 1 <= tasks.lines(path).count("two") <= 2


def test_an_initializer_that_raises(cluster: zexec.Cluster) -> None:
    with zexec.Executor(cluster=cluster, initializer=divmod, initargs=(1, 0)) as ex:
        with pytest.raises(zexec.InitializerError) as raised:
            ex.submit(tasks.double, 1).result(30)
        assert "ZeroDivisionError" in str(raised.value)
    with zexec.Executor(cluster=cluster) as ex:
        assert ex.submit(tasks.double, 1).result(30) == 2


def test_modules_next_to_the_script(cluster: zexec.Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "beside_the_script.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import beside_the_script  # type: ignore[import-not-found]

    with zexec.Pool(cluster=cluster) as pool:
        assert pool.map(beside_the_script.triple, range(5)) == [0, 3, 6, 9, 12]


def test_story(cluster: zexec.Cluster) -> None:
    with zexec.Pool(cluster=cluster) as pool:
        r = pool.apply_async(tasks.double, (1,))
        r.get(30)
        assert [what.rstrip("01") for _, what in pool.story(r)] == ["submitted", "sent to engine ", "ran on engine "]


def test_views(cluster: zexec.Cluster) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        client = ex.client
        assert client.ids == [0, 1]
        view = client[:]
        view.block = True
        view["a"] = 5
        assert view["a"] == [5, 5]
        assert view.apply_sync(lambda: a * 2) == [10, 10]  # type: ignore[name-defined]  # noqa: F821
        assert client.load_balanced_view().map_sync(tasks.double, range(10)) == [2 * i for i in range(10)]


def test_pools_end_in_their_way(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    pool = zexec.Pool(cluster=cluster)
    r = pool.apply_async(tasks.hold, (flag("started"), flag("never")))
    assert tasks.wait_for(flag("started"))
    pool.terminate()
    pool.join()
    with pytest.raises(zexec.TerminatedError):
        r.get(0)
    with zexec.Executor(cluster=cluster) as ex:
        f = ex.submit(tasks.double, 4)
    assert f.result(0) == 8
    with zexec.Pool(cluster=cluster) as pool:
        r = pool.apply_async(tasks.double, (3,))
        pool.close()
        pool.join()
        assert r.get(0) == 6
        with pytest.raises(ValueError, match="not running"):
            pool.apply(tasks.double, (1,))


def test_many_threads_of_one_client(cluster: zexec.Cluster) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        wrong: list[Any] = []

        def use(k: int) -> None:
            try:
                for i in range(100):
                    if ex.submit(tasks.add, i, k).result(30) != i + k:
                        wrong.append((i, k))
                fs = [ex.submit(tasks.add, i, k) for i in range(300)]
                wrong.extend((i, k) for i, f in enumerate(fs) if f.result(30) != i + k)
            except BaseException as e:
                wrong.append(e)

        threads = [threading.Thread(target=use, args=(k,)) for k in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(60)
        assert not wrong


def test_what_a_cluster_cannot_give(cluster: zexec.Cluster) -> None:
    with pytest.raises(ValueError, match="maxtasksperchild"):
        zexec.Pool(cluster=cluster, maxtasksperchild=3)
    with pytest.raises(ValueError, match="on_engine_death"):
        zexec.Executor(cluster=cluster, on_engine_death="break")
    with pytest.raises(TypeError, match="Cluster"):
        zexec.Pool(cluster=5)
    with pytest.raises(zexec.ClusterError, match="no cluster 'nobody'"):
        zexec.Pool(cluster="nobody")


def test_the_environment_names_a_cluster(cluster: zexec.Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEXEC_CLUSTER", cluster.name)
    pids = {engine["pid"] for engine in cluster.engines()}
    with zexec.Pool(3) as pool:
        assert set(pool.map(tasks.pid, range(20), 1)) <= pids
    with zexec.Executor() as ex:
        assert ex.submit(os.getpid).result(30) in pids
