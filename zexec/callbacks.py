"""The callback thread of a client: runs what users want called when results are there, one after the other.

It is a thread of its own because the io thread runs no user code, and one because users of Pool and Executor count on their
callbacks not to run at the same time. A callback that waits for a result runs meanwhile what stands behind it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any

from zexec.result import LOGGER


class Callbacks:
    """The calls that are due, and their thread, which is started when it is first needed."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., Any], tuple[Any, ...]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._gate = threading.Lock()

    def soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Run ``call(*args)`` in the thread."""
        with self._gate:
            self._calls.put((call, args))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="zexec-callbacks", daemon=True)
                self._thread.start()

    def are_run_here(self) -> bool:
        """Whether the caller is the thread."""
        return threading.current_thread() is self._thread

    @property
    def waiting(self) -> int:
        """How many are due and have not begun."""
        return self._calls.qsize()

    def run(self, until: Callable[[], bool], timeout: float | None) -> None:
        """In the thread, inside a callback that waits: run what stands behind it, until it need not wait any more.

        Returns also when the time is up, or nothing can come any more.
        """
        deadline = None if timeout is None else monotonic() + timeout
        while not until():
            left = None if deadline is None else max(0.0, deadline - monotonic())
            try:
                item = self._calls.get(timeout=left)
            except Empty:
                return
            if item is None:
                self._calls.put(None)  # the end, for the loop that this is inside of
                return
            _call(*item)

    def end(self) -> None:
        """Nothing comes any more: the thread ends after what is due."""
        with self._gate:
            self._calls.put(None)

    def join(self, timeout: float | None) -> None:
        """Wait for the end of the thread, unless this is it."""
        if self._thread is not None and not self.are_run_here():
            self._thread.join(timeout)

    def _run(self) -> None:
        while True:
            item = self._calls.get()
            if item is None:
                return
            _call(*item)
            # Hold nothing while waiting for the next.
            del item


def _call(call: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        call(*args)
    except BaseException:
        LOGGER.exception("a callback raised")
