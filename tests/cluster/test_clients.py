"""Several clients: shares, each other's results, leaving and coming back."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.helpers import tasks
from tests.helpers.scripts import Scripts

Start = Callable[..., zexec.Cluster]

LEAVE = """
import sys, zexec
from tests.helpers import tasks
from tests.helpers.scripts import Scripts
ex = zexec.Executor(cluster=sys.argv[1])
held = [ex.submit(tasks.hold, sys.argv[2], sys.argv[3], i) for i in range(2)]
rest = [ex.submit(tasks.double, i) for i in range(10)]
failing = ex.submit(divmod, 1, 0)
tasks.until(lambda: len(tasks.lines(sys.argv[2])) == 2)
ex.shutdown(detach=True)
try:
    held[0].result(5)
except zexec.BrokenClusterError as e:
    assert "left it behind" in str(e)
print(*(f.metadata.msg_id for f in [*held, *rest, failing]))
"""


def test_leaving_and_coming_back_in_another_process(
    cluster: zexec.Cluster, flag: Callable[[str], str], tmp_path: Path
) -> None:
    script = tmp_path / "leave.py"
    script.write_text(LEAVE)
    left = subprocess.run(
        [sys.executable, str(script), cluster.name, flag("started"), flag("release")],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=50,
    )
    assert left.returncode == 0, left.stderr
    ids = left.stdout.split()
    with zexec.Client(cluster) as client:
        open_ = client.get_result(ids[:2])
        assert not open_.done()
        rest = client.get_result(ids[2:12])
        tasks.touch(flag("release"))
        assert open_.get(30) == [0, 1]
        assert rest.get(30) == [2 * i for i in range(10)]
        assert client.get_result(ids[3]).get(30) == 2
        with pytest.raises(zexec.RemoteError, match="ZeroDivisionError"):
            client.get_result(ids[12]).get(30)
        with pytest.raises(KeyError, match="nothing is known of task"):
            client.get_result(str(int(ids[0]) + 1000))


def test_results_of_another_client(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    with zexec.Pool(cluster=cluster) as pool, zexec.Client(cluster.name) as client:
        done = pool.apply_async(tasks.double, (21,))
        assert done.get(30) == 42
        assert client.get_result(done.metadata.msg_id).get(30) == 42
        mapped = pool.map_async(tasks.double, range(6), 3)
        assert mapped.get(30) == [0, 2, 4, 6, 8, 10]
        assert client.get_result(mapped.metadata.msg_id).get(30) == [[0, 2, 4], [6, 8, 10]]
        held = pool.apply_async(tasks.hold, (flag("started"), flag("release"), "x"))
        assert tasks.wait_for(flag("started"))  # the hub knows it: it is on the way from another client
        theirs = client.get_result(held.metadata.msg_id)
        tasks.touch(flag("release"))
        assert theirs.get(30) == held.get(30) == "x"


def test_results_of_views(cluster: zexec.Cluster) -> None:
    with zexec.Client(cluster) as one, zexec.Client(cluster) as other:
        assert one.ids == [0, 1]
        result = one[:].apply_async(tasks.double, 4)
        assert result.get(30) == [8, 8]
        assert other.get_result(result.msg_ids).get(30) == [8, 8]
        assert other[:].apply_sync(lambda: 7) == [7, 7]


def test_only_of_clusters_can_one_leave() -> None:
    with zexec.Pool(1) as pool:
        with pytest.raises(ValueError, match="only clients of a cluster"):
            pool.close(detach=True)
        assert pool.apply(tasks.double, (1,)) == 2


def test_a_client_with_one_task_does_not_wait_for_all_of_anothers(start: Start, flag: Callable[[str], str]) -> None:
    cluster = start(1)
    with zexec.Executor(cluster=cluster) as greedy, zexec.Executor(cluster=cluster) as modest:
        release = flag("release")
        first = greedy.submit(tasks.hold, flag("started"), release)
        assert tasks.wait_for(flag("started"))
        many = [greedy.submit(tasks.append, flag("order"), "greedy") for _ in range(200)]
        one = modest.submit(tasks.append, flag("order"), "modest")
        # The hub has it when it can say where it is.
        assert modest._client is not None
        assert tasks.until(lambda: cluster.status()["tasks"]["open"] == 202)
        tasks.touch(release)
        one.result(30)
        for f in [first, *many]:
            f.result(30)
        assert tasks.lines(flag("order")).index("modest") < 150


def test_many_clients_with_many_threads(cluster: zexec.Cluster) -> None:
    wrong: list[Any] = []

    def use(k: int) -> None:
        try:
            with zexec.Pool(2, cluster=cluster) as pool:

                def calls() -> None:
                    for i in range(40):
                        if pool.apply(tasks.add, (i, k)) != i + k:
                            wrong.append((i, k))

                threads = [threading.Thread(target=calls) for _ in range(3)]
                for t in threads:
                    t.start()
                if pool.map(tasks.double, range(300), 1) != [2 * i for i in range(300)]:
                    wrong.append(k)
                for t in threads:
                    t.join(50)
        except BaseException as e:
            wrong.append(e)

    threads = [threading.Thread(target=use, args=(k,)) for k in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(50)
    assert not wrong
    assert cluster.status()["clients"] == []


SPAWNING = """
import functools, multiprocessing, sys, zexec

class Pair:
    def __init__(self, a):
        self.a = a

def double(pair):
    return Pair(2 * pair.a)

@functools.lru_cache(maxsize=5)
def cached(i):
    return i + double(Pair(i)).a

def work(name):
    with zexec.Executor(cluster=name) as executor:
        assert executor.submit(double, Pair(4)).result(30).a == 8
        assert list(executor.map(cached, [1, 2, 1])) == [3, 6, 3]
        assert executor.submit(functools.partial(double, Pair(1))).result(30).a == 2
        assert executor.submit(lambda: double.__name__ + __name__).result(30) == "double__mp_main__"

if __name__ == "__main__":
    with zexec.Executor(cluster=sys.argv[1]) as executor:
        assert list(executor.map(cached, [1, 2, 1])) == [3, 6, 3]
        assert executor.submit(lambda: cached.cache_parameters()).result(30) == {"maxsize": 5, "typed": False}
    process = multiprocessing.get_context("spawn").Process(target=work, args=(sys.argv[1],))
    process.start()
    process.join()
    sys.exit(process.exitcode)
"""


def test_functions_of_a_main_that_engines_do_not_have(cluster: zexec.Cluster, scripts: Scripts) -> None:
    """Also where a client is a process that multiprocessing has spawned, and with caches around them: they go by value."""
    assert scripts.good(SPAWNING, cluster.name) == ""
