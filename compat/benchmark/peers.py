"""How each peer is driven: open, one call, many submits, map, close. One small class per peer.

A peer's package is imported in `open()` and nowhere else, so that the row "start" can see what the import costs.
"""

from __future__ import annotations

import os

from compat.benchmark import tasks

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 7 ms of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Function = Callable[..., Any]


class Peer:
    """What every row may ask of a peer."""

    name: str
    package: str  # what has to be importable
    is_zexec = False
    takes_lambdas = True

    def __init__(self, engines: int) -> None:
        self.engines = engines

    def open(self, lambdas: bool = False) -> None:
        """Import the package and make the pool; with `lambdas`, as a user would who has lambdas to run."""
        raise NotImplementedError

    def call(self, function: Function, *args: Any) -> Any:
        """One call there and back."""
        return self.results([self.submit(function, *args)])[0]

    def submit(self, function: Function, *args: Any) -> Any:
        """Start one call, return the peer's own handle."""
        raise NotImplementedError

    def results(self, handles: list[Any]) -> list[Any]:
        raise NotImplementedError

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        raise NotImplementedError

    def broadcast(self, function: Function, array: Any) -> list[Any]:
        """Call a function with the same array on every engine."""
        return self.results([self.submit(function, array) for _ in range(self.engines)])

    def scatter_gather(self, array: Any) -> Any:
        """Cut an array, give each engine a part, and put it together again."""
        raise NotImplementedError

    def close(self) -> None:
        """The orderly end, with all processes gone."""
        raise NotImplementedError

    @classmethod
    def cannot(cls, row: str) -> str | None:
        """Why this peer has no such row, if so."""
        if row == "lambdas" and not cls.takes_lambdas:
            return "does not take lambdas"
        if row == "core" and cls is not ZexecPool:
            return "zexec only"
        if row == "shared_in" and not cls.is_zexec:
            return "zexec only"
        if row == "scatter" and cls.scatter_gather is Peer.scatter_gather:
            return "has no scatter and gather"
        return None


# ── the multiprocessing.Pool family ──────────────────────────────────────────────────────────────────────────────────


class PoolPeer(Peer):
    start_method = "fork"
    _pool: Any

    def call(self, function: Function, *args: Any) -> Any:
        return self._pool.apply(function, args)

    def submit(self, function: Function, *args: Any) -> Any:
        return self._pool.apply_async(function, args)

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        return list(self._pool.map(function, items, chunksize=chunksize))

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class MultiprocessingFork(PoolPeer):
    name = "multiprocessing-fork"
    package = "multiprocessing"
    takes_lambdas = False

    def open(self, lambdas: bool = False) -> None:
        import multiprocessing

        self._pool = multiprocessing.get_context(self.start_method).Pool(self.engines)


class MultiprocessingSpawn(MultiprocessingFork):
    name = "multiprocessing-spawn"
    start_method = "spawn"


class Multiprocess(PoolPeer):
    name = "multiprocess"
    package = "multiprocess"

    def open(self, lambdas: bool = False) -> None:
        import multiprocess

        self._pool = multiprocess.get_context(self.start_method).Pool(self.engines)


class ZexecPool(PoolPeer):
    name = "zexec-pool"
    package = "zexec"
    is_zexec = True

    def open(self, lambdas: bool = False) -> None:
        import multiprocessing

        import zexec

        self._pool = zexec.Pool(self.engines, context=multiprocessing.get_context(self.start_method))

    def broadcast(self, function: Function, array: Any) -> list[Any]:
        return list(self._pool.client[:].apply_sync(function, array))

    def scatter_gather(self, array: Any) -> Any:
        view = self._pool.client[:]
        view.scatter("part", array, block=True)
        return view.gather("part", block=True)


class ZexecCluster(PoolPeer):
    """Through a hub process, over TCP with CURVE: what dask, ray and ipyparallel are built like."""

    name = "zexec-cluster"
    package = "zexec"
    is_zexec = True

    def open(self, lambdas: bool = False) -> None:
        import zexec

        self._cluster = zexec.Cluster(self.engines, listen="127.0.0.1", options=["--only-tcp"])
        self._cluster.wait_for_engines(self.engines)
        self._pool = zexec.Pool(self.engines, cluster=self._cluster)

    def close(self) -> None:
        super().close()
        self._cluster.stop()


class ZexecPoolSpawn(ZexecPool):
    name = "zexec-spawn"
    start_method = "spawn"


# ── the concurrent.futures family ────────────────────────────────────────────────────────────────────────────────────


class ExecutorPeer(Peer):
    _executor: Any

    def call(self, function: Function, *args: Any) -> Any:
        return self._executor.submit(function, *args).result()

    def submit(self, function: Function, *args: Any) -> Any:
        return self._executor.submit(function, *args)

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        return list(self._executor.map(function, items, chunksize=chunksize))

    def close(self) -> None:
        self._executor.shutdown()


class ConcurrentFutures(ExecutorPeer):
    name = "concurrent.futures"
    package = "concurrent.futures"
    takes_lambdas = False

    def open(self, lambdas: bool = False) -> None:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor

        self._executor = ProcessPoolExecutor(self.engines, mp_context=multiprocessing.get_context("fork"))


class Loky(ExecutorPeer):
    name = "loky"
    package = "loky"

    def open(self, lambdas: bool = False) -> None:
        import loky

        self._executor = loky.ProcessPoolExecutor(self.engines)


class ZexecExecutor(ExecutorPeer):
    name = "zexec-executor"
    package = "zexec"
    is_zexec = True

    def open(self, lambdas: bool = False) -> None:
        import multiprocessing

        import zexec

        self._executor = zexec.Executor(self.engines, mp_context=multiprocessing.get_context("fork"))


# ── those with an interface of their own ─────────────────────────────────────────────────────────────────────────────


class Pebble(Peer):
    name = "pebble"
    package = "pebble"
    takes_lambdas = False

    def open(self, lambdas: bool = False) -> None:
        import multiprocessing

        import pebble

        self._pool = pebble.ProcessPool(self.engines, context=multiprocessing.get_context("fork"))

    def submit(self, function: Function, *args: Any) -> Any:
        return self._pool.schedule(function, args)

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.result() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        return list(self._pool.map(function, items, chunksize=chunksize).result())

    def close(self) -> None:
        self._pool.close()
        self._pool.join()


class Mpire(Peer):
    name = "mpire"
    package = "mpire"

    def open(self, lambdas: bool = False) -> None:
        import mpire

        # keep_alive: without it every map starts new processes.
        self._pool = mpire.WorkerPool(self.engines, start_method="fork", keep_alive=True, use_dill=lambdas)

    def call(self, function: Function, *args: Any) -> Any:
        return self._pool.apply(function, args)

    def submit(self, function: Function, *args: Any) -> Any:
        return self._pool.apply_async(function, args)

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        return list(self._pool.map(function, items, chunk_size=chunksize))

    def close(self) -> None:
        self._pool.stop_and_join()


class Ipyparallel(Peer):
    name = "ipyparallel"
    package = "ipyparallel"

    def open(self, lambdas: bool = False) -> None:
        import logging

        import ipyparallel

        self._cluster = ipyparallel.Cluster(n=self.engines, log_level=logging.ERROR)
        self._client = self._cluster.start_and_connect_sync()
        self._view = self._client.load_balanced_view()

    def call(self, function: Function, *args: Any) -> Any:
        return self._view.apply_sync(function, *args)

    def submit(self, function: Function, *args: Any) -> Any:
        return self._view.apply_async(function, *args)

    def results(self, handles: list[Any]) -> list[Any]:
        return [handle.get() for handle in handles]

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        return list(self._view.map(function, items, chunksize=chunksize, block=True))

    def broadcast(self, function: Function, array: Any) -> list[Any]:
        return list(self._client[:].apply_sync(function, array))

    def scatter_gather(self, array: Any) -> Any:
        view = self._client[:]
        view.scatter("part", array, block=True)
        return view.gather("part", block=True)

    def close(self) -> None:
        self._client.close()
        self._cluster.stop_cluster_sync()


class Dask(Peer):
    name = "dask"
    package = "distributed"

    def open(self, lambdas: bool = False) -> None:
        from distributed import Client

        self._client = Client(
            n_workers=self.engines,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            local_directory=os.environ.get("TMPDIR"),
        )

    def submit(self, function: Function, *args: Any) -> Any:
        return self._client.submit(function, *args, pure=False)

    def results(self, handles: list[Any]) -> list[Any]:
        return list(self._client.gather(handles))

    def broadcast(self, function: Function, array: Any) -> list[Any]:
        place = self._client.scatter(array, broadcast=True)
        return self.results([self.submit(function, place) for _ in range(self.engines)])

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        if chunksize == 1:
            return self.results(self._client.map(function, items, pure=False))
        # Slow, and that is dask: what serialises a result visits each item of a list.
        chunks = [items[start : start + chunksize] for start in range(0, len(items), chunksize)]
        done = self.results(self._client.map(tasks.each, [function] * len(chunks), chunks, pure=False))
        return [value for chunk in done for value in chunk]

    def close(self) -> None:
        self._client.shutdown()


class Ray(Peer):
    name = "ray"
    package = "ray"

    def open(self, lambdas: bool = False) -> None:
        import ray

        self._ray = ray
        self._remote: dict[Function, Any] = {}
        folder = os.environ.get("TMPDIR", "/tmp")
        ray.init(
            num_cpus=self.engines,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=os.path.join(folder, "ray"),
        )

    def submit(self, function: Function, *args: Any) -> Any:
        remote = self._remote.get(function)
        if remote is None:
            remote = self._remote[function] = self._ray.remote(function)
        return remote.remote(*args)

    def results(self, handles: list[Any]) -> list[Any]:
        return list(self._ray.get(handles))

    def broadcast(self, function: Function, array: Any) -> list[Any]:
        place = self._ray.put(array)
        return self.results([self.submit(function, place) for _ in range(self.engines)])

    def map(self, function: Function, items: Sequence[Any], chunksize: int) -> list[Any]:
        if chunksize == 1:
            return self.results([self.submit(function, item) for item in items])
        starts = range(0, len(items), chunksize)
        done = self.results([self.submit(tasks.each, function, items[start : start + chunksize]) for start in starts])
        return [value for chunk in done for value in chunk]

    def close(self) -> None:
        self._ray.shutdown()


_ALL: tuple[type[Peer], ...] = (
    ZexecPool,
    ZexecExecutor,
    ZexecPoolSpawn,
    ZexecCluster,
    MultiprocessingFork,
    MultiprocessingSpawn,
    ConcurrentFutures,
    Loky,
    Pebble,
    Mpire,
    Multiprocess,
    Ipyparallel,
    Dask,
    Ray,
)
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in _ALL}
