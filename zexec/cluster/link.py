"""A client's link to a hub in another process, over a line. The same protocol as ``HubThread`` has for a hub in this one.

Who may do what
  ``lock``     guards the line: sends, and receives by the io thread.
  the inbox    anybody appends, without the lock.

A submitting thread sends what is in the inbox itself, if the lock is free and nothing was sent just now: a hop into the io thread
would cost a short task as much as its way to the hub. In a burst the io thread collects many tasks for one message, and rings are
spared while one is unheard: ``_rung`` is set before the ring and taken back by the io thread before it looks into the inbox.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic, sleep
from typing import Any

from zexec.cluster.asking import PATIENCE, Asking
from zexec.cluster.baggage import Baggage
from zexec.cluster.outbox import Outbox
from zexec.core import events as ev
from zexec.errors import ClusterError, ProtocolError
from zexec.messages import (
    CLIENT_BITS,
    Answer,
    Ask,
    Bye,
    Greet,
    Greeted,
    Heard,
    Kept,
    News,
    Outcome,
    Outcomes,
    Refused,
    Task,
)
from zexec.net.bell import Bell
from zexec.net.cards import Card, away
from zexec.net.lines import Line
from zexec.net.peers import myself
from zexec.wire.arena import doors
from zexec.wire.bundles import Bundle

LOGGER = logging.getLogger("zexec")
#: What results say that a client has left behind.
DETACHED = "this client has left it behind: its result is found by its id, from another client"
#: Seconds after a send during which more is left to the io thread, to go in bulk.
PAUSE = 200e-6
#: Submits follow each other within this many seconds in a burst; after so many of them in a row the io thread waits for so long
#: before it sends, to gather more. Without it the two threads hand the interpreter back and forth for each task.
BURST, FEW, GATHER = 2e-3, 3, 5e-4
#: Tasks in one message, and bytes of theirs from which on the next begins.
BULK, BYTES = 2_000, 4 << 20
#: Seconds between two looks for a hub that is to come back, and that one which is there may take to answer.
LOOK, SOON = 0.1, 2.0
#: What a client's end begins with.
ENDS = frozenset({ev.Closed, ev.Terminated, ev.Broke})
#: Numbers of the question which tasks a hub knows: one that has come back; one whose results cannot be had as they came.
RESUME, AGAIN = -1, -2


class RemoteLink(Asking):
    """See the module.

    Args:
        card: the cluster's connection file.
        name: what this client is to be called in lists.
        deliver: called in the io thread with outcomes, and with ids of tasks whose cancelling was refused.
        ended: called in the io thread, last; with the reason if the hub is lost.
        hear: called in the io thread with what tasks that run say: their ids, and what.
        baggage: what goes along with functions.
        client: the number of a client that has detached, to go on as that.
        find: looks the connection file up again, when the hub has ended and may come back.

    Raises:
        ClusterError: the hub does not answer, or does not let us in.
    """

    def __init__(
        self,
        card: Card,
        name: str,
        deliver: Callable[[list[Outcome], list[int]], None],
        ended: Callable[[str | None], None],
        hear: Callable[[list[tuple[int, Any]]], None],
        baggage: Baggage | None = None,
        client: int = -1,
        find: Callable[[], Card] | None = None,
    ) -> None:
        self._card = card
        self._name = name
        self._find = find or (lambda: card)
        #: the hub is away, and may come back: nothing is sent
        self._away = False
        self._deliver = deliver
        self._ended = ended
        self._hear = hear
        self._lock = threading.Lock()
        self._inbox: deque[Task | ev.Event | Ask] = deque()
        self._rung = False
        self._sent_at = 0.0
        #: outcomes whose shared memory could not be had: the hub is asked for them once more
        self._lost: dict[int, Outcome] = {}
        self._questions: dict[int, tuple[threading.Event, list[Answer]]] = {}
        self._number = 0
        #: ids of tasks that have not ended
        self._open: set[int] = set()
        self._out = Outbox(baggage, self._open)
        self._closing = self._detach = False
        self._crash: str | None = None
        #: set once the thread has ended and everything is released
        self.over = threading.Event()
        #: what this process shares memory by, if it can
        self._home = doors.home()
        self._line = Line(card, b"c" + os.urandom(16))
        self._bell = Bell()
        try:
            self.greeted = self._greet(self._line, client, PATIENCE)
            self._out.attach(self._line, self.greeted)
        except BaseException:
            self._line.close(0)
            self._bell.close()
            raise
        #: places that there are or will be, as last heard; None: ask
        self._places: list[int] | None = None
        self._bell.watch(self._line.fileno())
        self._thread = threading.Thread(target=self._run, name="zexec-io", daemon=True)

    def _greet(self, line: Line, client: int, patience: float) -> Greeted:
        home = doors.address_of(self._home)
        line.send(Greet(myself(), self._name, client, home))
        try:
            while True:
                answer = line.receive_within(patience)
                if type(answer) is Greeted:
                    if not line.meet(answer, home):
                        LOGGER.debug("large data goes to and from cluster %r by frames", answer.cluster)
                    return answer
                if type(answer) is Refused:
                    raise ClusterError(answer.reason)
        except EOFError as e:
            raise ClusterError(str(e)) from None

    @property
    def first_id(self) -> int:
        """The smallest id of a task of ours."""
        return self.greeted.client << CLIENT_BITS

    def describe(self) -> str:
        """The hub, for messages."""
        return f"the hub of cluster {self.greeted.cluster!r} (process {self.greeted.pid} on {self.greeted.host})"

    # -- the link: what a client calls -------------------------------------------------------------------------------

    def start(self, begin: bool) -> None:
        self._thread.start()

    def submit(self, task: Task) -> None:
        self._open.add(task.id)
        self._inbox.append(task)
        self._poke()

    def submit_bulk(self, tasks: Iterable[Task]) -> None:
        tasks = list(tasks)
        self._open.update([task.id for task in tasks])
        self._inbox.extend(tasks)
        self._poke()

    def tell(self, event: ev.Event) -> None:
        if type(event) is ev.SubmittedAfter:
            self._open.add(event.task.id)
        self._inbox.append(event)
        self._ring()

    def kill_engines(self, force: bool) -> None:
        """The engines are the cluster's: what ends is what of ours they run."""
        self._inbox.append(ev.CancelAll())
        self._ring()

    def remember(self, place: int, key: int, task: Task | None) -> None:
        self._inbox.append(ev.Remembered(place, key, task))
        self._ring()

    def detach(self) -> None:
        """Leave with tasks open: they go on, and their results are kept."""
        self._detach = True
        self.tell(ev.Closed())

    @property
    def thread(self) -> threading.Thread:
        return self._thread

    def in_thread(self) -> bool:
        """Whether the caller is the io thread."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float | None = None) -> None:
        if not self.in_thread():
            self._thread.join(timeout)

    def expect(self, ids: Iterable[int]) -> None:
        """Outcomes of these tasks will come, although it is not this link that submits them."""
        self._open.update(ids)

    def unexpect(self, ids: Iterable[int]) -> None:
        """They will not come after all."""
        self._open.difference_update(ids)

    # -- sending -----------------------------------------------------------------------------------------------------

    def _ring(self) -> None:
        if not self._rung:
            self._rung = True
            self._bell.ring()

    def _poke(self) -> None:
        if self._away or self._rung or monotonic() - self._sent_at < PAUSE or not self._lock.acquire(blocking=False):
            self._ring()
            return
        attention = True
        try:
            if not self.over.is_set() and not self._crash and not self._closing and not self._away:
                self._send_inbox()
                # A send may swallow the announcement of a message that has come.
                attention = self._line.pending()
        except BaseException as e:
            self._crash = f"{type(e).__name__} was raised while a task was being sent"
            raise
        finally:
            self._lock.release()
            if attention:
                self._ring()

    def _send_inbox(self) -> None:
        """Under the lock: send all that is in the inbox."""
        inbox = self._inbox
        tasks: list[Task] = []
        size = 0
        while inbox:
            item = inbox.popleft()
            if type(item) is Task:
                tasks.append(item)
                size += len(item.payload)
                if size > BYTES or len(tasks) >= BULK:
                    self._out.send_tasks(tasks)
                    tasks, size = [], 0
                continue
            if tasks:
                self._out.send_tasks(tasks)
                tasks, size = [], 0
            if type(item) in ENDS:
                self._begin_end(item)
            else:
                self._out.send_other(item)
        if tasks:
            self._out.send_tasks(tasks)
        self._sent_at = monotonic()

    def _begin_end(self, item: Any) -> None:
        """Under the lock: nothing comes after this."""
        self._closing = True
        if type(item) is not ev.Closed:
            # The hub drops what is open; here it is settled at the end, as terminated or broken.
            self._open.clear()
            if type(item) is ev.Broke:
                self._crash = str(item.detail)

    # -- the io thread -----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._loop()
        except EOFError:
            self._crash = self._crash or f"{self.describe()} is gone: {self._line.lost}"
        except BaseException as e:
            self._crash = f"{type(e).__name__} in the link to the hub: {e}"
            LOGGER.critical("the link to the hub has failed", exc_info=True)
        finally:
            self._close()

    def _loop(self) -> None:
        bell = self._bell
        chain = 0
        while True:
            line = self._line
            outcomes: list[Outcome] = []
            refused: list[int] = []
            said: list[tuple[int, Any]] = []
            gone: EOFError | None = None
            if self._rung and self._inbox:
                chain = chain + 1 if monotonic() - self._sent_at < BURST else 0
                if chain > FEW:
                    sleep(GATHER)  # nobody rings meanwhile
            with self._lock:
                self._rung = False
                if self._crash and not self._closing:
                    return
                if self._inbox:
                    self._send_inbox()
                try:
                    for message in line.receive_all():
                        self._take_in(message, outcomes, refused, said)
                        if len(outcomes) > BULK:
                            break
                except EOFError as e:
                    gone = e
                except ProtocolError as e:
                    self._crash = f"{self.describe()} sent what is no message: {e}"
                pending = bool(self._inbox) or line.pending()
            if said:
                self._hear(said)
            if outcomes or refused:
                self._open.difference_update([outcome[0] for outcome in outcomes])
                if self.greeted.durable:
                    self._out.unheard.ended(outcomes, refused)
                self._deliver(outcomes, refused)
            del outcomes, refused, said
            message = None  # not to be kept until the next one comes
            if self._closing and (self._detach or not self._open or self._crash):
                return
            if self._crash:
                return
            if gone is not None:
                if not self.greeted.durable or self._closing:
                    raise gone
                self._come_back()
                continue
            due = doors.trim()
            if pending or self._crash:
                bell.wait(0)
            else:
                bell.wait(None if due is None else max(0.0, due - monotonic()))

    def _come_back(self) -> None:
        """The hub is gone, and may be started again: wait for that, and go on.

        Raises:
            EOFError: it does not come back.
        """
        LOGGER.warning("%s is gone; waiting for it to come back", self.describe())
        with self._lock:
            self._away = True
            self._bell.unwatch(self._line.fileno())
            self._line.close(0)
        until = monotonic() + away()
        while True:
            try:
                line, greeted = self._call_again()
                break
            except (ClusterError, EOFError) as e:
                if monotonic() > until or self._closing or self._crash:
                    raise EOFError(str(e)) from None
            self._bell.wait(LOOK)
        with self._lock:
            self._line, self.greeted = line, greeted
            self._bell.watch(line.fileno())
            self._places = None
            self._out.attach(line, greeted)
            self._lost.clear()
            self._away = False
            # What was submitted meanwhile is in the inbox, and goes after this: it is not to be sent twice.
            self._out.unheard.doubt()
            self._ask_again()
            self._inbox.appendleft(Ask(RESUME, "resume", list(self._open)))

    def _ask_again(self) -> None:
        """Under the lock: what the hub that is gone was asked and has not answered."""
        fresh = {item.number for item in list(self._inbox) if type(item) is Ask}
        again = [question for question in self._out.unheard.questions() if question.number not in fresh]
        self._inbox.extendleft(again)
        fresh.update(question.number for question in again)
        for number, (done, heard) in list(self._questions.items()):
            if number not in fresh:
                heard.append(
                    Answer(number, None, f"{self.describe()} has ended meanwhile, and may have done it or not")
                )
                done.set()

    def _call_again(self) -> tuple[Line, Greeted]:
        card = self._find()
        line = Line(card, b"c" + os.urandom(16))
        before = self.greeted
        try:
            answer = self._greet(line, before.client, SOON)
            if (answer.host, answer.pid) == (before.host, before.pid):
                self._crash = f"{self.describe()} has given this client up: {self._line.lost}"
                raise EOFError(self._crash)
            return line, answer
        except BaseException:
            line.close(0)
            raise

    def _take_in(self, message: Any, outcomes: list[Outcome], refused: list[int], said: list[tuple[int, Any]]) -> None:
        kind = type(message)
        if kind is Outcomes:
            outcomes += [
                outcome for outcome in message.outcomes if type(outcome[2]) is not Bundle or self._is_whole(outcome)
            ]
        elif kind is Kept:
            refused += message.ids
        elif kind is Answer and message.number == RESUME:
            self._out.resume(message.value or ())
        elif kind is Answer and message.number == AGAIN:
            # What it does not have either stays lost.
            gone = self._lost if message.error else set(message.value or ()) & self._lost.keys()
            outcomes += [self._lost.pop(id) for id in list(gone)]
        elif kind is Answer:
            question = self._questions.get(message.number)
            if question is not None:
                question[1].append(message)
                question[0].set()
        elif kind is Heard:
            said.append((message.id, message.news))
        elif kind is News:
            self._places = None
        elif kind is Bye:
            self._crash = f"{self.describe()} has ended: {message.reason}"
        elif kind is Refused:
            self._crash = f"{self.describe()}: {message.reason}"

    def _is_whole(self, outcome: Outcome) -> bool:
        """Whether a result with large data can be had. If not, the hub may have kept it, now or when it comes back."""
        id, _, bundle, *_ = outcome
        if not bundle.is_lost or self._lost.pop(id, None) is not None:
            return True
        self._lost[id] = outcome
        self._inbox.append(Ask(AGAIN, "resume", [id]))
        return False

    def _close(self) -> None:
        with self._lock:
            self._closing = True
            if not self._line.lost and not self._away:
                self._line.send(Bye(self._detach, ""))
            if not self._away:
                self._line.close(patience=60.0 if self._detach else 0.0)
            self._bell.close()
            questions = list(self._questions.values())
        self.over.set()
        for done, _ in questions:
            done.set()
        self._ended(self._crash or (DETACHED if self._detach else None))
        del self._deliver, self._ended, self._hear
        doors.forget()
        self._home = None
