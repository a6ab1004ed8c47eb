"""What the scheduler is told. Bulk wherever the world is bulk, so that the cost per task stays small."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from zexec.core.dependencies import End, Needs
from zexec.messages import Death, ResultRecord, Task


@dataclass(slots=True)
class Submitted:
    """Tasks to run, in the order in which they should start."""

    tasks: Sequence[Task]


@dataclass(slots=True)
class SubmittedAfter:
    """A task to run when others have ended. ``ended``: how those of them ended of which whoever submits has heard."""

    task: Task
    needs: Needs
    ended: Mapping[int, End]


@dataclass(slots=True)
class ParentEnded:
    """Whoever submitted a task that waits has heard of the end of one that it waits for."""

    task_id: int
    end: End


@dataclass(slots=True)
class Restored:
    """Tasks that an earlier life of the hub had accepted and not settled. Engines may come back with them."""

    tasks: Sequence[Task]
    #: by id, what some of them wait for, and how those ended that have
    needs: Mapping[int, tuple[Needs, Mapping[int, End]]]
    #: seconds that those engines have to come back
    patience: float
    #: by id, those that had been sent and are not to be run again if nobody comes back with them: what to say then
    doomed: Mapping[int, Death] = field(default_factory=dict)
    #: where those engines were: their places are kept for them
    places: Set[int] = frozenset()


@dataclass(slots=True)
class ClaimsOver:
    """All engines of the earlier life have come back that will."""


@dataclass(slots=True)
class Joined:
    """An engine that nobody here has started wants a place. Elastic clusters only; the answer is Admit, with the same token."""

    token: Any
    #: the one it had in an earlier life of the hub
    place: int | None = None


@dataclass(slots=True)
class Promised:
    """The places that will be filled again whenever nobody fills them: the host sees to that. Elastic clusters only.

    A task waits for a place that is filled or promised, and for no other.
    """

    places: frozenset[int]


@dataclass(slots=True)
class Drain:
    """An engine is to leave: it gets nothing more, gives back what it has not started, and goes when it has done the rest.

    Nobody takes its place: that is promised no longer, or closed. With ``restart`` somebody does.
    """

    id: int
    restart: bool = False


@dataclass(slots=True)
class EngineUp:
    """An engine is ready for tasks. ``id`` says which place it fills."""

    serial: int
    id: int
    #: number and task of what it still holds from an earlier life of the hub, results that it has not got rid of included
    claims: Sequence[tuple[int, int]] = ()
    #: the number that the next task sent to it gets, if it has had some
    next_seq: int = 0
    #: numbers of those that it was told to interrupt then
    stirred: Collection[int] = ()


@dataclass(slots=True)
class EngineDown:
    """An engine is gone.

    ``started`` is the highest number that it is known to have started, or None where nobody knows; then the oldest task
    it held counts as the one that ran.
    """

    serial: int
    death: Death
    started: int | None = None


@dataclass(slots=True)
class Ran:
    """An engine's results."""

    serial: int
    records: Sequence[ResultRecord]


@dataclass(slots=True)
class Running:
    """A task with a time-out has started."""

    serial: int
    seq: int


@dataclass(slots=True)
class GaveBack:
    """An engine's answer to TakeBack."""

    serial: int
    asked: Sequence[int]
    given: Sequence[int]


@dataclass(slots=True)
class CancelWanted:
    """Somebody wants a task cancelled; ``running`` also if it has started."""

    task_id: int
    running: bool = False


@dataclass(slots=True)
class CancelWithdrawn:
    """They have stopped waiting for the answer: the task is to run after all."""

    task_id: int


@dataclass(slots=True)
class CancelAll:
    """Cancel every task but those that run, or would run if the engines that start were up."""


@dataclass(slots=True)
class Remembered:
    """A task that whoever takes a place from now on is to run before all else; None: not any more. Nobody waits for its end."""

    place: int
    key: int
    task: Task | None


@dataclass(slots=True)
class Broke:
    """The cluster cannot run tasks any more (the initializer failed, say)."""

    detail: Any


@dataclass(slots=True)
class Closed:
    """No task will be submitted any more; finish those that are open."""


@dataclass(slots=True)
class Terminated:
    """Settle everything that is open, at once, as terminated."""


@dataclass(slots=True)
class Tick:
    """Time has passed: a deadline may be due."""


Event = (
    Submitted
    | SubmittedAfter
    | ParentEnded
    | Restored
    | ClaimsOver
    | Joined
    | Promised
    | Drain
    | EngineUp
    | EngineDown
    | Ran
    | Running
    | GaveBack
    | CancelWanted
    | CancelWithdrawn
    | CancelAll
    | Remembered
    | Broke
    | Closed
    | Terminated
    | Tick
)
