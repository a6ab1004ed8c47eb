"""What the scheduler wants done. It never does anything itself: a host performs these, in order.

Between an event that caused an action and the decision that hands it out, the engine may have gone, or the task may have ended.
So whoever performs TakeBack, Stir, StopEngine, KillEngine or RefuseCancel ignores engines and tasks that are no more. Send
always names an engine that is up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zexec.messages import Task


@dataclass(slots=True)
class Send:
    """Give ``tasks`` to an engine; their numbers there are base, base + 1, ..."""

    serial: int
    base: int
    tasks: list[Task]


@dataclass(slots=True)
class TakeBack:
    """Ask an engine for tasks that have not started."""

    serial: int
    seqs: list[int]


@dataclass(slots=True)
class Settle:
    """Tell the client how a task ended. Exactly one per task, ever."""

    task: Task
    status: int
    payload: Any = None
    detail: Any = None
    engine: int = -1
    started: float = 0.0
    seconds: float = 0.0
    serial: int = 0  #: of the engine that ran it, 0 where none did


@dataclass(slots=True)
class SettleBulk:
    """The same for a bulk of results of one engine: pairs of a task and its wire record."""

    engine: int
    pairs: list[tuple[Task, Any]]
    serial: int


@dataclass(slots=True)
class RefuseCancel:
    """The task has started: it cannot be cancelled (softly) any more."""

    task: Task


@dataclass(slots=True)
class Stir:
    """Interrupt the task that an engine runs."""

    serial: int
    seq: int


@dataclass(slots=True)
class StartEngine:
    """Start an engine for place ``id``."""

    id: int
    serial: int


@dataclass(slots=True)
class Admit:
    """The engine that joined with this token fills place ``id``."""

    token: Any
    id: int
    serial: int


@dataclass(slots=True)
class StopEngine:
    """Let an engine leave: it holds nothing any more."""

    serial: int


@dataclass(slots=True)
class KillEngine:
    """End an engine now: it does not react."""

    serial: int
    reason: str


@dataclass(slots=True)
class Finished:
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
