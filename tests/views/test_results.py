"""What views return: values, metadata, pieces."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import time
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import zexec
from tests.helpers import tasks
from zexec import ViewResult


def test_it_is_a_future_and_more(client: zexec.Client) -> None:
    result = client[:].apply(tasks.double, 1)
    assert isinstance(result, concurrent.futures.Future)
    assert result.r == result.get() == result.result() == [2, 2]
    assert result.ready()
    assert result.successful()
    assert result.get_dict() == result.result_dict == {0: 2, 1: 2}
    assert client[1].apply(tasks.double, 1).get_dict(20) == {1: 2}
    assert list(concurrent.futures.as_completed([result])) == [result]
    assert repr(result) == "<ViewResult(double): finished>"
    assert list(result) == [2, 2]
    assert (result[0], result[-1], result[:]) == (2, 2, [2, 2])
    with pytest.raises(IndexError):
        result[5]

    async def main() -> Any:
        return await asyncio.wrap_future(client[:].apply(tasks.double, 2))

    assert asyncio.run(main()) == [4, 4]


def test_too_early(client: zexec.Client, flag: Any) -> None:
    result = client[0].apply(tasks.hold, flag("started"), flag("release"), 1)
    with pytest.raises(zexec.TimeoutError):
        result.get(0.01)
    with pytest.raises(zexec.TimeoutError, match="not ready"):
        result[0]
    assert result.wait(0.01) is False
    with pytest.raises(AssertionError):
        result.successful()
    assert repr(result) == "<ViewResult(hold): pending>"
    assert result.status is None
    tasks.touch(flag("release"))
    assert result.wait() is True
    assert result.get(-1) == 1


def test_metadata(client: zexec.Client) -> None:
    before = datetime.now(timezone.utc)
    result = client[1].apply(lambda: print("hi") or time.sleep(0.01))
    assert result.metadata.completed is None
    for early in ("wall_time", "serial_time"):
        with pytest.raises(zexec.TimeoutError):
            getattr(result, early)
    result.get(20)
    data = result.metadata
    little = timedelta(milliseconds=1)
    assert before <= data.submitted + little <= data.started + 2 * little
    assert data.started + timedelta(milliseconds=9) <= data.completed <= data.received + little
    assert result.timedelta(data.started, data.completed) == pytest.approx(result.serial_time, abs=1e-4)
    assert (data.execute_result, data.execute_input, data.outputs, data.data, data.error) == (None, None, [], {}, None)
    assert {"stdout", "engine_id", "get"} <= set(dir(result))
    assert (data.engine_id, data.status, data.pyerr, data.stdout, data.stderr) == (1, "ok", None, "hi\n", "")
    assert data["msg_id"] == data.msg_id == result.msg_ids[0] == result["msg_id"]
    assert (data.after, data.follow) == ([], [])
    assert data.pid != os.getpid()
    assert data.peak_memory > 1_000_000
    assert str(data.pid) in data.engine_uuid
    assert result.stdout == "hi\n"
    assert result.engine_id == 1
    with pytest.raises(AttributeError, match="nonsense"):
        result.nonsense
    assert [m.engine_id for m in client[:].apply(tasks.nothing).metadata] == [0, 1]


def test_metadata_of_an_error(client: zexec.Client) -> None:
    result = client[0].apply(lambda: 1 / 0)
    result.wait(20)
    assert result.status == "error"
    assert isinstance(result.pyerr, zexec.RemoteError)
    assert result.started is not None


def test_times(client: zexec.Client) -> None:
    result = client[:].apply(time.sleep, 0.02)
    result.get(20)
    assert result.serial_time >= 0.04
    assert 0.02 <= result.wall_time <= result.elapsed + 1e-3
    assert result.progress == 2


def test_arguments_may_be_changed_after_the_call(client: zexec.Client) -> None:
    view = client[0]
    view.track = True
    argument = [1] * 100_000
    result = view.apply(len, argument)
    assert result.sent
    result.wait_on_send()
    result.wait_for_send(1)
    argument.clear()
    assert result.get(20) == 100_000


def test_split_and_join(client: zexec.Client, flag: Any) -> None:
    result = client[:].apply(tasks.pid)
    one, two = result.split()
    assert [one.get(20), two.get(20)] == result.get(20)
    assert [one.engine_id, two.engine_id] == [0, 1]
    assert one.split() == (one,)
    assert ViewResult.join(one, two).get(20) == result.get()
    assert ViewResult.join(one) is one
    assert [r.get(20) for r in client[:].map(tasks.double, range(4)).split()] == [[[0, 2]], [[4, 6]]]
    with pytest.raises(ValueError, match="at least one"):
        ViewResult.join()


def test_first_of_several(client: zexec.Client, flag: Any) -> None:
    client[:].scatter("n", client.ids, flatten=True)
    held = lambda n: tasks.hold(flag("started"), flag("release")) if n else 1 / 0  # noqa: E731
    result = client[:].apply(held, zexec.Reference("n"))
    with pytest.raises(zexec.RemoteError, match="ZeroDivisionError"):
        result.get(20, return_when=concurrent.futures.FIRST_EXCEPTION)
    done, pending = result.wait(20, return_when=concurrent.futures.FIRST_COMPLETED)
    assert (len(done), len(pending)) == (1, 1)
    assert not result.ready()
    tasks.touch(flag("release"))
    with pytest.raises(zexec.CompositeError):
        result.get(20)


def test_as_they_arrive(client: zexec.Client, flag: Any) -> None:
    """Iterating does not wait for the rest."""
    balanced = client.load_balanced_view()
    f = lambda x: tasks.hold(flag("started"), flag("release"), x) if x == 0 else x  # noqa: E731
    result = balanced.map(f, range(4), ordered=False)
    values = iter(result)
    assert sorted(next(values) for _ in range(3)) == [1, 2, 3]
    assert result.progress == 3
    tasks.touch(flag("release"))
    assert list(values) == [0]
    assert result.get() == [0, 1, 2, 3]


def test_progress_is_shown(client: zexec.Client, capsys: pytest.CaptureFixture[str]) -> None:
    result = client[:].apply(tasks.double, 1)
    assert result.wait_interactive(timeout=20)
    assert client.wait_interactive() is True
    assert "2" in capsys.readouterr().err


def test_callbacks(client: zexec.Client) -> None:
    import threading

    seen, there = [], threading.Event()
    result = client[:].apply(tasks.double, 1)
    result.add_done_callback(lambda r: (seen.append(r.get()), there.set()))
    assert there.wait(20)
    assert seen == [[2, 2]]


class _Unpicklable(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def test_errors_keep_their_cause_when_pickled(client: zexec.Client) -> None:
    import pickle

    failed = client[:].apply_async(lambda: {}["missing"])
    failed.wait()
    error = pickle.loads(pickle.dumps(failed.exception()))
    assert isinstance(error, zexec.CompositeError)
    assert str(error) == str(failed.exception())
    for one in error.errors:
        assert isinstance(one.__cause__, KeyError)
        assert one.__cause__.args == ("missing",)
        assert one.engine_info["pid"] > 0
    assert isinstance(error.__cause__, zexec.RemoteError)
    lone = zexec.RemoteError("Name", "value", "text", {"engine_id": 1})
    lone.__cause__ = _Unpicklable()
    again = pickle.loads(pickle.dumps(lone))
    assert (again.ename, again.evalue, again.traceback, again.engine_info) == (
        "Name",
        "value",
        "text",
        {"engine_id": 1},
    )
    assert again.__cause__ is None
    shown = pickle.loads(pickle.dumps(zexec.AlreadyDisplayedError(error)))
    assert shown.original_error.message == error.message
