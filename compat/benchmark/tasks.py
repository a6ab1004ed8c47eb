"""What the engines run. Imported by every engine of every peer, so it imports only what the tasks need."""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 7 ms of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


def noop(value: int = 0) -> int:
    return value


def spin(seconds: float) -> None:
    """Use this much processor time. Processor time, not wall time: else engines that share a core would look ideal."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def nap(seconds: float) -> None:
    time.sleep(seconds)


def hold(folder: str) -> None:
    """Occupy the engine, and show it by a file, until the folder is gone. Files, because every peer has them."""
    with open(os.path.join(folder, f"held-{os.getpid()}"), "w"):
        pass
    while os.path.exists(folder):
        time.sleep(0.05)


def last(array: Any) -> float:
    """Look at an array, but not at all of it."""
    return float(array[-1])


_ready: dict[int, Any] = {}


def ready_array(size: int) -> Any:
    """An array that was made once."""
    if size not in _ready:
        import numpy as np

        _ready[size] = np.ones(size)
    return _ready[size]


def each(function: Callable[[Any], Any], chunk: Sequence[Any]) -> list[Any]:
    """A chunk of a map, for peers whose map has no chunks."""
    return [function(item) for item in chunk]


def different_lambdas(count: int) -> list[Callable[[int], int]]:
    return [lambda value, offset=offset: value + offset for offset in range(count)]  # type: ignore[misc]
