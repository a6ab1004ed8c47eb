"""Engines behind a process here: ``ssh HOST`` on other machines, ``mpiexec`` on whatever hosts it has.

As long as the process runs, its engines may; when it has ended they have. Over ssh the connection file goes along, so that
the other machine needs no file of this one's; and its end is the engine's, however it comes: the shell there reads from the
connection, and ends the engine when nothing can come any more.
"""

from __future__ import annotations

import logging
import os
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

LOGGER = logging.getLogger("zexec")

#: Seconds that a process has to end when it was asked to.
PATIENCE = 5.0
#: What the end of a process's errors says is kept for messages: bytes.
TAIL = 2000


@dataclass
class Spawned:
    """A process, and the engines behind it."""

    process: subprocess.Popen[bytes]
    tokens: list[str]
    what: str
    #: what it says of itself goes here: a file, because engines that outlive it would keep a pipe open
    errors: Any
    unwanted: set[str] = field(default_factory=set)


#: On the other machine. What comes first on its standard input is the connection file; after that nothing does, until the
#: connection ends. Then the engine is ended, and the file goes.
_THERE = (
    "umask 077; d=$(mktemp -d) || exit 1; head -c {size} > $d/engine.json; exec 3<&0;"
    " {setup}; export ZEXEC_TOKEN={token}; {command} --connect $d/engine.json < /dev/null & p=$!;"
    " ( cat <&3; kill $p ) > /dev/null 2>&1 & wait $p; e=$?; kill $!; rm -rf $d; exit $e"
)


class SpawnedStarter:
    """Starts engines behind processes of this machine.

    Args:
        spawn: starts processes for so many engines; each with what it is called.
        name: what tokens begin with.
        ring: called, in some thread, when ``ended`` has something to tell.
    """

    def __init__(
        self, spawn: Callable[[str, int], list[Spawned]], name: str = "zexec", ring: Callable[[], None] = lambda: None
    ) -> None:
        self._spawn = spawn
        self._name = name
        self._ring = ring
        self._count = 0
        self._lock = threading.Lock()
        #: those that have not ended
        self.running: list[Spawned] = []
        self._ended: dict[str, str] = {}
        self._watchers: list[threading.Thread] = []

    def start(self, count: int) -> list[str]:
        """Start engines: a token for each.

        Raises:
            OSError: the program that would start them cannot be run.
        """
        self._count += 1
        started = self._spawn(f"{self._name}-{os.urandom(3).hex()}-{self._count}", count)
        for spawned in started:
            watcher = threading.Thread(target=self._watch, args=(spawned,), name="zexec-spawned", daemon=True)
            with self._lock:
                self.running.append(spawned)
                self._watchers = [each for each in self._watchers if each.is_alive()] + [watcher]
            watcher.start()
        return [token for spawned in started for token in spawned.tokens]

    def ended(self) -> dict[str, str]:
        """Engines that have ended since the last call, and why."""
        with self._lock:
            ended, self._ended = self._ended, {}
            return ended

    def stop(self, tokens: Iterable[str]) -> None:
        """These are not wanted any more: a process behind which none is wanted is ended."""
        gone = set(tokens)
        with self._lock:
            for spawned in self.running:
                spawned.unwanted |= gone.intersection(spawned.tokens)
                if len(spawned.unwanted) == len(spawned.tokens):
                    _end(spawned)

    def close(self) -> None:
        """End them all."""
        with self._lock:
            running = list(self.running)
            watchers = list(self._watchers)
            for spawned in running:
                _end(spawned)
        for spawned in running:
            try:
                spawned.process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                spawned.process.kill()
        for watcher in watchers:
            watcher.join()

    def _watch(self, spawned: Spawned) -> None:
        code = spawned.process.wait()
        _hang_up(spawned)
        with spawned.errors as errors:
            errors.seek(max(0, errors.seek(0, os.SEEK_END) - TAIL))
            said = errors.read().decode(errors="replace").strip()
        if said:
            LOGGER.info("%s: %s", spawned.what, said)
        how = f"exit code {code}" if code >= 0 else f"signal {-code}"
        last = said.rpartition("\n")[2]
        why = f"{spawned.what} ended with {how}" + (f": {last}" if last and code else "")
        with self._lock:
            self.running.remove(spawned)
            self._ended.update(dict.fromkeys(spawned.tokens, why))
        self._ring()


def _end(spawned: Spawned) -> None:
    if spawned.process.stdin is not None:
        _hang_up(spawned)  # the shell there sees to the rest
    elif spawned.process.poll() is None:
        spawned.process.terminate()


def _hang_up(spawned: Spawned) -> None:
    if spawned.process.stdin is not None:
        try:
            spawned.process.stdin.close()
        except BrokenPipeError:
            pass


def _popen(arguments: Sequence[str], stdin: int, tokens: list[str], what: str) -> Spawned:
    errors = tempfile.TemporaryFile()  # noqa: SIM115  # whoever waits for the process closes it
    try:
        process = subprocess.Popen(
            arguments,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,  # Ctrl-C in the terminal is not for them
        )
    except BaseException:
        errors.close()
        raise
    return Spawned(process, tokens, what, errors)


def over_ssh(
    hosts: Sequence[str], card: Path, command: Sequence[str], options: Sequence[str] = (), setup: str = ":"
) -> Callable[[str, int], list[Spawned]]:
    """Start engines by ssh, on each host in turn.

    Args:
        hosts: as ssh takes them: ``host``, ``user@host``, a name in its configuration. Named twice, it gets twice as many.
        card: the engines' connection file.
        command: what an engine is on those hosts: ``["python3", "-m", "zexec", "engine"]``.
        options: further arguments of ssh.
        setup: shell commands there before it.

    Raises:
        ValueError: no host, or one that ssh would take for an option.
    """
    if not hosts or any(host.startswith("-") or not host for host in hosts):
        raise ValueError(f"hosts for ssh are names such as 'user@host', not {list(hosts)}")
    turn = cycle(hosts)

    def spawn(prefix: str, count: int) -> list[Spawned]:
        content = card.read_bytes()
        started = []
        for index in range(count):
            host, token = next(turn), f"{prefix}.{index}"
            there = _THERE.format(size=len(content), setup=setup, token=token, command=shlex.join(command))
            call = ["ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", *options, host, there]
            started.append(_popen(call, subprocess.PIPE, [token], f"ssh {host}"))
            to_it = started[-1].process.stdin
            assert to_it is not None
            try:
                to_it.write(content)
                to_it.flush()
            except BrokenPipeError:
                pass  # it has ended already, and will say why
        return started

    return spawn


def by_mpi(
    card: Path, command: Sequence[str], options: Sequence[str] = (), program: str = "mpiexec"
) -> Callable[[str, int], list[Spawned]]:
    """Start engines by ``mpiexec``.

    Args:
        card: the engines' connection file, which their hosts must see under the same path.
        command: what an engine is.
        options: further arguments of mpiexec, for instance which hosts.
        program: what it is called.
    """

    def spawn(prefix: str, count: int) -> list[Spawned]:
        # Open MPI, MPICH and Intel's, Slurm's.
        rank = "${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:-$SLURM_PROCID}}}"
        engine = f"export ZEXEC_TOKEN={prefix}.{rank}; exec {shlex.join([*command, '--connect', str(card)])}"
        tokens = [f"{prefix}.{index}" for index in range(count)]
        return [_popen([program, "-n", str(count), *options, "sh", "-c", engine], subprocess.DEVNULL, tokens, program)]

    return spawn


def starter(kind: str, ring: Callable[[], None], **options: Any) -> Any:
    """A starter by name.

    Args:
        kind: ``ssh``, ``mpi``, or a batch system: ``slurm``, ``pbs``, ``lsf``, ``sge``, ``htcondor``, ``kubernetes``.
        ring: called, in some thread, when ``ended`` has something to tell.
        options: what that kind takes.

    Raises:
        ValueError: there is no such kind, or something that it needs is missing.
    """
    from zexec.launch.batch import BatchStarter
    from zexec.launch.systems import SYSTEMS

    name = options.pop("name", "zexec")
    if kind in SYSTEMS:
        return BatchStarter(SYSTEMS[kind], ring=ring, name=name, **options)
    if kind == "ssh":
        return SpawnedStarter(over_ssh(**options), name, ring)
    if kind == "mpi":
        return SpawnedStarter(by_mpi(**options), name, ring)
    raise ValueError(f"no kind of engines is called {kind!r}: there are local, ssh, mpi, {', '.join(SYSTEMS)}")
