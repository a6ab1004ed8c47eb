"""What the scheduler wants done. It never does anything itself: a host performs these, in order.

Between an event that caused an action and the decision that hands it out, the engine may have gone, or the task may have ended.
So whoever performs TakeBack, Stir, StopEngine, KillEngine or RefuseCancel ignores engines and tasks that are no more. Send
always names an engine that is up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from zexec.messages import Task


class Send(NamedTuple):
    """Give ``tasks`` to an engine; their numbers there are base, base + 1, ..."""

    serial: int
    base: int
    tasks: list[Task]
    chained: bool = False  #: each is to run only if the one numbered before it has ended well there


class TakeBack(NamedTuple):
    """Ask an engine for tasks that have not started."""

    serial: int
    seqs: list[int]


class Settle(NamedTuple):
    """Tell the client how a task ended. Exactly one per task, ever."""

    task: Task
    status: int
    payload: Any = None
    detail: Any = None
    engine: int = -1
    started: float = 0.0
    seconds: float = 0.0
    serial: int = 0  #: of the engine that ran it, 0 where none did


class SettleBulk(NamedTuple):
    """The same for a bulk of results of one engine: pairs of a task and its wire record."""

    engine: int
    pairs: list[tuple[Task, Any]]
    serial: int


class RefuseCancel(NamedTuple):
    """The task has started: it cannot be cancelled (softly) any more."""

    task: Task


class Stir(NamedTuple):
    """Interrupt the task that an engine runs."""

    serial: int
    seq: int


class StartEngine(NamedTuple):
    """Start an engine for place ``id``."""

    id: int
    serial: int


class Admit(NamedTuple):
    """The engine that joined with this token fills place ``id``."""

    token: Any
    id: int
    serial: int


class StopEngine(NamedTuple):
    """Let an engine leave: it holds nothing any more."""

    serial: int


class KillEngine(NamedTuple):
    """End an engine now: it does not react."""

    serial: int
    reason: str


class Finished(NamedTuple):
    """Closed, and nothing is open: the cluster can go."""


Action = (
    Send
    | TakeBack
    | Settle
    | SettleBulk
    | RefuseCancel
    | Stir
    | StartEngine
    | Admit
    | StopEngine
    | KillEngine
    | Finished
)
