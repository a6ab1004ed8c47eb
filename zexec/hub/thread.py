"""The hub's host in a client's process: one io thread, and whoever submits.

Who may do what
  ``lock``     guards the hub: its scheduler, its sends. Held for short, by the io thread or by a submitting thread.
  receiving    the io thread alone, so that completions come from one thread, in order.
  the inbox    anybody appends, without the lock.

A submitting thread does not wake the io thread and wait for it to send: two hops would double a short task's time. It takes
the lock, if that is free, and turns the hub itself. If the lock is taken, or tasks come in a burst, it rings the bell once, and
the io thread takes up all that has come until then. And if no engine has room, it does neither: the next result from an engine
turns the hub anyway.

Why no task is forgotten in the inbox
  A submitter appends first and reads ``hungry`` after that. Whoever turns the hub writes ``hungry`` first and looks into the
  inbox after that. So if the submitter saw "not hungry", the other either saw the task, or had engines busy; and busy engines
  end in a result or a death, either of which turns the hub. Or another submitter wrote "not hungry": then it rings after that,
  and the turn that follows the ring sees the task.

  What is told by ``tell`` is seen to at once. Whoever tells appends first and reads ``_rung`` after that; the io thread clears
  it first and looks into the inbox after that. So if it was set, a ring was yet to be heard, and that turn sees the event.

Why no message is forgotten on the way in
  A channel may announce a message once only, and a send may swallow that (ZeroMQ's do). After the last send under the lock,
  whoever holds it asks ``pending``; the io thread goes on receiving then, a submitter rings the bell.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from zexec.core import events as ev
from zexec.core.scheduler import Scheduler
from zexec.hub.hub import Hub
from zexec.launch.local import LocalLauncher
from zexec.messages import Outcome, Task
from zexec.net.bell import Bell
from zexec.net.channels import HubChannel
from zexec.wire.arena.doors import trim

LOGGER = logging.getLogger("zexec")

#: Seconds. Submits that come faster than this are a burst: when there is a task for each engine, the io thread takes up the rest
#: in bulk. Well above the time from one submit to the next in a loop (3 to 10 µs), well below a round trip (35 µs and more).
PAUSE = 20e-6


class HubThread:
    """Hosts a hub for one client; the client's link to it.

    Args:
        scheduler, launcher: what the hub is made of.
        deliver: called in the io thread with outcomes, and with ids of tasks whose cancelling was refused.
        hear: called there with what tasks that run say to the client: their ids, and what.
        ended: called in the io thread, last; with the reason if the hub has failed.
        make_channel: makes the channel to the engines, given the bell that wakes the io thread.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        launcher: LocalLauncher,
        deliver: Callable[[list[Outcome], list[int]], None],
        hear: Callable[[list[tuple[int, Any]]], None],
        ended: Callable[[str | None], None],
        make_channel: Callable[[Bell], HubChannel],
    ) -> None:
        self._bell = bell = Bell()
        channel = make_channel(bell)
        self.hub = Hub(scheduler, launcher, channel, bell.watch, bell.unwatch)
        self._launcher = launcher
        self.lock = threading.Lock()
        self.hungry = False
        self._deliver = deliver
        self._hear = hear
        #: something has come into the inbox from the io thread itself
        self._again = False
        #: the bell has been rung by ``tell`` and not been heard yet
        self._rung = False
        self._ended = ended
        self._thread = threading.Thread(target=self._run, name="zexec-io", daemon=True)
        #: set once the thread has ended and everything is released
        self.over = threading.Event()
        self._over = False
        #: why the hub has failed, or None
        self._crash: str | None = None
        #: when a submitter last turned the hub, and how often in a row without a pause; hints, read and written by anybody
        self._poked, self._burst = 0.0, 0
        #: until when the io thread will sleep if nothing happens
        self._wake_at = math.inf

    # -- the link: what a client calls -------------------------------------------------------------------------------

    def start(self, begin: bool) -> None:
        """Start the engines, if they are to start now, and the io thread.

        Engines come first: under fork they are copies of this process before it has a thread of ours.
        """
        with self.lock:
            try:
                if begin:
                    self.hub.scheduler.begin()
                    self.hub.turn()
                    for _, _, error in self.hub.start_failures:
                        raise error
            except BaseException:
                self._abandon()
                raise
            self.hungry = self.hub.scheduler.hungry
        self._thread.start()

    def submit(self, task: Task) -> None:
        """Accept a task."""
        self.hub.inbox.append(task)
        if self.hungry:
            self._poke()

    def submit_bulk(self, tasks: Iterable[Task]) -> None:
        """Accept many."""
        self.hub.inbox.extend(tasks)
        if self.hungry:
            self._poke()

    def tell(self, event: ev.Event) -> None:
        """Anything else: it must be seen to at once."""
        self.hub.inbox.append(event)
        if self.in_thread():
            self._again = True
        elif not self._rung:
            try:
                # One ring is enough for all that is told until it is heard. The io thread clears this first, and looks then.
                self._rung = True
                self._bell.ring()
            except BaseException:
                # Ctrl-C came before the ring, or just after it, and others may count on that ring already.
                self._bell.ring()
                raise

    def is_running(self, task_id: int) -> bool:
        with self.lock:
            return self.hub.scheduler.is_running(task_id)

    def whereabouts(self, task_ids: Iterable[int]) -> dict[int, int]:
        with self.lock:
            return self.hub.scheduler.whereabouts(task_ids)

    def story(self, task_id: int) -> list[tuple[float, str]]:
        with self.lock:
            return self.hub.story(task_id)

    def dump(self) -> str:
        """The hub's state and the engines' stacks, in words."""
        from zexec.hub.report import describe, with_stacks

        # Something may hold the lock for ever, and be what the caller is looking for.
        got = self.lock.acquire(timeout=1.0)
        try:
            if self._over:
                return "it has ended"
            state = (
                describe(self.hub)
                if got
                else "somebody has been in the hub for a second, so it says nothing of its state"
            )
            places = {serial: engine.id for serial, engine in list(self.hub.scheduler.fleet.engines.items())}
        finally:
            if got:
                self.lock.release()
        return with_stacks(state, self.hub.launcher.stacks(), places)

    def broken(self) -> Any:
        """Why nothing can run any more, or None."""
        return self._crash or self.hub.scheduler.broken

    def processes(self) -> dict[int, Any]:
        """The engines' processes by place, those that are leaving not counted."""
        return self.hub.launcher.current

    def places(self) -> list[int]:
        """The places that are filled, or will be."""
        return self.hub.scheduler.open_places

    def remember(self, place: int, key: int, task: Task | None) -> None:
        """Have whoever takes a place from now on run a task before all else, or not any more."""
        self.tell(ev.Remembered(place, key, task))

    def fetch(self, task_ids: list[int]) -> list[int]:
        """None: there are no clients but this one, and it keeps its own."""
        return []

    def detach(self) -> None:
        """Not possible: engines of a client's own end with it."""
        raise ValueError("only clients of a cluster can leave their work behind: engines of a pool's own end with it")

    def kill_engines(self, force: bool) -> None:
        """End every engine's process now."""
        with self.lock:
            for serial in list(self.hub.launcher.engines):
                self.hub.kill(serial, "it was killed on request", force)
        self._bell.ring()

    def signal(self, ids: Iterable[int], number: int) -> None:
        """Send a signal to the engines that fill these places."""
        with self.lock:
            if not self._over:
                self.hub.signal(ids, number)
        self._bell.ring()

    @property
    def thread(self) -> threading.Thread:
        return self._thread

    def in_thread(self) -> bool:
        """Whether the caller is the io thread."""
        return threading.current_thread() is self._thread

    def join(self, timeout: float | None = None) -> None:
        # The io thread itself comes here when a pool is collected in it: then there is nobody to wait for.
        if not self.in_thread():
            self._thread.join(timeout)

    # -- turning the hub ---------------------------------------------------------------------------------------------

    def _poke(self) -> None:
        hub = self.hub
        scheduler = hub.scheduler
        # While engines start on demand it is the submitter who starts them, as in the stdlib: so wait for the lock.
        starting = scheduler.on_demand and bool(scheduler.fleet.vacant)
        if not starting:
            self._burst = self._burst + 1 if monotonic() - self._poked < PAUSE else 0
        if (self._burst > scheduler.places and not starting) or not self.lock.acquire(starting):
            self._leave_it_to_the_io_thread()
            return
        try:
            attention = False
            if self._over or self._crash:
                return
            self._turn()
            attention = bool(hub.outcomes or hub.refused or hub.said) or hub.channel.pending()
            due = hub.next_deadline()
            attention = attention or (due is not None and due < self._wake_at)
        except BaseException as e:
            # Ctrl-C in the main thread, most likely, in the middle of a decision: what the scheduler holds is not to be
            # trusted any more. The io thread ends everything; whatever is open fails and says why.
            self._crash = f"{type(e).__name__} was raised while a task was being scheduled"
            attention = True
            raise
        finally:
            self.lock.release()
            if attention:
                self._bell.ring()
        self._poked = monotonic()

    def _leave_it_to_the_io_thread(self) -> None:
        try:
            # One ring is enough for all that is submitted until it is heard.
            self.hungry = False
            self._bell.ring()
        except BaseException:
            # Ctrl-C came before the ring: the next to submit must ring.
            self.hungry = True
            raise

    def _turn(self) -> None:
        """Under the lock: turn until nothing that could be done is left in the inbox."""
        while True:
            self.hub.turn()
            self.hungry = self.hub.scheduler.hungry
            if not (self.hungry and self.hub.inbox):
                return

    def _run(self) -> None:
        try:
            self._loop()
        except BaseException as e:
            # A bug, or no memory. Nobody must wait for ever because of it.
            self._crash = f"{type(e).__name__} in the hub: {e}"
            LOGGER.critical("the hub has failed", exc_info=True)
        finally:
            self._close()

    def _loop(self) -> None:
        hub, bell = self.hub, self._bell
        ready: set[int] = set()
        while True:
            # Before the inbox is looked at: whoever puts something in after that rings anew.
            self._rung = False
            with self.lock:
                if self._crash:
                    return
                hub.receive(ready)
                self._turn()
                while hub.channel.pending():
                    hub.receive()
                    self._turn()
                outcomes, hub.outcomes = hub.outcomes, []
                refused, hub.refused = hub.refused, []
                said, hub.said = hub.said, []
                due = hub.next_deadline()
                self._wake_at = math.inf if due is None else due
                finished = hub.finished
            if said:
                self._hear(said)
                said = []
            if outcomes or refused:
                self._deliver(outcomes, refused)
                del outcomes, refused
            if finished:
                return
            if self._again:
                self._again, ready = False, set()
                continue
            trim_due = trim()
            if trim_due is not None and (due is None or trim_due < due):
                due = trim_due
            ready = bell.wait(None if due is None else max(0.0, due - monotonic()))

    def _close(self) -> None:
        with self.lock:
            self._over = True
            self.hungry = False
            self._abandon()
        self._ended(self._crash)
        # Let go of the client, which holds us: what nobody uses any more goes at once, not when the collector comes by.
        del self._deliver, self._hear, self._ended
        self.over.set()

    def _abandon(self) -> None:
        self._over = True
        for serial in list(self.hub.launcher.engines):
            self.hub.launcher.kill(serial, "its hub has ended", force=True)
            self.hub.launcher.reap(serial)
        self.hub.close()
        self._launcher.close()
        self._bell.close()
