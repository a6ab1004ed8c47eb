"""A store that cannot be written: clients are told, and nobody waits for ever.

No file of the hub's may grow any more, which for SQLite is as a full disk is; and then it may again.
"""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import psutil
import pytest

import zexec
from tests.cluster.conftest import home  # noqa: F401  # a fixture by its name
from tests.helpers import tasks
from tests.store.test_hub_killed import run


@pytest.fixture
def cluster(home: Path) -> Iterator[zexec.Cluster]:  # noqa: F811
    with zexec.Cluster(2, name="full", store="sqlite") as cluster:
        cluster.wait_for_engines(2, 40)
        yield cluster
        allow(cluster, resource.RLIM_INFINITY)
    shutil.rmtree(home / "clusters" / "full", ignore_errors=True)  # the store stays when a cluster ends


def allow(cluster: zexec.Cluster, size: int) -> None:
    """How large a file of the hub's may be."""
    psutil.Process(cluster.pid).rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def trouble(cluster: zexec.Cluster) -> str | None:
    found: str | None = cluster.status()["store"]["trouble"]
    return found


def test_no_room_for_long(cluster: zexec.Cluster, tmp_path: Path) -> None:
    """What is submitted fails, and says why; what was accepted ends; and all goes on when there is room."""
    gate, log = tmp_path / "gate", tmp_path / "log"
    with zexec.Executor(cluster="full") as executor:
        held = executor.submit(run, str(log), 1, str(gate))
        behind = [executor.submit(abs, -i) for i in range(20)]
        assert [each.result(40) for each in behind] == list(range(20))
        assert tasks.until(log.exists)
        assert trouble(cluster) is None
        allow(cluster, 0)
        waited = executor.submit(abs, -1)
        with pytest.raises(zexec.StoreError, match=r"abs was not accepted: the store .*tasks\.db cannot be written"):
            waited.result(40)
        began = monotonic()
        others = [executor.submit(abs, -2), *[executor.options(after=held).submit(abs, -3)]]
        for other in others:
            assert isinstance(other.exception(40), zexec.StoreError)
        assert "cannot be written" in str(trouble(cluster))
        gate.touch()
        assert held.result(40) == 2
        assert monotonic() - began < 30
        allow(cluster, resource.RLIM_INFINITY)
        assert tasks.until(lambda: trouble(cluster) is None, 20)
        assert executor.submit(abs, -4).result(40) == 4
    with zexec.Client("full") as client:
        ends = [record["status"] for record in client.db_query({}, "status")]
    assert sorted(map(str, ends)) == ["ok"] * 22 + ["refused"]


def test_no_room_for_a_moment(cluster: zexec.Cluster) -> None:
    """Nobody need notice: what comes meanwhile waits."""
    with zexec.Executor(cluster="full") as executor:
        assert executor.submit(abs, -1).result(40) == 1
        allow(cluster, 0)
        waiting = [executor.submit(abs, -i) for i in range(20)]
        assert tasks.until(lambda: trouble(cluster) is not None, 20)
        allow(cluster, resource.RLIM_INFINITY)
        assert [each.result(40) for each in waiting] == list(range(20))
