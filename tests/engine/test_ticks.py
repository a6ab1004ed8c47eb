"""When an engine's io thread goes to sleep: never over a result that waits to be sent."""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import Any

from zexec.engine.engine import FLUSH, QUIET, Engine
from zexec.messages import OK, Results

RECORD = (0, OK, b"", 0.0, 0.0)


class Channel:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, message: Any) -> None:
        self.sent.append(message)


class Quiet(Engine):
    """An engine without process or threads. ``meanwhile`` runs right before the io thread stops its ticks."""

    def __init__(self, meanwhile: Any = None) -> None:
        self.meanwhile = meanwhile
        self._unsent = deque()
        self._sending = threading.Lock()
        self._speaking = None
        self._first_unsent = 0.0
        self._ticking = True

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_ticking" and value is False and self.meanwhile is not None:
            self.meanwhile(self)
        super().__setattr__(name, value)


def test_ticks_end_after_a_while_without_results() -> None:
    engine, channel = Quiet(), Channel()
    quiet = 0
    for _ in range(QUIET):
        quiet = engine._tick(quiet, channel)
        assert engine._ticking
    engine._tick(quiet, channel)
    assert not engine._ticking
    assert not channel.sent


def test_a_result_that_has_waited_goes_out() -> None:
    engine, channel = Quiet(), Channel()
    engine._unsent.append(RECORD)
    engine._first_unsent = monotonic() - 2 * FLUSH
    assert engine._tick(QUIET, channel) == 0
    assert channel.sent == [Results([RECORD])]
    assert engine._ticking


def test_a_result_that_comes_at_the_last_moment_is_not_left_lying() -> None:
    """The main thread has appended it, has found that ticks go on, and runs a long task now."""

    def append(engine: Engine) -> None:
        engine._unsent.append(RECORD)
        engine._first_unsent = monotonic()

    engine, channel = Quiet(append), Channel()
    engine._tick(QUIET, channel)
    assert engine._ticking
