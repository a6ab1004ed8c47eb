"""What a client asks the hub of a cluster: questions from any thread, answers from the io thread."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

from zexec.errors import ClusterError
from zexec.messages import Answer, Ask

if TYPE_CHECKING:
    from zexec.cluster.outbox import Outbox

#: Seconds that a hub may take to answer a greeting, or a question.
PATIENCE = 10.0


class Remote:
    """An engine of another process, as users see it among a pool's processes."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.id: int = facts["id"]
        self.pid: int = facts["pid"]
        self.host: str = facts["host"]
        self.name = f"zexec-engine-{self.id}@{self.host}"
        self.exitcode: int | None = None

    def is_alive(self) -> bool:
        """Whether it was when we asked."""
        return True

    def __repr__(self) -> str:
        return f"<engine {self.id}: process {self.pid} on {self.host}>"


class Asking:
    """Base of RemoteLink, which has what is declared here."""

    over: threading.Event
    _lock: threading.Lock
    _inbox: deque[Any]
    _out: Outbox
    _questions: dict[int, tuple[threading.Event, list[Answer]]]
    _number: int
    _open: set[int]
    _places: list[int] | None
    _crash: str | None

    if TYPE_CHECKING:

        def describe(self) -> str: ...
        def _ring(self) -> None: ...

    def ask(self, what: str, args: Any = None, timeout: float = PATIENCE) -> Any:
        """Ask the hub a question, or give an order; the answer.

        Raises:
            ClusterError: the hub is gone, refuses, or does not answer in time.
        """
        if self.over.is_set():
            raise ClusterError(self._crash or "this client has ended")
        done = threading.Event()
        with self._lock:
            self._number += 1
            number = self._number
            heard: list[Answer] = []
            self._questions[number] = done, heard
            question = Ask(number, what, args)
            self._out.unheard.asked(question)
            self._inbox.append(question)
        self._ring()
        try:
            if not done.wait(timeout):
                raise ClusterError(f"{self.describe()} does not answer")
        finally:
            self._questions.pop(number, None)
            self._out.unheard.answered(number)
        if not heard:
            raise ClusterError(self._crash or "this client has ended")
        if heard[0].error:
            raise ClusterError(heard[0].error)
        return heard[0].value

    def is_running(self, task_id: int) -> bool:
        return bool(self.ask("is_running", task_id))

    def whereabouts(self, task_ids: Iterable[int]) -> dict[int, int]:
        return dict(self.ask("whereabouts", list(task_ids)))

    def story(self, task_id: int) -> list[tuple[float, str]]:
        now = monotonic()
        return [(now - ago, what) for ago, what in self.ask("story", task_id)]

    def dump(self) -> str:
        return f"{self.describe()}:\n{self.ask('dump')}"

    def broken(self) -> Any:
        return self._crash

    def processes(self) -> dict[int, Any]:
        try:
            return {facts["id"]: Remote(facts) for facts in self.ask("engines")}
        except ClusterError:
            return {}

    def places(self) -> list[int]:
        found = self._places
        if found is None:
            found = self._places = self.ask("places")
        return list(found)

    def signal(self, ids: Iterable[int], number: int) -> None:
        self.ask("signal", [list(ids), number])

    def fetch(self, task_ids: list[int]) -> list[int]:
        """Have outcomes of other clients' tasks sent here, now or when there are any: of which that is possible."""
        self._open.update(task_ids)
        known: list[int] = []
        try:
            known = self.ask("fetch", task_ids)["known"]
        finally:
            self._open.difference_update(set(task_ids).difference(known))
        return known
