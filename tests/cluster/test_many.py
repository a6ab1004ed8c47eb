"""Many engines at once: what each costs the hub, simulated; and real ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib import metadata
from typing import Any

import psutil
import pytest
import zmq

import zexec
from tests.helpers import tasks
from zexec.messages import EngineInfo, Hello, Register, Welcome
from zexec.net import cards
from zexec.net.peers import myself
from zexec.wire.talk import decode, encode

COUNT = 150
REAL = 24


@pytest.mark.parametrize("way", ["ipc", "curve"], indirect=True)
def test_hundreds_of_engines(start: Callable[..., zexec.Cluster], way: dict[str, Any]) -> None:
    """Three descriptors each at most; all that are gone are noticed."""
    cluster = start(0, **way)
    hub = psutil.Process(cluster.pid)
    before = hub.num_fds()
    card = cards.read(cluster.folder / "engine.json")
    with zmq.Context() as context:
        sockets = []

        def dial(address: bytes) -> zmq.Socket[Any]:
            socket = context.socket(zmq.DEALER)
            socket.setsockopt(zmq.ROUTING_ID, address)
            socket.setsockopt(zmq.LINGER, 0)
            if card.server_key and card.endpoints[0].startswith("tcp"):
                socket.setsockopt(zmq.CURVE_SERVERKEY, card.server_key.encode())
                socket.setsockopt(zmq.CURVE_PUBLICKEY, card.public_key.encode())
                socket.setsockopt(zmq.CURVE_SECRETKEY, card.secret_key.encode())
            socket.connect(card.endpoints[0])
            sockets.append(socket)
            return socket

        pairs = []
        for _ in range(COUNT):
            name = os.urandom(16)
            pairs.append((dial(b"T" + name), dial(b"C" + name)))
            pairs[-1][0].send_multipart(encode(Register(myself())))
        places = set()
        for main, control in pairs:
            assert main.poll(30_000)
            welcome = decode(main.recv_multipart())
            assert type(welcome) is Welcome
            places.add(welcome.id)
            info = EngineInfo(welcome.serial, welcome.id, os.getpid(), "simulated", None)
            main.send_multipart(encode(Hello(info, "T")))
            control.send_multipart(encode(Hello(info, "C")))
        assert places == set(range(COUNT))
        cluster.wait_for_engines(COUNT, 40)
        assert hub.num_fds() - before <= 3 * COUNT
        for socket in sockets:
            socket.close()
        assert tasks.until(lambda: cluster.engines() == [])
    assert tasks.until(lambda: hub.num_fds() <= before + 3)


def test_many_real_engines_at_once(start: Callable[..., zexec.Cluster], way: dict[str, Any]) -> None:
    """All come, each to a place of its own, and all of them work."""
    cluster = start(REAL, **way)
    engines = cluster.engines()
    assert sorted(engine["id"] for engine in engines) == list(range(REAL))
    assert len({engine["pid"] for engine in engines}) == REAL
    assert {engine["numpy"] for engine in engines} == {metadata.version("numpy")}
    with zexec.Pool(cluster=cluster) as pool:
        asked = [pool.options(targets=[id]).apply_async(os.getpid) for id in range(REAL)]
        assert [each.get(60) for each in asked] == [engine["pid"] for engine in engines]
