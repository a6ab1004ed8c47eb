"""Who is let in, and what strangers and liars can do: nothing that costs anybody else anything."""

from __future__ import annotations

import json
import os
import random
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

import zexec
from tests.helpers import tasks
from tests.helpers.messages import hear
from zexec.cluster.calls import order
from zexec.messages import CALL, Ask, Function, Greet, Greeted, Peer, Refused, Register, Submit, Task, Welcome
from zexec.net import cards
from zexec.net.doors import Keys
from zexec.net.lines import Line
from zexec.net.peers import myself
from zexec.wire.talk import encode

Start = Callable[..., zexec.Cluster]
TCP: dict[str, Any] = {"listen": "127.0.0.1", "options": ["--only-tcp"]}


def port_of(cluster: zexec.Cluster) -> int:
    return int(cluster.card.endpoints[0].rpartition(":")[2])


def works(cluster: zexec.Cluster) -> bool:
    with zexec.Executor(cluster=cluster) as ex:
        return bool(ex.submit(tasks.double, 2).result(30) == 4)


# -- files -----------------------------------------------------------------------------------------------------------------


def test_nobody_else_can_read_the_files(cluster: zexec.Cluster) -> None:
    assert stat.S_IMODE(cluster.folder.stat().st_mode) == 0o700
    for role in ("client", "engine", "hub"):
        assert stat.S_IMODE((cluster.folder / f"{role}.json").stat().st_mode) == 0o600
    (endpoint,) = cluster.card.endpoints
    sockets = Path(endpoint.removeprefix("ipc://")).parent
    assert stat.S_IMODE(sockets.stat().st_mode) == 0o700


def test_a_file_that_others_can_read_is_refused(cluster: zexec.Cluster) -> None:
    file = cluster.folder / "client.json"
    file.chmod(0o640)
    with pytest.raises(zexec.ClusterError, match="other users"):
        zexec.Pool(cluster=str(file))
    file.chmod(0o600)
    assert works(cluster)


def test_a_card_says_whom_it_is_for(start: Start) -> None:
    cluster = start(1, **TCP)
    texts = {role: json.loads((cluster.folder / f"{role}.json").read_text()) for role in ("client", "engine", "hub")}
    secrets = {role: text["secret_key"] for role, text in texts.items()}
    assert len(set(secrets.values())) == 3
    # Neither clients nor engines have what would let them be the hub, or each other.
    assert not any(secrets[role] in json.dumps(texts[other]) for role in secrets for other in texts if other != role)
    with pytest.raises(zexec.ClusterError, match="for engines, not for clients"):
        zexec.Pool(cluster=str(cluster.folder / "engine.json"))


def test_keys_are_not_shown(start: Start) -> None:
    cluster = start(1, **TCP)
    assert cluster.card.secret_key not in repr(cluster.card)
    listed = subprocess.run(
        [sys.executable, "-m", "zexec", "list", "--json"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    ).stdout
    assert cluster.card.secret_key not in listed
    assert cluster.name in listed
    command = " ".join(psutil.Process(cluster.pid).cmdline())
    assert cluster.card.secret_key not in command


# -- addresses -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["0.0.0.0", "192.0.2.1", "example.org:9999", "::"])
def test_beyond_the_loopback_only_with_keys(home: Path, where: str) -> None:
    with pytest.raises(zexec.ClusterError, match="without keys"):
        zexec.Cluster(0, listen=where, options=["--plain"])


def test_without_keys_on_the_loopback(start: Start) -> None:
    cluster = start(1, listen="127.0.0.1", options=["--plain", "--only-tcp"])
    assert cluster.card.secret_key == ""
    assert works(cluster)


def test_long_folders_for_sockets(start: Start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A socket's path has 107 bytes at most."""
    long = tmp_path / ("x" * 100)
    long.mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    assert works(start(1))


# -- keys ------------------------------------------------------------------------------------------------------------------


def test_who_has_no_key_or_another(start: Start) -> None:
    cluster = start(1, **TCP)
    public, secret = Keys.pair()
    with pytest.raises(zexec.ClusterError, match="does not accept the key"):
        zexec.Pool(cluster=replace(cluster.card, public_key=public, secret_key=secret))
    assert works(cluster)
    # The key of engines does not open the clients' door, nor the other way round.
    engine = cards.read(cluster.folder / "engine.json")
    with pytest.raises(zexec.ClusterError, match="does not accept the key"):
        zexec.Pool(cluster=replace(engine, role="client", endpoints=cluster.card.endpoints))
    line = Line(replace(cluster.card, endpoints=engine.endpoints), b"T" + os.urandom(16))
    try:
        line.send(Register(myself()))
        with pytest.raises(EOFError, match="does not accept the key"):
            line.receive_within(20)
    finally:
        line.close(0)
    assert len(cluster.engines()) == 1
    assert works(cluster)


def test_a_hub_with_another_key_is_not_talked_to(start: Start) -> None:
    """A client sends nothing, not even its greeting, to somebody who has taken the hub's address."""
    mine, other = start(1, **TCP), start(0, **TCP)
    line = Line(replace(mine.card, endpoints=other.card.endpoints), b"c" + os.urandom(16))
    try:
        line.send(Greet(myself(), "me"))
        with pytest.raises((EOFError, zexec.ClusterError)):
            line.receive_within(1)
    finally:
        line.close(0)
    assert other.status()["clients"] == []


def test_who_speaks_without_encryption(start: Start) -> None:
    cluster = start(1, **TCP)
    with zmq.Context() as context, context.socket(zmq.DEALER) as stranger:
        stranger.setsockopt(zmq.LINGER, 0)
        stranger.connect(cluster.card.endpoints[0])
        stranger.send_multipart(encode(Greet(myself(), "me")))
        assert not stranger.poll(500)
    assert works(cluster)


def test_noise_on_the_ports(start: Start) -> None:
    cluster = start(1, **TCP)
    dice = random.Random(7)
    hub = psutil.Process(cluster.pid)
    before = hub.memory_info().rss
    greeting = bytes.fromhex("ff00000000000000017f03014e554c4c") + bytes(48)
    for role in ("client", "engine"):
        for endpoint in cards.read(cluster.folder / f"{role}.json").endpoints:
            for shape in range(60):
                with socket.create_connection(("127.0.0.1", int(endpoint.rpartition(":")[2]))) as s:
                    # Anything; the beginning of a real greeting; a frame that claims to be enormous.
                    head = [b"", greeting[: dice.randrange(len(greeting))], greeting + b"\x06" + b"\x7f" * 8][shape % 3]
                    s.sendall(head + dice.randbytes(dice.randrange(3000)))
    assert works(cluster)
    assert hub.memory_info().rss - before < 50e6


# -- those who have the key, and lie ---------------------------------------------------------------------------------------


def raw(cluster: zexec.Cluster, role: str, address: bytes) -> Line:
    return Line(cards.read(cluster.folder / f"{role}.json"), address)


@pytest.mark.parametrize("role", ["client", "engine"])
def test_damaged_messages(start: Start, role: str, way: dict[str, Any]) -> None:
    cluster = start(1, **way)
    dice = random.Random(11)
    line = raw(cluster, role, (b"c" if role == "client" else b"T") + os.urandom(16))
    try:
        good = [
            encode(Greet(myself(), "me")),
            encode(Register(myself())),
            encode(Ask(1, "status")),
            encode(Submit([Task(5, Function(b"d", b"p", "f"), CALL, b"x")], [Function(b"d", b"p", "f")])),
        ]
        send = line._socket.send_multipart
        for _ in range(500):
            frames = [bytearray(frame) for frame in dice.choice(good)]
            for _ in range(dice.randrange(1, 6)):
                frame = dice.choice(frames)
                if frame:
                    frame[dice.randrange(len(frame))] = dice.randrange(256)
            send([bytes(frame) for frame in frames][: dice.randrange(1, 3)])
            send([dice.randbytes(dice.randrange(100))])
        send([b"\x02J" + b"Q" + b"[" * 100_000])
        send([b"", b"", b""])
        send([encode(Ask(1, "status"))[0], *[bytes(1 << 20)] * 3])  # a payload without an end
        assert works(cluster)
    finally:
        line.close(0)
    assert works(cluster)


def greet(line: Line, client: int = -1) -> Any:
    line.send(Greet(myself(), "liar", client))
    return hear(line)


@pytest.mark.parametrize("which", ["another's id", "twice", "unknown function", "needs", "negative"])
def test_a_client_that_lies(start: Start, which: str) -> None:
    cluster = start(1)
    line = raw(cluster, "client", b"c" + os.urandom(16))
    try:
        greeted = greet(line)
        assert type(greeted) is Greeted
        first = greeted.client << 40
        function = Function(b"d" * 16, b"no pickle", "f")
        task = Task(first + 1, function, CALL, b"no pickle")
        lies = {
            "another's id": Submit([Task(first + (1 << 41), function, CALL, b"")], [function]),
            "twice": Submit([task, task], [function]),
            "unknown function": Submit([task]),
            "needs": Submit(
                [task], [function], {"after": [["x"], 1, 1, 1], "follow": None, "patience": "soon", "ended": 5}
            ),
            "negative": Submit([Task(-1, function, CALL, b"")], [function]),
        }
        line.send(lies[which])
        answer = hear(line)
        assert type(answer) is Refused
        assert works(cluster)
    finally:
        line.close(0)
    assert works(cluster)


@pytest.mark.parametrize(
    "args", [None, 5, "x", [], {}, [[1], "y"], [["a"], 2], [1e300, 1], [-3, None], [[], []], [None, None]]
)
def test_orders_that_make_no_sense(cluster: zexec.Cluster, args: Any) -> None:
    for what in ("story", "explain", "is_running", "whereabouts", "signal", "scale", "drain", "fetch", "nonsense"):
        try:
            order(cluster.card, what, args)
        except zexec.ClusterError:
            pass
    cluster.scale(2)
    assert works(cluster)


def test_a_client_cannot_take_anothers_number(cluster: zexec.Cluster) -> None:
    with zexec.Executor(cluster=cluster) as ex:
        ex.submit(tasks.double, 1).result(30)
        (me,) = cluster.status()["clients"]
        line = raw(cluster, "client", b"c" + os.urandom(16))
        try:
            assert type(greet(line, me["client"])) is Refused
        finally:
            line.close(0)


def test_an_engine_that_lies(start: Start) -> None:
    cluster = start(1)
    line = raw(cluster, "engine", b"T" + os.urandom(16))
    try:
        line.send(Register(Peer(os.getpid(), "elsewhere", myself().python, "", "", 0.0)))
        assert type(hear(line)) is Welcome
        for message in (b"\x02R", b"\x02r" + bytes(30), b"\x02G" + bytes(8), b"\x02H"):
            line._socket.send_multipart([message])
        line.send(Register(myself()))
        assert works(cluster)
    finally:
        line.close(0)
    assert tasks.until(lambda: len(cluster.engines()) == 1)


def test_an_address_that_cannot_be_had(home: Path, tmp_path: Path) -> None:
    with pytest.raises(zexec.ClusterError, match=r"cannot listen at tcp://192\.0\.2\.1"):
        zexec.Cluster(0, listen="192.0.2.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(zexec.ClusterError, match="cannot listen"):
            zexec.Cluster(0, listen=f"127.0.0.1:{taken.getsockname()[1]}")


def test_a_name_that_is_taken(cluster: zexec.Cluster) -> None:
    with pytest.raises(zexec.ClusterError, match="is running already"):
        zexec.Cluster(0, name=cluster.name)
    assert works(cluster)
