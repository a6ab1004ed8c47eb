"""Where pools and executors under test have their hub and their engines."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import zexec

#: Under forkserver engines are reached and watched as under spawn; ``e2e`` has that third method wherever it may matter.
METHODS = ("fork", "spawn")

#: makes the path of a file by which processes tell each other things
Flag = Callable[[str], str]


class Host:
    """Makes pools and executors of two engines, with a hub in this process."""

    def __init__(self, method: str, context: Any = None) -> None:
        self.method = method
        self.context = context or multiprocessing.get_context(method)
        self._made: list[Any] = []
        self._last: list[Any] = []

    def __repr__(self) -> str:
        return self.method

    def pool(self, processes: int = 2, **kwargs: Any) -> zexec.Pool:
        pool = zexec.Pool(processes, context=self.context, **kwargs)
        self._made.append(pool.terminate)
        self._made.append(pool.join)
        return pool

    def executor(self, max_workers: int = 2, **kwargs: Any) -> zexec.Executor:
        executor = zexec.Executor(max_workers, mp_context=self.context, **kwargs)
        self._made.append(lambda: executor.shutdown(wait=True, cancel_futures=True))
        return executor

    def end(self) -> None:
        for end in (*self._made, *self._last):
            end()
        self._made.clear()
        self._last.clear()


class ClusterHost(Host):
    """The same on a hub in a process of its own."""

    def __init__(self, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__("cluster", multiprocessing.get_context("spawn"))
        monkeypatch.setenv("ZEXEC_HOME", home)

    def cluster(self, engines: int) -> zexec.Cluster:
        cluster = zexec.Cluster(engines)
        cluster.wait_for_engines(engines, 40)
        self._last.append(cluster.stop)
        return cluster

    def pool(self, processes: int = 2, **kwargs: Any) -> zexec.Pool:
        return super().pool(processes, cluster=self.cluster(processes), **kwargs)

    def executor(self, max_workers: int = 2, **kwargs: Any) -> zexec.Executor:
        return super().executor(max_workers, cluster=self.cluster(max_workers), **kwargs)


class SharedHost(Host):
    """Pools and executors on a cluster that is there before them and after them."""

    def __init__(self, cluster: zexec.Cluster) -> None:
        super().__init__("cluster", multiprocessing.get_context("spawn"))
        self._cluster = cluster

    def pool(self, processes: int = 2, **kwargs: Any) -> zexec.Pool:
        return super().pool(processes, cluster=self._cluster, **kwargs)

    def executor(self, max_workers: int = 2, **kwargs: Any) -> zexec.Executor:
        return super().executor(max_workers, cluster=self._cluster, **kwargs)


class StoreHost(ClusterHost):
    """On a hub that keeps its tasks in a file: it may be killed, and goes on when it is started again under its name."""

    def __init__(self, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(home, monkeypatch)
        self.method = "store"
        self._cluster: Any = None
        self._engines = 0

    def cluster(self, engines: int) -> zexec.Cluster:
        self._engines = engines
        self.start_hub()
        self._cluster.wait_for_engines(engines, 40)
        self._last.append(lambda: self._cluster.stop())
        cluster: zexec.Cluster = self._cluster
        return cluster

    def kill_hub(self) -> None:
        """SIGKILL. Its engines and its clients look for the next."""
        self._cluster._process.kill()
        self._cluster._process.wait()
        self._cluster._let_go()

    def start_hub(self) -> None:
        self._cluster = zexec.Cluster(self._engines, name="kept", store="sqlite")


@contextmanager
def standing_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zexec.Cluster]:
    """Two engines for all tests of a file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZEXEC_HOME", str(tmp_path_factory.mktemp("home")))
        with zexec.Cluster(2) as cluster:
            cluster.wait_for_engines(2, 40)
            yield cluster
