"""What every store does."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from tests.helpers.records import DOUBLE, fill, outcome, task, when
from zexec.messages import CALL, CANCELLED, DIED, ERROR, OK, Death, Function, Task
from zexec.records.entry import KEYS, LARGE
from zexec.wire.pickling import FunctionPickler

#: what IPython's parallel package has in a task's record
IPYTHON = {
    *(
        "msg_id",
        "header",
        "metadata",
        "content",
        "buffers",
        "submitted",
        "client_uuid",
        "engine_uuid",
        "started",
        "completed",
    ),
    *(
        "resubmitted",
        "received",
        "result_header",
        "result_metadata",
        "result_content",
        "result_buffers",
        "queue",
        "label",
    ),
    *("execute_input", "execute_result", "error", "stdout", "stderr"),
}


def ids(records: list[dict[str, Any]]) -> list[str]:
    return [record["msg_id"] for record in records]


def test_a_record_has_what_ipythons_has(store: Any) -> None:
    assert set(KEYS) >= IPYTHON
    fill(store, [1])
    (record,) = store.find({}, list(KEYS))
    assert set(record) == set(KEYS)


def test_the_life_of_a_task_in_its_record(store: Any) -> None:
    one = task(5, b"arguments", priority=2, retries=1, timeout=9.0, targets=frozenset({1, 0}))
    store.accepted([one], "alice", label="mine", now=1_700_000_000.0)
    (record,) = store.find({})
    assert (record["status"], record["completed"], record["engine_id"], record["result_header"]) == (None,) * 4
    assert record["submitted"] == when(0)
    assert (record["client_uuid"], record["label"]) == ("alice", "mine")
    assert record["header"]["function"] == "double"
    assert record["header"]["timeout"] == 9.0
    assert record["metadata"]["targets"] == [0, 1]
    store.sent([one], 1, "engine-1", now=1_700_000_001.0)
    (record,) = store.find({})
    assert (record["engine_id"], record["engine_uuid"], record["sent"]) == (1, "engine-1", when(1))
    store.settled([outcome(5, b"value", engine=1, at=2.0)], now=1_700_000_003.0)
    (record,) = store.find({}, [*KEYS])
    assert record["status"] == record["result_header"]["status"] == "ok"
    assert (record["started"], record["completed"], record["received"]) == (when(2), when(2.25), when(3))
    assert (record["buffers"], record["result_buffers"]) == ([b"arguments"], [b"value"])
    assert (record["engine_id"], record["engine_uuid"]) == (1, "engine-1")


def test_buffers_are_left_out_unless_asked_for(store: Any) -> None:
    fill(store, [1])
    (record,) = store.find({})
    assert not set(record) & set(LARGE)
    assert store.find({}, "buffers") == [{"msg_id": "1", "buffers": [b"payload"]}]
    assert store.find({}, ["header.function"]) == [{"msg_id": "1", "header.function": "double"}]


@pytest.mark.parametrize("keys", ["no_such_key", ["msg_id", "nothing"], [3]])
def test_unknown_keys_are_refused(store: Any, keys: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="key"):
        store.find({}, keys)


def test_queries(store: Any) -> None:
    fill(store, [1, 2, 3, 4], "alice")
    fill(store, [5, 6], "bob", at=4)
    store.sent([task(1), task(2)], 0, "e0")
    store.sent([task(3)], 1, "e1")
    store.settled([outcome(1), outcome(2, status=ERROR), outcome(3, engine=1), outcome(4, None, CANCELLED, -1)])
    for query, found in [
        ({}, "123456"),
        ({"msg_id": "3"}, "3"),
        ({"msg_id": 3}, ""),
        ({"msg_id": None}, ""),
        ({"msg_id": {"$ne": None}}, "123456"),
        ({"msg_id": {"$ne": ""}}, "123456"),
        ({"msg_id": {"$in": ["2", "5", "nine", "9"]}}, "25"),
        ({"msg_id": {"$nin": ["2", "5"]}}, "1346"),
        ({"msg_id": {"$gt": "4"}}, "56"),
        ({"status": "ok"}, "13"),
        ({"status": {"$in": ["ok", "aborted"]}}, "134"),
        ({"status": None}, "56"),
        ({"status": {"$ne": "ok"}}, "2456"),
        ({"completed": None}, "56"),
        ({"completed": {"$ne": None}}, "1234"),
        ({"engine_id": 0}, "12"),
        ({"engine_id": None}, "456"),
        ({"engine_id": {"$gte": 0}}, "123"),
        ({"engine_uuid": {"$in": ["e0", "e1"]}}, "123"),
        ({"client_uuid": "bob"}, "56"),
        ({"submitted": when(2)}, "3"),
        ({"submitted": {"$lt": when(2)}}, "12"),
        ({"submitted": {"$gte": when(2)}}, "3456"),
        ({"submitted": {"$gt": 3}}, ""),
        ({"header.function": "double", "client_uuid": "bob"}, "56"),
        ({"header.function": {"$glob": "tri*"}}, ""),
        ({"$or": [{"client_uuid": "bob"}, {"status": "error"}]}, "256"),
        ({"$and": [{"client_uuid": "alice"}, {"engine_id": {"$mod": [2, 1]}}]}, "3"),
        ({"buffers": [b"payload"], "msg_id": "1"}, "1"),
        ({"result_buffers": {"$exists": False}}, "56"),
    ]:
        assert ids(store.find(query)) == list(found), query


def test_a_record_changed_by_who_asked_is_unchanged_here(store: Any) -> None:
    fill(store, [1])
    (record,) = store.find({}, ["header", "buffers"])
    record["header"]["msg_id"] = "fubar"
    record["buffers"].clear()
    assert store.find({}, ["buffers"])[0]["buffers"] == [b"payload"]
    assert store.find({}, ["header"])[0]["header"]["msg_id"] == "1"


def test_history_is_in_the_order_of_submission(store: Any) -> None:
    fill(store, [(1 << 40) + 1, (1 << 40) + 2], "bob")
    fill(store, [1, 2], "alice", at=10)
    assert store.history() == [str((1 << 40) + 1), str((1 << 40) + 2), "1", "2"]


def test_status_and_outcome(store: Any) -> None:
    fill(store, [1, 2])
    death = Death(0, 123, "host", -9)
    store.settled([(1, DIED, None, death, 0, 0.0, 0.0)])
    assert store.status([1, 2, 3]) == {1: DIED, 2: None}
    assert store.outcome(1) == (1, DIED, None, death, 0, 0.0, 0.0)
    assert store.outcome(2) is None
    with pytest.raises(KeyError, match="nothing is known of task 3"):
        store.outcome(3)


def test_a_task_can_be_made_again(store: Any) -> None:
    other = Function(b"o" * 16, b"other code", "other", True)
    store.accepted([task(1, b"payload", other, retries=3, targets=frozenset({2}))], "alice")
    entry, function = store.entry(1)
    again = entry.task(function)
    assert (again.id, again.payload, again.retries, again.targets) == (1, b"payload", 3, frozenset({2}))
    assert (function.digest, function.payload, function.name, function.shared) == (
        b"o" * 16,
        b"other code",
        "other",
        True,
    )
    store.resubmitted(1, 7)
    assert store.find({}, "resubmitted") == [{"msg_id": "1", "resubmitted": "7"}]


def test_a_task_accepted_twice_is_one(store: Any) -> None:
    fill(store, [1, 2])
    store.settled([outcome(1)])
    fill(store, [1, 2, 3])
    assert store.history() == ["1", "2", "3"]
    assert store.status([1, 2]) == {1: OK, 2: None}


def test_the_first_end_counts(store: Any) -> None:
    fill(store, [1])
    store.settled([outcome(1, b"first")])
    store.settled([outcome(1, b"second", ERROR)])
    assert store.outcome(1)[1:3] == (OK, b"first")


def test_dropping_leaves_what_is_open(store: Any) -> None:
    fill(store, [1, 2, 3, 4])
    store.settled([outcome(1), outcome(2), outcome(4)])
    store.drop([1, 3, 99])
    assert store.history() == ["2", "3", "4"]
    store.drop(None)
    assert store.history() == ["3"]
    store.settled([outcome(3)])
    assert store.history() == ["3"]


def test_payloads_of_several_buffers_and_any_size(store: Any) -> None:
    big = bytes(range(256)) * 20_000
    store.accepted(
        [task(1, [b"head", memoryview(big)]), task(2, bytearray(b"x")), task(3, memoryview(big)), task(4, b"")], "a"
    )
    store.settled([outcome(1, [b"a", b"b"]), outcome(2, big), outcome(4, b"")])
    found = store.find({}, ["buffers", "result_buffers"])
    assert [record["buffers"] for record in found] == [[b"head", big], [b"x"], [big], [b""]]
    assert [record["result_buffers"] for record in found] == [[b"a", b"b"], [big], None, [b""]]
    assert store.outcome(2)[2] == big
    assert [bytes(part) for part in store.entry(1)[0].payload] == [b"head", big]


def test_facts(store: Any) -> None:
    assert store.get("clients") is None
    store.set("clients", "3")
    store.set("clients", "4")
    assert store.get("clients") == "4"


def test_questions_see_what_was_noted_before(store: Any) -> None:
    import threading

    done = threading.Event()
    found: list[Any] = []
    fill(store.store, range(100))  # not waited for
    store.store.ask(lambda reading: reading.history(), lambda answer: (found.append(answer), done.set()))
    assert done.wait(30)
    assert len(found[0]) == 100


def test_a_question_that_fails_is_answered_with_why(store: Any) -> None:
    import threading

    done = threading.Event()
    found: list[Any] = []
    store.ask(lambda reading: reading.find({"a": {"$what": 1}}), lambda answer: (found.append(answer), done.set()))
    assert done.wait(30)
    assert isinstance(found[0], ValueError)


def test_function_is_kept_once(store: Any) -> None:
    fill(store, range(10))
    assert store.entry(3)[1].payload == DOUBLE.payload


def test_a_function_with_large_data_in_it(store: Any) -> None:
    """A partial of an array, for one: it is a bundle of several buffers, as it travels."""
    numpy = pytest.importorskip("numpy")
    big = numpy.arange(100_000)
    function = FunctionPickler(None).of(functools.partial(divmod, big))
    assert not isinstance(function.payload, bytes)
    store.accepted([Task(1, function, CALL, b"")], "a")
    found = store.entry(1)[1]
    assert (found.name, found.shared, found.digest) == (function.name, function.shared, function.digest)
    assert numpy.array_equal(found.payload.load().args[0], big)
