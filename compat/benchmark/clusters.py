"""A hub in a process of its own, held against what it is made of: the figures in docs/.

    python -m compat.benchmark.clusters [engines] [large] [clients] [store] [--quick]

engines   how long it takes until 64 engines have come, and how long that many interpreters take which only import the same.
large     1 GB as an argument and as a result, through a hub, over TCP with CURVE; the same by pyzmq alone. And where all of
          them share memory.
clients   what four clients at once get, held against what one gets.
store     what the hub does with SQLite, held against memory.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import psutil
import zmq

import zexec
from zexec.cluster.cluster import environment

CURVE: dict[str, Any] = {"listen": "127.0.0.1", "options": ["--only-tcp"]}
PIECE = 1 << 20
#: a task that is none, and has not to travel
nothing = int
MADE: dict[int, Any] = {}
SPAWN = get_context("spawn")


def timed(f: Callable[[], Any]) -> float:
    began = time.perf_counter()
    f()
    return time.perf_counter() - began


# -- engines ---------------------------------------------------------------------------------------------------------


def engines(quick: bool) -> None:
    """From the order to the last of them up; and from the creation of the last process."""
    count = 8 if quick else 64
    for name, way in (("file system", {}), ("TCP with CURVE", CURVE)):
        with zexec.Cluster(0, **way) as cluster:
            began = time.time()
            cluster.scale(count)
            cluster.wait_for_engines(count, 120)
            up = time.time()
            hub = psutil.Process(cluster.pid)
            created = max(child.create_time() for child in hub.children())
            each = used(hub.children()) / count
            print(
                f"{count} engines, {name}: all up {up - began:.2f} s after the order, {up - created:.2f} s after the last process"
                f" was there; processor: {1000 * each:.0f} ms each, hub {used([hub]):.2f} s"
            )
    alone = [sys.executable, "-c", "import zexec.cli.engine, zexec.engine.joined"]
    began = time.time()
    processes = [subprocess.Popen(alone, env=environment(), start_new_session=True) for _ in range(count)]
    for process in processes:
        process.wait()
    print(f"{count} interpreters that only import what an engine does: {time.time() - began:.2f} s")


# -- large data ------------------------------------------------------------------------------------------------------


def size_of(data: Any) -> int:
    return len(data)


def make(size: int) -> Any:
    if size not in MADE:
        MADE[size] = np.ones(size, "u1")
    return MADE[size]


def large(quick: bool) -> None:
    size = (100 if quick else 1_000) * 1_000_000
    data = np.frombuffer(os.urandom(1 << 20) * (size >> 20), "u1").copy()
    size = len(data)
    for hops in (1, 2):
        print(f"{size / 1e9:.2f} GB by pyzmq alone, CURVE, {hops} hops: {costs([raw(data, hops) for _ in range(3)])}")
    through_hub("by frames", data, "0")
    through_hub("by reference", data, None)


def through_hub(how: str, data: Any, room: str | None) -> None:
    """Without shared memory, as between hosts, or with it."""
    size = len(data)
    if room is not None:
        os.environ["ZEXEC_SHM_BYTES"] = room
    try:
        cluster = zexec.Cluster(1, **CURVE)
        pool = zexec.Pool(cluster=cluster)
    finally:
        os.environ.pop("ZEXEC_SHM_BYTES", None)
    with cluster, pool:
        pool.apply(size_of, (b"",))
        hub = psutil.Process(cluster.pid)
        involved = [psutil.Process(), hub, *hub.children()]
        for what, call in (
            ("argument", lambda: pool.apply(size_of, (data,))),
            ("result", lambda: pool.apply(make, (size,))),
        ):
            call()  # the result is made now, and memory
            found = []
            with Peak(hub.pid) as peak:
                for _ in range(3):
                    before = used(involved)
                    found.append((timed(call), used(involved) - before))
            print(
                f"{size / 1e9:.2f} GB as {what}, {how}: {costs(found)}; the hub's memory: {peak.above / size:.2f} of it more than"
                " before"
            )


def used(processes: list[psutil.Process]) -> float:
    """Seconds of processor."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def costs(found: list[tuple[float, float]]) -> str:
    seconds, processor = ([each[i] for each in found] for i in (0, 1))
    return (
        f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f}), processor"
        f" {statistics.median(processor):.2f} s ({min(processor):.2f} to {max(processor):.2f})"
    )


class Peak:
    """The most memory that a process has meanwhile, above what it had."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._before = self._most = self._process.memory_info().rss
        self._thread = threading.Thread(target=self._watch)

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            self._most = max(self._most, self._process.memory_info().rss)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self._over.set()
        self._thread.join()

    @property
    def above(self) -> int:
        return self._most - self._before


def raw(data: Any, hops: int) -> tuple[float, float]:
    """Seconds, and of processor, that the same pieces take from a DEALER to another, or through a process that passes them on."""
    server, client = zmq.curve_keypair(), zmq.curve_keypair()
    pieces = len(data) // PIECE
    with zmq.Context() as context:
        back = context.socket(zmq.PULL)
        port = back.bind_to_random_port("tcp://127.0.0.1")
        first = context.socket(zmq.DEALER)
        tune(first)
        lock(first, server)
        at = first.bind_to_random_port("tcp://127.0.0.1")
        workers, pipes = [], []
        for _ in range(hops - 1):
            ready, theirs = SPAWN.Pipe()
            pipes.append(ready)
            workers.append(SPAWN.Process(target=pass_on, args=(at, server, client, pieces, theirs)))
            workers[-1].start()
            at = ready.recv()
        ready, theirs = SPAWN.Pipe()
        pipes.append(ready)
        workers.append(SPAWN.Process(target=take, args=(at, server[0], client, pieces, port, theirs)))
        workers[-1].start()
        back.recv()
        involved = [psutil.Process(), *[psutil.Process(worker.pid) for worker in workers]]
        before, began = used(involved), time.perf_counter()
        view = memoryview(data)
        for i in range(pieces):
            first.send(view[i * PIECE : (i + 1) * PIECE], zmq.SNDMORE if i < pieces - 1 else 0, copy=False)
        back.recv()
        seconds, processor = time.perf_counter() - began, used(involved) - before
        for pipe in pipes:
            pipe.send(None)
        for worker in workers:
            worker.join()
        first.close()
        back.close()
    return seconds, processor


def tune(socket: zmq.Socket[Any]) -> None:
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)


def lock(socket: zmq.Socket[Any], server: tuple[bytes, bytes]) -> None:
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, server[1])


def dial(socket: zmq.Socket[Any], port: int, server: bytes, own: tuple[bytes, bytes]) -> None:
    tune(socket)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, own[0])
    socket.setsockopt(zmq.CURVE_SECRETKEY, own[1])
    socket.connect(f"tcp://127.0.0.1:{port}")


def pass_on(at: int, server: tuple[bytes, bytes], own: tuple[bytes, bytes], pieces: int, ready: Any) -> None:
    with zmq.Context() as context:
        one, other = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
        tune(other)
        lock(other, server)
        ready.send(other.bind_to_random_port("tcp://127.0.0.1"))
        dial(one, at, server[0], own)
        for i in range(pieces):
            other.send(one.recv(copy=False), zmq.SNDMORE if i < pieces - 1 else 0, copy=False)
        ready.recv()
        one.close()
        other.close()


def take(at: int, server: bytes, own: tuple[bytes, bytes], pieces: int, back: int, over: Any) -> None:
    with zmq.Context() as context:
        tell = context.socket(zmq.PUSH)
        tell.connect(f"tcp://127.0.0.1:{back}")
        socket = context.socket(zmq.DEALER)
        dial(socket, at, server, own)
        time.sleep(0.5)  # until the keys are settled
        tell.send(b"ready")
        for _ in range(pieces):
            socket.recv(copy=False)
        tell.send(b"done")
        over.recv()
        socket.close()
        tell.close()


# -- several clients -------------------------------------------------------------------------------------------------


def client(name: str, count: int, start: Any, told: Any) -> None:
    """One client in a process of its own: submits, and waits for all."""
    with zexec.Executor(cluster=name) as executor:
        executor.submit(nothing).result()
        told.send(None)
        while True:
            start.recv()
            if count == 0:
                return
            began = time.perf_counter()
            futures = [executor.submit(nothing) for _ in range(count)]
            for future in futures:
                future.result()
            told.send((began, time.perf_counter()))


def together(name: str, clients: int, count: int, rounds: int) -> list[float]:
    """Tasks a second of all of them, in each round."""
    pipes, processes = [], []
    for _ in range(clients):
        ours, theirs = SPAWN.Pipe()
        processes.append(SPAWN.Process(target=client, args=(name, count // clients, theirs, theirs)))
        processes[-1].start()
        pipes.append(ours)
    for pipe in pipes:
        pipe.recv()
    rates = []
    for _ in range(rounds):
        for pipe in pipes:
            pipe.send(None)
        spans = [pipe.recv() for pipe in pipes]
        rates.append(count / (max(end for _, end in spans) - min(began for began, _ in spans)))
    for process in processes:
        process.kill()
        process.join()
    return rates


def clients(quick: bool) -> None:
    count, rounds = (4_000, 3) if quick else (40_000, 3)
    for name, way in (("file system", {}), ("TCP with CURVE", CURVE)):
        with zexec.Cluster(2, **way) as cluster:
            hub = psutil.Process(cluster.pid)
            rates: dict[int, list[float]] = {1: [], 4: []}
            processor = {1: 0.0, 4: 0.0}
            for _ in range(3):
                for many in rates:
                    before = used([hub])
                    rates[many] += together(cluster.name, many, count, rounds)
                    processor[many] += used([hub]) - before
            a, b = statistics.median(rates[1]), statistics.median(rates[4])
            x, y = (1e6 * processor[many] / (3 * rounds * count) for many in (1, 4))
            print(
                f"{count} no-ops, {name}: one client {a:,.0f}/s, four {b:,.0f}/s together: {b / a:.2f}; the hub's processor for"
                f" each {x:.1f} and {y:.1f} us"
            )


# -- the store -------------------------------------------------------------------------------------------------------


def store(quick: bool) -> None:
    count, trips = (2_000, 200) if quick else (20_000, 2_000)
    for kind in ("memory", "sqlite", "memory", "sqlite"):
        with zexec.Cluster(2, store=kind) as cluster, zexec.Executor(cluster=cluster) as executor:
            executor.submit(nothing).result()
            hub = psutil.Process(cluster.pid)
            rates, processor = [], []
            for _ in range(5):
                before = used([hub])

                def burst() -> None:
                    for future in [executor.submit(nothing) for _ in range(count)]:
                        future.result()

                rates.append(count / timed(burst))
                processor.append((used([hub]) - before) / count)
            alone = statistics.median(timed(lambda: executor.submit(nothing).result()) for _ in range(trips))
            with ThreadPoolExecutor(16) as threads:
                began = time.perf_counter()
                list(threads.map(lambda _: executor.submit(nothing).result(), range(trips)))
                crowd = trips / (time.perf_counter() - began)
            print(
                f"{kind}: {statistics.median(rates):,.0f} tasks/s in a burst, {1e6 * statistics.median(processor):.1f} us of the"
                f" hub's processor for each; alone {1e6 * alone:.0f} us; sixteen threads {crowd:,.0f} tasks/s"
            )


PARTS = {"engines": engines, "large": large, "clients": clients, "store": store}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m compat.benchmark.clusters", description=__doc__.split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of everything")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in PARTS]
    if unknown:
        parser.error(f"there is no {unknown[0]!r}")
    print(f"Python {sys.version.split()[0]}, libzmq {zmq.zmq_version()}, load {os.getloadavg()[0]:.1f}")
    for part in options.parts or PARTS:
        PARTS[part](options.quick)


if __name__ == "__main__":
    main()
