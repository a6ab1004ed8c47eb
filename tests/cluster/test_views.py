"""Views of a cluster: the hub and the engines are processes of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy
import pytest

import zexec
from tests.helpers import tasks


def test_the_vocabulary(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    with zexec.Client(cluster) as client:
        client.wait_for_engines(2, timeout=30)
        view = client[:]
        assert len(set(view.apply_sync(os.getpid))) == 2
        view.scatter("part", range(6), block=True)
        assert view.gather("part", block=True) == list(range(6))
        scale = 10
        assert view.apply_sync(lambda: sum(part) * scale) == [30, 120]  # type: ignore[name-defined]  # noqa: F821
        balanced = client.load_balanced_view()
        assert balanced.map_sync(lambda x: x * x, range(20)) == [x * x for x in range(20)]
        leader = balanced.apply_async(os.getpid)
        with balanced.temp_flags(follow=leader):
            assert balanced.apply_sync(os.getpid) == leader.get(30)
        with pytest.raises(zexec.CompositeError, match="ZeroDivisionError"):
            view.execute("1 / 0", block=True)


def test_what_tasks_say_and_interrupts(cluster: zexec.Cluster, flag: Callable[[str], str]) -> None:
    with zexec.Client(cluster) as client:
        client.wait_for_engines(2, timeout=30)
        code = f"from tests.helpers import tasks\nprint('so far')\ntasks.hold({flag('started')!r}, {flag('go')!r})"
        result = client[:].execute(code)
        assert tasks.until(lambda: result.stdout == ["so far\n"] * 2)
        assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
        client.interrupt(1)
        assert tasks.until(lambda: result.progress == 1)
        tasks.touch(flag("go"))
        fine, stopped = result.get(30, return_exceptions=True)
        assert fine.stdout == "so far\n"
        assert isinstance(stopped.__cause__, KeyboardInterrupt)


def test_engines_and_the_hub_are_shut_down(cluster: zexec.Cluster) -> None:
    client = zexec.Client(cluster)
    client.wait_for_engines(2, timeout=30)
    slow = client[1].apply_async(time.sleep, 0.1)
    client.shutdown(0, block=True)
    assert tasks.until(lambda: client.ids == [1])
    with pytest.raises(IndexError, match="there are 1"):
        client[0]
    slow.get(30)
    client.shutdown(hub=True)
    with pytest.raises(RuntimeError):
        client.direct_view().apply_sync(os.getpid)
    cluster.stop()


def test_names_are_there_again_on_an_engine_that_takes_anothers_place(cluster: zexec.Cluster) -> None:
    with zexec.Client(cluster) as client:
        client.wait_for_engines(2, timeout=30)
        view = client[:]
        view.block = True
        view.push({"a": 1, "big": numpy.arange(100_000)})
        view["a"] = "new"
        view["gone"] = 1
        del view["gone"]
        pids = view.apply(os.getpid)
        client.send_signal("SIGKILL", 0)
        assert tasks.until(lambda: len(client) == 2 and client[0].apply_sync(os.getpid) != pids[0])
        assert view["a"] == ["new", "new"]
        assert [big.sum() for big in view["big"]] == [numpy.arange(100_000).sum()] * 2
        with pytest.raises(zexec.RemoteError, match="NameError"):
            client[0]["gone"]
    # Not for those who come after the client that wanted it.
    with zexec.Client(cluster) as other:
        pid = other[1].apply_sync(os.getpid)
        other.send_signal("SIGKILL", 1)
        assert tasks.until(lambda: len(other) == 2 and other[1].apply_sync(os.getpid) != pid)
        with pytest.raises(zexec.RemoteError, match="NameError"):
            other[1]["a"]
