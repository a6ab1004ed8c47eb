"""Where a cluster is, and what opens it: its connection files. No sockets here.

Each cluster has a folder, 0700, in ``clusters`` of ``$ZEXEC_HOME`` (``~/.zexec`` by default), with three cards in it, 0600:

  client.json   for clients
  engine.json   for engines: copy it to where engines are started by hand; it does not let anybody submit
  hub.json      for the hub alone: its secret key, so that it comes back under the same one

A card is a bearer's: whoever can read it is let in. So one that others can read is refused, and they go with the cluster.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from zexec.errors import ClusterError

CLIENT, ENGINE, HUB = "client", "engine", "hub"
#: the cluster that this process is an engine of, and the engine's number and serial
joined: Card | None = None
place = -1, 0
#: A socket's path in the file system has at most so many bytes, its closing zero not counted.
LONGEST_PATH = 107


@dataclass
class Card:
    """What a connection file says."""

    name: str
    #: who may use it: CLIENT, ENGINE or HUB
    role: str
    #: endpoints as ZeroMQ has them: clients' or engines', by the card's role; for the hub: both
    endpoints: list[str]
    #: the hub's process, and when that was started, in clock ticks since the machine was
    pid: int
    started: int
    host: str
    #: which boot of which machine: sockets in the file system are good for nobody else
    machine: str
    #: keys as CURVE has them, Z85: the hub's public one and the pair of whoever holds the card. Empty: there is no TCP
    server_key: str = ""
    public_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    #: ends with the process that made it
    bound: bool = False

    def reachable(self) -> list[str]:
        """Endpoints that can be tried from here, best first.

        Raises:
            ClusterError: there is none.
        """
        here = self.machine == this_machine()
        local = [e for e in self.endpoints if e.startswith("ipc:") and here and os.path.exists(e[len("ipc://") :])]
        remote = [e for e in self.endpoints if e.startswith("tcp:")]
        if not local and not remote:
            why = "its sockets are gone" if here else f"it listens on {self.host} alone; start it with --listen"
            raise ClusterError(f"cluster {self.name!r} cannot be reached from {socket.gethostname()}: {why}")
        return local + remote

    def is_same_hub(self, other: Card | None) -> bool:
        """Whether another card is of the same hub."""
        return other is not None and (self.machine, self.pid, self.started) == (other.machine, other.pid, other.started)

    def is_stale(self) -> bool | None:
        """Whether its hub is gone. None: it is on another machine, so nobody knows."""
        if self.machine != this_machine():
            return None
        return start_of(self.pid) != self.started


def away() -> float:
    """Seconds that a hub may be away which is to come back: engines and clients wait so long for it."""
    try:
        return float(os.environ.get("ZEXEC_AWAY", "300"))
    except ValueError:
        raise ClusterError(f"ZEXEC_AWAY is to be a number of seconds, not {os.environ['ZEXEC_AWAY']!r}") from None


def this_machine() -> str:
    """This boot of this machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()


def start_of(pid: int) -> int:
    """When a process was started, -1 if there is none: with its pid that is unique."""
    try:
        stat_line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return -1
    rest = stat_line.rpartition(")")[2].split()
    return -1 if rest[0] in "ZX" else int(rest[19])


# -- folders -------------------------------------------------------------------------------------------------------------


def home() -> Path:
    """Where clusters keep their folders."""
    given = os.environ.get("ZEXEC_HOME")
    return Path(given) if given else Path.home() / ".zexec"


def folder_of(name: str) -> Path:
    """The folder of the cluster of that name.

    Raises:
        ClusterError: that is no name.
    """
    if not name or name.startswith(".") or "/" in name or "\0" in name:
        raise ClusterError(f"{name!r} cannot be a cluster's name: it names a folder")
    return home() / "clusters" / name


def names() -> list[str]:
    """Of all clusters that have left something here, dead or alive."""
    try:
        return sorted(entry.name for entry in os.scandir(home() / "clusters") if entry.is_dir())
    except FileNotFoundError:
        return []


def make_private(path: Path) -> None:
    """Make a folder that nobody else can look into, or see to it that one is.

    Raises:
        ClusterError: it is somebody else's.
    """
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.stat()
    if facts.st_uid != os.geteuid():
        raise ClusterError(f"{path} belongs to another user")
    if facts.st_mode & 0o077:
        path.chmod(0o700)


# -- files ---------------------------------------------------------------------------------------------------------------


def write(card: Card, path: Path) -> None:
    """Write a card, in one step, for nobody else to read."""
    text = json.dumps(asdict(card), indent=1)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    os.replace(draft, path)


def read(path: str | os.PathLike[str]) -> Card:
    """Read a card.

    Raises:
        ClusterError: there is none, it is damaged, or others can read it.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as e:
        raise ClusterError(f"no connection file {os.fspath(path)}: {e.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        facts = os.fstat(fd)
        if facts.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise ClusterError(
                f"{os.fspath(path)} can be used by other users (mode {facts.st_mode & 0o777:04o}), and whoever reads it is let"
                f" in: its keys are to be taken as known. Stop that cluster, or `chmod 600` the file if nobody has read it"
            )
        data = file.read(1 << 20)
    try:
        values = json.loads(data)
        card = Card(**{f.name: values[f.name] for f in fields(Card) if f.name in values})
        if not isinstance(card.endpoints, list) or not all(isinstance(e, str) for e in card.endpoints):
            raise ValueError("endpoints")
    except Exception as e:
        raise ClusterError(f"{os.fspath(path)} is no connection file: {type(e).__name__}: {e}") from None
    return card


def find(cluster: str | os.PathLike[str], role: str) -> Card:
    """The card of a cluster, by its name or the path of the file.

    Raises:
        ClusterError: there is no such cluster, or it is not running any more.
    """
    text = os.fspath(cluster)
    if os.sep in text or text.endswith(".json"):
        card = read(text)
        if card.role != role:
            raise ClusterError(f"{text} is for {card.role}s, not for {role}s")
    else:
        path = folder_of(text) / f"{role}.json"
        if not path.exists():
            others = ", ".join(name for name in names() if (folder_of(name) / f"{role}.json").exists())
            raise ClusterError(
                f"no cluster {text!r} is running; " + (f"there is {others}" if others else "there is none")
            )
        card = read(path)
    if card.is_stale():
        raise ClusterError(f"cluster {card.name!r} is not running any more: its hub, process {card.pid}, is gone")
    return card


def again(cluster: str | os.PathLike[str], role: str) -> Card | None:
    """As ``find``, for a hub that may come back. None: it was stopped. One that was killed leaves its card behind.

    Raises:
        ClusterError: it has not come back.
    """
    text = os.fspath(cluster)
    path = Path(text) if os.sep in text or text.endswith(".json") else folder_of(text) / f"{role}.json"
    return find(cluster, role) if path.exists() else None


def sweep(folder: Path) -> None:
    """Remove a cluster's cards and sockets; what it has stored stays."""
    for role in (CLIENT, ENGINE, HUB):
        (folder / f"{role}.json").unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        pass  # it has a store, or logs


def remove_sockets(card: Card) -> None:
    """Remove the folder of a cluster's sockets."""
    for endpoint in card.endpoints:
        if endpoint.startswith("ipc://"):
            where = Path(endpoint[len("ipc://") :]).parent
            if where.name.startswith("zexec-"):
                shutil.rmtree(where, ignore_errors=True)


def remove_all(name: str, everything: bool) -> None:
    """Remove what a cluster that is gone has left; with ``everything`` also what it has stored."""
    folder = folder_of(name)
    for role in (CLIENT, ENGINE, HUB):
        try:
            remove_sockets(read(folder / f"{role}.json"))
        except ClusterError:
            pass
    if everything:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        sweep(folder)


def plain(card: Card) -> dict[str, Any]:
    """What may be shown of a card: no keys."""
    return {key: value for key, value in asdict(card).items() if not key.endswith("_key")}
