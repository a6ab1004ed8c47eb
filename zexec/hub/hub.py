"""The hub: decodes what engines say, feeds the scheduler, performs what it decides.

It decides nothing itself and knows neither threads nor clients. Whoever hosts it calls ``receive`` and ``turn`` (one thread
at a time), takes the outcomes, and sleeps until ``next_deadline``; see ``zexec.hub.thread`` for the host in a client's process.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from signal import SIGINT
from time import monotonic
from typing import Any, Protocol

from zexec.core import actions as act
from zexec.core import events as ev
from zexec.core.engines import LEAVING, UP
from zexec.core.scheduler import Scheduler
from zexec.messages import (
    CHAINED,
    RAN,
    Death,
    Full,
    Function,
    Hello,
    InitFailed,
    Interrupt,
    Named,
    Outcome,
    ResultRecord,
    Results,
    Returned,
    Revoke,
    Said,
    Signal,
    Started,
    Stop,
    Task,
    Tasks,
)
from zexec.net.channels import CONTROL, TASKS, Ends, HubChannel

#: Functions that an engine is trusted to remember. Beyond it the oldest is forgotten on both sides.
REMEMBER = 512
#: And so many bytes of them, with what they hold.
REMEMBER_BYTES = 1 << 26
#: How often to look whether a dead engine's connection has ended, and when to give up on that (a child of the engine may keep
#: it open), in seconds.
PROBE, PROBE_LIMIT = 0.001, 0.5
#: Messages that an engine may send before both of its channels stand: what it brings along from an earlier life of the hub.
EARLY = 100
#: Seconds from a polite end to a forced one, and from a failed initializer to the end of its process.
PATIENCE, INIT_PATIENCE = 0.5, 5.0
#: Seconds between two looks whether engines that nothing is heard of are stopped, and of silence that it takes. Only while tasks
#: are open.
LOOK = 2.0


class Launcher(Protocol):
    """What a hub needs of whoever knows its engines' processes."""

    @property
    def engines(self) -> Mapping[int, Any]:
        """Those that are not reaped, by serial."""

    @property
    def current(self) -> dict[int, Any]:
        """Who fills each place now; replaced as a whole, so that other threads may read it."""

    def start(self, id: int, serial: int, ends: Ends) -> int:
        """Start an engine; its sentinel."""

    def shares_memory(self, serial: int) -> bool:
        """Whether an engine can reach this process's shared memory, and this process the engine's."""

    def admit(self, token: Any, id: int, serial: int) -> None:
        """Tell an engine that came by itself which place it fills."""

    def by_sentinel(self, fd: int) -> int | None:
        """The serial of the engine whose end this descriptor signals."""

    def is_alive(self, serial: int) -> bool:
        """Whether an engine's process is known to run, so that its end will be signalled."""

    def has_ended(self, serial: int) -> bool:
        """Whether an engine whose sentinel says so has really ended, so that ``reap`` does not wait."""

    def reap(self, serial: int) -> tuple[Death, int | None, list[ResultRecord]]:
        """Clean up after an engine that is gone.

        Returns:
            why it is, the newest task it had started, if that is known, and results that it may not have sent.
        """

    def is_stopped(self, serial: int, before: int) -> bool:
        """Whether an engine's process is stopped, by a signal, and has not started the task of this number."""

    def stacks(self) -> dict[int, str]:
        """The stacks of all threads of each engine on this machine, or why they are not to be had; by serial."""

    def kill(self, serial: int, reason: str, force: bool = False) -> None:
        """End an engine."""

    def signal(self, serial: int, number: int) -> bool:
        """Send a signal to an engine's process, if that can be done from here."""


class Known(dict[bytes, int]):
    """The functions that an engine has: their sizes by digest, the oldest first."""

    #: bytes of all of them
    size = 0

    def add(self, function: Function) -> None:
        self[function.digest] = size = len(function.payload)
        self.size += size

    @property
    def is_much(self) -> bool:
        """Whether some should be forgotten."""
        return len(self) > REMEMBER or self.size > REMEMBER_BYTES

    def trim(self, used: set[bytes]) -> list[bytes]:
        """Forget half of them, but none that is being used; which."""
        forgotten = []
        for digest, size in list(self.items()):
            if len(self) <= REMEMBER // 2 and self.size <= REMEMBER_BYTES // 2:
                break
            if digest not in used:
                del self[digest]
                self.size -= size
                forgotten.append(digest)
        return forgotten


class Hub:
    """One scheduler, one channel, the engines.

    Args:
        scheduler: decides.
        launcher: starts and ends engines.
        channel: reaches them.
        watch: called with a descriptor that becomes readable when an engine ends, ``unwatch`` when that is over.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        launcher: Launcher,
        channel: HubChannel,
        watch: Callable[[int], None],
        unwatch: Callable[[int], None],
    ) -> None:
        self.scheduler = scheduler
        self.launcher = launcher
        self.channel = channel
        #: what clients want, in order: tasks, and events of the core. Any thread may append.
        self.inbox: deque[Task | ev.Event] = deque()
        #: what they are to be told
        self.outcomes: list[Outcome] = []
        #: ids of tasks whose cancelling was refused
        self.refused: list[int] = []
        #: what tasks that run say to their clients: id, and what, which is opaque
        self.said: list[tuple[int, Any]] = []
        #: engines whose process could not be started: serial, place, why
        self.start_failures: list[tuple[int, int, Exception]] = []
        #: engines are told which tasks they are sent, and claim them from another life of the hub
        self.names_tasks = False
        #: looks up what an engine has brought along from an earlier life: numbers and tasks, its next number, and which of them
        #: were to be interrupted
        self.claims: Callable[[int], tuple[Sequence[tuple[int, int]], int, Collection[int]]] = lambda serial: (
            (),
            0,
            (),
        )
        #: told of tasks that were sent: place and serial of the engine
        self.on_sent: Callable[[Sequence[Task], int], None] | None = None
        #: results that have come: serial and numbers. Taken out by whoever tells engines that they are stored
        self.reported: list[tuple[int, list[int]]] = []
        #: what engines have said before both of their channels stood
        self._early: dict[int, list[tuple[bytes, Any]]] = {}
        self._watch = watch
        self._unwatch = unwatch
        #: per engine: the functions it has
        self._functions: dict[int, Known] = {}
        #: per starting engine: which of its channels have said hello
        self._greeted: dict[int, set[str]] = {}
        #: engines whose process has ended while their connection may still hold results: until when to wait for it
        self._dying: dict[int, float] = {}
        #: engines whose initializer raised, and what
        self._init_reports: dict[int, bytes] = {}
        #: engines that were asked to end, or ought to: when to force them, and why
        self._condemned: dict[int, tuple[float, str]] = {}
        #: when to look next for engines that are stopped; 0: when there is a task
        self._look_at = 0.0
        self._perform: dict[type, Callable[[Any], None]] = {
            act.Send: self._send,
            act.TakeBack: lambda a: self._control(a.serial, Revoke(a.seqs)),
            act.Stir: lambda a: self._control(a.serial, Interrupt(a.seq)),
            act.Settle: self._settle,
            act.SettleBulk: self._settle_bulk,
            act.RefuseCancel: lambda a: self.refused.append(a.task.id),
            act.StartEngine: self._start_engine,
            act.Admit: self._admit,
            act.StopEngine: self._stop_engine,
            act.KillEngine: lambda a: self.kill(a.serial, a.reason),
            act.Finished: lambda a: None,
        }

    # -- what a host calls -------------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Take in what clients want, decide, and do it."""
        now = monotonic()
        handle, inbox = self.scheduler.handle, self.inbox
        tasks: list[Task] = []
        while inbox:
            item = inbox.popleft()
            if type(item) is Task:
                tasks.append(item)
                continue
            if tasks:
                handle(now, ev.Submitted(tasks))
                tasks = []
            handle(now, item)  # type: ignore[arg-type]
        if tasks:
            handle(now, ev.Submitted(tasks))
        due = self.scheduler.next_deadline()
        if due is not None and due <= now:
            handle(now, ev.Tick())
        self._tend(now)
        for action in self.scheduler.decide(now):
            self._perform[type(action)](action)

    def receive(self, ready: Iterable[int] = ()) -> None:
        """Take in what engines have sent. ``ready``: the descriptors that the host found ready."""
        for fd in ready:
            if self.launcher.by_sentinel(fd) is not None:
                self.process_ended(fd)
        for letter, serial, message in self.channel.receive(ready):
            self._take_in(letter, serial, message)
        if self.channel.lost:
            self._doubt()

    def process_ended(self, sentinel: int) -> None:
        """An engine's process is gone. What it had sent may still be on its way."""
        serial = self.launcher.by_sentinel(sentinel)
        self._unwatch(sentinel)
        if serial is not None:
            self._dying[serial] = monotonic() + PROBE_LIMIT

    def connection_ended(self, serial: int) -> None:
        """There is no way to an engine any more. If its process runs on, it is ended, for nobody can use it."""
        if self.launcher.is_alive(serial):
            self._condemned.setdefault(serial, (monotonic() + PATIENCE, "there was no way to it any more"))
        elif serial in self.launcher.engines:
            self._dying.setdefault(serial, 0.0)

    def unseen(self) -> list[Task]:
        """Tasks that lie in the inbox: while no engine has room, nobody needs to look at them."""
        return [item for item in list(self.inbox) if type(item) is Task]

    def story(self, task_id: int) -> list[tuple[float, str]]:
        """What happened to a task, oldest first: pairs of a time (``time.monotonic()``) and a sentence."""
        story = self.scheduler.story(task_id)
        if not story and any(task.id == task_id for task in self.unseen()):
            return [(monotonic(), "submitted, and not looked at yet, for no engine has room")]
        return story

    def next_deadline(self) -> float | None:
        """When ``turn`` is due, in monotonic seconds, if nothing else happens before."""
        due = self.scheduler.next_deadline()
        if self._dying or self.start_failures:
            soon = monotonic() + PROBE
            due = soon if due is None else min(due, soon)
        if self._condemned:
            force = min(when for when, _ in self._condemned.values())
            due = force if due is None else min(due, force)
        if self._look_at:
            due = self._look_at if due is None else min(due, self._look_at)
        return due

    @property
    def finished(self) -> bool:
        """Closed, and everything has ended."""
        return self.scheduler.finished and not self.launcher.engines

    def close(self) -> None:
        """Let go of the channels. Nothing works after this."""
        self._perform.clear()
        self.channel.close()

    # -- from engines ------------------------------------------------------------------------------------------------

    def _take_in(self, letter: bytes, serial: int, message: Any) -> None:
        now = monotonic()
        handle = self.scheduler.handle
        kind = type(message)
        if self.names_tasks and serial in self._greeted and kind is not Hello and kind is not InitFailed:
            if len(self._early.setdefault(serial, [])) < EARLY:
                self._early[serial].append((letter, message))
        elif kind is Results:
            if self.names_tasks:
                self.reported.append((serial, [record[0] for record in message.records]))
            handle(now, ev.Ran(serial, message.records))
        elif kind is Started:
            handle(now, ev.Running(serial, message.seq))
        elif kind is Returned:
            handle(now, ev.GaveBack(serial, message.asked, message.given))
        elif kind is Said:
            task = self.scheduler.held(serial, message.seq)
            if task is not None:
                self.said.append((task.id, message.news))
        elif kind is Hello and message.info.serial == serial and message.channel == letter.decode():
            greeted = self._greeted.get(serial)
            if greeted is not None:
                greeted.add(message.channel)
                if len(greeted) == 2:
                    # Both connections stand: tasks and control can reach it.
                    del self._greeted[serial]
                    handle(now, ev.EngineUp(serial, message.info.id, *self.claims(serial)))
                    for early in self._early.pop(serial, ()):
                        self._take_in(early[0], serial, early[1])
        elif kind is InitFailed and serial in self._functions:
            # Believed when the process has ended, as in the stdlib: until then it may still be writing to the log.
            self._init_reports[serial] = message.report
            self._condemned[serial] = now + INIT_PATIENCE, "it did not end after its initializer had failed"
        elif kind is Full:
            engine = self.scheduler.fleet.engines.get(serial)
            if engine is not None and self.scheduler.filled.get(engine.id) is engine:
                handle(now, ev.Drain(engine.id, restart=True))
        else:
            self.channel.damaged += 1  # nothing that an engine says

    # -- actions -----------------------------------------------------------------------------------------------------

    def _send(self, action: act.Send) -> None:
        known = self._functions[action.serial]
        last: Function | None = None
        mark = CHAINED if action.chained else 0
        records = []
        functions = []
        for task in action.tasks:
            function = task.function
            if function is not last:
                last = function
                if function.digest not in known:
                    known.add(function)
                    functions.append((function.digest, function.payload, function.shared))
            records.append((function.digest, task.kind | mark, task.payload, task.timeout))
        # The engine forgets when it takes this message up, which is after all earlier ones have been run.
        forget = known.trim({task.function.digest for task in action.tasks}) if known.is_much else []
        if self.names_tasks:
            self.channel.send(TASKS, action.serial, Named(action.base, [task.id for task in action.tasks]))
        if self.on_sent is not None:
            self.on_sent(action.tasks, action.serial)
        # If the engine is not there any more, its sentinel says so, and that brings the tasks back.
        self.channel.send(TASKS, action.serial, Tasks(action.base, records, functions, forget))

    def _control(self, serial: int, message: Any) -> None:
        self.channel.send(CONTROL, serial, message)

    def _settle(self, a: act.Settle) -> None:
        detail = a.serial if a.status in RAN else a.detail
        self.outcomes.append((a.task.id, a.status, a.payload, detail, a.engine, a.started, a.seconds))

    def _settle_bulk(self, a: act.SettleBulk) -> None:
        engine, serial = a.engine, a.serial
        self.outcomes += [(task.id, r[1], r[2], serial, engine, r[3], r[4]) for task, r in a.pairs]

    def _start_engine(self, a: act.StartEngine) -> None:
        self._functions[a.serial] = Known()
        self._greeted[a.serial] = set()
        ends = self.channel.connect(a.serial)
        try:
            sentinel = self.launcher.start(a.id, a.serial, ends)
        except BaseException as e:
            self.channel.disconnect(a.serial)
            if not isinstance(e, Exception):
                raise
            self.start_failures.append((a.serial, a.id, e))
            return
        self.channel.started(a.serial, self.launcher.shares_memory(a.serial))
        self._watch(sentinel)

    def _admit(self, a: act.Admit) -> None:
        self._functions[a.serial] = Known()
        self._greeted[a.serial] = set()
        self.launcher.admit(a.token, a.id, a.serial)

    def _stop_engine(self, a: act.StopEngine) -> None:
        self.channel.send(TASKS, a.serial, Stop())

    def kill(self, serial: int, reason: str, force: bool = False) -> None:
        """End an engine, politely first."""
        self.launcher.kill(serial, reason, force)
        self._condemned[serial] = monotonic() + PATIENCE, "it did not end when asked to"

    def signal(self, ids: Iterable[int], number: int) -> None:
        """Send a signal to the engines that fill these places."""
        for id in ids:
            engine = self.scheduler.filled.get(id)
            if engine is None:
                continue
            # What an interrupt means to an engine it decides itself. Any other signal reaches also one that is stopped, or
            # deep in a task, if it is our child.
            if number == SIGINT or not self.launcher.signal(engine.serial, number):
                self._control(engine.serial, Signal(number))

    # -- engines that end --------------------------------------------------------------------------------------------

    def _tend(self, now: float) -> None:
        if self._condemned:
            for serial, (force_at, why) in list(self._condemned.items()):
                if not self.launcher.is_alive(serial):
                    del self._condemned[serial]
                elif force_at <= now:
                    self.launcher.kill(serial, why, force=True)
                    self._condemned[serial] = now + PATIENCE, why
        if now >= self._look_at:
            self._look_for_stopped(now)
        failures, self.start_failures = self.start_failures, []
        for serial, id, error in failures:
            self._functions.pop(serial)
            self._greeted.pop(serial)
            death = Death(id, -1, "this host", None, f"its process could not be started: {error!r}")
            self.scheduler.handle(now, ev.EngineDown(serial, death, -1))
        if self._dying:
            for serial, limit in list(self._dying.items()):
                if limit <= now or not self.channel.is_connected(serial):
                    if not self.launcher.has_ended(serial):
                        # Where only the stdlib's sentinel is to be had, and a task has closed it: reaping would wait.
                        if limit <= now:
                            self.launcher.kill(serial, "it closed what its end is seen by", force=True)
                        continue
                    self.receive()
                    self._bury(now, serial)

    def _look_for_stopped(self, now: float) -> None:
        """End engines that are stopped and have not begun what they were given: others will. What they run may take its time."""
        # Until the next look after the last task has ended, not until that: a deadline that comes and goes with each task
        # would wake the io thread for each.
        self._look_at = now + LOOK if self.scheduler.tasks else 0.0
        if not self.scheduler.tasks or self.scheduler.break_on_death:
            return  # in the latter case, ending one would end all
        for serial, engine in self.scheduler.fleet.engines.items():
            if not engine.held or engine.state is not UP or now - engine.progress < LOOK or serial in self._condemned:
                continue
            if self.launcher.is_stopped(serial, next(iter(engine.held))):
                self.kill(serial, "it was stopped, and had not begun what it was given", force=True)

    def _doubt(self) -> None:
        """Engines that nothing comes from any more. Most have ended or are about to; the others must."""
        lost, self.channel.lost = self.channel.lost, []
        for serial in lost:
            engine = self.scheduler.fleet.engines.get(serial)
            if engine is not None and engine.state is not LEAVING and serial not in self._condemned:
                self._condemned[serial] = monotonic() + PATIENCE, "it had closed or spoilt its connection"

    def _bury(self, now: float, serial: int) -> None:
        del self._dying[serial]
        self._condemned.pop(serial, None)
        self._functions.pop(serial, None)
        self._greeted.pop(serial, None)
        self._early.pop(serial, None)
        self.channel.disconnect(serial)
        death, started, results = self.launcher.reap(serial)
        if results:
            # Those that had ended and were to be sent with others; the scheduler knows which of them have come.
            self.scheduler.handle(now, ev.Ran(serial, results))
        report = self._init_reports.pop(serial, None)
        if report is not None:
            self.scheduler.handle(now, ev.Broke(("initializer", report)))
        self.scheduler.handle(now, ev.EngineDown(serial, death, started))
