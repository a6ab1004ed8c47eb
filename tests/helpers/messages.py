"""Messages as data that can be compared."""

from __future__ import annotations

from typing import Any

from zexec.messages import Pulse, Task
from zexec.net.lines import Line


def hear(line: Line) -> Any:
    """The next message of a hub that means something: it may ask at any time whether somebody is there still."""
    while True:
        message = line.receive_within(20)
        if type(message) is not Pulse:
            return message


def plain(value: Any) -> Any:
    """Buffers by what they hold, lists and tuples alike; messages with their kind, since tuples of two kinds may be equal."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    if isinstance(value, Task):
        names = ("id", "kind", "payload", "size", "priority", "retries", "timeout", "targets")
        return ["Task", value.function.digest, *(plain(getattr(value, name)) for name in names)]
    if isinstance(value, list | tuple):
        return [type(value).__name__ if hasattr(value, "_fields") else "", *map(plain, value)]
    if hasattr(value, "__slots__"):
        return [type(value).__name__, *(plain(getattr(value, name)) for name in value.__slots__)]
    return value
