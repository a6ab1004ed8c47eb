"""Hostile bytes at a hub's doors, while a client works: no crash, no growth, no effect on anybody else."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

import zexec
from tests.helpers import leftovers, tasks
from zexec.messages import CALL, Ask, Cancel, Function, Results, Submit, Task, Withdraw
from zexec.net import cards
from zexec.wire import talk

ROUNDS = int(os.environ.get("ZEXEC_HOSTILE", "300"))
MIB = 1 << 20


@pytest.fixture(params=["ipc", "tcp"])
def cluster(
    request: pytest.FixtureRequest, nothing_left: leftovers.Before, monkeypatch: pytest.MonkeyPatch
) -> Iterator[zexec.Cluster]:
    """Two engines, reached by sockets in the file system or by TCP with keys."""
    monkeypatch.setenv("ZEXEC_HOME", str(Path(nothing_left.folder) / "home"))
    options: dict[str, Any] = {"listen": "127.0.0.1", "options": ["--only-tcp"]} if request.param == "tcp" else {}
    with zexec.Cluster(2, **options) as cluster:
        cluster.wait_for_engines(2, 40)
        yield cluster


def doors(cluster: zexec.Cluster) -> list[str]:
    """The endpoints that clients and engines come to."""
    folder = cards.folder_of(cluster.name)
    return [e for role in ("client", "engine") for e in cards.read(folder / f"{role}.json").endpoints]


def connect(endpoint: str) -> socket.socket:
    """As anybody can, without ZeroMQ."""
    scheme, _, where = endpoint.partition("://")
    if scheme == "ipc":
        plain = socket.socket(socket.AF_UNIX)
        plain.connect(where)
    else:
        host, _, port = where.rpartition(":")
        host = "127.0.0.1" if host not in ("127.0.0.1", "localhost") else host
        plain = socket.create_connection((host, int(port)))
    return plain


class Watch:
    """The hub's process must stay as it is, and serve its clients meanwhile."""

    def __init__(self, cluster: zexec.Cluster, pool: zexec.Pool) -> None:
        self.pool = pool
        self.hub = psutil.Process(cluster.card.pid)
        self.work()
        self.memory = self.hub.memory_info().rss
        self.descriptors = self.hub.num_fds()

    def work(self) -> None:
        assert self.pool.map(tasks.double, range(200), 1) == list(range(0, 400, 2))

    def check(self) -> None:
        self.work()
        assert self.hub.is_running()
        assert self.hub.memory_info().rss - self.memory < 32 * MIB
        tasks.until(lambda: self.hub.num_fds() <= self.descriptors + 2)


@pytest.fixture
def watch(cluster: zexec.Cluster) -> Iterator[Watch]:
    with zexec.Pool(cluster=cluster) as pool:
        watch = Watch(cluster, pool)
        yield watch
        watch.check()


def garbage(rng: random.Random) -> bytes:
    """What may come from anybody: noise, or the beginning of a ZMTP greeting and then noise, or a huge length."""
    greeting = (
        b"\xff\0\0\0\0\0\0\0\x01\x7f\x03\0" + rng.choice([b"NULL", b"CURVE", b"PLAIN"]).ljust(20, b"\0") + bytes(32)
    )
    noise = rng.randbytes(rng.randrange(200))
    return rng.choice(
        [noise, greeting + noise, greeting + b"\x02" + b"\xff" * 8 + noise, greeting[: rng.randrange(64)]]
    )


def test_noise_from_strangers(cluster: zexec.Cluster, watch: Watch) -> None:
    rng = random.Random(1)
    for endpoint in doors(cluster):
        for i in range(ROUNDS // 2):
            with connect(endpoint) as plain:
                try:
                    plain.sendall(garbage(rng))
                except OSError:
                    pass  # thrown out already
            if i % 50 == 0:
                watch.work()


def test_connections_left_half_open(cluster: zexec.Cluster, watch: Watch) -> None:
    """By the hundred, as long as they like: whoever works does not notice."""
    open_: list[socket.socket] = []
    try:
        for endpoint in doors(cluster):
            for i in range(150):
                open_.append(connect(endpoint))
                if i % 3 == 0:
                    open_[-1].sendall(b"\xff\0\0\0\0")
        watch.work()
        assert watch.hub.memory_info().rss - watch.memory < 64 * MIB
    finally:
        for plain in open_:
            plain.close()


def insiders(cluster: zexec.Cluster) -> Iterator[Callable[[list[bytes]], None]]:
    """Send to each door as somebody who has its card, and means ill."""
    folder = cards.folder_of(cluster.name)
    for role, letters in (("client", b"c"), ("engine", b"TC")):
        card = cards.read(folder / f"{role}.json")
        for letter in letters:
            context = zmq.Context()
            dealer = context.socket(zmq.DEALER)
            dealer.setsockopt(zmq.LINGER, 0)
            dealer.setsockopt(zmq.ROUTING_ID, bytes([letter]) + os.urandom(16))
            if card.server_key and card.endpoints[0].startswith("tcp"):
                dealer.curve_serverkey = card.server_key.encode()
                dealer.curve_publickey = card.public_key.encode()
                dealer.curve_secretkey = card.secret_key.encode()
            dealer.connect(card.endpoints[0])
            try:
                yield dealer.send_multipart
            finally:
                dealer.close()
                context.term()


def test_nonsense_from_insiders(cluster: zexec.Cluster, watch: Watch) -> None:
    """Random, truncated and replayed messages, in the language that the hub speaks."""
    rng = random.Random(2)
    function = Function(b"digest", b"payload", "name")
    valid = [
        talk.encode(message)[0]
        for message in (
            Results([(1, 0, b"x", 1.0, 2.0)]),
            Withdraw([7]),
            Cancel([1, 2, 3]),
            Ask(1, "status", None),
            Ask(2, "no such thing", [1, {"a": 2}]),
            Submit([Task(1 << 40, function, CALL, b"payload")], [function], None),
        )
    ]
    for send in insiders(cluster):
        for i in range(ROUNDS):
            data = bytearray(rng.choice(valid))
            how = rng.randrange(5)
            if how == 0:
                data = data[: rng.randrange(len(data) + 1)]
            elif how == 1:
                data[rng.randrange(len(data))] = rng.randrange(256)
            elif how == 2 and len(data) > 6:
                at = rng.randrange(2, len(data) - 3)
                data[at : at + 4] = b"\xff\xff\xff\x7f"
            elif how == 3:
                data = bytearray(data[:2] + rng.randbytes(50))
            send([bytes(data), *(rng.randbytes(20) for _ in range(rng.randrange(3)))])
            if i % 100 == 0:
                watch.work()
