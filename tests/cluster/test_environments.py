"""Engines and clients that are not alike: another Python, a module that is missing, another clock."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import zexec
from tests.helpers import tasks
from tests.helpers.messages import hear
from zexec.messages import Greet, Peer, Refused, Register, Welcome
from zexec.net import cards
from zexec.net.lines import Line
from zexec.net.peers import myself


@pytest.mark.parametrize("role", ["client", "engine"])
def test_another_python(cluster: zexec.Cluster, role: str) -> None:
    """Functions that go by value are made of one Python's instructions."""
    peer = Peer(7, "old-host", "3.9.1", "/opt/old/bin/python", "", 0.0)
    line = Line(cards.read(cluster.folder / f"{role}.json"), (b"c" if role == "client" else b"T") + os.urandom(16))
    try:
        line.send(Greet(peer, "old") if role == "client" else Register(peer))
        answer = hear(line)
        assert type(answer) is Refused
        assert f"the {role} on old-host (process 7, /opt/old/bin/python) runs Python 3.9.1" in answer.reason
        assert sys.executable in answer.reason
    finally:
        line.close(0)


def test_a_module_that_engines_do_not_have(
    start: Callable[..., zexec.Cluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which, on which host, in which interpreter, and where that looked."""
    cluster = start(1)
    (tmp_path / "only_here.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import only_here  # type: ignore[import-not-found]

    (tmp_path / "only_here.py").rename(tmp_path / "gone.py")
    with zexec.Pool(cluster=cluster) as pool:
        with pytest.raises(zexec.UnpicklingError) as raised:
            pool.map(only_here.triple, range(5))
        said = str(raised.value)
        assert "No module named 'only_here'" in said
        assert f"on {socket.gethostname()} ({sys.executable}, Python {sys.version.split()[0]}" in said
        assert isinstance(raised.value.__cause__, ModuleNotFoundError)
        assert pool.apply(tasks.double, (2,)) == 4


def test_another_clock(cluster: zexec.Cluster) -> None:
    """It is seen when the engine registers, and shown; nothing depends on it."""
    peer = myself()
    peer = peer._replace(clock=peer.clock + 3600)
    line = Line(cards.read(cluster.folder / "engine.json"), b"T" + os.urandom(16))
    try:
        line.send(Register(peer))
        assert type(hear(line)) is Welcome
        assert tasks.until(lambda: len(cluster.engines()) == 3)
        assert 3590 < cluster.engines()[2]["clock_ahead"] < 3610
        with zexec.Executor(cluster=cluster) as ex:
            assert ex.submit(tasks.double, 2).result(30) == 4
    finally:
        line.close(0)


def test_another_numpy(cluster: zexec.Cluster) -> None:
    """What engines have is shown; what one cannot read fails the call, which says what it has."""
    import numpy

    assert {engine["numpy"] for engine in cluster.engines()} == {numpy.__version__}
    with zexec.Executor(cluster=cluster) as ex:
        for id in (0, 1):
            ex.options(targets=[id]).submit(numpy.zeros, 3).result(30)
        with pytest.raises(zexec.UnpicklingError, match=rf"numpy {numpy.__version__}.*of_the_future"):
            ex.submit(tasks.double, OfTheFuture()).result(30)


class OfTheFuture:
    """Pickles as something that this numpy does not have."""

    def __reduce__(self) -> str | tuple[object, ...]:
        import numpy

        return getattr, (numpy, "of_the_future")
