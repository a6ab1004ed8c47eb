"""A task that waits for other tasks of its own cluster runs those itself that no engine has started.

Otherwise it would keep its engine while they wait for one: two engines, each in a task that waits, would wait for ever. So
``get`` and its like, in an engine, on a result of the cluster that the engine belongs to, ask the hub for the task. Either it has
started: then it is on its way, whatever else waits; or it is handed over, and the wait is the work. For results that have a
callback (an event loop's, say) a thread does that. A wait with a time-out stays what it was: it ends in time.

Why nothing waits for ever then
  Whoever waits, waits for a task that runs. That one waits for nothing, or again for one that runs. A circle would need a
  task that waits for itself, by way of others: those were submitted after it had started, so none of them can. (Tasks that only
  another engine may run are not handed over: they wait for it. Nor are those with a ``timeout`` where it is not the main thread
  that waits: nobody could interrupt them. And a task that is to run ``after`` others is submitted when those have ended, which
  ``submit`` waits for.)
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from zexec.core.events import CancelWanted, Event
from zexec.core.following import Where
from zexec.messages import CANCELLED, TIMEOUT, Outcome, Task


class Helper:
    """Runs tasks of a client in the process that waits for them.

    Args:
        tell: says something to the hub.
        deliver: settles results with outcomes.
        engine, serial: the engine that this process is.
    """

    def __init__(
        self,
        tell: Callable[[Event], None],
        deliver: Callable[[list[Outcome], list[int]], None],
        engine: int,
        serial: int,
    ) -> None:
        self._tell = tell
        self._engine, self._serial = engine, serial
        self._deliver = deliver
        #: those that are open and may be run here: that want no certain engine, or this one
        self._tasks: dict[int, Task] = {}
        #: those that somebody asks the hub for: set when there is word, and whether it was handed over
        self._asked: dict[int, tuple[threading.Event, list[bool]]] = {}
        self._lock = threading.Lock()
        #: what the thread is to help with that does it for callbacks: the ids of a result's tasks, and whether it is there
        self._later: deque[tuple[Sequence[int], Callable[[], bool]]] = deque()
        self._thread: threading.Thread | None = None

    # -- what the client tells it ------------------------------------------------------------------------------------

    def submitted(self, tasks: Sequence[Task], where: Iterable[Where] = ()) -> None:
        """Tasks are about to be submitted. ``where``: those are to run that have to follow others."""
        here = self._engine, self._serial
        if any(place != here for place in where):
            return
        for task in tasks:
            if task.targets is None or self._engine in task.targets:
                self._tasks[task.id] = task

    def ended(self, outcome: Outcome) -> bool:
        """An outcome has come. False if it only means that the task is handed over, to be run here."""
        with self._lock:
            asked = self._asked.get(outcome[0])
            handed_over = asked is not None and outcome[1] == CANCELLED
            if not handed_over:
                self._tasks.pop(outcome[0], None)
        if asked is not None:
            asked[1].append(handed_over)
            asked[0].set()
        return not handed_over

    def refused(self, ids: Sequence[int]) -> None:
        """These have started."""
        for id in ids:
            asked = self._asked.get(id)
            if asked is not None:
                asked[0].set()

    # -- what a thread that waits does before it does --------------------------------------------------------------------

    def help(self, ids: Sequence[int], done: Callable[[], bool]) -> None:
        """Run those of these tasks that nobody has started."""
        for id in ids:
            if done():
                return
            self._run(id)

    def help_later(self, ids: Sequence[int], done: Callable[[], bool]) -> None:
        """The same in a thread, for whoever cannot wait."""
        with self._lock:
            self._later.append((ids, done))
            # Not if it is the thread itself that asks: what it runs just now may wait for this.
            if self._thread is None or self._thread is threading.current_thread():
                self._thread = threading.Thread(target=self._help_those, name="zexec-help", daemon=True)
                self._thread.start()

    def _help_those(self) -> None:
        while True:
            with self._lock:
                if self._thread is not threading.current_thread():
                    return  # another has taken over
                if not self._later:
                    self._thread = None
                    return
                ids, done = self._later.popleft()
            self.help(ids, done)

    def help_any(self, done: Callable[[], bool]) -> None:
        """Run whatever nobody has started, in order."""
        for id in list(self._tasks):
            if done():
                return
            self._run(id)

    def _run(self, id: int) -> None:
        task = self._tasks.get(id)
        if task is None:
            return
        if task.timeout is not None and threading.current_thread() is not threading.main_thread():
            return
        if not self._take(id):
            return
        from zexec.engine.runner import Runner, time_limit

        runner = Runner()
        function = task.function
        runner.learn([(function.digest, function.payload, function.shared)], ())
        with time_limit(runner, task.timeout) as limit:
            status, payload, started, seconds = runner.run(function.digest, task.kind, task.payload)
        outcome: Outcome = (id, status, payload, self._serial, self._engine, started, seconds)
        if limit.is_over:
            outcome = (id, TIMEOUT, None, task.timeout, self._engine, started, seconds)
        self._deliver([outcome], [])

    def _take(self, id: int) -> bool:
        """Ask the hub for a task. Whether it is ours."""
        with self._lock:
            if id in self._asked or id not in self._tasks:
                return False  # another thread is at it, or it has ended
            heard, answers = self._asked[id] = threading.Event(), []
        try:
            self._tell(CancelWanted(id))
            heard.wait()  # its end, whatever that is, or the hub's is word as well
        finally:
            del self._asked[id]
        return bool(answers and answers[-1])
