"""Clients, as a hub in a process of its own knows them: what they submit, what they are to be told, what is theirs.

A client comes through the clients' door, greets, and gets a number. The ids of its tasks begin with that (``CLIENT_BITS``),
so whose a task is stands in its id, and no client can speak of another's tasks but by questions. When the connection of a
client ends its unfinished work is dropped, unless it has said that it will come back.
"""

from __future__ import annotations

import os
import socket
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import count
from operator import itemgetter
from typing import Any

from zexec.core import events as ev
from zexec.hub.hub import Hub
from zexec.hub.roster import unfit
from zexec.hub.store import needs_of
from zexec.messages import (
    CLIENT_BITS,
    Answer,
    Ask,
    Bye,
    Cancel,
    Ended,
    Function,
    Greet,
    Greeted,
    Heard,
    Kept,
    News,
    Outcome,
    Outcomes,
    Peer,
    Reached,
    Refused,
    Submit,
    Task,
    Withdraw,
)
from zexec.net.doors import Door
from zexec.wire.arena import doors
from zexec.wire.bundles import is_referred

#: Outcomes in one message, and bytes of theirs from which on the next begins.
BULK, BYTES = 5_000, 4 << 20
#: Results kept for clients that will come back, of all together; the oldest go first.
KEEP = 100_000
#: the number behind a task's id, within its client's
_OWN = (1 << CLIENT_BITS) - 1
#: where a task ended, of an outcome
_ENGINE = itemgetter(4)


class Visitor:
    """One client."""

    def __init__(self, number: int, address: bytes | None, name: str, peer: Peer) -> None:
        self.number = number
        self.name = name
        self.peer = peer
        #: where it is reached; None: nowhere, for it is away
        self.address: bytes | None = address
        self.functions: dict[bytes, Function] = {}
        #: ids of its tasks that have not ended
        self.open: set[int] = set()
        self.submitted = 0
        #: places and keys of what those who take the places are to run first
        self.remembered: set[tuple[int, int]] = set()
        #: it has left and will come back for what it has left here
        self.detached = False

    def facts(self) -> dict[str, Any]:
        """For people."""
        return {
            "client": self.number,
            "name": self.name,
            "host": self.peer.host,
            "pid": self.peer.pid,
            "open": len(self.open),
            "submitted": self.submitted,
            "detached": self.detached,
        }


class Later:
    """An answer that will come, from another thread. ``ask`` is given what takes it."""

    def __init__(self, ask: Callable[[Callable[[Any], None]], None]) -> None:
        self.ask = ask


def answer_of(number: int, found: Any) -> Answer:
    """An answer, or why there is none."""
    if isinstance(found, Exception):
        return Answer(number, None, f"{type(found).__name__}: {found}")
    return Answer(number, found)


class Desk:
    """See the module.

    Args:
        hub: whom they are clients of.
        door: where they come to.
        cluster: its name.
        durable: whether the hub will come back when it is killed.
        inbox: takes what clients want of the hub; by default the hub's own.
        order: answers what is not about a client's own tasks.
        note: takes lines for the log.
    """

    def __init__(
        self,
        hub: Hub,
        door: Door,
        cluster: str,
        durable: bool,
        order: Callable[[Ask], Any],
        note: Callable[[str], None],
        inbox: Any = None,
        number: Callable[[], int] | None = None,
    ) -> None:
        self._hub = hub
        self._inbox = hub.inbox if inbox is None else inbox
        self._new_number = number or count(1).__next__
        #: answers that were long in coming: to whom
        self._late: deque[tuple[int, Answer]] = deque()
        #: where the hub's shared memory is, if it has any
        self.home: Any = None
        #: how tasks ended that nobody here remembers: of the store
        self.recall: Callable[[int], Outcome | None] = lambda id: None
        #: makes tasks anew of what the store has: by pairs of an old id and a new one
        self.repeat: Callable[[list[tuple[int, int]]], list[Task]] = lambda pairs: []
        self._door = door
        self._cluster = cluster
        self._durable = durable
        self._order = order
        self._note = note
        self.visitors: dict[int, Visitor] = {}
        #: how many tasks have ended at each place
        self.completed: Counter[int] = Counter()
        self._by_address: dict[bytes, Visitor] = {}
        #: outcomes of tasks whose client is away
        self._kept: OrderedDict[int, Outcome] = OrderedDict()
        #: clients that wait for another's task, by its id
        self._awaited: dict[int, list[int]] = {}
        #: changes whenever places do
        self._places = (-1, -1, -1)
        self._handlers: dict[type, Callable[[Visitor, Any], None]] = {
            Submit: self._on_submit,
            Cancel: self._on_cancel,
            Withdraw: self._on_withdraw,
            Ended: self._on_ended,
            Ask: self._on_ask,
            Bye: self._on_bye,
            Reached: self._on_reached,
        }

    # -- from clients ------------------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Take in what clients have sent, and who of them has gone."""
        for address, message in self._door.receive():
            visitor = self._by_address.get(address)
            if type(message) is Greet:
                self._on_greet(address, message)
            elif visitor is None:
                if type(message) in self._handlers:
                    self._door.send(address, Refused("the hub does not know this client, or has given it up"))
            else:
                handler = self._handlers.get(type(message))
                if handler is None:
                    self._door.damaged += 1
                    continue
                handler(visitor, message)
        self._door.spoilt.clear()
        for address in self._door.gone():
            visitor = self._by_address.pop(address, None)
            if visitor is not None:
                self._left(visitor, "its connection has ended")

    def _on_greet(self, address: bytes, message: Greet) -> None:
        why = unfit(message.peer, "client")
        if why or address in self._by_address:
            self._note(why)
            self._door.send(address, Refused(why or "this client has greeted already"))
            return
        visitor = self.visitors.get(message.client)
        if visitor is not None and visitor.address is not None:
            self._door.send(address, Refused(f"client {message.client} is here already"))
            return
        if visitor is None:
            known = self._durable and message.client >= 0
            visitor = Visitor(message.client if known else self._new_number(), address, message.name, message.peer)
            self.visitors[visitor.number] = visitor
        visitor.address = address
        visitor.detached = False
        self._by_address[address] = visitor
        reached = self.home is not None and message.home is not None and doors.find(message.home)
        here = socket.gethostname(), os.getpid()
        self._door.send(address, Greeted(visitor.number, self._cluster, *here, self._durable, self.home, reached))

    def _on_reached(self, visitor: Visitor, message: Reached) -> None:
        if visitor.address is not None:
            self._door.share(visitor.address)

    def _on_submit(self, visitor: Visitor, message: Submit) -> None:
        functions = visitor.functions
        for function in message.functions:
            functions[function.digest] = function
        try:
            self._take_tasks(visitor, message)
        finally:
            # Those that hold shared memory come again with further tasks of theirs.
            for function in message.functions:
                if is_referred(function.payload):
                    functions.pop(function.digest, None)

    def _take_tasks(self, visitor: Visitor, message: Submit) -> None:
        functions = visitor.functions
        number, open_ = visitor.number, visitor.open
        tasks = message.tasks
        if message.needs is not None and "place" in message.needs:
            self._on_remember(visitor, message)
            return
        for task in tasks:
            known = functions.get(task.function.digest)
            if task.id >> CLIENT_BITS != number or task.id in open_ or known is None:
                self._throw_out(visitor, "it submitted what it cannot have")
                return
            task.function = known
            open_.add(task.id)
        visitor.submitted += len(tasks)
        if message.needs is None:
            self._inbox.extend(tasks)
            return
        try:
            needs, ended = needs_of(message.needs)
        except Exception as e:
            self._throw_out(visitor, f"it submitted what waits for nothing that can be: {type(e).__name__}: {e}")
            return
        for task in tasks:
            self._inbox.append(ev.SubmittedAfter(task, needs, ended))

    def _on_remember(self, visitor: Visitor, message: Submit) -> None:
        """What whoever takes a place is to run before all else, for as long as this client is here."""
        try:
            place, key = int(message.needs["place"]), int(message.needs["key"])
            again = bool(message.needs.get("again"))
            (task,) = message.tasks
            task.function = visitor.functions[task.function.digest]
        except Exception as e:
            self._throw_out(visitor, f"it wants something remembered that cannot be: {type(e).__name__}: {e}")
            return
        visitor.remembered.add((place, key))
        self._inbox.append(ev.Remembered(place, key << CLIENT_BITS | visitor.number, task, again))

    def _forget(self, visitor: Visitor, place: int, key: int) -> None:
        if (place, key) in visitor.remembered:
            visitor.remembered.discard((place, key))
            self._inbox.append(ev.Remembered(place, key << CLIENT_BITS | visitor.number, None))

    def _on_cancel(self, visitor: Visitor, message: Cancel) -> None:
        for id in message.ids:
            if id in visitor.open:
                self._inbox.append(ev.CancelWanted(id, message.running))

    def _on_withdraw(self, visitor: Visitor, message: Withdraw) -> None:
        for id in message.ids:
            if id in visitor.open:
                self._inbox.append(ev.CancelWithdrawn(id))

    def _on_ended(self, visitor: Visitor, message: Ended) -> None:
        if message.id >> CLIENT_BITS == visitor.number:
            self._inbox.append(ev.ParentEnded(message.id, (message.ok, message.engine, message.serial)))

    def _on_ask(self, visitor: Visitor, message: Ask) -> None:
        try:
            if message.what == "fetch":
                value: Any = self._fetch(visitor, [int(id) for id in message.args])
            elif message.what == "forget":
                place, key = message.args
                value = None
                self._forget(visitor, int(place), int(key))
            elif message.what == "functions":
                value = None
                visitor.functions.clear()
            elif message.what == "resubmit":
                value = self._resubmit(visitor, message.args)
            elif message.what == "resume":
                value = self._resume(visitor, [int(id) for id in message.args])
            else:
                value = self._order(message)
            if isinstance(value, Later):
                number, asked = visitor.number, message.number
                value.ask(lambda found: self._late.append((number, answer_of(asked, found))))
                return
            answer = Answer(message.number, value)
        except Exception as e:
            answer = Answer(message.number, None, f"{type(e).__name__}: {e}")
        if visitor.address is not None:
            self._door.send(visitor.address, answer)

    def _on_bye(self, visitor: Visitor, message: Bye) -> None:
        if visitor.address is not None:
            self._by_address.pop(visitor.address, None)
            self._door.forget(visitor.address)
        visitor.detached = message.detach
        self._left(visitor, "")

    def pending(self) -> bool:
        """Whether something has come that no descriptor will announce again."""
        return self._door.pending()

    @property
    def suspicious(self) -> bool:
        """Whether ``receive`` has to look again soon who has gone."""
        return self._door.suspicious

    # -- clients that go ---------------------------------------------------------------------------------------------

    def _throw_out(self, visitor: Visitor, why: str) -> None:
        self._note(f"client {visitor.name!r} (process {visitor.peer.pid} on {visitor.peer.host}) was thrown out: {why}")
        if visitor.address is not None:
            self._door.send(visitor.address, Refused(why))
            self._by_address.pop(visitor.address, None)
        self._left(visitor, why)

    def _left(self, visitor: Visitor, why: str) -> None:
        """Drop what it has left unfinished, unless it comes back."""
        visitor.address = None
        if visitor.detached:
            return
        for place, key in list(visitor.remembered):
            self._forget(visitor, place, key)
        if why and visitor.open:
            self._note(
                f"client {visitor.name!r} (process {visitor.peer.pid} on {visitor.peer.host}) has left {len(visitor.open)} tasks:"
                f" {why}"
            )
        for id in visitor.open:
            self._inbox.append(ev.CancelWanted(id, running=True))
        if not visitor.open:
            self.visitors.pop(visitor.number, None)

    # -- to clients --------------------------------------------------------------------------------------------------

    def pass_on(self, said: Sequence[tuple[int, Any]]) -> None:
        """Tell clients what tasks of theirs say while they run."""
        for id, news in said:
            visitor = self.visitors.get(id >> CLIENT_BITS)
            if visitor is not None and visitor.address is not None:
                self._door.send(visitor.address, Heard(id, news))

    def deliver(self, outcomes: Sequence[Outcome], refused: Sequence[int]) -> None:
        """Tell clients how their tasks have ended."""
        by_client: dict[int, list[Outcome]] = {}
        self.completed.update(map(_ENGINE, outcomes))
        for outcome in outcomes:
            by_client.setdefault(outcome[0] >> CLIENT_BITS, []).append(outcome)
        for number, some in by_client.items():
            visitor = self.visitors.get(number)
            if visitor is None:
                continue
            visitor.open.difference_update([outcome[0] for outcome in some])
            if self._awaited:
                self._pass_on(some)
            if visitor.address is not None:
                self._tell(visitor.address, some)
            elif visitor.detached:
                self._keep(some)
            elif not visitor.open:
                del self.visitors[number]
        for id in refused:
            visitor = self.visitors.get(id >> CLIENT_BITS)
            if visitor is not None and visitor.address is not None:
                self._door.send(visitor.address, Kept([id]))
        scheduler = self._hub.scheduler
        fleet = scheduler.fleet
        places = fleet.count, len(fleet.filled), len(scheduler.promised)
        if places != self._places:
            self._places = places
            for address in self._by_address:
                self._door.send(address, News(len(fleet.filled)))

    def _tell(self, address: bytes, outcomes: list[Outcome]) -> None:
        size, first = 0, 0
        for i, outcome in enumerate(outcomes):
            size += len(outcome[2]) if outcome[2] is not None else 0
            if size > BYTES or i - first >= BULK:
                if i > first:
                    self._door.send(address, Outcomes(outcomes[first:i]))
                    first = i
                size = len(outcome[2]) if outcome[2] is not None else 0
        self._door.send(address, Outcomes(outcomes[first:]))

    def _keep(self, outcomes: list[Outcome]) -> None:
        self._kept.update((outcome[0], outcome) for outcome in outcomes)
        while len(self._kept) > KEEP:
            self._kept.popitem(last=False)

    def _pass_on(self, outcomes: list[Outcome]) -> None:
        for outcome in outcomes:
            for number in self._awaited.pop(outcome[0], ()):
                visitor = self.visitors.get(number)
                if visitor is not None and visitor.address is not None:
                    self._door.send(visitor.address, Outcomes([outcome]))

    def _recall(self, id: int) -> Outcome | None:
        try:
            return self.recall(id)
        except KeyError:
            return None

    def _fetch(self, visitor: Visitor, ids: list[int]) -> dict[str, Any]:
        """Have the outcomes of tasks of others sent to a client, now or when there are any. Which ids are known."""
        known = []
        ready = []
        for id in ids:
            other = self.visitors.get(id >> CLIENT_BITS)
            found = self._kept.get(id) or self._recall(id)
            if found is not None:
                ready.append(found)
            elif other is not None and id in other.open:
                self._awaited.setdefault(id, []).append(visitor.number)
            else:
                continue
            known.append(id)
        if ready and visitor.address is not None:
            # Before the answer: the client is told to expect them by asking.
            self._tell(visitor.address, ready)
        return {"known": known}

    def answer_late(self) -> None:
        """Send the answers that have come meanwhile."""
        while self._late:
            number, answer = self._late.popleft()
            visitor = self.visitors.get(number)
            if visitor is not None and visitor.address is not None:
                self._door.send(visitor.address, answer)

    def restore(self, tasks: Iterable[Task]) -> None:
        """Clients of an earlier life of the hub have left tasks; they may come back for them."""
        for task in tasks:
            number = task.id >> CLIENT_BITS
            visitor = self.visitors.get(number)
            if visitor is None:
                peer = Peer(-1, "?", "", "", "", 0.0)
                visitor = self.visitors[number] = Visitor(number, None, "a client of an earlier life of the hub", peer)
                visitor.detached = True
            visitor.open.add(task.id)

    def _resume(self, visitor: Visitor, ids: list[int]) -> list[int]:
        """A client is back after the hub's end: which of its tasks are not known here. It hears of those that have ended."""
        unknown, ended = [], []
        for id in ids:
            if id in visitor.open:
                continue
            outcome = self._kept.get(id) or self._recall(id)
            if outcome is None:
                unknown.append(id)
            else:
                ended.append(outcome)
        if ended and visitor.address is not None:
            self._tell(visitor.address, ended)
        return unknown

    def say_goodbye(self, reason: str) -> None:
        """The cluster ends: nobody is told of anything any more."""
        for address, visitor in self._by_address.items():
            self._door.send(address, Bye(False, reason))
            visitor.address = None
        self._by_address.clear()

    def _resubmit(self, visitor: Visitor, pairs: Any) -> list[int]:
        """Run tasks once more, as other tasks of this client's."""
        chosen = [(int(old), int(new)) for old, new in pairs]
        for _, new in chosen:
            if new >> CLIENT_BITS != visitor.number or new in visitor.open:
                raise ValueError("the new ids are not this client's, or taken")
        tasks = self.repeat(chosen)
        visitor.open.update([task.id for task in tasks])
        visitor.submitted += len(tasks)
        self._inbox.extend(tasks)
        return [task.id for task in tasks]

    def close(self) -> None:
        """Let go of the door."""
        self._door.close()
