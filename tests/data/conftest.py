"""Large data: by segments of shared memory and, unless a test is about those, by frames. Afterwards nothing may be left."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from contextlib import ExitStack
from importlib import import_module
from importlib.util import find_spec

import pytest

import zexec
from tests.e2e.conftest import (  # noqa: F401  # fixtures by their names
    _one_family,
    ctx,
    flag,
    nothing_left,
    pytest_runtest_makereport,
    scripts,
)
from tests.helpers import data

# They start threads of their own, which stay: so before anything is counted.
for library in ("pandas", "pyarrow"):
    if find_spec(library) is not None:
        import_module(library)

#: Seconds within which a cluster's engines must be up: a bound against hanging, not a measure.
UP = 40

Clusters = dict[str, zexec.Cluster]


@pytest.fixture(params=["segments", "frames"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How large data travels."""
    name: str = request.param
    if name == "frames":
        monkeypatch.setenv("ZEXEC_SHM_BYTES", "0")
    return name


@pytest.fixture(params=["thread", "process"])
def host(request: pytest.FixtureRequest) -> str:
    """Where the hub is: in this process, or in one of its own, with engines that nobody was given anything of."""
    name: str = request.param
    return name


@pytest.fixture(scope="module", autouse=True)
def clusters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clusters]:
    """Two engines each, for those tests of a module that want one: whose processes share memory, and without that."""
    tests = [item for item in request.session.items if item.getparent(pytest.Module) is request.node]
    wanted = [item for item in tests if {"pool", "shared"}.intersection(getattr(item, "fixturenames", ()))]
    params = [item.callspec.params for item in wanted if hasattr(item, "callspec")]
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv("ZEXEC_HOME", str(tmp_path_factory.mktemp("home")))
        made = {}
        for way in sorted({each.get("way", "segments") for each in params if each.get("host") == "process"}):
            with pytest.MonkeyPatch.context() as now:
                if way == "frames":
                    now.setenv("ZEXEC_SHM_BYTES", "0")
                made[way] = stack.enter_context(zexec.Cluster(2))
            made[way].wait_for_engines(2, UP)
        yield made


@pytest.fixture
def pool(way: str, host: str, clusters: Clusters, nothing_left: object) -> Iterator[zexec.Pool]:  # noqa: F811
    """Two engines, forked or a cluster's."""
    with engines(host, clusters, way) as pool:
        yield pool
    pool.join()


@pytest.fixture
def shared(host: str, clusters: Clusters, nothing_left: object) -> Iterator[zexec.Pool]:  # noqa: F811
    """Two engines that share memory with this process."""
    with engines(host, clusters, "segments") as pool:
        pool.client[:].clear(block=True)
        pool.client[:].apply_sync(data.begin_anew)
        yield pool
    pool.join()


def engines(host: str, clusters: Clusters, way: str) -> zexec.Pool:
    if host == "thread":
        return zexec.Pool(2, context=multiprocessing.get_context("fork"))
    return zexec.Pool(cluster=clusters[way])
