"""Engines that come by themselves, as a hub knows them: who they are, how they are reached, whether their process runs.

It is the ``Launcher`` and the ``HubChannel`` of a hub in a process of its own. An engine comes through the door with the name
that it gave itself, registers, gets a place, and is known by its serial from then on. Whoever started it may have said by a
token which of its processes that is; a process on this machine is then watched by the system, every other by its connection.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from time import time
from typing import Any

from zexec.core import events as ev
from zexec.launch.children import Child
from zexec.launch.stacks import collect, is_stopped
from zexec.messages import Death, Leave, Peer, Reached, Refused, Register, ResultRecord, Welcome
from zexec.net.channels import CONTROL, TASKS, Ends, Received
from zexec.net.doors import Door
from zexec.wire.arena import doors

#: Seconds by which a clock may be ahead of ours, or behind, until that is worth a word. A message may have waited for long, so a
#: clock that seems to be behind need not be.
AHEAD, BEHIND = 2.0, 30.0


@dataclass
class Member:
    """An engine that has a place."""

    id: int
    serial: int
    name: bytes  #: what it calls itself on its connections
    peer: Peer
    token: str
    child: Child | None
    since: float
    #: why we ended it, if we did
    killed: str = ""
    #: what it is called for as long as it lives, and what it holds from an earlier life of the hub
    uuid: str = ""
    claims: Sequence[tuple[int, int]] = ()
    next_seq: int = 0
    stirred: Collection[int] = ()
    #: seconds by which its clock is ahead of ours, as far as can be told
    ahead: float = 0.0
    #: whether large data goes to it by reference
    shares: bool = False
    #: what its own shared memory is known by, if it can be had from here
    memory: bytes | None = None

    @property
    def pid(self) -> int:
        return self.peer.pid

    @property
    def exitcode(self) -> int | None:
        return None if self.child is None else self.child.poll()


class Roster:
    """See the module.

    Args:
        door: where engines come to.
        arrive: called with an event for the scheduler when one wants a place.
        children: looks up a process of ours by its token.
        note: called with a line for the log.
    """

    def __init__(
        self,
        door: Door,
        arrive: Callable[[ev.Event], None],
        children: Callable[[str], Child | None],
        note: Callable[[str], None],
    ) -> None:
        self._door = door
        self._arrive = arrive
        self._children = children
        self._note = note
        self.engines: dict[int, Member] = {}
        self.current: dict[int, Any] = {}
        self._serials: dict[bytes, int] = {}
        self._sentinels: dict[int, int] = {}
        #: those that wait for a place
        self._waiting: dict[bytes, Register] = {}
        #: engines without a way to them, for the host to tell the hub of
        self.cut: list[int] = []
        #: nothing that the hub need look into by itself: ``cut`` says all
        self.lost: list[int] = []
        #: why engines have ended of whom that is known, by token
        self._reasons: dict[str, str] = {}
        #: which life of the hub this is, and whether there may be another
        self.life = os.urandom(8).hex()
        self.durable = False
        #: where the hub's shared memory is, if it has any
        self.home: Any = None

    # -- who they are ------------------------------------------------------------------------------------------------

    def _on_register(self, address: bytes, message: Register) -> None:
        name, peer = address[1:], message.peer
        why = unfit(peer, "engine")
        if why:
            self._note(why)
            self._door.send(address, Refused(why))
            self._door.forget(address)
            return
        try:
            message = message._replace(
                claims=[(int(seq), int(id)) for seq, id in message.claims or ()],
                stirred={int(seq) for seq in message.stirred or ()},
            )
        except (TypeError, ValueError):
            self._door.damaged += 1
            return
        self._waiting[name] = message
        self._arrive(ev.Joined(name, message.place if message.place >= 0 else None))

    def admit(self, token: Any, id: int, serial: int) -> None:
        message = self._waiting.pop(token, None)
        gone = message is None
        if message is None:  # it has left while it waited
            message = Register(Peer(-1, "?", "", "", "", time()))
        child = self._children(message.token) if message.token else None
        member = Member(id, serial, token, message.peer, message.token, child, time())
        member.uuid, member.claims, member.next_seq = message.uuid, message.claims or (), message.next_seq
        member.stirred = message.stirred or ()
        member.ahead = message.peer.clock - time()
        if not -BEHIND < member.ahead < AHEAD:
            self._note(
                f"the clock of engine {id} on {member.peer.host} is {member.ahead:+.0f} s off this machine's: times in metadata"
                " that it gives are its own"
            )
        self.engines[serial] = member
        self._serials[token] = serial
        self.current = {**self.current, id: member}
        if child is not None:
            self._sentinels[child.sentinel] = serial
        # What it gives by reference can be had from here on, also when it has died, until all has been read that it has sent.
        if self.home is not None and message.home is not None:
            member.memory = doors.keep(message.home)
        welcome = Welcome(serial, id, self.life, self.durable, self.home, member.memory is not None)
        if gone or not self._door.send(TASKS + token, welcome):
            self.cut.append(serial)

    def job_ended(self, token: str, why: str) -> None:
        """Whoever started an engine knows that it has ended."""
        for member in self.engines.values():
            if member.token == token:
                self._reasons[token] = why
                self.cut.append(member.serial)

    def claims(self, serial: int) -> tuple[Sequence[tuple[int, int]], int, Collection[int]]:
        """What an engine holds from an earlier life of the hub, the number of the next task it gets, and what of it was to be
        interrupted. For the hub, once."""
        member = self.engines[serial]
        claims, member.claims = member.claims, ()
        return claims, member.next_seq, member.stirred

    # -- the launcher ------------------------------------------------------------------------------------------------

    def start(self, id: int, serial: int, ends: Ends) -> int:
        raise NotImplementedError("engines of a cluster come by themselves")

    def shares_memory(self, serial: int) -> bool:
        return self.engines[serial].shares

    def by_sentinel(self, fd: int) -> int | None:
        return self._sentinels.get(fd)

    def is_alive(self, serial: int) -> bool:
        member = self.engines.get(serial)
        return member is not None and member.child is not None and member.child.poll() is None

    def has_ended(self, serial: int) -> bool:
        return not self.is_alive(serial)

    def reap(self, serial: int) -> tuple[Death, int | None, list[ResultRecord]]:
        member = self.engines.pop(serial)
        if self.current.get(member.id) is member:
            self.current = {id: m for id, m in self.current.items() if m is not member}
        exitcode, started, peak = None, None, None
        results: list[ResultRecord] = []
        reason = member.killed or self._reasons.pop(member.token, "")
        if member.child is not None:
            del self._sentinels[member.child.sentinel]
            exitcode, started, results = member.child.reap()
            reason, peak = reason or member.child.cause, member.child.peak
        else:
            reason = reason or "the connection to it has ended"
        return Death(member.id, member.peer.pid, member.peer.host, exitcode, reason, peak), started, results

    def is_stopped(self, serial: int, before: int) -> bool:
        member = self.engines.get(serial)
        child = None if member is None else member.child
        return child is not None and child.ledger.started < before and is_stopped(child.pid)

    def stacks(self) -> dict[int, str]:
        children = {member.serial: member.child for member in self.engines.values()}
        found = collect({serial: (child.pid, child.ledger) for serial, child in children.items() if child is not None})
        far = {m.serial: f"it is on {m.peer.host}: its stacks are to be had there" for m in self.engines.values()}
        return {**far, **found}

    def kill(self, serial: int, reason: str, force: bool = False) -> None:
        member = self.engines.get(serial)
        if member is None:
            return
        member.killed = member.killed or reason
        if member.child is not None:
            member.child.kill(force)
            return
        # Its io thread ends it, whatever it is doing; and if it does not hear, nobody listens to it any more.
        if force or not self._door.send(CONTROL + member.name, Leave(reason)):
            self.cut.append(serial)

    def signal(self, serial: int, number: int) -> bool:
        member = self.engines.get(serial)
        if member is None or member.child is None:
            return False
        member.child.signal(number)
        return True

    # -- the channel -------------------------------------------------------------------------------------------------

    @property
    def damaged(self) -> int:
        """Messages that were none."""
        return self._door.damaged

    @damaged.setter
    def damaged(self, count: int) -> None:
        self._door.damaged = count

    def connect(self, serial: int) -> Ends:
        raise NotImplementedError("engines of a cluster come by themselves")

    def started(self, serial: int, refer: bool) -> None:
        """They start by themselves."""

    def send(self, letter: bytes, serial: int, message: Any) -> bool:
        member = self.engines.get(serial)
        return member is not None and self._door.send(letter + member.name, message)

    def receive(self, ready: Iterable[int]) -> list[Received]:
        received: list[Received] = []
        for address, message in self._door.receive():
            serial = self._serials.get(address[1:])
            if type(message) is Reached:
                if serial in self.engines:
                    self.engines[serial].shares = True
                    self._door.share(TASKS + address[1:])
            elif serial is not None:
                received.append((address[:1], serial, message))
            elif type(message) is Register and address[:1] == TASKS:
                self._on_register(address, message)
        for address in self._door.spoilt:
            # Something else may have been lost with it: nobody can count on this engine any more.
            serial = self._serials.get(address[1:])
            if serial is not None:
                self.kill(serial, "it had spoilt its connection")
                self.cut.append(serial)
        self._door.spoilt.clear()
        for address in self._door.gone():
            self._waiting.pop(address[1:], None)
            serial = self._serials.get(address[1:])
            if serial is not None:
                self.cut.append(serial)
        return received

    def pending(self) -> bool:
        return self._door.pending()

    @property
    def suspicious(self) -> bool:
        """Whether ``receive`` has to look again soon who has gone."""
        return self._door.suspicious

    def is_connected(self, serial: int) -> bool:
        member = self.engines.get(serial)
        return member is not None and any(self._door.is_connected(letter + member.name) for letter in (TASKS, CONTROL))

    def disconnect(self, serial: int) -> None:
        member = self.engines.get(serial)
        if member is not None:
            self._serials.pop(member.name, None)
            if member.memory is not None:
                doors.keep_no_more(member.memory)
                member.memory = None
            for letter in (TASKS, CONTROL):
                self._door.forget(letter + member.name)

    def close(self) -> None:
        self._door.close()


def unfit(peer: Peer, what: str) -> str:
    """Why a process cannot take part, or an empty text. Functions that go by value are made of one Python's instructions."""
    here = ".".join(map(str, sys.version_info[:2]))
    theirs = ".".join(peer.python.split(".")[:2])
    if theirs == here:
        return ""
    return (
        f"the {what} on {peer.host} (process {peer.pid}, {peer.executable}) runs Python {peer.python}, but this cluster is one of"
        f" Python {here} ({sys.executable}): functions could not go from one to the other"
    )
