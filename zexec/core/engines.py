"""What the scheduler knows about one engine."""

from __future__ import annotations

from zexec.messages import Task

STARTING = "starting"
UP = "up"
LEAVING = "leaving"


class Engine:
    """One incarnation of an engine. A replacement is another one, with a serial of its own, in the same place."""

    __slots__ = (
        "allowance",
        "asked",
        "chained",
        "condemned",
        "draining",
        "fresh",
        "held",
        "id",
        "load",
        "next_seq",
        "progress",
        "serial",
        "state",
        "stirred",
    )

    def __init__(self, serial: int, id: int, allowance: int | None) -> None:
        self.serial = serial  #: unique for ever
        self.id = id  #: the place it fills
        self.state = STARTING
        #: what was sent to it and has not come back, by its number there; in the order in which it runs them
        self.held: dict[int, Task] = {}
        self.next_seq = 0  #: number of the next task sent to it
        self.load = 0.0  #: sum of the costs of what it holds, in seconds
        self.progress = 0.0  #: when it last took or returned anything, or was found to have nothing to take back
        self.allowance = allowance  #: tasks it may still be sent, None for any number
        self.asked: set[int] = set()  #: numbers it was asked to give back and has not answered for
        #: numbers of those that it is to run only if the one before ended well there; that has not been heard of yet
        self.chained: set[int] = set()
        self.stirred: set[int] = set()  #: numbers it was interrupted for and has not answered for
        self.fresh = True  #: it was in no earlier life of the hub, or nothing was sent to it then
        self.draining = False  #: it is to leave when it holds nothing
        self.condemned = False  #: we had it killed: its death is nobody's fault

    def __repr__(self) -> str:
        return f"<Engine {self.id}/{self.serial} {self.state} holds {len(self.held)}>"
