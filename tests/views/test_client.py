"""Clients: engines by number, and what is known of tasks."""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from typing import Any

import pytest

import zexec
from tests.helpers import tasks


def test_ids_len_iteration(client: zexec.Client) -> None:
    assert client.ids == [0, 1]
    assert len(client) == 2
    assert [view.apply_sync(tasks.pid) for view in client] == client[:].apply_sync(tasks.pid)


@pytest.mark.parametrize(
    ("key", "targets"),
    [
        (0, 0),
        (-1, 1),
        (slice(None), [0, 1]),
        (slice(None, None, 2), [0]),
        (slice(None, None, -1), [1, 0]),
        ([1], [1]),
        ((1, 0), [1, 0]),
        ([-1], [1]),
        (range(2), [0, 1]),
    ],
)
def test_indexing(client: zexec.Client, key: Any, targets: Any) -> None:
    view = client[key]
    assert type(view) is zexec.DirectView
    assert view.targets == targets
    assert repr(view) == f"<DirectView {targets}>"


def test_a_target_that_is_not_there_says_which_are(client: zexec.Client) -> None:
    for wrong in (2, -3, [0, 7]):
        with pytest.raises(IndexError, match="there are 0, 1"):
            client[wrong]
    view = client[:]
    with pytest.raises(IndexError, match="no engine 9"):
        view.push({"a": 1}, targets=9)
    with pytest.raises(TypeError, match="by number"):
        client["a"]  # type: ignore[index]
    with pytest.raises(TypeError, match="'all'"):
        client.direct_view("some")
    with pytest.raises(ValueError, match="at least one"):
        client[[]]


def test_all_is_looked_up_at_the_call(client: zexec.Client) -> None:
    view = client.direct_view()
    assert view.targets == "all"
    assert len(view) == 2
    assert view.apply_sync(tasks.double, 2) == [4, 4]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_of_an_executor(method: str, nothing_left: Any) -> None:
    with zexec.Executor(2, mp_context=multiprocessing.get_context(method)) as executor:
        with executor.client as client:
            assert len(set(client[:].apply_sync(tasks.pid))) == 2
            client[1]["x"] = 5
            assert client[1]["x"] == 5
        assert executor.submit(tasks.double, 1).result(20) == 2  # it goes on
        with pytest.raises(RuntimeError, match="this client is closed"):
            client[0].apply(tasks.double, 1)


def test_of_what(pool: zexec.Pool) -> None:
    assert len(zexec.Client(pool)) == len(zexec.Client(zexec.Client(pool))) == 2
    with pytest.raises(TypeError, match="a Pool, an Executor or a Client"):
        zexec.Client(3)  # type: ignore[arg-type]


def test_a_closed_pool(pool: zexec.Pool, client: zexec.Client) -> None:
    pool.close()
    with pytest.raises(RuntimeError, match="the pool is closed"):
        client[0].apply(tasks.double, 1)
    assert not client.outstanding


def test_history_and_results(client: zexec.Client) -> None:
    view = client[:]
    one, two = view.apply(tasks.double, 1), view.apply(tasks.double, 2)
    assert client.history == view.history == one.msg_ids + two.msg_ids
    assert client.hub_history() == client.history
    assert client.wait(timeout=20)
    assert client.results == dict(zip(client.history, [2, 2, 4, 4], strict=True))
    assert {data.engine_id for data in client.metadata.values()} == {0, 1}
    assert client.result_status(one) == {"pending": [], "completed": one.msg_ids}
    assert client.result_status(client.history[0], status_only=False)[client.history[0]] == 2
    del two
    assert set(client.results) == set(one.msg_ids)  # nobody holds the other


def test_wait_and_outstanding(client: zexec.Client, flag: Any) -> None:
    view = client[0]
    held = view.apply(tasks.hold, flag("started"), flag("release"), 3)
    behind = client[1].apply(tasks.double, 1)
    assert client.wait(behind, 20)
    assert client.outstanding == view.outstanding == set(held.msg_ids)
    assert client.wait(held, 0.01) is False
    assert client.wait(timeout=0) is False
    assert client.result_status(held) == {"pending": held.msg_ids, "completed": []}
    with pytest.raises(RuntimeError, match="have not ended"):
        client.purge_results(held)
    tasks.touch(flag("release"))
    assert client.wait(held.msg_ids[0], 20)
    assert view.wait() is True
    assert held.get() == 3
    assert not client.outstanding


def test_what_is_open_is_kept_for_whoever_asks(client: zexec.Client, flag: Any) -> None:
    client[0].apply(tasks.hold, flag("started"), flag("release"), "kept")
    result = client.get_result()
    tasks.touch(flag("release"))
    assert result.get(20) == "kept"


def test_get_result(client: zexec.Client) -> None:
    view = client[:]
    first, second = view.apply(tasks.pid), client[0].apply(tasks.double, 2)
    assert client.get_result(second.msg_ids) is second
    assert client.get_result() is second
    assert client.get_result(-1) is second
    assert view.get_result(first.msg_ids) is first
    assert client.get_result(first.msg_ids[1]).get(20) == first.get(20)[1]
    assert client.get_result([first.msg_ids[1], second]).get(20) == [first.get()[1], 4]
    with pytest.raises(KeyError, match="nothing is known"):
        client.get_result("nonsense")
    with pytest.raises(IndexError, match="the history has 3"):
        client.get_result(99)
    client.purge_results("all")
    with pytest.raises(KeyError):
        client.get_result(second)


def test_queue_status(client: zexec.Client, flag: Any) -> None:
    view, balanced = client[0], client.load_balanced_view()
    done = client[1].apply(tasks.double, 1)
    done.get(20)
    held = view.apply(tasks.hold, flag("started"), flag("release"))
    assert tasks.wait_for(flag("started"))
    behind = view.apply(tasks.double, 1)
    status = client.queue_status()
    assert status[0]["tasks"] + status[0]["queue"] == 2
    assert status[1] == {"queue": 0, "tasks": 0, "completed": 1}
    assert status["unassigned"] == 0
    verbose = view.queue_status(verbose=True)
    assert set(verbose["tasks"] + verbose["queue"]) == {*held.msg_ids, *behind.msg_ids}
    tasks.touch(flag("release"))
    assert balanced.apply_sync(tasks.double, 2) == 4
    client.wait()
    assert client.queue_status(0)["tasks"] == 0


def test_abort(client: zexec.Client, flag: Any) -> None:
    view = client[0]
    held = view.apply(tasks.hold, flag("started"), flag("release"), "ran")
    assert tasks.wait_for(flag("started"))
    behind, other, third = (view.apply(tasks.append, flag("log"), text) for text in "abc")
    view.abort(behind)
    view.abort(other.msg_ids)
    for aborted in (behind, other):
        with pytest.raises(zexec.TaskAborted):
            aborted.get(20)
        with pytest.raises(zexec.TaskAborted):
            aborted.r
    view.abort()
    with pytest.raises(zexec.TaskAborted):
        third.get(20)
    tasks.touch(flag("release"))
    assert held.get(20) == "ran"  # it had started
    assert tasks.lines(flag("log")) == []
    with pytest.raises(RuntimeError, match="has ended"):
        held.abort()


def test_abort_of_one_engine(client: zexec.Client, flag: Any) -> None:
    held = client[:].apply(tasks.hold, flag("started"), flag("release"))
    tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    behind = client[:].apply(tasks.double, 1)
    client.abort(behind, targets=0)
    tasks.touch(flag("release"))
    with pytest.raises(zexec.CompositeError, match="aborted"):
        behind.get(20)
    assert behind.get(return_exceptions=True)[1] == 2
    held.get(20)


def test_shutdown(pool: zexec.Pool, client: zexec.Client) -> None:
    client.shutdown(hub=True)
    with pytest.raises(ValueError, match="not running"):
        pool.apply(tasks.double, (1,))


def test_clear(client: zexec.Client) -> None:
    client.block = True
    client[:]["a"] = 1
    client.clear()
    with pytest.raises(zexec.CompositeError):
        client[:].get("a")


def test_many_engines(nothing_left: Any) -> None:
    with zexec.Pool(12, context=multiprocessing.get_context("fork")) as pool:
        view = pool.client[:]
        view.scatter("x", range(30)).get(50)
        assert view.gather("x", block=True) == list(range(30))
        assert view.map_sync(lambda x: x + 1, range(100)) == list(range(1, 101))
    pool.join()


def test_clients_of_one_pool_find_each_others_results(pool: zexec.Pool, client: zexec.Client) -> None:
    result = client[:].apply_async(tasks.double, 3)
    other = zexec.Client(pool)
    assert other.get_result(result.msg_ids).get(20) == [6, 6]
    assert other.get_result(result) is result
    assert other.history == []
    other.purge_everything()
    assert client.get_result(result.msg_ids[0]).get() == 6, "purged by the other, which has none of its own"


def test_any_future_can_be_waited_for(pool: zexec.Pool, client: zexec.Client, flag: Any) -> None:
    held = pool.apply_async(tasks.hold, (flag("started"), flag("go")))
    assert client.wait([held, client[1].apply_async(tasks.double, 1)], timeout=0.01) is False
    tasks.touch(flag("go"))
    assert client.wait(held) is True
    done: concurrent.futures.Future[None] = concurrent.futures.Future()
    done.set_result(None)
    assert client.wait([done]) is True


def test_waiting_for_engines(client: zexec.Client) -> None:
    assert client.wait_for_engines() is None
    assert client.wait_for_engines(2) is None
    there = client.wait_for_engines(1, block=False)
    assert there is not None
    assert there.done()
    with pytest.raises(zexec.TimeoutError, match="there are 2 engines, not 3"):
        client.wait_for_engines(3, timeout=0.05)
    never = client.wait_for_engines(3, timeout=0.05, block=False)
    assert never is not None
    with pytest.raises(zexec.TimeoutError):
        never.result(20)


def test_switches_that_mean_nothing_are_there(client: zexec.Client) -> None:
    view = client[:]
    view.use_cloudpickle()
    view["a"] = 1
    view.use_pickle()
    assert view["a"] == [1, 1]


def test_queries(client: zexec.Client) -> None:
    view = client[:]
    with view.temp_flags(label="first"):
        first = view.apply_async(tasks.double, 1)
    failed = client[1].apply_async(tasks.fail)
    last = client.load_balanced_view().apply_async(tasks.double, 1)
    client.wait()
    assert client.hub_history() == [*first.msg_ids, *failed.msg_ids, *last.msg_ids]
    records = client.db_query({})
    assert [record["msg_id"] for record in records] == client.hub_history()
    assert [record["label"] for record in records] == ["first", "first", None, None]
    assert [record["queue"] for record in records] == ["mux"] * 3 + ["task"]

    def found(query: Any) -> list[str]:
        return [record["msg_id"] for record in client.db_query(query, keys="status")]

    assert found({"status": "error"}) == failed.msg_ids
    assert found({"engine_id": 0, "label": "first"}) == first.msg_ids[:1]
    assert found({"submitted": {"$gte": failed.submitted}}) == [*failed.msg_ids, *last.msg_ids]
    assert found({"msg_id": {"$in": last.msg_ids}}) == last.msg_ids
    assert client.db_query({"msg_id": last.msg_ids[0]}, keys=["engine_id"]) == [
        {"msg_id": last.msg_ids[0], "engine_id": last.engine_id}
    ]
    with pytest.raises(ValueError, match="submitted"):
        client.db_query({}, keys="nonsense")
    with pytest.raises((TypeError, ValueError)):
        client.db_query({"status": {"$nonsense": 1}})
    client.purge_hub_results(failed)
    assert client.hub_history() == [*first.msg_ids, *last.msg_ids]
    ids = first.msg_ids
    del first
    assert client.hub_history() == [*ids, *last.msg_ids], "of tasks whose results nobody holds as well"
    with pytest.raises(KeyError, match="nobody has kept its result"):
        client.get_result(ids[0])
    with pytest.raises(zexec.ZexecError, match="keeps no tasks"):
        client.resubmit(last.msg_ids)
    client.purge_everything()
    assert client.hub_history() == client.history == []
