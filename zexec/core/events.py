"""What the scheduler is told. Bulk wherever the world is bulk, so that the cost per task stays small."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from typing import Any, NamedTuple

from zexec.core.dependencies import End, Needs
from zexec.messages import Death, ResultRecord, Task


class Submitted(NamedTuple):
    """Tasks to run, in the order in which they should start."""

    tasks: Sequence[Task]


class SubmittedAfter(NamedTuple):
    """A task to run when others have ended. ``ended``: how those of them ended of which whoever submits has heard."""

    task: Task
    needs: Needs
    ended: Mapping[int, End]


class ParentEnded(NamedTuple):
    """Whoever submitted a task that waits has heard of the end of one that it waits for."""

    task_id: int
    end: End


class Restored(NamedTuple):
    """Tasks that an earlier life of the hub had accepted and not settled. Engines may come back with them."""

    tasks: Sequence[Task]
    #: by id, what some of them wait for, and how those ended that have
    needs: Mapping[int, tuple[Needs, Mapping[int, End]]]
    #: seconds that those engines have to come back
    patience: float
    #: by id, those that had been sent and are not to be run again if nobody comes back with them: what to say then
    doomed: Mapping[int, Death] = {}
    #: where those engines were: their places are kept for them
    places: Set[int] = frozenset()


class ClaimsOver(NamedTuple):
    """All engines of the earlier life have come back that will."""


class Joined(NamedTuple):
    """An engine that nobody here has started wants a place. Elastic clusters only; the answer is Admit, with the same token."""

    token: Any
    #: the one it had in an earlier life of the hub
    place: int | None = None


class Promised(NamedTuple):
    """The places that will be filled again whenever nobody fills them: the host sees to that. Elastic clusters only.

    A task waits for a place that is filled or promised, and for no other.
    """

    places: frozenset[int]


class Drain(NamedTuple):
    """An engine is to leave: it gets nothing more, gives back what it has not started, and goes when it has done the rest.

    Nobody takes its place: that is promised no longer, or closed. With ``restart`` somebody does.
    """

    id: int
    restart: bool = False


class EngineUp(NamedTuple):
    """An engine is ready for tasks. ``id`` says which place it fills."""

    serial: int
    id: int
    #: number and task of what it still holds from an earlier life of the hub, results that it has not got rid of included
    claims: Sequence[tuple[int, int]] = ()
    #: the number that the next task sent to it gets, if it has had some
    next_seq: int = 0
    #: numbers of those that it was told to interrupt then
    stirred: Collection[int] = ()


class EngineDown(NamedTuple):
    """An engine is gone.

    ``started`` is the highest number that it is known to have started, or None where nobody knows; then the oldest task
    it held counts as the one that ran.
    """

    serial: int
    death: Death
    started: int | None = None


class Ran(NamedTuple):
    """An engine's results."""

    serial: int
    records: Sequence[ResultRecord]


class Running(NamedTuple):
    """A task with a time-out has started."""

    serial: int
    seq: int


class GaveBack(NamedTuple):
    """An engine's answer to TakeBack."""

    serial: int
    asked: Sequence[int]
    given: Sequence[int]


class CancelWanted(NamedTuple):
    """Somebody wants a task cancelled; ``running`` also if it has started."""

    task_id: int
    running: bool = False


class CancelWithdrawn(NamedTuple):
    """They have stopped waiting for the answer: the task is to run after all."""

    task_id: int


class CancelAll(NamedTuple):
    """Cancel every task but those that run, or would run if the engines that start were up."""


class Remembered(NamedTuple):
    """A task that whoever takes a place from now on is to run before all else; None: not any more. Nobody waits for its end."""

    place: int
    key: int
    task: Task | None
    #: an earlier life of the hub was told as well: an engine that has come in this life has not run it
    again: bool = False


class Broke(NamedTuple):
    """The cluster cannot run tasks any more (the initializer failed, say)."""

    detail: Any


class Closed(NamedTuple):
    """No task will be submitted any more; finish those that are open."""


class Terminated(NamedTuple):
    """Settle everything that is open, at once, as terminated."""


class Tick(NamedTuple):
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
