"""Control of engines: signals, and engines that are sent home."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

Flags = Callable[[str], str]


def running(view: zexec.DirectView, flag: Flags, ids: list[int]) -> zexec.AsyncResult:
    """A call that runs on each engine by the time this returns, and goes on until the flag "go"."""
    view.scatter("started", [flag(f"started {id}") for id in ids], flatten=True, block=True)
    result = view.apply_async(tasks.hold, zexec.Reference("started"), flag("go"), "done")
    for id in ids:
        assert tasks.wait_for(flag(f"started {id}"))
    return result


@pytest.mark.parametrize("sig", [signal.SIGINT, "SIGINT", "2"])
def test_an_interrupt_ends_what_runs(client: zexec.Client, flag: Flags, sig: int | str) -> None:
    result = running(client[:], flag, [0, 1])
    before = client[:].apply_async(tasks.pid)
    client.send_signal(sig)
    with pytest.raises(zexec.CompositeError) as caught:
        result.get()
    assert [error.ename for error in caught.value.errors] == ["KeyboardInterrupt"] * 2  # type: ignore[attr-defined]
    assert [error.engine_id for error in caught.value.errors] == [0, 1]  # type: ignore[attr-defined]
    assert len(set(before.get())) == 2, "what stood behind it went on, on the same engines"


def test_an_interrupt_of_one_engine_leaves_the_others_alone(client: zexec.Client, flag: Flags) -> None:
    result = running(client[:], flag, [0, 1])
    client[1].interrupt()
    assert tasks.until(lambda: result.progress == 1)
    assert not result.done()
    tasks.touch(flag("go"))
    first, second = result.get(return_exceptions=True)
    assert first == "done"
    assert isinstance(second, zexec.RemoteError)
    assert isinstance(second.__cause__, KeyboardInterrupt)


def test_an_interrupt_of_idle_engines_does_nothing(client: zexec.Client) -> None:
    pids = client[:].apply_sync(tasks.pid)
    client.interrupt()
    client.send_signal(0)
    assert client[:].apply_sync(tasks.pid) == pids


def test_another_signal_reaches_the_process(client: zexec.Client, flag: Flags) -> None:
    result = running(client[:], flag, [0, 1])
    client.send_signal("SIGKILL", targets=0)
    tasks.touch(flag("go"))
    lost, kept = result.get(return_exceptions=True)
    assert isinstance(lost.__cause__, zexec.EngineDied)
    assert "SIGKILL" in str(lost)
    assert kept == "done"


def test_a_stopped_engine_goes_on(client: zexec.Client) -> None:
    client.send_signal(signal.SIGSTOP, targets=0)
    result = client[0].apply_async(tasks.double, 4)
    client.send_signal(signal.SIGCONT, targets=0)
    assert result.get() == 8


def test_a_wrong_signal_or_target_says_so(client: zexec.Client) -> None:
    with pytest.raises(ValueError, match="SIGTERM"):
        client.send_signal("SIGNOTHING")
    with pytest.raises(ValueError, match="no signal 1000"):
        client.send_signal(1000)
    with pytest.raises(IndexError, match="there are 0, 1"):
        client.interrupt(7)


def test_an_engine_that_is_shut_down_leaves(client: zexec.Client) -> None:
    pids = client[:].apply_sync(tasks.pid)
    client.shutdown(0, block=True)
    assert client.ids == [1]
    assert len(client) == 1
    assert client[-1].targets == 1
    assert client[:].apply_sync(tasks.pid) == [pids[1]]
    for lost in (0, -2, [1, 0]):
        with pytest.raises(IndexError, match="there are 1"):
            client[lost]
    assert client.load_balanced_view().map_sync(tasks.double, range(10)) == list(range(0, 20, 2))


def test_it_finishes_what_it_runs(client: zexec.Client, flag: Flags) -> None:
    result = running(client[:], flag, [0, 1])
    alone = client[0].apply_async(tasks.pid)
    client[0].shutdown()
    with pytest.raises(zexec.RemoteError, match="there are 1") as caught:
        alone.get()
    assert isinstance(caught.value.__cause__, zexec.NoEngineError)
    tasks.touch(flag("go"))
    assert result.get() == ["done", "done"]


def test_views_made_before_say_what_is_gone(client: zexec.Client) -> None:
    both, every = client[:], client.direct_view()
    client.shutdown([1])
    assert tasks.until(lambda: client.ids == [0])
    with pytest.raises(IndexError, match="no engine 1: there are 0"):
        both.apply_sync(tasks.pid)
    assert len(every.apply_sync(tasks.pid)) == 1


def test_an_engine_that_is_restarted_has_its_number_and_what_was_pushed(client: zexec.Client) -> None:
    client[:]["a"] = 1
    client[:].execute("b = 1", block=True)
    pid = client[0].apply_sync(tasks.pid)
    client.shutdown(0, restart=True, block=True)
    assert client.ids == [0, 1]
    assert client[0].apply_sync(tasks.pid) != pid
    assert client[:]["a"] == [1, 1]
    assert client[1]["b"] == 1
    with pytest.raises(zexec.RemoteError, match="NameError"):
        client[0]["b"]


def test_the_hub_ends_with_all(client: zexec.Client) -> None:
    client.shutdown(targets=0, hub=True)
    with pytest.raises(RuntimeError, match="closed"):
        client.direct_view()["a"] = 1
    with pytest.raises(ValueError, match="not both"):
        client.shutdown(hub=True, restart=True)


def test_a_pool_whose_engines_were_all_named_ends(pool: zexec.Pool) -> None:
    client = pool.client
    client[:].shutdown()
    with pytest.raises(ValueError, match="not running"):
        pool.apply(tasks.pid)


def test_an_interrupt_while_arguments_are_unpickled(pool: zexec.Pool, flag: Any) -> None:
    """It is not lost: it comes when the call has begun."""
    r = pool.apply_async(tasks.nap_long, (tasks.SlowToArrive(flag("started"), flag("release")),))
    assert tasks.until(lambda: tasks.lines(flag("started")))
    pool.client.interrupt()
    assert not r.cancel()  # answered by the engine's thread that has got the interrupt before
    tasks.touch(flag("release"))
    with pytest.raises(KeyboardInterrupt):
        r.get(20)
