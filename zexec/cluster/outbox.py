"""What a client has to say to the hub of a cluster, as messages: each function once, and with what goes along with it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zexec.cluster.baggage import Baggage
from zexec.cluster.unheard import Unheard
from zexec.core import events as ev
from zexec.hub.store import plain_needs
from zexec.messages import CLIENT_BITS, Ask, Cancel, Ended, Function, Greeted, Submit, Task, Withdraw
from zexec.net.lines import Line
from zexec.wire.bundles import is_referred

#: Functions that the hub remembers for us, and bytes of them; after that all of them are sent again.
REMEMBER, REMEMBER_BYTES = 10_000, 1 << 26


class Outbox:
    """See the module. Used under the link's lock.

    Args:
        baggage: what goes along with functions.
        open_: ids of the client's tasks that have not ended; whoever made it keeps it.
    """

    line: Line
    greeted: Greeted

    def __init__(self, baggage: Baggage | None, open_: set[int]) -> None:
        self._baggage = baggage
        self._open = open_
        #: what a hub that comes back is told again
        self.unheard = Unheard()
        #: what the hub has of us, by digest: with the baggage
        self._known: dict[bytes, Function] = {}
        self._known_size = 0

    def attach(self, line: Line, greeted: Greeted) -> None:
        """Speak to this hub, which has nothing of us: first of all of what engines that take a place are to run."""
        self.line, self.greeted = line, greeted
        self._known.clear()
        self._known_size = 0
        # Before all else, for what comes next may need it, and engines may have come meanwhile that have not run it.
        for place, key, rite in self.unheard.rites():
            self._send_rite(place, key, rite, again=True)

    def send_tasks(self, tasks: list[Task], needs: Any = None) -> None:
        """Tasks, and those functions that the hub does not have; what they wait for, if they do."""
        known = self._known
        if len(known) > REMEMBER or self._known_size > REMEMBER_BYTES:
            known.clear()
            self._known_size = 0
            self.line.send(Ask(0, "functions"))
        new: list[Function] = []
        #: those with data in shared memory, which others may want to use again: nobody keeps them longer than their tasks
        passing: dict[bytes, Function] = {}
        last = packed = None
        for task in tasks:
            function = task.function
            if function is not last:
                last = function
                packed = known.get(function.digest) or passing.get(function.digest)
                if packed is None:
                    packed = function if self._baggage is None else self._baggage.pack(function)
                    if self.line.lane is not None and is_referred(packed.payload):
                        passing[function.digest] = packed
                    else:
                        known[function.digest] = packed
                        self._known_size += len(packed.payload)
                    new.append(packed)
            assert packed is not None
            task.function = packed
        if self.greeted.durable and not (needs and "place" in needs):
            self.unheard.submitted(tasks, needs)
        if tasks:
            self.line.send(Submit(tasks, new, needs))

    def send_other(self, item: Any) -> None:
        """A question, or an event."""
        kind = type(item)
        line = self.line
        if kind is Ask:
            line.send(item)
        elif kind is ev.CancelWanted:
            self._cancel([item.task_id], item.running)
        elif kind is ev.CancelWithdrawn:
            self.unheard.withdrawn(item.task_id)
            line.send(Withdraw([item.task_id]))
        elif kind is ev.SubmittedAfter:
            needs = plain_needs(item.needs)
            needs["ended"] = [[id, *end] for id, end in item.ended.items()]
            self.send_tasks([item.task], needs)
        elif kind is ev.Remembered:
            self.unheard.remembered(item.place, item.key, item.task)
            if item.task is None:
                line.send(Ask(0, "forget", [item.place, item.key]))
            else:
                self._send_rite(item.place, item.key, item.task)
        elif kind is ev.ParentEnded:
            line.send(Ended(item.task_id, *item.end))
        elif kind is ev.Drain:
            line.send(Ask(0, "drain", [[item.id], item.restart]))
        elif kind is ev.CancelAll:
            if self._open:
                self._cancel(list(self._open), False)
        else:
            raise AssertionError(f"a client has nothing to say of {kind.__name__}")

    def _cancel(self, ids: list[int], running: bool) -> None:
        if self.greeted.durable:
            self.unheard.cancelled(ids, running, self._open)
        self.line.send(Cancel(ids, running))

    def _send_rite(self, place: int, key: int, rite: Task, again: bool = False) -> None:
        # Any id of ours: the hub takes it for no task that somebody waits for.
        rite.id = self.greeted.client << CLIENT_BITS
        self.send_tasks([rite], {"place": place, "key": key, "again": again})

    def resume(self, ids: Iterable[int]) -> None:
        """The hub that has come back does not know these tasks, nor any cancel."""
        for tasks, needs in self.unheard.unknown(ids):
            self.send_tasks(tasks, needs)
        for cancel in self.unheard.cancels():
            self.line.send(cancel)
