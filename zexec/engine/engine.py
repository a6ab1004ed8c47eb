"""An engine: a process that runs tasks.

::

    main thread                                   io thread
    ───────────                                   ─────────
    receives bulks of tasks, runs them            receives control: revoke, interrupt
    one by one, sends results in bulk             sends results that have waited too long
          │  ▲                                          │  ▲
          ▼  │ channel "T"                              ▼  │ channel "C"
    ───────────────────────────────── hub ─────────────────────────────────

The main thread runs tasks, because signals and C libraries expect that, and talks to the hub by itself, because a hop through
another thread would double the time of a short task. The io thread answers while the main thread is deep in a task, ends the
process when the client that started it is gone, and otherwise sleeps.

What the two share, and why it is safe
  ``_started``, ``_revoked``  under ``_lock``: a task starts, or is given back, never both and never neither.
  ``_unsent``  a deque: one thread appends, both take from the left; each result is taken once because popleft is atomic.
  ``_sending``  held while results are taken and sent. So the main thread, once it has it, knows that all those have left that
      the io thread took, and clears the ledger, which nobody else does.
  ``_speaking``  replaced as a whole. Whatever a task says is announced; the io thread clears this first and then looks what
      there is to tell, so that what is said meanwhile is announced anew.
  ``_ticking``  whether the io thread looks every TICK whether a result waits. The main thread appends a result first and reads
                this after that; the io thread clears it first and looks for results after that. So none is left lying.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sys
import threading
from collections import deque
from collections.abc import Callable
from multiprocessing import parent_process
from time import monotonic
from typing import Any, NamedTuple

from zexec.engine import outputs
from zexec.engine.ledger import Ledger
from zexec.engine.memory import Limit
from zexec.engine.runner import Runner, TaskInterrupted, time_limit
from zexec.messages import (
    CHAINED,
    OK,
    EngineInfo,
    Full,
    Hello,
    InitFailed,
    Interrupt,
    Leave,
    ResultRecord,
    Results,
    Returned,
    Revoke,
    Said,
    Signal,
    Started,
    Stop,
    Tasks,
)
from zexec.net.bell import Bell
from zexec.net.channels import CONTROL, TASKS, Ends, EngineChannel
from zexec.wire.arena.doors import Rooms, trim
from zexec.wire.pickling import dump_report

#: A result waits at most this long for others to share its message, in seconds.
FLUSH = 0.001
#: How often the io thread looks whether such a result waits, while the engine is busy, and how often when it is not.
TICK, IDLE = 0.002, 1.0
#: What a task says is told this long after it began to say it, in seconds, together with what it says until then.
SAY = 0.02
#: Ticks without anything to send after which the io thread goes back to sleep.
QUIET = 25
#: Ticks for which a task that is to be interrupted may take to begin: the hub replaces the engine after a second.
NUDGES = 600


class EngineSpec(NamedTuple):
    """All that an engine must know to start. Travels to its process, by pickle under spawn."""

    ends: Ends
    ledger: Ledger | None
    serial: int
    id: int
    allowance: int | None
    #: pid of the process whose death ends this engine, where it is the direct parent
    parent: int | None
    #: bytes of memory from which on it is replaced, None for any number
    max_memory: int | None = None
    #: where it shares memory with its client, if it does
    rooms: Rooms | None = None
    #: what users have registered with ``zexec.register_serializer``, pickled
    serializers: bytes | None = None


class Engine:
    """The engine's two threads and what they share."""

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.info = EngineInfo(spec.serial, spec.id, os.getpid(), socket.gethostname(), spec.allowance)
        self.runner = Runner()
        self._ledger = spec.ledger
        refer = spec.rooms is not None
        self._tasks: EngineChannel = spec.ends.open(TASKS, refer)
        self._control: EngineChannel = spec.ends.open(CONTROL, refer)
        spec.ends.close()
        self._unsent: deque[ResultRecord] = deque()
        self._first_unsent = 0.0
        self._lock = threading.Lock()
        self._sending = threading.Lock()
        #: number of the newest task that has started
        self._started = -1
        #: it ends because it could not begin, and has said so
        self.has_told_why = False
        #: number of the newest task that has ended well
        self._good = -1
        #: numbers that were given back before they started
        self._revoked: set[int] = set()
        #: number of the task that is to be interrupted
        self._interrupting: int | None = None
        #: ticks for which the io thread goes on to look whether that task can be interrupted by now
        self._nudges = 0
        #: number of the task that somebody has sent an interrupt
        self._signalled: int | None = None
        #: what a task that runs has said, its number, and when it began to; the io thread tells it on the way
        self._speaking: tuple[outputs.Output, int, float] | None = None
        self._ticking = False
        self._leaving = False
        self._limit = Limit(spec.max_memory) if spec.max_memory is not None else None
        #: whether it has said that its memory is full, and starts nothing any more
        self._full = False
        self._recursion_limit = 0
        self._bell = Bell()
        self._io = threading.Thread(target=self._run_io, name="zexec-engine-io", daemon=True)
        self._main_ident = threading.get_ident()

    # -- main thread -------------------------------------------------------------------------------------------------

    def run(self, initialize: Callable[[], None]) -> None:
        """Serve until told to stop. Returns when the engine may leave."""
        # Before anything of the user's can run: afterwards it may be too late.
        sentinel = _parent_sentinel()
        if sentinel is not None:
            die_with(sentinel)
        if self._ledger is not None:
            self._ledger.listen()
        signal.signal(signal.SIGINT, self._on_sigint)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # it was blocked while this process came to be
        self._io.start()
        outputs.on_news = self._listen
        try:
            try:
                initialize()
                if self._limit is not None:
                    self._limit.check_start()
            except BaseException as e:
                self._tasks.send(InitFailed(dump_report(e, skip=2)))
                self.has_told_why = True
                raise
            self._recursion_limit = sys.getrecursionlimit()
            self._tasks.send(Hello(self.info, "T"))
            self._serve()
        finally:
            self._leave()

    def _serve(self) -> None:
        while True:
            try:
                message = self._tasks.receive()
            except EOFError:
                return  # the hub is gone
            if type(message) is Tasks and self._full:
                pass  # the hub asks for them back, and gets them
            elif type(message) is Tasks:
                self.runner.learn(message.functions, message.forget)
                self._run_bulk(message)
            elif type(message) is Stop:
                return
            del message

    def _run_bulk(self, bulk: Tasks) -> None:
        run, ledger, lock, unsent = self.runner.run, self._ledger, self._lock, self._unsent
        keep = _keep_nowhere if ledger is None else ledger.keep
        seq = bulk.base - 1
        last = bulk.base + len(bulk.tasks) - 1
        getrecursionlimit, floor = sys.getrecursionlimit, self._recursion_limit
        # Taken out one by one: large arguments are let go before their result is sent, so that it finds their memory free.
        tasks = bulk.tasks
        tasks.reverse()
        good, refused = self._good, []
        while tasks:
            digest, kind, payload, timeout = tasks.pop()
            seq += 1
            with lock:
                if self._revoked and seq in self._revoked:
                    self._revoked.discard(seq)
                    continue
                if kind >= CHAINED:
                    if good != seq - 1:
                        refused.append(seq)
                        continue
                    kind -= CHAINED
                self._started = seq
            if ledger is not None:
                ledger.start(seq)
            if timeout is not None:
                self._tasks.send(Started(seq))
            if getrecursionlimit() < floor:
                sys.setrecursionlimit(floor)  # a task has spoilt it for all that come after
            record = (seq, *run(digest, kind, payload))
            del payload
            if record[1] == OK:
                good = seq
            now = monotonic()
            if not unsent:
                self._first_unsent = now
            unsent.append(record)
            if seq == last or now - self._first_unsent >= FLUSH or not keep(record):
                self._flush_all()
            elif not self._ticking:
                # The next task may be a long one: let the io thread see to what waits.
                self._ticking = True
                self._bell.ring()
            del record
            if self._limit is not None and self._limit.is_reached(now):
                self._full = True
                self._flush_all()
                self._tasks.send(Full())
                break
        self._flush_all()
        self._good = good
        if refused:
            # After the results that say why.
            self._tasks.send(Returned(refused, refused))
        _flush_std_streams()

    def _listen(self, output: outputs.Output) -> None:
        """A task says something: if it goes on for longer, the io thread is to tell it."""
        self._speaking = output, self._started, monotonic()
        self._ticking = True
        self._bell.ring()

    def _flush_all(self) -> None:
        """In the main thread: when this returns, every result so far has been sent."""
        self._flush(self._tasks)
        if self._ledger is not None:
            self._ledger.clear()

    def _flush(self, channel: EngineChannel) -> bool:
        records: list[ResultRecord] = []
        with self._sending:
            try:
                while True:
                    records.append(self._unsent.popleft())
            except IndexError:
                pass
            if records:
                channel.send(Results(records))
        return bool(records)

    def _on_sigint(self, signum: int, frame: Any) -> None:
        # Ctrl-C in a terminal reaches every process of the program. What it means is the client's to decide; an engine
        # raises only if the hub asked for it, and only inside the task it asked for; or if one is too late that a task runs.
        time_limit.look()
        if self.runner.in_task and self._interrupting == self._started:
            self._interrupting = None
            raise TaskInterrupted("the task was interrupted")
        if self.runner.in_task and self._signalled == self._started:
            self._signalled = None
            raise KeyboardInterrupt

    def _leave(self) -> None:
        self._leaving = True
        self._bell.ring()
        self._io.join()
        try:
            self._flush(self._tasks)
        except OSError:
            pass  # the hub is gone
        self._tasks.close()
        self._control.close()
        self._bell.close()
        if self._ledger is not None:
            self._ledger.close()

    # -- io thread -----------------------------------------------------------------------------------------------------

    def _run_io(self) -> None:
        try:
            self._serve_control()
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # The hub is gone without a word, whatever the main thread is doing.
            os._exit(1)

    def _serve_control(self) -> None:
        control, bell = self._control, self._bell
        control.send(Hello(self.info, "C"))
        channel = control.fileno()
        bell.watch(channel)
        sentinel = _parent_sentinel()
        if sentinel is not None:
            bell.watch(sentinel)
        quiet = 0
        while not self._leaving:
            ready = bell.wait(0 if control.pending() else TICK if self._ticking or self._nudges else IDLE)
            if sentinel in ready or self._is_orphan():
                raise EOFError
            if channel in ready or control.pending():
                for message in control.receive_all():
                    self._obey(message, control)
            if self._nudges:
                self._nudge()
            if self._ticking:
                quiet = self._tick(quiet, control)
            else:
                trim()

    def _tick(self, quiet: int, control: EngineChannel) -> int:
        """Send results that have waited too long. ``quiet``: ticks that had none to send, before and after this one."""
        if self._unsent and monotonic() - self._first_unsent >= FLUSH and self._flush(control):
            return 0
        speaking = self._speaking
        if speaking is not None:
            output, seq, since = speaking
            if monotonic() - since < SAY and not output.over:
                return 0
            # Cleared first: what the task says from here on is announced anew.
            self._speaking = None
            news = output.news()
            if news is not None:
                control.send(Said(seq, news))
                return 0
        if quiet < QUIET:
            return quiet + 1
        # Cleared first, and looked after that: the main thread appends first and reads it after that. So either it rings, or
        # what it has appended is seen here.
        self._ticking = False
        if self._unsent or self._speaking is not None:
            self._ticking = True
        return 0

    def _obey(self, message: Any, control: EngineChannel) -> None:
        if type(message) is Revoke:
            with self._lock:
                given = [seq for seq in message.seqs if seq > self._started]
                self._revoked.update(given)
            control.send(Returned(message.seqs, given))
        elif type(message) is Leave:
            os._exit(1)
        elif type(message) is Interrupt:
            self._interrupting = message.seq
            self._nudges = NUDGES
        elif type(message) is Signal:
            if message.number == signal.SIGINT:
                self._signalled = self._started
                self._nudges = NUDGES
            else:
                os.kill(os.getpid(), message.number)

    def _nudge(self) -> None:
        """Interrupt the task that is to be: once, and not before its call has begun. While the main thread still unpickles
        the arguments, a signal would be for nobody."""
        wanted = [seq for seq in (self._interrupting, self._signalled) if seq is not None and seq >= self._started]
        if not wanted:
            self._nudges = 0
        elif self._started in wanted and self.runner.in_task:
            self._nudges = 0
            signal.pthread_kill(self._main_ident, signal.SIGINT)
        else:
            self._nudges -= 1

    def _is_orphan(self) -> bool:
        return self.spec.parent is not None and os.getppid() != self.spec.parent


def _keep_nowhere(record: ResultRecord) -> bool:
    return True


def _parent_sentinel() -> int | None:
    """What becomes readable when the parent has gone; None where the context that started this process gives none."""
    parent = parent_process()
    return getattr(parent, "sentinel", None)


def die_with(sentinel: int) -> None:
    """Have the system end this process when the parent's end of a pipe closes.

    The io thread sees that as well, but only once it gets the interpreter, and a task may be deep in a C call that never lets
    it go. (PR_SET_PDEATHSIG will not do: it goes by the thread that started the process, not by the process.)
    """
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(sentinel, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(sentinel, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(sentinel, fcntl.F_SETFL, fcntl.fcntl(sentinel, fcntl.F_GETFL) | os.O_ASYNC)


def _flush_std_streams() -> None:
    """What tasks print shows up when it would from a worker that ends: at the latest now."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass
