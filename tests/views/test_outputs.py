"""What tasks say, while they run and afterwards."""

from __future__ import annotations

import concurrent.futures
import sys
from collections.abc import Callable
from typing import Any

import pytest

import zexec
from tests.helpers import tasks

Flags = Callable[[str], str]


@pytest.fixture(autouse=True)
def _no_monitor(monkeypatch: pytest.MonkeyPatch) -> None:
    """tqdm has a thread of its own, which would outlive the test."""
    try:
        import tqdm
    except ImportError:
        return
    monkeypatch.setattr(tqdm.tqdm, "monitor_interval", 0)


def talk(go: str) -> str:
    """Say something, and go on when told to."""
    print("first")
    print("trouble", file=sys.stderr)
    zexec.publish_data({"at": 1})
    tasks.wait_for(go)
    print("second")
    zexec.publish_data({"at": 2, "more": [3]})
    return "done"


def test_what_it_has_said_so_far(client: zexec.Client, flag: Flags) -> None:
    result = client[0].apply_async(talk, flag("go"))
    assert tasks.until(lambda: result.stdout == "first\n" and result.stderr == "trouble\n" and result.data == {"at": 1})
    assert not result.done()
    tasks.touch(flag("go"))
    assert result.wait_for_output(20)
    assert result.get() == "done"
    assert (result.stdout, result.stderr, result.data) == ("first\nsecond\n", "trouble\n", {"at": 2, "more": [3]})


def test_it_is_heard_before_the_task_ends_however_often_it_speaks(client: zexec.Client, flag: Flags) -> None:
    """Each word is waited for, so that none can be told only with the result."""

    def echo(stem: str) -> None:
        for turn in range(5):
            print(turn)
            tasks.wait_for(f"{stem}{turn}")

    result = client[:].apply_async(echo, flag("turn"))
    for turn in range(5):
        said = "".join(f"{i}\n" for i in range(turn + 1))
        assert tasks.until(lambda said=said: result.stdout == [said, said])  # type: ignore[misc]
        tasks.touch(flag(f"turn{turn}"))
    result.get(20)
    assert result.stdout == ["0\n1\n2\n3\n4\n"] * 2


def test_parts_and_joined_results_have_it_in_the_end(client: zexec.Client) -> None:
    result = client[:].apply_async(lambda: (print("said"), zexec.publish_data({"x": 1})))
    result.get(20)
    assert [part.stdout for part in result.split()] == ["said\n"] * 2
    assert [part.data for part in result.split()] == [{"x": 1}] * 2
    assert zexec.ViewResult.join(*result.split()).stdout == ["said\n"] * 2


def test_a_task_that_fails_or_dies_has_said_something(client: zexec.Client, flag: Flags) -> None:
    def say_and_die(go: str) -> None:
        print("last words")
        tasks.wait_for(go)
        import os

        os._exit(1)

    result = client[0].apply_async(say_and_die, flag("go"))
    assert tasks.until(lambda: result.stdout == "last words\n")
    tasks.touch(flag("go"))
    with pytest.raises(zexec.RemoteError, match="EngineDied"):
        result.get(20)
    assert result.stdout == "last words\n"


def test_streamed_output(client: zexec.Client, flag: Flags, capfd: pytest.CaptureFixture[str]) -> None:
    shown = {"out": "", "err": ""}

    def look() -> dict[str, str]:
        out, err = capfd.readouterr()
        shown["out"] += out
        shown["err"] += err
        return shown

    result = client[1:].apply_async(talk, flag("go"))
    with result.stream_output():
        assert tasks.until(lambda: look() == {"out": "[stdout:1]\nfirst\n", "err": "[stderr:1]\ntrouble\n"})
        tasks.touch(flag("go"))
        result.get(20)
    look()
    assert shown["out"] == "[stdout:1]\nfirst\n[stdout:1]\nsecond\n"
    assert shown["err"] == "[stderr:1]\ntrouble\n"
    with result.stream_output():
        pass
    assert look()["out"].endswith("[stdout:1]\nfirst\nsecond\n"), "all of it, to those that come late"


def test_streamed_errors_and_values(client: zexec.Client, capfd: pytest.CaptureFixture[str]) -> None:
    failed = client[:].execute("1 / 0")
    with failed.stream_output():
        failed.wait()
    _, err = capfd.readouterr()
    assert err.count("ZeroDivisionError: division by zero") == 2
    value = client[0].execute("6 * 7", silent=False)
    with value.stream_output():
        value.wait()
    out, _ = capfd.readouterr()
    assert out == f"Out[0:{value.get().execution_count}]: 42\n"


def test_data_outside_a_task_goes_nowhere(pool: zexec.Pool) -> None:
    zexec.publish_data({"a": 1})
    assert pool.apply(zexec.publish_data, ({"a": 1},)) is None
    failed = pool.client[0].apply_async(lambda: zexec.publish_data({"a": lambda: (x for x in ())}))
    failed.get(20)  # by value, as any function
    bad = pool.client[0].apply_async(lambda: zexec.publish_data({"a": (x for x in ())}))
    with pytest.raises(zexec.RemoteError, match="TypeError"):
        bad.get(20)


def test_waiting_and_progress(client: zexec.Client, flag: Flags, capfd: pytest.CaptureFixture[str]) -> None:
    result = client.load_balanced_view().map_async(tasks.hold_or_return, [(None, 1), (flag("go"), 2)])
    assert not result.wait_interactive(timeout=0.05, interval=0.01)
    assert result.wait_interactive(return_when=concurrent.futures.FIRST_COMPLETED, widget=False)
    assert result.progress == 1
    tasks.touch(flag("go"))
    assert result.wait_interactive(interval=0.01, timeout=-1)
    assert result.progress == len(result) == 2
    _, err = capfd.readouterr()
    assert "hold_or_return" in err
    failing = client[:].apply_async(lambda n, go: 1 / n or tasks.wait_for(go), zexec.Reference("n"), flag("never"))
    assert failing.wait_interactive(return_when=concurrent.futures.FIRST_EXCEPTION, interval=0.01)


def test_the_bar_is_tqdms_where_it_is_installed(monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    from zexec.views.display import progress_bar

    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tqdm", None)
        without.setitem(sys.modules, "tqdm.auto", None)
        show = progress_bar(3, "work")
    show(1, False)
    show(3, True)
    assert capfd.readouterr().err == "\rwork: 1 of 3\rwork: 3 of 3\n"
    pytest.importorskip("tqdm", reason="tqdm is not installed: pip install zexec[progress]")
    show = progress_bar(3, "work", widget=False)
    show(1, False)
    show(3, True)
    assert "3/3" in capfd.readouterr().err
