"""Other machines, as network namespaces: hosts with addresses of their own, a bad line between them, cables that are pulled.

::

    engine host 10.77.1.2 ─┐
                           ├─ hub's host 10.77.0.1
    client host 10.77.2.2 ─┘
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from tests.helpers import leftovers, tasks

ROOT = Path(__file__).parents[2]


def ip(*args: str) -> None:
    subprocess.run(["ip", *args], check=True, capture_output=True, timeout=20)


def why_not() -> str:
    """Why namespaces cannot be had here, or an empty text."""
    if not shutil.which("ip") or not shutil.which("tc"):
        return "there is no iproute2 here"
    name = f"zxtry{os.getpid()}"
    try:
        ip("netns", "add", name)
        ip("netns", "del", name)
    except subprocess.CalledProcessError as e:
        return f"network namespaces are not permitted: {e.stderr.decode().strip()}"
    return ""


WHY_NOT = why_not()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "they can be had")


class Lab:
    """The three hosts, and what runs on them."""

    def __init__(self, home: Path, silence: float) -> None:
        self.home = home
        self.hosts = {what: f"zx{os.getpid()}{what}" for what in ("hub", "engine", "client")}
        self.environment = {
            **os.environ,
            "ZEXEC_HOME": str(home),
            "ZEXEC_SILENCE": str(silence),
            "PYTHONPATH": str(ROOT),
        }
        self.running: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        for host in self.hosts.values():
            ip("netns", "add", host)
            ip("-n", host, "link", "set", "lo", "up")
        hub = self.hosts["hub"]
        ip("-n", hub, "addr", "add", "10.77.0.1/32", "dev", "lo")
        for number, what in ((1, "engine"), (2, "client")):
            there = self.hosts[what]
            ip("link", "add", f"to-{what}", "netns", hub, "type", "veth", "peer", "name", "to-hub", "netns", there)
            ip("-n", hub, "addr", "add", f"10.77.{number}.1/24", "dev", f"to-{what}")
            ip("-n", there, "addr", "add", f"10.77.{number}.2/24", "dev", "to-hub")
            ip("-n", hub, "link", "set", f"to-{what}", "up")
            ip("-n", there, "link", "set", "to-hub", "up")
            ip("-n", there, "route", "add", "10.77.0.1/32", "via", f"10.77.{number}.1")

    def worsen(self, what: str, *netem: str) -> None:
        """Have the line to a host be like this, both ways."""
        for host, device in ((self.hosts["hub"], f"to-{what}"), (self.hosts[what], "to-hub")):
            command = ["tc", "-n", host, "qdisc", "replace", "dev", device, "root", "netem", *netem]
            try:
                subprocess.run(command, check=True, capture_output=True, timeout=20)
            except subprocess.CalledProcessError as e:
                pytest.skip(f"netem is not permitted or not there: {e.stderr.decode().strip()}")

    def pull(self, what: str) -> None:
        """Pull the cable to a host."""
        ip("-n", self.hosts["hub"], "link", "set", f"to-{what}", "down")

    def plug(self, what: str) -> None:
        ip("-n", self.hosts["hub"], "link", "set", f"to-{what}", "up")

    def run(self, what: str, *args: str, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            ["ip", "netns", "exec", self.hosts[what], sys.executable, *args], env=self.environment, **options
        )
        self.running.append(process)
        return process

    def start_hub(self) -> None:
        heard, told = os.pipe()
        where = ["--only-tcp", "--listen", "0.0.0.0", "--host", "10.77.0.1"]
        self.run(
            "hub", "-m", "zexec", "hub", "--name", "lab", "--engines", "", *where, "--ready", str(told), pass_fds=[told]
        )
        os.close(told)
        with os.fdopen(heard) as pipe:
            assert pipe.read() == "ready"

    def start_engines(self, count: int, what: str = "engine") -> list[subprocess.Popen[bytes]]:
        card = str(self.home / "clusters" / "lab" / "engine.json")
        # stderr: an engine that is cut off says so, and that is as it should be.
        started = [
            self.run(what, "-m", "zexec", "engine", "--connect", card, stderr=subprocess.DEVNULL) for _ in range(count)
        ]
        before = 0
        assert tasks.until(lambda: sum(e["state"] == "up" for e in self.status()["engines"]) >= before + count)
        return started

    def status(self) -> dict[str, Any]:
        command = [
            "ip",
            "netns",
            "exec",
            self.hosts["hub"],
            sys.executable,
            "-m",
            "zexec",
            "status",
            "lab",
            "--json",
        ]
        found = subprocess.run(command, env=self.environment, capture_output=True, check=True, timeout=30)
        answer: dict[str, Any] = json.loads(found.stdout)
        return answer

    def client(self, program: str) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
        """A program on the clients' host. It has an executor, ``ex``, and the tests' tasks."""
        start = "import sys, zexec, time\nfrom tests.helpers import tasks\nex = zexec.Executor(cluster='lab')\n"
        process = self.run("client", "-c", start + program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None
        return process, process.stdout

    def tear_down(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        for host in self.hosts.values():
            subprocess.run(["ip", "netns", "del", host], capture_output=True, timeout=20)
        shutil.rmtree(self.home, ignore_errors=True)


@pytest.fixture
def lab(home: Path, nothing_left: leftovers.Before, request: pytest.FixtureRequest) -> Iterator[Lab]:
    lab = Lab(home, getattr(request, "param", 25))
    try:
        lab.build()
        lab.start_hub()
        yield lab
    finally:
        lab.tear_down()


def finish(client: subprocess.Popen[bytes], seconds: float = 50) -> str:
    out, err = client.communicate(timeout=seconds)
    assert client.returncode == 0, err.decode()
    return out.decode()


def test_hosts_with_addresses_of_their_own(lab: Lab) -> None:
    lab.start_engines(2)
    client, _ = lab.client(
        "assert list(ex.map(tasks.double, range(500))) == [2 * i for i in range(500)]\n"
        "assert ex.submit(len, bytes(20_000_000)).result(30) == 20_000_000\n"
        "assert len(ex.submit(bytes, 20_000_000).result(30)) == 20_000_000\n"
        "assert ex.options(timeout=0.3).submit(tasks.nap, 60).exception(30) is not None\n"
        "print(ex.submit(tasks.double, 4).result(30))\n"
    )
    assert finish(client) == "8\n"


def test_a_bad_line(lab: Lab) -> None:
    """50 ms each way and one packet in a hundred lost, on both lines."""
    lab.start_engines(2)
    lab.worsen("engine", "delay", "50ms", "loss", "1%")
    lab.worsen("client", "delay", "50ms", "loss", "1%")
    client, _ = lab.client(
        "assert list(ex.map(tasks.double, range(2000))) == [2 * i for i in range(2000)]\n"
        "assert ex.submit(len, bytes(1_000_000)).result(40) == 1_000_000\n"
        "fs = [ex.submit(tasks.nap, 0.01) for _ in range(50)]\n"
        "cancelled = sum(f.cancel() for f in fs[25:])\n"
        "assert all(f.result(40) == 0.01 for f in fs if not f.cancelled())\n"
        "assert ex.options(timeout=0.3).submit(tasks.nap, 60).exception(30) is not None\n"
        "print(ex.submit(tasks.double, 4).result(30))\n"
    )
    assert finish(client) == "8\n"


@pytest.mark.slow
@pytest.mark.timeout(100)
@pytest.mark.parametrize("whose", ["engine", "client"])
def test_a_cable_is_pulled_for_ten_seconds_and_put_back(lab: Lab, whose: str, flag: Any) -> None:
    """Nobody is given up: what was under way arrives late."""
    engines = lab.start_engines(2)
    path = flag("started")
    client, out = lab.client(
        f"fs = [ex.submit(tasks.append_and_nap, {path!r}, i, 0.5) for i in range(40)]\n"
        "print('submitted', flush=True)\n"
        "assert [f.result(60) for f in fs] == list(range(40))\n"
        "print(ex.submit(tasks.double, 4).result(60))\n"
    )
    assert out.readline() == b"submitted\n"
    assert tasks.until(lambda: len(tasks.lines(path)) >= 4)
    lab.pull(whose)
    with subprocess.Popen(["sleep", "10"]) as pause:
        pause.wait()
    lab.plug(whose)
    assert finish(client, 80) == "8\n"
    assert sorted(map(int, tasks.lines(path))) == list(range(40)), "each ran once"
    assert all(engine.poll() is None for engine in engines)


@pytest.mark.parametrize("lab", [3], indirect=True)
def test_a_host_is_gone_for_good(lab: Lab, flag: Any) -> None:
    """Its running task fails, what it had not started runs elsewhere; and its engines end, for their hub is gone."""
    gone = lab.start_engines(1)
    client, out = lab.client(
        f"f = ex.submit(tasks.hold, {flag('started')!r}, {flag('never')!r})\n"
        "print('submitted', flush=True)\n"
        "sys.stdin.read(1)\n"
        "fs = [ex.submit(tasks.double, i) for i in range(20)]\n"
        "print(type(f.exception(40)).__name__, f.exception())\n"
        "assert [f.result(30) for f in fs] == [2 * i for i in range(20)]\n"
    )
    assert out.readline() == b"submitted\n"
    assert tasks.wait_for(flag("started"))
    lab.pull("engine")
    stay = lab.run("hub", "-m", "zexec", "engine", "--connect", str(lab.home / "clusters" / "lab" / "engine.json"))
    said = finish(client)
    assert said.startswith("EngineDied engine 0 (pid ")
    assert "the connection to it has ended" in said
    assert stay.poll() is None
    assert gone[0].wait(30) == 1


@pytest.mark.parametrize("lab", [3], indirect=True)
def test_a_clients_host_is_gone(lab: Lab, flag: Any) -> None:
    """What it has left is dropped; and the client, over there, is told by its own silence."""
    engines = lab.start_engines(1)
    client, out = lab.client(
        f"f = ex.submit(tasks.hold, {flag('started')!r}, {flag('never')!r})\n"
        "fs = [ex.submit(tasks.double, i) for i in range(20)]\n"
        "print('submitted', flush=True)\n"
        "print(type(f.exception(40)).__name__, f.exception())\n"
    )
    assert out.readline() == b"submitted\n"
    assert tasks.wait_for(flag("started"))
    lab.pull("client")
    assert tasks.until(lambda: lab.status()["tasks"]["open"] == 0)
    assert lab.status()["clients"] == []
    assert engines[0].poll() is None
    said = finish(client)
    assert said.startswith("BrokenClusterError")
    assert "is gone: the connection to tcp://10.77.0.1:" in said
