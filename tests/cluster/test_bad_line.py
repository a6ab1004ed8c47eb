"""A bad line where there is no netem: a relay that delays what passes through, and now and then lets it wait as TCP does for what
was lost."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import zexec
from tests.helpers import tasks
from zexec.net import cards

#: Seconds each way, and for every so many pieces the wait until what was lost has been sent again.
DELAY, EVERY, AGAIN = 0.05, 100, 0.25


class Relay:
    """Passes TCP connections on to a port, each piece later than it came."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relay")
        self._thread.start()
        self._servers: list[asyncio.Server] = []

    def to(self, port: int) -> int:
        """The port that leads there."""
        server = asyncio.run_coroutine_threadsafe(self._serve(port), self._loop).result(10)
        number: int = server.sockets[0].getsockname()[1]
        return number

    async def _serve(self, port: int) -> asyncio.Server:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(self._pass(reader, there_writer), self._pass(there_reader, writer))

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        self._servers.append(server)
        return server

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            late = 0.0
            while True:
                due, data = await queue.get()
                late = max(late, due)
                await asyncio.sleep(late - loop.time())
                if not data:
                    break
                try:
                    writer.write(data)
                    await writer.drain()
                except OSError:
                    break
            writer.close()

        delivering = asyncio.ensure_future(deliver())
        count = 0
        while True:
            try:
                data = await reader.read(1 << 16)
            except OSError:
                data = b""
            count += 1
            queue.put_nowait((loop.time() + DELAY + (AGAIN if count % EVERY == 0 else 0), data))
            if not data:
                break
        await delivering

    def close(self) -> None:
        async def end() -> None:
            for server in self._servers:
                server.close()
            others = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@pytest.fixture
def relay() -> Iterator[Relay]:
    relay = Relay()
    yield relay
    relay.close()


def behind(relay: Relay, card: cards.Card) -> cards.Card:
    ports = [int(endpoint.rpartition(":")[2]) for endpoint in card.endpoints]
    return replace(card, endpoints=[f"tcp://127.0.0.1:{relay.to(port)}" for port in ports])


@pytest.mark.slow
def test_a_bad_line(start: Callable[..., zexec.Cluster], relay: Relay, tmp_path: Path) -> None:
    cluster = start(0, listen="127.0.0.1", options=["--only-tcp"])
    file = tmp_path / "engine.json"
    cards.write(behind(relay, cards.read(cluster.folder / "engine.json")), file)
    engines = [
        subprocess.Popen(
            [sys.executable, "-m", "zexec", "engine", "--connect", str(file)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )
        for _ in range(2)
    ]
    try:
        cluster.wait_for_engines(2, 40)
        with zexec.Executor(cluster=behind(relay, cluster.card)) as ex:
            assert list(ex.map(tasks.double, range(2000))) == [2 * i for i in range(2000)]
            assert ex.submit(len, bytes(3_000_000)).result(40) == 3_000_000
            fs = [ex.submit(tasks.nap, 0.01) for _ in range(50)]
            for f in fs[40:]:
                f.cancel()
            assert all(f.cancelled() or f.result(40) == 0.01 for f in fs)
            with pytest.raises(zexec.TimeoutError):
                ex.options(timeout=0.3).submit(tasks.nap, 60).result(40)
            assert ex.submit(tasks.double, 4).result(30) == 8
        cluster.stop()
        for engine in engines:
            engine.wait(20)
    finally:
        for engine in engines:
            engine.kill()
            engine.wait()
