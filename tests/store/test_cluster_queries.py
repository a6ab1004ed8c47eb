"""What clients of a cluster can ask its hub about tasks, theirs and others'."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zexec
from tests.cluster.conftest import home  # noqa: F401  # a fixture by its name
from zexec.errors import ClusterError


def weigh(big: Any, x: int) -> int:
    return int(big.sum()) + x


def fail(x: int) -> None:
    raise ValueError(x)


@pytest.fixture(params=["memory", "sqlite"])
def client(request: pytest.FixtureRequest, home: Path) -> Iterator[zexec.Client]:  # noqa: F811
    with zexec.Cluster(2, name="asked", store=request.param) as cluster:
        cluster.wait_for_engines(2, 40)
        with zexec.Pool(cluster="asked") as pool:
            yield pool.client
        pool.join()
    shutil.rmtree(home / "clusters" / "asked", ignore_errors=True)  # the store stays when a cluster ends


def test_records_of_the_hub(client: zexec.Client) -> None:
    view = client.load_balanced_view()
    results = [view.apply_async(abs, -i) for i in range(4)]
    failed = view.apply_async(fail, 3)
    assert [result.get(40) for result in results] == [0, 1, 2, 3]
    assert failed.exception(40) is not None
    ids = [id for result in (*results, failed) for id in result.msg_ids]
    assert client.hub_history() == ids
    records = client.db_query({"msg_id": {"$in": ids}})
    assert [record["msg_id"] for record in records] == ids
    assert "buffers" not in records[0]
    middle = records[2]["submitted"]
    before = client.db_query({"submitted": {"$lt": middle}}, keys="engine_id")
    after = client.db_query({"submitted": {"$gte": middle}}, keys=["engine_id", "completed"])
    assert len(before) + len(after) == 5
    assert all(record["engine_id"] in (0, 1) and record["completed"] for record in after)
    (same,) = client.db_query({"msg_id": ids[2], "submitted": middle}, keys=["submitted", "buffers", "result_buffers"])
    assert same["submitted"] == middle
    assert same["buffers"]
    assert same["result_buffers"]


def test_other_clients_see_them(client: zexec.Client) -> None:
    result = client.load_balanced_view().apply_async(abs, -1)
    result.get(40)
    with zexec.Pool(cluster="asked") as other:
        assert other.client.hub_history() == result.msg_ids
        assert other.client.result_status(result.msg_ids) == {"completed": result.msg_ids, "pending": []}
        with pytest.raises(KeyError, match="nothing is known"):
            other.client.result_status("12345")
        other.client.purge_hub_results(result.msg_ids)
        assert client.hub_history() == []
    other.join()


def test_purging(client: zexec.Client) -> None:
    results = client[:].apply_async(abs, -1)
    results.get(40)
    assert len(client.hub_history()) == 2
    client.purge_hub_results(targets=[0])
    assert [record["engine_id"] for record in client.db_query({}, "engine_id")] == [1]
    client.purge_hub_results("all")
    assert client.hub_history() == []


def test_what_is_no_query_is_said_here(client: zexec.Client) -> None:
    with pytest.raises(ValueError, match="unknown operator"):
        client.db_query({"a": {"$what": 1}})
    with pytest.raises(ValueError, match="no key"):
        client.db_query({}, "nothing")
    with pytest.raises(TypeError, match="plain data"):
        client.db_query({"engine_id": object()})


def test_what_is_open_is_not_purged(client: zexec.Client, tmp_path: Path) -> None:
    from tests.store.test_hub_killed import run

    gate = tmp_path / "gate"
    result = client.load_balanced_view().apply_async(run, str(tmp_path / "log"), 1, str(gate))
    while not (tmp_path / "log").exists():
        assert not result.done()
    with pytest.raises(ClusterError, match="not ended"):
        client.purge_hub_results(result.msg_ids)
    assert client.db_query({"status": None}, "status") == [{"msg_id": result.msg_ids[0], "status": None}]
    with zexec.Pool(cluster="asked") as other:
        assert other.client.result_status(result.msg_ids) == {"completed": [], "pending": result.msg_ids}
    other.join()
    gate.touch()
    assert result.get(40) == 2


def test_tasks_run_again(client: zexec.Client, tmp_path: Path) -> None:
    from tests.store.test_hub_killed import run

    log = tmp_path / "log"
    first = client.load_balanced_view().apply_async(run, str(log), 7)
    assert first.get(40) == 14
    again = client.resubmit(first)
    assert again.get(40) == 14
    assert len(log.read_text().splitlines()) == 2
    assert client.db_query({"msg_id": first.msg_ids[0]}, "resubmitted")[0]["resubmitted"] == again.msg_ids[0]
    assert client.hub_history() == first.msg_ids + again.msg_ids
    mapped = client.load_balanced_view().map_async(abs, range(-4, 0), chunksize=2)
    assert list(mapped.get(40)) == [4, 3, 2, 1]
    assert list(client.resubmit(mapped).get(40)) == [4, 3, 2, 1]
    with zexec.Pool(cluster="asked") as other:
        assert other.client.resubmit(first.msg_ids).get(40) == 14
        with pytest.raises(ClusterError, match="nothing is known"):
            other.client.resubmit(["12345"])
    other.join()


def test_a_task_that_failed_fails_again(client: zexec.Client) -> None:
    failed = client.load_balanced_view().apply_async(fail, 3)
    assert isinstance(failed.exception(40), zexec.RemoteError)
    assert isinstance(client.resubmit(failed).exception(40), zexec.RemoteError)


def test_a_function_with_large_data_in_it(client: zexec.Client) -> None:
    numpy = pytest.importorskip("numpy")
    big = numpy.ones(100_000)
    view = client.load_balanced_view()
    assert view.map_sync(functools.partial(weigh, big), [1, 2, 3]) == [100_001, 100_002, 100_003]
    assert view.apply(functools.partial(weigh, big), 5).get(40) == 100_005


def test_queues_are_those_of_all_clients(client: zexec.Client, tmp_path: Path) -> None:
    """As numbers; ids are given of one's own tasks alone."""
    from tests.store.test_hub_killed import run

    gate, log = tmp_path / "gate", tmp_path / "log"
    client[1].apply_sync(abs, -1)
    done = client.queue_status()[1]["completed"]
    held = client[0].apply_async(run, str(log), 1, str(gate))
    while not log.exists():
        assert not held.done()
    with zexec.Pool(cluster="asked") as other:
        theirs = other.client
        mine = [theirs[0].apply_async(abs, -1) for _ in range(3)]
        later = theirs.load_balanced_view()
        with later.temp_flags(after=mine[0]):
            waiting = later.apply_async(abs, -2)
        for asked in (theirs, client):  # its tasks are with the hub when it is answered
            status = asked.queue_status()
            assert status[0]["tasks"] + status[0]["queue"] == 4
            assert status[1] == {"queue": 0, "tasks": 0, "completed": done}
            assert status["unassigned"] == 1
            assert asked.queue_status(0) == status[0]
        verbose = theirs.queue_status(verbose=True)
        assert {*verbose[0]["tasks"], *verbose[0]["queue"]} == {msg_id for each in mine for msg_id in each.msg_ids}
        assert (verbose[0]["others"], verbose[1]["others"], verbose["unassigned"]) == (1, 0, waiting.msg_ids)
        assert client.queue_status(verbose=True)[0]["others"] == 3
        gate.touch()
        assert waiting.get(40) == 2
    other.join()
    assert held.get(40) == 2
