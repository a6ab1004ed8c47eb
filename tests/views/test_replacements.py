"""An engine that takes another's place has the names that were pushed there."""

from __future__ import annotations

import os
from typing import Any

import numpy
import pytest

import zexec
from tests.helpers import tasks


def replace(client: zexec.Client, *ids: int) -> None:
    """Have engines killed; when this returns, others have their places."""
    for id in ids:
        pid = client[id].apply_sync(tasks.pid)
        client.send_signal("SIGKILL", id)
        assert tasks.until(lambda pid=pid: pid not in {p.pid for p in client._connection.processes().values()})  # type: ignore[misc]


def helper(x: Any) -> Any:
    return x + offset  # type: ignore[name-defined]  # noqa: F821


def test_pushed_names_are_there_again(client: zexec.Client) -> None:
    view = client[:]
    view.block = True
    view.push({"a": 1, "b": [2], "offset": 10})
    view["a"] = "new"
    view["helper"] = zexec.interactive(helper)
    view["array"] = numpy.arange(100_000)
    view.scatter("part", range(10))
    client[1]["only"] = "there"
    with view.sync_imports(quiet=True):
        import bisect  # noqa: F401
    for _ in range(2):
        replace(client, 0, 1)
        assert view["a"] == ["new", "new"]
        assert view.pull(("b", "offset")) == [[[2], 10]] * 2
        assert view.apply_sync(lambda x: helper(x), 1) == [11, 11]
        assert [array.sum() for array in view["array"]] == [numpy.arange(100_000).sum()] * 2
        assert view.gather("part") == list(range(10))
        assert client[1]["only"] == "there"
        assert view["bisect.bisect([1, 3], 2)"] == [1, 1]
        with pytest.raises(zexec.RemoteError, match="NameError"):
            client[0]["only"]


def test_names_that_were_unbound_stay_away(client: zexec.Client) -> None:
    view = client[0]
    view.push({"a": 1, "b": 2}, block=True)
    del view["a"]
    view["gone"] = 3
    del view["gone"]
    replace(client, 0)
    assert view["b"] == 2
    for name in ("a", "gone"):
        with pytest.raises(zexec.RemoteError, match="NameError"):
            view[name]
    view["a"] = 4
    replace(client, 0)
    assert view.pull(("a", "b"), block=True) == [4, 2]
    view.clear(block=True)
    replace(client, 0)
    assert view.apply_sync(lambda: sorted(name for name in globals() if not name.startswith("__"))) == []


def test_parts_of_objects_are_bound_in_their_order(client: zexec.Client) -> None:
    view = client[0]
    view["a"] = [1, 2]
    view["a[0]"] = 10
    replace(client, 0)
    assert view["a"] == [10, 2]
    view["a"] = [5, 6]
    replace(client, 0)
    assert view["a"] == [5, 6]


def test_they_come_before_everything_else(client: zexec.Client) -> None:
    """Also before calls that wait for the engine, and those that any engine may run."""
    view = client[:]
    for i in range(50):
        view.push({f"name{i}": i}, block=True)
    view["total"] = 0
    balanced = client.load_balanced_view()
    pids = view.apply_sync(os.getpid)

    def die_or_add(i: int) -> int:
        if i in (0, 1):
            os._exit(1)
        return sum(globals()[f"name{n}"] for n in range(50))

    killed = balanced.map_async(die_or_add, range(40))
    killed.wait()
    values = [value for value in killed.get(return_exceptions=True) if not isinstance(value, zexec.RemoteError)]
    assert values == [1225] * 38
    assert view.apply_sync(lambda: total) == [0, 0]  # type: ignore[name-defined]  # noqa: F821
    assert set(view.apply_sync(os.getpid)) != set(pids)


def test_what_fails_there_is_said(client: zexec.Client, caplog: pytest.LogCaptureFixture) -> None:
    class Once:
        """Can be unpickled in the process that had it first."""

        def __init__(self, pid: int) -> None:
            self.pid = pid

        def __setstate__(self, state: Any) -> None:
            if os.getpid() != state["pid"]:
                raise OSError("not here")
            self.__dict__.update(state)

    view = client[0]
    view["kept"] = 1
    view["once"] = Once(view.apply_sync(os.getpid))
    replace(client, 0)
    assert view["kept"] == 1
    assert any("not all of its names" in record.message for record in caplog.records)


def test_a_call_that_failed_is_not_done_again(client: zexec.Client) -> None:
    view = client[0]
    with pytest.raises(zexec.RemoteError):
        view.push({"fine": 1, "a.b": 2}, block=True)
    replace(client, 0)
    with pytest.raises(zexec.RemoteError, match="NameError"):
        view["fine"]


def test_of_an_executor(tmp_path: Any) -> None:
    with zexec.Executor(2) as executor:
        view = executor.client[:]
        view["a"] = [1]
        replace(executor.client, 0, 1)
        assert view["a"] == [[1], [1]]
