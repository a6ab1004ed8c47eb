"""An engine's channels to a hub that may end and come back: they outlive it, and what it had given stays with the engine.

::

    main thread ── T ─┐                       the hub ends            it is back
                      ├─ Lasting ── lines ──────── x      ── new lines ── Register with claims, Hello, results again
    io thread ──── C ─┘

The hub says which task each number is (``Named``), and when a result is where it will survive it (``Stored``). Until then a
result is kept here. When the lines are lost the io thread looks for the hub, whatever the main thread is doing, and claims what
is held: tasks that came and have not ended, and results that are not stored.

What is claimed and what not is settled in one step, under ``_lock``. A task counts from when the main thread has taken its
message up. What was still in the old line then is never taken up: the hub hears nothing of it, and has it run elsewhere.
"""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterable
from time import monotonic, sleep
from typing import Any

from zexec.errors import ClusterError
from zexec.messages import (
    EngineInfo,
    Hello,
    Interrupt,
    Named,
    Refused,
    Register,
    Results,
    Returned,
    Started,
    Stored,
    Tasks,
    Welcome,
)
from zexec.net.cards import Card, away
from zexec.net.channels import CONTROL, TASKS
from zexec.net.lines import Line
from zexec.wire.bundles import Bundle

#: Seconds between two looks for a hub that is to come back.
LOOK = 0.1
#: Seconds that a hub which is there may take to answer; it may be killed just then, and another come.
PATIENCE = 2.0


class Lasting:
    """What the two channels share.

    Args:
        register: makes what an engine says when it comes.
        find: looks up where the hub is now; None: it was stopped, and will not come back.
        line, name, welcome: how it came at first.
    """

    def __init__(
        self,
        register: Callable[[], Register],
        find: Callable[[], Card | None],
        line: Line,
        card: Card,
        name: bytes,
        welcome: Welcome,
    ) -> None:
        self._register = register
        self._find = find
        self._lock = threading.Condition()
        #: changes with each pair of lines
        self.life = welcome.life
        self.info = EngineInfo(welcome.serial, welcome.id, -1, "")
        self.tasks = _TaskChannel(self, line)
        control = Line(card, CONTROL + name)
        control.lane = line.lane
        self.control = _ControlChannel(self, control)
        #: by number: which task it is, for all that came and is not stored
        self._names: dict[int, int] = {}
        #: numbers of those that have not ended here
        self._held: set[int] = set()
        #: results that are not stored
        self._kept: dict[int, Any] = {}
        self._next = 0
        #: numbers of those that were to be interrupted
        self._stirred: set[int] = set()
        #: the newest task with a time-out that has started
        self._running = -1
        #: the main thread has seen its line end; perhaps the other never stood, and then nobody would say so
        self.lost = False
        #: nobody is to look for the hub any more
        self.given_up = False

    # -- what passes through -----------------------------------------------------------------------------------------

    def outgoing(self, message: Any) -> None:
        """Under the lock: note what the engine says."""
        kind = type(message)
        if kind is Results:
            for record in message.records:
                seq = record[0]
                self._held.discard(seq)
                if seq in self._names:
                    self._kept[seq] = record
        elif kind is Returned:
            for seq in message.given:
                self._held.discard(seq)
                self._names.pop(seq, None)
        elif kind is Started:
            self._running = message.seq
        elif kind is Hello:
            self.info = message.info

    def incoming(self, message: Any) -> bool:
        """Under the lock: note what the hub says. False if the engine need not hear it."""
        kind = type(message)
        if kind is Named:
            self._names.update(enumerate(message.ids, message.base))
            return False
        if kind is Stored:
            for seq in message.seqs:
                self._kept.pop(seq, None)
                self._names.pop(seq, None)
                self._stirred.discard(seq)
            return False
        if kind is Interrupt:
            self._stirred.add(message.seq)
        if kind is Tasks:
            self._next = message.base + len(message.tasks)
            self._held.update(range(message.base, self._next))
        return True

    # -- a new life of the hub, in the io thread -----------------------------------------------------------------------

    def look_for_hub(self) -> None:
        """Find the hub again and say what is held.

        Raises:
            EOFError: it has not come back, or has no use for this engine.
        """
        until = monotonic() + away()
        while not self.given_up:
            try:
                card = self._find()
                if card is None:
                    break
                if self._rejoin(card):
                    return
            except (ClusterError, EOFError):
                pass
            if monotonic() > until:
                break
            sleep(LOOK)
        raise EOFError("the hub has not come back")

    def _rejoin(self, card: Card) -> bool:
        name = os.urandom(16)
        line = Line(card, TASKS + name)
        control = None
        try:
            with self._lock:
                # From here on nothing of the old line is taken up.
                self.tasks.abandon()
                claims = [[seq, self._names[seq]] for seq in sorted(self._held | set(self._kept)) if seq in self._names]
                stirred = [seq for seq, _ in claims if seq in self._stirred]
                message = self._register()._replace(
                    claims=claims, next_seq=self._next, place=self.info.id, stirred=stirred
                )
            line.send(message)
            welcome = _answer(line, PATIENCE)
            if welcome.life == self.life:
                # It was there all the time, and has given this engine up.
                self.given_up = True
                raise EOFError("the hub has given this engine up")
            line.meet(welcome, message.home)
            control = Line(card, CONTROL + name)
            control.lane = line.lane
        except BaseException:
            line.close(0)
            if control is not None:
                control.close(0)
            raise
        with self._lock:
            self.life = welcome.life
            self.info = self.info._replace(serial=welcome.serial, id=welcome.id)
            line.send(Hello(self.info, "T"))
            control.send(Hello(self.info, "C"))
            # On one line, so in this order: a task's start is of no interest once it has ended.
            if self._running in self._held:
                line.send(Started(self._running))
            if self._kept:
                line.send(Results(list(self._kept.values())))
            self.lost = False
            self.tasks.adopt(line)
            self.control.adopt(control)
            self._lock.notify_all()
        return True

    def wait_for_line(self, abandoned: Any) -> None:
        """In the main thread: until there is another line.

        Raises:
            EOFError: there will be none.
        """
        with self._lock:
            self._lock.wait_for(lambda: self.tasks.line is not abandoned or self.given_up)
            if self.tasks.line is abandoned:
                raise EOFError("the hub has not come back")

    def give_up(self) -> None:
        with self._lock:
            self.given_up = True
            self._lock.notify_all()

    @property
    def lock(self) -> threading.Condition:
        return self._lock


class _TaskChannel:
    """The main thread's."""

    def __init__(self, owner: Lasting, line: Line) -> None:
        self._owner = owner
        self.line: Line | None = line
        self._old: list[Line] = []
        self._ended = False

    def abandon(self) -> None:
        """Under the lock, in the io thread: the line is lost."""
        if self.line is not None:
            self._old.append(self.line)
            self.line = None

    def adopt(self, line: Line) -> None:
        self.line = line

    def send(self, message: Any) -> None:
        owner = self._owner
        with owner.lock:
            owner.outgoing(message)
            if self.line is not None:
                self.line.send(message)

    def receive(self) -> Any:
        owner = self._owner
        while True:
            self._bury()
            line = self.line
            if line is None:
                owner.wait_for_line(None)
                continue
            try:
                message = _next(line)
            except EOFError:
                with owner.lock:
                    owner.lost = owner.lost or self.line is line
                # The io thread looks for the hub.
                owner.wait_for_line(line)
                continue
            if type(message) is Tasks and _is_lost(message):
                # The hub has ended, and what it had from others cannot be had through it any more. To be run later, or elsewhere.
                with owner.lock:
                    owner.lost = owner.lost or self.line is line
                owner.wait_for_line(line)
                continue
            with owner.lock:
                if self.line is line and owner.incoming(message):
                    return message

    def receive_all(self) -> Iterable[Any]:
        raise NotImplementedError("the main thread waits for each message")

    def fileno(self) -> int:
        raise NotImplementedError("the main thread waits for each message")

    def pending(self) -> bool:
        return self.line is not None and self.line.pending()

    def _bury(self) -> None:
        with self._owner.lock:
            old, self._old = self._old, []
        for line in old:
            line.close(0)

    def close(self) -> None:
        self._owner.give_up()
        self._bury()
        if self.line is not None:
            self.line.close()


class _ControlChannel:
    """The io thread's."""

    def __init__(self, owner: Lasting, line: Line) -> None:
        self._owner = owner
        self._line = line
        # One descriptor for all lines there will be.
        self._epoll = select.epoll()
        self._epoll.register(line.fileno(), select.EPOLLIN)

    def adopt(self, line: Line) -> None:
        self._epoll.unregister(self._line.fileno())
        self._line.close(0)
        self._line = line
        self._epoll.register(line.fileno(), select.EPOLLIN)

    def send(self, message: Any) -> None:
        owner = self._owner
        with owner.lock:
            owner.outgoing(message)
            self._line.send(message)

    def receive(self) -> Any:
        raise NotImplementedError("the io thread never waits for one message")

    def receive_all(self) -> Iterable[Any]:
        owner = self._owner
        try:
            if owner.lost:
                raise EOFError
            for message in self._line.receive_all():
                with owner.lock:
                    wanted = owner.incoming(message)
                if wanted:
                    yield message
        except EOFError:
            owner.look_for_hub()

    def fileno(self) -> int:
        return self._epoll.fileno()

    def pending(self) -> bool:
        return self._owner.lost or self._line.pending()

    def close(self) -> None:
        self._line.close()
        self._epoll.close()


class LastingEnds:
    """An engine's ends where they are to last."""

    def __init__(self, lasting: Lasting) -> None:
        self._lasting = lasting

    def open(self, letter: bytes, refer: bool) -> Any:
        return self._lasting.tasks if letter == TASKS else self._lasting.control

    def arrived(self) -> None: ...

    def close(self) -> None: ...


def _is_lost(message: Tasks) -> bool:
    """Whether large data of it cannot be had."""
    payloads = [task[2] for task in message.tasks] + [function[1] for function in message.functions]
    return any(type(payload) is Bundle and payload.is_lost for payload in payloads)


def _next(line: Line) -> Any:
    """The next message on a line; waits for it.

    Raises:
        EOFError: the line is lost.
    """
    while True:
        for message in line.receive_all():
            return message
        line.wait(None)


def _answer(line: Line, patience: float) -> Welcome:
    while True:
        message: Any = line.receive_within(patience)
        if type(message) is Welcome:
            return message
        if type(message) is Refused:
            raise ClusterError(message.reason)
