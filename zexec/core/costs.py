"""How long tasks take, learnt from those that ran: the base of credit.

An engine's credit is time, not a number of tasks: it may hold about HOLD seconds of work. A function nobody has seen run is
taken to fill that alone, so credit starts at one task and grows only while tasks are seen to be short.
"""

from __future__ import annotations

#: Seconds of work an engine may hold. Less leaves engines idle while the hub waits for the interpreter lock (5 ms when user
#: threads are busy); more makes revokes common. 2 to 8 ms measured alike; the round trip is 0.2 ms.
HOLD = 0.004

#: An engine whose load is below this is sent more. Well below HOLD, so that short tasks go in bulk and not one by one; above
#: half of it, so that four tasks of 1 ms, reported in pairs, are followed up before all have run (7 % of time lost otherwise).
REFILL = 0.6 * HOLD

#: Tasks up to this long are fetched one ahead, so that the round trip is hidden. Above it the gap is under 1 %, and taking
#: tasks strictly one by one gives exactly greedy list scheduling.
AHEAD = 0.02

#: No task costs less than this: bounds what an engine may hold at HOLD / FLOOR tasks.
FLOOR = 2e-6

#: Weight of the newest observation, and how many functions are remembered before all are forgotten.
WEIGHT = 0.25
REMEMBER = 10_000


class Costs:
    """Expected seconds per item of each function."""

    __slots__ = ("_seconds",)

    def __init__(self) -> None:
        self._seconds: dict[bytes, float] = {}

    def expect(self, digest: bytes, size: int) -> float:
        """Seconds that ``size`` items of this function will take; more than HOLD and AHEAD for an unknown one."""
        seconds = self._seconds.get(digest)
        if seconds is None:
            return 1.0
        return seconds * size if size > 1 else seconds

    def observe(self, digest: bytes, size: int, seconds: float) -> None:
        """Learn from a task that ran."""
        seconds = seconds / size if size > 1 else seconds
        if not seconds >= FLOOR:  # also what is no number
            seconds = FLOOR
        known = self._seconds.get(digest)
        if known is None:
            if len(self._seconds) >= REMEMBER:
                self._seconds.clear()
            self._seconds[digest] = seconds
        elif seconds > known:
            # A function that turns out slow must lose its credit at once: what waits behind it waits for long.
            self._seconds[digest] = (known + seconds) / 2
        else:
            self._seconds[digest] = known + (seconds - known) * WEIGHT
