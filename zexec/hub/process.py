"""The hub's host in a process of its own: the same ``Hub``, with doors for engines and for clients.

::

    clients' door ─► Desk ─► inbox ─► Hub ─► core.Scheduler      engines' door ─► Roster ─► Hub
                      ▲                │                                              │
                      └── outcomes ────┘            Provider: starts what is missing ◄┘

One thread. It sleeps on the doors' descriptors, the engines' processes and the pipe by which its maker's end shows.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, time
from typing import Any

import zexec
from zexec.core import events as ev
from zexec.core.scheduler import Scheduler
from zexec.errors import ClusterError
from zexec.hub.desk import Desk
from zexec.hub.hub import Hub
from zexec.hub.keeper import Keeper
from zexec.hub.orders import Orders
from zexec.hub.provider import Provider, Starter
from zexec.hub.roster import Roster
from zexec.hub.starters import Starting, make
from zexec.hub.store import open_store
from zexec.launch.children import Children
from zexec.net import cards
from zexec.net.bell import Bell
from zexec.net.cards import CLIENT, ENGINE, HUB, Card
from zexec.net.doors import Door, Guard, Keys, make_context
from zexec.wire.arena import doors

LOGGER = logging.getLogger("zexec.hub")
#: Seconds between two looks at a suspect connection.
PROBE = 0.01
#: Seconds between two looks whether large data has arrived at a client.
ARRIVAL = 0.1
#: Seconds that engines may take to end when the cluster does.
LAST = 3.0


@dataclass
class Settings:
    """What a hub is started with."""

    name: str
    engines: int = 0
    #: with this, as many as there is work for, between ``engines`` and it
    maximum: int | None = None
    #: how engines are started: "local", "" for not at all, or what ``starters`` knows
    kind: str = "local"
    starting: Starting = field(default_factory=Starting)
    #: where to listen beyond this machine's file system: HOST or HOST:PORT
    listen: list[str] = field(default_factory=list)
    #: no CURVE on TCP; on the loopback only
    plain: bool = False
    #: no sockets in the file system
    only_tcp: bool = False
    #: a pipe whose other end closes when this hub is to end
    lifeline: int | None = None
    #: engines' output goes to files
    logs: bool = False
    #: what remembers tasks: "memory", or "sqlite", which outlives the hub
    store: str = "memory"
    #: what becomes of tasks whose engine does not come back after the hub's end: "run" them again, or "fail"
    lost: str = "run"
    #: the name under which others reach this host; by default what it is called, or the address that was given to listen at
    host: str = ""


class HubProcess:
    """See the module.

    Raises:
        ClusterError: it cannot be started so; the message says why.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = cards.folder_of(settings.name)
        self._began = time()
        self._signalled = 0
        #: why it is to end, once it is
        self.wanted_end = ""
        self._deadline: float | None = None
        self._reason = "the cluster was stopped"
        cards.make_private(self.folder.parent.parent)
        cards.make_private(self.folder.parent)
        cards.make_private(self.folder)
        self._old = self._refuse_second()
        if settings.kind not in ("local", "") and not settings.listen:
            settings.listen = ["0.0.0.0"]
        endpoints = listening(settings)
        self._sockets = "" if settings.only_tcp else tempfile.mkdtemp(prefix="zexec-", dir=_short_folder())
        keys, self._public = self._keys()
        self._bell = bell = Bell()
        self._context = make_context()
        self._guard = None
        if endpoints and keys is not None:
            self._guard = Guard(self._context, keys)
            bell.watch(self._guard.fileno())
        try:
            to_engines = self._door(ENGINE, endpoints, keys)
            to_clients = self._door(CLIENT, endpoints, keys)
        except BaseException:
            shutil.rmtree(self._sockets, ignore_errors=True)
            raise
        scheduler = Scheduler(0, elastic=True)
        self.starter: Any = None
        self.roster = Roster(to_engines, self._tell, self._child, LOGGER.warning)
        self.hub = Hub(scheduler, self.roster, self.roster, self._watch, bell.unwatch)
        self.provider = Provider(scheduler, self._tell, None, LOGGER.warning)
        self.provider.lost = self.roster.job_ended
        self.orders = Orders(self)
        durable = settings.store == "sqlite"
        self.keeper = Keeper(
            open_store(settings.store, self.folder / "tasks.db"), self.hub, self.roster, durable, settings.lost
        )
        self.desk = Desk(
            self.hub,
            to_clients,
            settings.name,
            durable,
            self.orders.answer,
            LOGGER.warning,
            self.keeper,
            self.keeper.next_client,
        )
        self.roster.home = self.desk.home = doors.settle()
        self._connect_store(durable)
        self._write_cards(to_clients.endpoints, to_engines.endpoints)
        if settings.kind:
            try:
                self.provider._starter = self.starter = self._make_starter()
            except BaseException:
                self._close()
                raise
        self.provider.scale(settings.engines, settings.maximum)
        if settings.lifeline is not None:
            bell.watch(settings.lifeline)

    # -- the start ---------------------------------------------------------------------------------------------------

    def _connect_store(self, durable: bool) -> None:
        keeper, roster = self.keeper, self.roster
        keeper.store.on_durable = self._bell.ring
        self.desk.recall = keeper.store.outcome
        self.desk.repeat = keeper.repeat
        roster.durable = durable

        def names(serial: int) -> tuple[int, str]:
            member = roster.engines.get(serial)
            return (-1, "") if member is None else (member.id, member.uuid)

        def claims(serial: int) -> Any:
            keeper.came(roster.engines[serial].uuid)
            return roster.claims(serial)

        self.hub.on_sent = keeper.note_sent(names)
        self.hub.claims = claims
        restored = keeper.reload()
        if restored or keeper.awaited:
            LOGGER.info("%d tasks of an earlier life; %d engines are awaited", len(restored), len(keeper.awaited))
            self.desk.restore(one.task for one in restored)

    def _door(self, role: str, endpoints: list[str], keys: Keys | None) -> Door:
        """One of the two doors; on the ports that it had in an earlier life, if those are to be had."""
        ipc = self._ipc(f"{role}s")
        old = [e for e in self._old[role].endpoints if e.startswith("tcp:")] if role in self._old else []
        if len(old) == len(endpoints):
            again = [e.rpartition(":")[0] + ":" + o.rpartition(":")[2] for e, o in zip(endpoints, old, strict=True)]
            try:
                return Door(self._context, f"{role}s", ipc + again, keys, self._bell.watch)
            except ClusterError as e:
                LOGGER.warning("%s; engines and clients elsewhere have to be told where it is now", e)
        return Door(self._context, f"{role}s", ipc + endpoints, keys, self._bell.watch)

    def _refuse_second(self) -> dict[str, Card]:
        """See to it that there is no other hub of that name. The cards of one that was killed, if it will be gone on with."""
        path = self.folder / f"{HUB}.json"
        if not path.exists():
            return {}
        card = cards.read(path)
        if card.is_stale() is False:
            raise ClusterError(f"cluster {card.name!r} is running already: its hub is process {card.pid}")
        if card.is_stale() is None:
            raise ClusterError(
                f"cluster {card.name!r} was started on {card.host}, and may be running there; if not: zexec clean {card.name}"
            )
        cards.remove_sockets(card)
        if self.settings.store != "sqlite":
            return {}
        return {role: cards.read(self.folder / f"{role}.json") for role in (HUB, CLIENT, ENGINE)}

    def _ipc(self, what: str) -> list[str]:
        return [f"ipc://{self._sockets}/{what}"] if self._sockets else []

    def _keys(self) -> tuple[Keys | None, dict[str, tuple[str, str]]]:
        """The hub's keys, and the pairs of clients and engines."""
        if self.settings.plain:
            return None, {}
        if self._old and self._old[HUB].secret_key:
            # Whoever has a card of its earlier life is let in again.
            pairs = {role: (card.public_key, card.secret_key) for role, card in self._old.items()}
        else:
            pairs = {role: Keys.pair() for role in (HUB, CLIENT, ENGINE)}
        public, secret = pairs[HUB]
        return Keys(public, secret, pairs[CLIENT][0], pairs[ENGINE][0]), pairs

    def _write_cards(self, clients: list[str], engines: list[str]) -> None:
        host = self.settings.host
        for role, endpoints in ((HUB, clients + engines), (CLIENT, clients), (ENGINE, engines)):
            public, secret = self._public.get(role, ("", ""))
            card = Card(
                name=self.settings.name,
                role=role,
                endpoints=[advertised(e, host) for e in endpoints],
                pid=os.getpid(),
                started=cards.start_of(os.getpid()),
                host=socket.gethostname(),
                machine=cards.this_machine(),
                server_key=self._public[HUB][0] if self._public else "",
                public_key=public,
                secret_key=secret,
                bound=self.settings.lifeline is not None,
            )
            cards.write(card, self.folder / f"{role}.json")
            self._card = card

    def _make_starter(self) -> Starter:
        if self.settings.kind != "local":
            card = self.folder / f"{ENGINE}.json"
            settings = self.settings
            made: Starter = make(settings.kind, settings.starting, card, self.folder, settings.name, self._bell.ring)
            return made
        path = str(self.folder / f"{ENGINE}.json")
        survive = self.settings.store == "sqlite"
        return Children(path, self._watch, self._bell.unwatch, survive, self._log if self.settings.logs else None)

    def _log(self) -> Any:
        return open(self.folder / "engines.log", "ab")

    # -- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until told to stop, and everything has ended."""
        hub, bell, roster, desk, keeper = self.hub, self._bell, self.roster, self.desk, self.keeper
        ready: set[int] = set()
        try:
            while True:
                if self._guard is not None:
                    self._guard.answer()
                on_the_way = doors.collect()
                hub.receive(ready)
                for serial in roster.cut:
                    hub.connection_ended(serial)
                roster.cut.clear()
                desk.receive()
                if self.settings.lifeline in ready:
                    self.wanted_end = "the process that started it has ended"
                    bell.unwatch(self.settings.lifeline)
                if self._signalled:
                    self.wanted_end = f"it was sent {signal.Signals(self._signalled).name}"
                if self.wanted_end:
                    self._stop(self.wanted_end)
                now = monotonic()
                due = self.provider.tend(now)
                look = keeper.tend(now)
                if look is not None and (due is None or look < due):
                    due = look
                keeper.flow()
                hub.turn()
                outcomes, hub.outcomes = hub.outcomes, []
                refused, hub.refused = hub.refused, []
                said, hub.said = hub.said, []
                if said:
                    desk.pass_on(said)
                outcomes = keeper.pass_on(outcomes)
                desk.deliver(outcomes, refused)
                desk.answer_late()
                keeper.note_engines(roster.current)
                del outcomes, refused, said
                if hub.finished or (self._deadline is not None and now > self._deadline):
                    return
                trim_due = doors.trim()
                if on_the_way or doors.collect():
                    trim_due = now + ARRIVAL if trim_due is None else min(trim_due, now + ARRIVAL)
                if trim_due is not None and (due is None or trim_due < due):
                    due = trim_due
                ready = self._sleep(now, due)
        finally:
            self._close()

    def _sleep(self, now: float, due: float | None) -> set[int]:
        """Until something is to be done; the descriptors that are ready."""
        if self.hub.inbox or self.roster.cut or self.roster.pending() or self.desk.pending():
            return self._bell.wait(0)
        for at in (self.hub.next_deadline(), self._deadline):
            if at is not None and (due is None or at < due):
                due = at
        if self.roster.suspicious or self.desk.suspicious:
            due = now + PROBE if due is None else min(due, now + PROBE)
        return self._bell.wait(None if due is None else max(0.0, due - monotonic()))

    def _stop(self, reason: str) -> None:
        """Have everything ended."""
        if self._deadline is not None:
            return
        self._reason = reason
        LOGGER.info("ending: %s", reason)
        self._deadline = monotonic() + LAST
        self.desk.say_goodbye(reason)
        self._tell(ev.Terminated())

    def on_signal(self, number: int, frame: Any) -> None:
        """SIGTERM or SIGINT: the loop sees to it between two events."""
        self._signalled = number
        self._bell.ring()

    def _close(self) -> None:
        self._remove_cards()
        self.desk.say_goodbye(self._reason)
        self.desk.close()
        self.hub.close()
        if self.starter is not None:
            self.starter.close()
        self.keeper.close()
        if self._guard is not None:
            self._guard.close()
        self._context.term()
        self._bell.close()
        if self._sockets:
            cards.remove_sockets(self._card)
            try:
                os.rmdir(self._sockets)
            except OSError:
                pass

    def _remove_cards(self) -> None:
        cards.sweep(self.folder)

    # -- what the parts call -----------------------------------------------------------------------------------------

    def _tell(self, event: ev.Event) -> None:
        self.hub.inbox.append(event)

    def _child(self, token: str) -> Any:
        self.provider.came(token)
        arrived = getattr(self.starter, "arrived", None)
        return None if arrived is None else arrived(token)

    def _watch(self, fd: int) -> None:
        self._bell.watch(fd)

    def ring(self) -> None:
        """Have the loop look again, from any thread."""
        self._bell.ring()

    @property
    def began(self) -> float:
        """When it was started, in seconds since 1970."""
        return self._began


def listening(settings: Settings) -> list[str]:
    """The TCP endpoints that the settings ask for.

    Raises:
        ClusterError: one of them may not be had without keys.
    """
    endpoints = []
    for where in settings.listen:
        host, _, port = where.rpartition(":") if where.count(":") == 1 or "]" in where else (where, "", "")
        host = host or where
        if port and not port.isdecimal():
            host, port = where, ""
        if settings.plain and not is_loopback(host):
            raise ClusterError(
                f"without keys (--plain) a hub listens on the loopback only, not at {host}: whoever can reach it there could"
                " run programs as you"
            )
        endpoints.append(f"tcp://{'*' if host in ('0.0.0.0', '::') else host}:{port or '*'}")
    return endpoints


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    from ipaddress import ip_address

    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def advertised(endpoint: str, host: str) -> str:
    """An endpoint as others are told of it: bound to every address, it is reached by the machine's name."""
    if not endpoint.startswith("tcp://"):
        return endpoint
    where, _, port = endpoint[len("tcp://") :].rpartition(":")
    if where in ("0.0.0.0", "[::]", "*"):
        where = host or socket.gethostname()
    elif host:
        where = host
    return f"tcp://{where}:{port}"


def _short_folder() -> str | None:
    """A folder for sockets whose path leaves room for theirs."""
    folder = tempfile.gettempdir()
    return folder if len(os.fsencode(folder)) + len("/zexec-12345678/engines") <= cards.LONGEST_PATH else "/tmp"


def serve(settings: Settings, ready: Callable[[str], None]) -> None:
    """Be a hub.

    Args:
        settings: what kind.
        ready: called once with an empty text when clients can come, or with the reason why not.
    """
    try:
        process = HubProcess(settings)
    except Exception as e:
        ready(str(e) if isinstance(e, ClusterError) else f"{type(e).__name__}: {e}")
        raise
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, process.on_signal)
    LOGGER.info("zexec %s, Python %s: cluster %r", zexec.__version__, sys.version.split()[0], settings.name)
    ready("")
    process.run()


__all__ = ["HubProcess", "Path", "Settings", "serve"]
