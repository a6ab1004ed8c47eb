"""How many engines a cluster has: starts what is missing, lets go what is too many, grows and shrinks with the work.

It promises places to the scheduler, and starts an engine whenever a promised place is vacant and none is on its way. Engines that
came by themselves count like any other, but are never sent away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol

from zexec.core import events as ev
from zexec.core.scheduler import Scheduler
from zexec.messages import Death

#: Starts in a row that may fail before the cluster gives up, where no engine has ever been up.
FAILED_STARTS = 3
#: Seconds from a failed start to the next: this, doubled each time up to the other.
PAUSE, LONGEST_PAUSE = 0.1, 30.0
#: Adaptive clusters: seconds that work waits until there are more engines, and that engines idle until there are fewer.
GROW_AFTER, SHRINK_AFTER = 0.25, 10.0
#: Seconds between two looks at whether it should grow or shrink.
LOOK = 0.25


class Starter(Protocol):
    """Starts engines, wherever."""

    def start(self, count: int) -> list[str]:
        """Start engines: a token for each, which it will show when it registers."""

    def ended(self) -> dict[str, str]:
        """Tokens of engines that have ended, or will never come, since the last call; and why, as far as is known."""

    def stop(self, tokens: Iterable[str]) -> None:
        """Call back those that have not come yet, or have gone."""

    def close(self) -> None: ...


class Provider:
    """See the module.

    Args:
        scheduler: whose places are filled.
        tell: takes events for it.
        starter: starts engines; None: they all come by themselves.
        note: takes lines for the log.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        tell: Callable[[ev.Event], None],
        starter: Starter | None,
        note: Callable[[str], None],
    ) -> None:
        self._scheduler = scheduler
        self._tell = tell
        self._starter = starter
        self._note = note
        #: called with the token of an engine that had come, when it is known to have ended, and why
        self.lost: Callable[[str, str], None] = lambda token, why: None
        #: between how many engines it may choose
        self.minimum = self.maximum = 0
        #: those that were started and have not come, and since when
        self.coming: dict[str, float] = {}
        self._promised: set[int] = set()
        self._has_come = False
        self._failures = 0
        self._not_before = 0.0
        self._next_look = 0.0
        self._hungry_since: float | None = None
        self._idle_since: dict[int, float] = {}

    def scale(self, minimum: int, maximum: int | None = None) -> None:
        """Have so many engines, or as many as there is work for, between two numbers."""
        self.minimum, self.maximum = minimum, minimum if maximum is None else maximum
        self._failures = 0
        self._want(min(max(len(self._promised), self.minimum), self.maximum))

    def dismiss(self, ids: Iterable[int], replace: bool = False) -> None:
        """Let engines go when they have done what they run; and start others, or have fewer."""
        ids = set(ids)
        if not replace:
            self._promised -= ids
            self.minimum = min(self.minimum, len(self._promised))
            self.maximum = min(self.maximum, max(len(self._promised), self.minimum))
        for id in ids:
            self._tell(ev.Drain(id, replace))
        self._promise()

    def came(self, token: str) -> None:
        """An engine has a place."""
        self._has_come = True
        self._failures = 0
        self.coming.pop(token, None)

    def tend(self, now: float) -> float | None:
        """Do what is to be done; when to call again at the latest."""
        if self._starter is None or self._scheduler.closing:
            return None
        if self._scheduler.claims_end is not None:
            return self._scheduler.claims_end  # engines of an earlier life of the hub may be on their way
        for token, why in self._starter.ended().items():
            if self.coming.pop(token, None) is not None:
                self._failed(now, why)
            else:
                self.lost(token, why)
        if self.maximum > self.minimum and now >= self._next_look:
            self._next_look = now + LOOK
            self._adapt(now)
        missing = len(self._promised & self._scheduler.fleet.vacant) - len(self.coming)
        if missing > 0 and not self._scheduler.broken:
            if now >= self._not_before:
                self._start(missing, now)
            else:
                return self._not_before
        return self._next_look if self.maximum > self.minimum else None

    def _start(self, count: int, now: float) -> None:
        assert self._starter is not None
        try:
            self.coming.update(dict.fromkeys(self._starter.start(count), now))
        except Exception as e:
            self._failed(now, f"{type(e).__name__}: {e}")

    def _failed(self, now: float, why: str) -> None:
        self._failures += 1
        self._note(f"an engine could not be started: {why}")
        self._not_before = now + min(LONGEST_PAUSE, PAUSE * 2 ** min(self._failures, 20))
        if self._failures >= FAILED_STARTS and not self._has_come:
            self._tell(ev.Broke(Death(-1, -1, "", None, f"no engine could be started: {why}")))

    # -- how many ----------------------------------------------------------------------------------------------------

    def _want(self, count: int) -> None:
        promised = sorted(self._promised)
        if count < len(promised):
            gone = self._spare(promised, len(promised) - count)
            self._promised -= gone
            for id in gone:
                self._tell(ev.Drain(id))
            surplus = list(self.coming)[: max(0, len(self.coming) - count)]
            if surplus and self._starter is not None:
                for token in surplus:
                    del self.coming[token]
                self._starter.stop(surplus)
        id = 0
        while len(self._promised) < count:
            self._promised.add(id)
            id += 1
        self._promise()

    def _spare(self, promised: list[int], count: int) -> set[int]:
        """Which to send away: first places that nobody fills, then idle engines, then the others, each from the end."""
        fleet = self._scheduler.fleet

        def worth(id: int) -> tuple[int, int]:
            engine = fleet.filled.get(id)
            return (0 if engine is None else 1 if engine in fleet.idle else 2), -id

        return set(sorted(promised, key=worth)[:count])

    def _promise(self) -> None:
        self._tell(ev.Promised(frozenset(self._promised)))

    def _adapt(self, now: float) -> None:
        scheduler = self._scheduler
        fleet = scheduler.fleet
        waits = len(scheduler.ready) > 0 and not fleet.idle
        self._hungry_since = (self._hungry_since or now) if waits else None
        if self._hungry_since is not None and now - self._hungry_since >= GROW_AFTER:
            more = min(self.maximum, max(len(self._promised) * 2, 1), len(self._promised) + len(scheduler.ready))
            if more > len(self._promised) and not self.coming:
                self._want(more)
            return
        idle = {engine.id for engine in fleet.idle}
        self._idle_since = {id: self._idle_since.get(id, now) for id in idle}
        old = [id for id, since in self._idle_since.items() if now - since >= SHRINK_AFTER and id in self._promised]
        spare = min(len(old), len(self._promised) - self.minimum)
        if spare > 0:
            self._want(len(self._promised) - spare)

    def status(self) -> dict[str, Any]:
        """For people."""
        return {
            "minimum": self.minimum,
            "maximum": self.maximum,
            "starting": len(self.coming),
            "failed_starts": self._failures,
            "retry_in": max(0.0, self._not_before - monotonic()) if self._failures else 0.0,
        }
