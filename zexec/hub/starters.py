"""How engines are started that are no children of the hub, from what stands on the command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zexec.errors import ClusterError
from zexec.launch.spawned import starter
from zexec.launch.systems import SYSTEMS, Needs

#: kinds of engines: children of the hub, those that come by themselves, and what ``zexec.launch`` knows
KINDS = ("local", "", "ssh", "mpi", *SYSTEMS)


@dataclass
class Starting:
    """What a kind of engines is told. What does not concern it is of no meaning."""

    hosts: list[str] = field(default_factory=list)  #: ssh: where
    python: str = ""  #: the interpreter there; by default the hub's own path
    setup: str = ":"  #: shell commands before an engine
    arguments: list[str] = field(default_factory=list)  #: more for ssh or mpiexec
    queue: str | None = None
    time: float | None = None  #: seconds that a job may take
    memory: int | None = None  #: MiB for each engine
    cores: int | None = None
    account: str | None = None
    image: str = "python:3.12"  #: kubernetes
    extra: list[str] = field(default_factory=list)  #: lines for the job as they are


def make(kind: str, how: Starting, card: Path, folder: Path, name: str, ring: Callable[[], None]) -> Any:
    """A starter.

    Raises:
        ClusterError: there is no such kind, or something that it needs is missing.
    """
    if kind not in KINDS:
        raise ClusterError(f"no kind of engines is called {kind!r}: there are {', '.join(k or repr(k) for k in KINDS)}")
    command = [how.python or sys.executable, "-m", "zexec", "engine"]
    options: dict[str, Any] = {"card": card, "command": command, "name": f"zexec-{name}"}
    if kind == "ssh":
        options.update(hosts=how.hosts, options=how.arguments, setup=how.setup)
    elif kind == "mpi":
        options.update(options=how.arguments)
    else:
        names = ("queue", "time", "memory", "cores", "account", "image", "extra", "setup")
        options.update(folder=folder, needs=Needs(**{each: getattr(how, each) for each in names}))
    try:
        return starter(kind, ring, **options)
    except ValueError as e:
        raise ClusterError(str(e)) from None
