"""Cluster: starts, changes and ends a cluster from Python. ``zexec start`` and the others are this on the command line."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable
from multiprocessing.connection import wait
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from zexec.cluster.calls import Call, order
from zexec.cluster.connect import VARIABLE
from zexec.errors import ClusterError
from zexec.net import cards
from zexec.net.cards import CLIENT, Card

#: Seconds that a hub may take to come up, and to end with all its engines.
START, STOP = 30.0, 15.0
#: Seconds that a hub which does not answer any more may take to be gone.
ENDING = 3.0
#: Seconds between two looks at something that nobody tells us of.
LOOK = 0.02


class Cluster:
    """A hub in a process of its own, and its engines. Runs from when it is made; a context manager that ends it.

    Args:
        n: engines to start; None: as many as this process may use CPUs.
        name: for others to find it by; by default one that nobody else has.
        maximum: with it, the cluster has between ``n`` and so many engines, as work comes and goes.
        engines: how engines are started: "local" for processes on this machine, "" for not at all.
        listen: addresses, HOST or HOST:PORT, to listen at for engines and clients of other machines, over TCP with CURVE.
        host: the name or address that other machines are to use for this one.
        store: "memory", or "sqlite": the hub may be killed, and goes on when it is started again under this name.
        daemon: it goes on when this process ends; ended by ``stop``, or by ``zexec stop``.
        options: more for ``zexec hub``, as on its command line.

    Raises:
        ClusterError: it cannot be started; the message says why.
    """

    def __init__(
        self,
        n: int | None = None,
        *,
        name: str | None = None,
        maximum: int | None = None,
        engines: str = "local",
        listen: str | Iterable[str] = (),
        host: str = "",
        store: str = "memory",
        daemon: bool = False,
        options: Iterable[str] = (),
    ) -> None:
        if n is None:
            n = (len(os.sched_getaffinity(0)) or 1) if engines else 0
        if isinstance(n, bool) or not isinstance(n, int) or n < 0:
            raise ValueError(f"n must be a number of engines, 0 or more, not {n!r}")
        if maximum is not None and maximum < n:
            raise ValueError(f"maximum must be at least n: {maximum} < {n}")
        if store not in ("memory", "sqlite"):
            raise ValueError(f"store must be 'memory' or 'sqlite', not {store!r}")
        self.name = name or f"{os.getpid()}-{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        arguments = ["-n", str(n), "--name", self.name, "--engines", engines]
        if maximum is not None:
            arguments += ["--max", str(maximum)]
        for where in [listen] if isinstance(listen, str) else listen:
            arguments += ["--listen", where]
        if store != "memory":
            arguments += ["--store", store]
        if host:
            arguments += ["--host", host]
        self._start(arguments + list(options), daemon)
        self.card: Card = cards.read(self.folder / f"{CLIENT}.json")

    @classmethod
    def from_name(cls, name: str) -> Cluster:
        """The cluster of that name, which is running.

        Raises:
            ClusterError: there is none.
        """
        return cls._of(cards.find(name, CLIENT))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Cluster:
        """The cluster of a connection file, its ``client.json``.

        Raises:
            ClusterError: that is none, or the cluster is not running any more.
        """
        return cls._of(cards.find(Path(path).absolute(), CLIENT))

    @classmethod
    def _of(cls, card: Card) -> Cluster:
        self = cls.__new__(cls)
        self.name, self.card, self._process, self._lifeline = card.name, card, None, None
        return self

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: hub is process {self.card.pid} on {self.card.host}>"

    @property
    def folder(self) -> Path:
        """Where its connection files are."""
        return cards.folder_of(self.name)

    @property
    def pid(self) -> int:
        """The hub's process."""
        return self.card.pid

    # -- start and end -----------------------------------------------------------------------------------------------

    def _start(self, arguments: list[str], daemon: bool) -> None:
        heard, told = os.pipe()
        passed = [told]
        arguments += ["--ready", str(told)]
        lifeline = -1
        output: Any = None
        if daemon:
            folder = cards.folder_of(self.name)
            cards.make_private(folder.parent.parent)
            cards.make_private(folder.parent)
            cards.make_private(folder)
            output = open(folder / "hub.log", "ab")  # noqa: SIM115  # closed below
            arguments.append("--logs")
        else:
            lifeline, self._lifeline = os.pipe()
            passed.append(lifeline)
            arguments += ["--lifeline", str(lifeline)]
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "zexec", "hub", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment(),
                pass_fds=passed,
                start_new_session=True,
            )
        finally:
            os.close(told)
            if lifeline >= 0:
                os.close(lifeline)
            if output is not None:
                output.close()
        try:
            why = _hear(heard, START)
        finally:
            os.close(heard)
        if why != "ready":
            if why is None:
                self._process.kill()
                why = f"the hub has not come up within {START} s"
            self._process.wait()
            self._let_go()
            raise ClusterError(why or f"the hub has ended with exit code {self._process.returncode}; see its log")

    def stop(self, timeout: float = STOP) -> None:
        """End it, with all engines. Open results of its clients fail. Once is enough.

        Args:
            timeout: seconds to wait for that.

        Raises:
            ClusterError: the hub does not end in that time.
        """
        if self.card.is_stale() is not True:
            try:
                order(self.card, "shutdown", "it was stopped", timeout)
            except ClusterError as e:
                # It may be ending already: its sockets go before its process does.
                try:
                    self._wait_for_end(ENDING)
                except ClusterError:
                    raise e from None
        self._wait_for_end(timeout)
        if self.folder.exists():
            # The hub was killed, and could not tidy up.
            cards.remove_all(self.name, False)

    def _wait_for_end(self, timeout: float) -> None:
        if self._process is not None:
            try:
                self._process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise ClusterError(f"the hub, process {self.pid}, does not end") from None
            self._let_go()
            return
        until = monotonic() + timeout
        while self.card.is_stale() is False:
            if monotonic() > until:
                raise ClusterError(f"the hub, process {self.pid}, does not end")
            sleep(LOOK)

    def _let_go(self) -> None:
        lifeline, self._lifeline = self._lifeline, None
        if lifeline is not None:
            os.close(lifeline)

    def __enter__(self) -> Cluster:
        return self

    def __exit__(self, *args: object) -> None:
        self.stop()

    # -- engines -----------------------------------------------------------------------------------------------------

    def scale(self, minimum: int, maximum: int | None = None) -> None:
        """Have so many engines; or, with two numbers, as many between them as there is work for. Does not wait for it.

        Engines that are too many leave when they have done what they run.
        """
        if maximum is not None and maximum < minimum:
            raise ValueError(f"maximum must be at least minimum: {maximum} < {minimum}")
        if minimum < 0:
            raise ValueError(f"a number of engines is 0 or more, not {minimum}")
        order(self.card, "scale", [minimum, maximum])

    def start_engines(self, n: int) -> None:
        """Start so many more."""
        if n < 0:
            raise ValueError(f"a number of engines is 0 or more, not {n}")
        with Call(self.card) as call:
            wanted = call.order("status")["provider"]["minimum"]
            call.order("scale", [wanted + n, None])

    def stop_engines(self, ids: int | Iterable[int]) -> None:
        """Have engines leave when they have done what they run; nobody takes their places."""
        order(self.card, "drain", [_ids(ids), False])

    def restart_engines(self, ids: int | Iterable[int] | None = None) -> None:
        """Have engines, by default all, leave when they have done what they run, and others take their places."""
        chosen = [engine["id"] for engine in self.engines()] if ids is None else _ids(ids)
        order(self.card, "drain", [chosen, True])

    def signal_engines(self, number: int, ids: int | Iterable[int] | None = None) -> None:
        """Send a signal to engines, by default to all; SIGINT raises KeyboardInterrupt in what each of them runs."""
        chosen = [engine["id"] for engine in self.engines()] if ids is None else _ids(ids)
        order(self.card, "signal", [chosen, int(number)])

    def engines(self) -> list[dict[str, Any]]:
        """Facts about each engine: id, pid, host, python, numpy, state, what it runs."""
        found: list[dict[str, Any]] = order(self.card, "engines")
        return found

    def wait_for_engines(self, n: int = 1, timeout: float | None = None) -> None:
        """Wait until at least so many engines are up.

        Raises:
            zexec.TimeoutError: they are not in time.
            ClusterError: the cluster is broken, or gone.
        """
        from zexec.errors import TimeoutError

        until = None if timeout is None else monotonic() + timeout
        with Call(self.card) as call:
            while True:
                status = call.order("status")
                up = sum(engine["state"] == "up" for engine in status["engines"])
                if up >= n:
                    return
                if status["broken"]:
                    raise ClusterError(f"cluster {self.name!r} is broken: {status['broken']}")
                if until is not None and monotonic() > until:
                    raise TimeoutError(f"{up} of {n} engines are up after {timeout:g} s")
                sleep(LOOK)

    def status(self) -> dict[str, Any]:
        """What there is to know: engines, clients, tasks."""
        found: dict[str, Any] = order(self.card, "status")
        return found


def _ids(ids: int | Iterable[int]) -> list[int]:
    return [ids] if isinstance(ids, int) else [int(id) for id in ids]


def environment() -> dict[str, str]:
    """For hubs and engines: they find the zexec that this process has, and use no cluster themselves."""
    found = {name: value for name, value in os.environ.items() if name != VARIABLE}
    root = str(Path(__file__).parents[2])
    if "-packages" not in root:
        found["PYTHONPATH"] = os.pathsep.join([root, *filter(None, [found.get("PYTHONPATH", "")])])
    return found


__all__ = ["Cluster"]


def _hear(fd: int, patience: float) -> str | None:
    """All that is said at the other end of a pipe until it is closed there; None if that takes more than ``patience`` seconds."""
    said, until = b"", monotonic() + patience
    while wait([fd], max(0.0, until - monotonic())):
        piece = os.read(fd, 1 << 16)
        if not piece:
            return said.decode()
        said += piece
    return None
