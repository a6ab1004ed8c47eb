"""The hub over ZeroMQ: the same behaviour as over streams, since it is the same hub."""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Iterator

import pytest

import zexec
import zexec.executor
import zexec.local
import zexec.pool
from tests.helpers import tasks


@pytest.fixture(params=["pipes", "sockets"])
def channel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Have pools and executors of this test reach their engines this way."""
    make = functools.partial(zexec.local.local_client, channel=getattr(zexec.local, request.param))
    monkeypatch.setattr(zexec.pool, "local_client", make)
    monkeypatch.setattr(zexec.executor, "local_client", make)
    return request.param


def test_calls_and_maps(channel: str) -> None:
    with zexec.Pool(2) as pool:
        assert pool.map(tasks.double, range(1000), 7) == [2 * i for i in range(1000)]
        rs = [pool.apply_async(tasks.double, (i,)) for i in range(500)]
        assert [r.get(30) for r in rs] == [2 * i for i in range(500)]
        assert list(pool.imap(tasks.double, range(50))) == [2 * i for i in range(50)]


@pytest.mark.parametrize("size", [0, 1, 40_000, 5_000_000])
def test_sizes(channel: str, size: int) -> None:
    with zexec.Executor(2) as ex:
        assert ex.submit(bytes, size).result(30) == bytes(size)
        assert ex.submit(len, b"x" * size).result(30) == size


def test_a_death_costs_its_task(channel: str) -> None:
    with zexec.Pool(2) as pool:
        dead = pool.apply_async(os._exit, (3,))
        with pytest.raises(zexec.EngineDied) as raised:
            dead.get(30)
        assert raised.value.exitcode == 3
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        assert pool.map(tasks.double, range(100), 1) == [2 * i for i in range(100)]


def test_cancel_and_time_out(channel: str) -> None:
    with zexec.Executor(1) as ex:
        f = ex.options(timeout=0.2).submit(tasks.nap, 60)
        rest = [ex.submit(tasks.nap, 0) for _ in range(5)]
        assert all(r.cancel() for r in rest)
        with pytest.raises(zexec.TimeoutError):
            f.result(30)
        assert ex.submit(tasks.double, 4).result(30) == 8
