"""All engines of a cluster: which place each fills, and which of them can be given something, or robbed."""

from __future__ import annotations

from collections import OrderedDict
from heapq import heapify, heappop, heappush

from zexec.core.costs import AHEAD, REFILL
from zexec.core.engines import LEAVING, STARTING, UP, Engine


class Fleet:
    """Places 0, 1, 2 ... and the engines that fill them, or did and have not gone yet.

    Whoever changes what an engine holds, its state or its allowance calls ``sort`` for it.
    """

    __slots__ = (
        "_serial",
        "_vacant",
        "_vacant_order",
        "closed",
        "engines",
        "filled",
        "idle",
        "loaded",
        "roomy",
        "starting",
        "up",
    )

    def __init__(self, places: int) -> None:
        #: engines that are starting, up or leaving, by serial
        self.engines: dict[int, Engine] = {}
        #: who fills each place; an engine that leaves has given up its place already
        self.filled: dict[int, Engine] = {}
        # Engines that are up. idle: hold nothing and may be sent something; roomy: hold something, less than their credit, and
        # may be sent something; loaded: hold more than they can be running and are not being asked for it, those not heard of
        # for longest in front. OrderedDicts, because a plain dict that is popped at the front scans its holes.
        self.idle: OrderedDict[Engine, None] = OrderedDict()
        self.roomy: OrderedDict[Engine, None] = OrderedDict()
        self.loaded: OrderedDict[Engine, None] = OrderedDict()
        #: engines in that state
        self.up = 0
        self.starting = 0
        self._serial = 0
        #: places that nobody is to fill any more, in a cluster that starts its own engines
        self.closed: frozenset[int] = frozenset()
        self._vacant = set(range(places))
        #: a heap of at least those
        self._vacant_order = list(range(places))

    # -- places ------------------------------------------------------------------------------------------------------

    @property
    def vacant(self) -> set[int]:
        """Places that nobody fills. Changed only here."""
        return self._vacant

    def close(self, id: int) -> None:
        """Nobody is to fill a place any more."""
        self.closed |= {id}
        self._vacant.discard(id)

    def first_vacant(self) -> int:
        """The lowest place that nobody fills; there must be one."""
        order = self._vacant_order
        while order[0] not in self._vacant:
            heappop(order)
        return order[0]

    def grow(self, places: int) -> None:
        """Add places, behind those that there are, until there are so many."""
        for id in range(len(self.filled) + len(self._vacant), places):
            self._vacant.add(id)
            heappush(self._vacant_order, id)

    def shrink(self, places: int) -> int:
        """Take away vacant places at the end, down to so many if those are vacant. How many there are now."""
        last = len(self.filled) + len(self._vacant)
        while last > places and last - 1 in self._vacant:
            last -= 1
            self._vacant.remove(last)
        self._vacant_order = [id for id in self._vacant_order if id < last]
        heapify(self._vacant_order)
        return last

    def start(self, id: int, allowance: int | None) -> Engine:
        """Fill a vacant place with a new engine."""
        self._vacant.remove(id)
        self._serial += 1
        engine = Engine(self._serial, id, allowance)
        self.engines[engine.serial] = engine
        self.filled[id] = engine
        self.starting += 1
        return engine

    def vacate(self, engine: Engine) -> None:
        """An engine fills its place no more."""
        if self.filled.get(engine.id) is engine:
            del self.filled[engine.id]
            if engine.id in self.closed:
                return
            self._vacant.add(engine.id)
            heappush(self._vacant_order, engine.id)
            if len(self._vacant_order) > 2 * len(self._vacant) + 64:
                self._vacant_order = list(self._vacant)
                heapify(self._vacant_order)

    @property
    def count(self) -> int:
        """Engines that there have ever been."""
        return self._serial

    # -- states ------------------------------------------------------------------------------------------------------

    def rise(self, engine: Engine) -> None:
        """From STARTING to UP."""
        engine.state = UP
        self.starting -= 1
        self.up += 1

    def leave(self, engine: Engine) -> None:
        """To LEAVING, from whatever it was; its place is free."""
        if engine.state is UP:
            self.up -= 1
        elif engine.state is STARTING:
            self.starting -= 1
        engine.state = LEAVING
        self.sort(engine)
        self.vacate(engine)

    # -- what can be done with them ----------------------------------------------------------------------------------

    def sort(self, engine: Engine) -> bool:
        """Put an engine into those of idle, roomy and loaded where it belongs now. Whether it has room."""
        self.idle.pop(engine, None)
        self.roomy.pop(engine, None)
        held = len(engine.held)
        if held > 1 and not engine.asked and engine.state is UP:
            self.loaded[engine] = None  # where it was, if it was there
        else:
            self.loaded.pop(engine, None)
        if engine.state is not UP:
            return False
        if engine.allowance == 0 or engine.draining:
            return False
        if not held:
            engine.load = 0.0  # forgets what rounding has left
            self.idle[engine] = None
            return True
        if engine.load < REFILL or (held == 1 and engine.load <= AHEAD):
            self.roomy[engine] = None
            return True
        return False

    def heard(self, engine: Engine, now: float) -> None:
        """Note progress; ``sort`` follows."""
        engine.progress = now
        self.loaded.pop(engine, None)

    def has_room(self, engine: Engine) -> bool:
        return engine in self.idle or engine in self.roomy
