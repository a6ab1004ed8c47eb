"""Puts a store between clients, the hub and engines: what must not be lost goes on when it is durable.

::

    Desk ── tasks, events ─► stored ─► durable ─► the hub's inbox          (so nothing runs that is not stored)
    Hub ── outcomes ───────► stored ─► durable ─► Desk, and engines forget  (so nobody sees what is not stored)

Order is kept: what is told of a task waits behind it. With a store in memory everything is durable at once, and this
is a passage. It also knows which engines there were in an earlier life of the hub, and says so when all of them are back.
"""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from time import monotonic
from typing import Any

from zexec.core import events as ev
from zexec.hub.hub import Hub
from zexec.hub.store import Restored, Store, plain_needs
from zexec.messages import CLIENT_BITS, UNSTORED, Death, Outcome, Stored, Task
from zexec.net import cards
from zexec.net.channels import CONTROL, HubChannel

#: Numbers of clients are given out in blocks: so one that is given out is never given out again, whatever was written down.
BLOCK = 1000
#: Seconds that engines of an earlier life have to come back.
PATIENCE = 10.0
#: Seconds that somebody may wait for what was noted last.
FLUSH = 2.0
#: Seconds that a store may be unable to write, because the disk is full, until nobody waits for it any more.
GRACE = 5.0
#: What becomes of tasks that were with an engine which does not come back: they run again, or fail.
RUN, FAIL = "run", "fail"


class Keeper:
    """See the module.

    Args:
        store: what remembers.
        hub, channel: between which and clients it stands.
        lasting: what the store keeps outlives this process.
        lost: RUN or FAIL.
    """

    def __init__(self, store: Store, hub: Hub, channel: HubChannel, lasting: bool, lost: str = RUN) -> None:
        if lost not in (RUN, FAIL):
            raise ValueError(f"tasks that are lost are to {RUN!r} or to {FAIL!r}, not to {lost!r}")
        self.store = store
        self.lasting = lasting
        self._hub = hub
        self._channel = channel
        self._lost = lost
        #: on their way into the hub, and the ticket that each waits for
        self._coming: deque[tuple[int, Any]] = deque()
        #: on their way to clients, and results that engines may forget then
        self._going: deque[tuple[int, list[Outcome], list[tuple[int, list[int]]]]] = deque()
        #: since when the store has not been able to write; and whether that is too long, so that nothing is accepted
        self._since: float | None = None
        self._refusing = False
        #: ends of tasks that were not accepted
        self._refused: list[Outcome] = []
        #: results that clients were given although they are not stored, and the tickets that their engines wait for
        self._given: deque[tuple[int, list[tuple[int, list[int]]]]] = deque()
        #: engines of an earlier life that are not back, and their places
        self.awaited: dict[str, int] = {}
        #: the engines that there are, as last noted: their place, and their process as ``births`` has it
        self._noted: dict[str, list[Any]] = {}
        #: of engines whose process is, or was, a child of a hub on this machine: pid, when it was started, which boot
        self._births: dict[str, list[Any]] = {}
        self._current: Any = None
        self._waiting = False
        self._last_number = int(store.get("clients") or 0)
        self._reserved = self._last_number
        if lasting:
            hub.names_tasks = True

    # -- an earlier life ---------------------------------------------------------------------------------------------

    def reload(self) -> list[Restored]:
        """What there is from an earlier life goes to the scheduler; the tasks of clients that may come back."""
        restored = self.store.reload()
        self._noted = json.loads(self.store.get("engines") or "{}")
        self._births = {uuid: birth for uuid, (_, *birth) in self._noted.items() if birth}
        # Also if nothing was open: whoever is on the way back need not be replaced.
        self.awaited = {uuid: place for uuid, (place, *birth) in self._noted.items() if not _has_ended(*birth)}
        if restored or self.awaited:
            needs = {one.task.id: (one.needs, one.ended) for one in restored if one.needs is not None}
            self._hub.scheduler.handle(
                monotonic(),
                ev.Restored(
                    [one.task for one in restored],
                    needs,
                    PATIENCE if self.awaited else 0.0,
                    {} if self._lost == RUN else self._doom(restored),
                    frozenset(self.awaited.values()),
                ),
            )
        return restored

    def _doom(self, restored: Iterable[Restored]) -> dict[int, Death]:
        why = "it did not come back after the end of its hub"
        doomed = {}
        for one in restored:
            if one.engine_uuid is not None:
                place, pid, *_ = [*self._noted.get(one.engine_uuid, [-1]), -1]
                doomed[one.task.id] = Death(place, pid, "?" if pid < 0 else socket.gethostname(), None, why)
        return doomed

    def came(self, uuid: str) -> None:
        """An engine is up."""
        if self.awaited.pop(uuid, None) is not None and not self.awaited:
            self._hub.inbox.append(ev.ClaimsOver())

    def note_engines(self, current: dict[int, Any]) -> None:
        """Who fills each place, in a dict that is replaced when that changes: whom to wait for in another life."""
        waiting = self._hub.scheduler.claims_end is not None
        if not self.lasting or (current is self._current and waiting == self._waiting):
            return
        self._current, self._waiting = current, waiting
        births = {member.uuid: self._birth(member) for member in current.values()}
        engines = {member.uuid: [id, *births[member.uuid]] for id, member in current.items()}
        if waiting:
            engines = {**{uuid: self._noted[uuid] for uuid in self.awaited}, **engines}
        else:
            self._births = births
        self._births.update(births)
        if engines != self._noted:
            self._noted = engines
            self.store.set("engines", json.dumps(engines))

    def _birth(self, member: Any) -> list[Any]:
        """By what its process will be known to live, if it is on this machine; nothing if it is not known to be."""
        if member.child is None or member.uuid in self._births:
            return self._births.get(member.uuid, [])
        return [member.child.pid, cards.start_of(member.child.pid), cards.this_machine()]

    def next_client(self) -> int:
        """A number for a client."""
        self._last_number += 1
        if self._last_number >= self._reserved:
            self._reserved = self._last_number + BLOCK
            self.store.set("clients", str(self._reserved))
        return self._last_number

    # -- into the hub, as an inbox -------------------------------------------------------------------------------------

    def extend(self, tasks: Sequence[Task]) -> None:
        """Tasks of one client."""
        if self._refusing:
            self._refused += map(self._refusal, tasks)
            return
        ticket = self.store.accepted(tasks, str(tasks[0].id >> CLIENT_BITS))
        if not self._coming and ticket <= self.store.durable:
            self._hub.inbox.extend(tasks)
        else:
            self._coming.append((ticket, list(tasks)))

    def when_in(self, do: Callable[[], None]) -> None:
        """Do something once all that has come is in the hub, or will not be."""
        if self._coming:
            self._coming.append((0, do))
        else:
            do()

    def append(self, event: ev.Event) -> None:
        """Anything else that clients say."""
        ticket = 0
        if type(event) is ev.SubmittedAfter:
            if self._refusing:
                self._refused.append(self._refusal(event.task))
                return
            needs = plain_needs(event.needs, dict(event.ended))
            ticket = self.store.accepted([event.task], str(event.task.id >> CLIENT_BITS), needs)
        if not self._coming and ticket <= self.store.durable:
            self._hub.inbox.append(event)
        else:
            self._coming.append((ticket, event))

    # -- to clients ----------------------------------------------------------------------------------------------------

    def pass_on(self, outcomes: list[Outcome]) -> list[Outcome]:
        """Note how tasks ended; those ends that clients may be told of now, earlier ones first."""
        reported, self._hub.reported = self._hub.reported, []
        if outcomes or reported:
            self._going.append((self.store.settled(outcomes), outcomes, reported))
        found, self._refused = self._refused, []
        durable = self.store.durable
        while self._going and (self._refusing or self._going[0][0] <= durable):
            ticket, some, done = self._going.popleft()
            found += some
            self._given.append((ticket, done))
        while self._given and self._given[0][0] <= durable:
            for serial, seqs in self._given.popleft()[1]:
                self._channel.send(CONTROL, serial, Stored(seqs))
        return found

    # -- a store that cannot write --------------------------------------------------------------------------------------

    def tend(self, now: float) -> float | None:
        """Look whether the store can be written, and let nobody wait for it any longer if it cannot; when to look again."""
        if self.store.trouble is None:
            self._since, self._refusing = None, False
            return None
        if self._since is None:
            self._since = now
        if self._refusing:
            return None
        if now < self._since + GRACE:
            return self._since + GRACE
        self._refusing = True
        coming, self._coming = self._coming, deque()
        refused = []
        for _, what in coming:
            if type(what) is list:
                refused += [self._refusal(task) for task in what]
            elif type(what) is ev.SubmittedAfter:
                refused.append(self._refusal(what.task))
            elif callable(what):
                what()
            else:
                self._hub.inbox.append(what)
        # Should they be written after all, then with their end.
        self.store.settled(refused)
        self._refused += refused
        return None

    def _refusal(self, task: Task) -> Outcome:
        return task.id, UNSTORED, None, str(self.store.trouble), -1, 0.0, 0.0

    def flow(self) -> None:
        """Let tasks go on that are durable by now."""
        durable, inbox = self.store.durable, self._hub.inbox
        while self._coming and self._coming[0][0] <= durable:
            _, what = self._coming.popleft()
            if type(what) is list:
                inbox.extend(what)
            elif callable(what):
                what()
            else:
                inbox.append(what)

    def note_sent(self, names: Callable[[int], tuple[int, str]]) -> Callable[[Sequence[Task], int], None]:
        """What the hub calls with tasks that it has sent, given what looks up an engine's place and name."""

        def note(tasks: Sequence[Task], serial: int) -> None:
            self.store.sent(tasks, *names(serial))

        return note

    def repeat(self, pairs: list[tuple[int, int]]) -> list[Task]:
        """Tasks anew, of old ones and under new ids.

        Raises:
            KeyError: nothing is known of one of them.
        """
        self.store.flush(FLUSH)
        tasks = []
        for old, new in pairs:
            entry, function = self.store.entry(old)
            task = entry.task(function)
            task.id = new
            tasks.append(task)
        for old, new in pairs:
            self.store.resubmitted(old, new)
        return tasks

    def close(self) -> None:
        self.store.close()


def _has_ended(pid: int = -1, started: int = -1, machine: str = "") -> bool:
    """Whether an engine of an earlier life is known to have ended. Of one on another machine nobody knows."""
    return pid >= 0 and machine == cards.this_machine() and (started < 0 or cards.start_of(pid) != started)
