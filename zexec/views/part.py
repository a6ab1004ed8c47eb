"""Part: one task of a view's call, as its result knows it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from zexec.messages import Outcome
from zexec.result import LOGGER
from zexec.wire.parcels import unpack


class Part:
    """One task of a call: where its items are in the result, and what is known of its run."""

    __slots__ = (
        "data",
        "done",
        "error",
        "facts",
        "followers",
        "listeners",
        "msg_id",
        "outcome",
        "received",
        "size",
        "start",
        "target",
        "value",
    )

    def __init__(self, start: int, size: int, target: int | None) -> None:
        self.start = start
        self.size = size
        self.target = target  #: the engine it was meant for, None for any
        self.msg_id = ""
        self.done = False
        #: its value, or a list of values if it is a chunk of a map; only kept for followers
        self.value: Any = None
        self.error: BaseException | None = None
        self.outcome: Outcome | None = None
        self.received: float | None = None
        #: what is known of its run; until it has ended, what it has said so far
        self.facts: dict[str, Any] = {}
        #: values that it has published, by name
        self.data: dict[str, Any] = {}
        #: called with this part when it has ended
        self.followers: list[Callable[[Part], None]] = []
        #: called when there is news of what it says, and when it has ended
        self.listeners: list[Callable[[], None]] = []

    @property
    def engine_id(self) -> int | None:
        """The engine that ran it, or else the one it was meant for."""
        if self.outcome is not None and self.outcome[4] >= 0:
            return self.outcome[4]
        return self.target

    def hear(self, news: dict[str, tuple[int, Any]]) -> None:
        """It says more while it runs. Each piece says where it belongs; what does not fit is in the result later."""
        for name, (place, more) in news.items():
            if name == "data":
                self.take_data(more)
            elif len(known := self.facts.get(name, type(more)())) == place:
                self.facts[name] = known + more
        for listener in list(self.listeners):
            listener()

    def take_data(self, parcels: Iterable[Any]) -> None:
        """Values that it has published, oldest first."""
        for parcel in parcels:
            try:
                self.data.update(unpack(parcel))
            except Exception as e:
                LOGGER.warning("data of a task could not be unpickled: %r", e)
