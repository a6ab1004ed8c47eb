"""What is durable in a file survives the end of the process, and nobody else gets at it."""

from __future__ import annotations

import logging
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.helpers.records import DOUBLE, fill, outcome, task
from zexec.core.dependencies import Condition, Needs
from zexec.errors import StoreError
from zexec.hub.store import needs_of, plain_needs
from zexec.hub.store.sqlite import SqliteStore
from zexec.messages import ERROR, OK

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tasks.db"


def test_all_is_there_again(path: Path) -> None:
    store = SqliteStore(path)
    tasks = [
        task(id, b"%d" % id * 5000, priority=id, retries=1, timeout=2.0, targets=frozenset({id})) for id in (1, 2, 3)
    ]
    store.accepted(tasks, "alice")
    store.sent([tasks[1]], 0, "engine-uuid")
    store.settled([outcome(1)])
    store.close()
    store = SqliteStore(path)
    two, three = store.reload()
    assert (two.engine_uuid, three.engine_uuid) == ("engine-uuid", None)
    for restored, old in [(two, tasks[1]), (three, tasks[2])]:
        new = restored.task
        assert restored.client == "alice"
        for name in ("id", "kind", "payload", "size", "priority", "retries", "timeout", "targets"):
            assert getattr(new, name) == getattr(old, name)
        assert (new.function.digest, new.function.payload) == (DOUBLE.digest, DOUBLE.payload)
    assert two.task.function is three.task.function
    found = store.outcome(1)
    assert found is not None
    assert found[1:3] == (OK, b"result")
    store.close()


def test_tasks_that_wait_for_others(path: Path) -> None:
    store = SqliteStore(path)
    fill(store, [1, 2, 3, 4])
    needs = Needs(Condition(frozenset({1, 2, 3, 77, 88}), failure=True), Condition(frozenset({4}), False), 5.0)
    store.accepted([task(5)], "alice", plain_needs(needs, {88: (True, 4, 9)}))
    store.settled([outcome(1, engine=2), outcome(2, status=ERROR, engine=1)])
    store.close()
    store = SqliteStore(path)
    five = store.reload()[-1]
    assert five.needs == needs
    # 77 was dropped, or never was: it has ended, nobody knows how.
    assert five.ended == {1: (True, 2, 0), 2: (False, 1, 0), 77: (False, -1, 0), 88: (True, 4, 0)}
    store.close()


def test_needs_are_plain() -> None:
    needs = Needs(None, Condition(frozenset({4, 5}), False, False, True))
    assert needs_of(plain_needs(needs)) == (needs, {})


def test_a_file_has_one_hub(path: Path) -> None:
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="another hub"):
        SqliteStore(path)
    store.close()
    SqliteStore(path).close()


def test_the_file_is_the_owners_alone(path: Path) -> None:
    store = SqliteStore(path)
    fill(store, [1])
    assert store.flush(30)
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    store.close()
    path.chmod(0o644)
    with pytest.raises(StoreError, match=r"open to others.*chmod 600"):
        SqliteStore(path)


def test_what_is_no_store_is_left_alone(path: Path) -> None:
    path.write_bytes(b"something else" * 1000)
    path.chmod(0o600)
    with pytest.raises(StoreError, match="no store, or damaged"):
        SqliteStore(path)
    path.unlink()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    path.chmod(0o600)
    with pytest.raises(StoreError, match="no store of this version"):
        SqliteStore(path)


def test_a_place_where_no_file_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="cannot be opened"):
        SqliteStore(tmp_path / "file" / "tasks.db")


def test_a_drop_does_not_touch_what_ends_after_it(path: Path) -> None:
    store = SqliteStore(path)
    fill(store, [1, 2])
    store.settled([outcome(1)])
    store.drop(None)
    store.settled([outcome(2)])
    assert store.flush(30)
    assert store.history() == ["2"]
    store.close()


def test_tickets_become_durable_in_order(path: Path) -> None:
    store = SqliteStore(path)
    heard = threading.Event()
    store.on_durable = heard.set
    tickets = [store.accepted([task(id)], "alice") for id in range(100)]
    assert tickets == sorted(set(tickets))
    while store.durable < tickets[-1]:
        assert heard.wait(30)
        heard.clear()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.accepted([task(101)], "alice")


class Full:
    """A connection whose disk is full until somebody makes room."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db, self.full = db, True

    def execute(self, statement: str, *args: Any) -> Any:
        if self.full and statement == "COMMIT":
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(statement, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


def test_a_full_disk_is_told_and_waited_for(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("zexec.hub.store.sqlite.RETRY", 0.001)
    store = SqliteStore(path)
    fill(store, [1])
    assert store.flush(30)
    disk: Any = Full(store._writing)
    store._writing = disk
    ticket = store.accepted([task(2)], "alice")
    while store.trouble is None:
        assert store.durable < ticket
    assert "disk is full" in store.trouble
    assert store.history() == ["1"]
    disk.full = False
    assert store.flush(30)
    assert store.history() == ["1", "2"]
    assert store.trouble is None
    assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.WARNING]
    store.close()


def test_a_store_closed_on_a_full_disk_says_what_it_loses(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(path)
    disk: Any = Full(store._writing)
    store._writing = disk
    fill(store, [1])
    while store.trouble is None:
        pass
    store.close()
    assert "without its last notes" in caplog.text


def test_what_cannot_be_written_at_all_is_no_secret(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = SqliteStore(path)
    store.accepted([task(1, object())], "alice")
    assert not store.flush(30)
    with pytest.raises(StoreError, match="has failed: TypeError"):
        store.accepted([task(2)], "alice")
    assert "has failed" in caplog.text
    store.close()


#: Notes tasks and ends, and says of each bulk when it is durable.
CHILD = """
import sys, random
from pathlib import Path
from tests.helpers.records import task, outcome
from zexec.hub.store.sqlite import SqliteStore

store = SqliteStore(Path(sys.argv[1]))
next_id = int(sys.argv[2])
rng = random.Random(next_id)
open_ = [restored.task.id for restored in store.reload()]
pending = []
while True:
    new = list(range(next_id, next_id + rng.randint(1, 30)))
    next_id = new[-1] + 1
    size = rng.choice([10, 10, 10, 2_000])
    pending.append((store.accepted([task(id, b"%d " % id * size) for id in new], "c"), "accepted", new))
    open_ += new
    rng.shuffle(open_)
    ended, open_ = open_[: rng.randint(0, 30)], open_[30:]
    pending.append((store.settled([outcome(id, b"%d!" % id * size) for id in ended]), "settled", ended))
    if len(pending) > 20:
        store.flush()
    while pending and pending[0][0] <= store.durable:
        _, what, ids = pending.pop(0)
        print(what, *ids, flush=True)
"""


def test_sigkill_at_any_moment(path: Path) -> None:
    """Each of many processes is killed while it writes; whatever one had said to be durable is there, and whole."""
    rng = random.Random()
    accepted: set[int] = set()
    settled: set[int] = set()
    for _ in range(12):
        after = rng.randint(1, 40)
        process = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(path), str(len(accepted) * 1000 + 1)],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
        )
        assert process.stdout is not None
        with process, process.stdout as lines:
            for n, line in enumerate(lines):
                what, *ids = line.split()
                (accepted if what == "accepted" else settled).update(map(int, ids))
                if n == after:
                    os.kill(process.pid, signal.SIGKILL)
                # What it still said before it died counts as well.
        assert process.returncode == -signal.SIGKILL
        store = SqliteStore(path)
        try:
            assert store._writing.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            known = {int(id) for id in store.history()}
            assert accepted <= known
            for id in accepted:
                entry, _ = store.entry(id)
                assert entry.payload.startswith(b"%d " % id)
                assert len(entry.payload) % len(b"%d " % id) == 0
            for id, status in store.status(settled).items():
                assert status == OK
                found = store.outcome(id)
                assert found is not None
                assert found[2].startswith(b"%d!" % id)
            assert {restored.task.id for restored in store.reload()} == {
                id for id, status in store.status(known).items() if status is None
            }
        finally:
            store.close()
    assert len(accepted) > 100
    assert settled
