"""What hub and engines talk through, whatever carries it.

Each engine has two channels to its hub, named by a letter: T for tasks and results, used by the engine's main thread, and C
for control, used by its io thread. A channel frames, sends and receives; it decides nothing.

  zexec.net.pipes          for engines that are children of the hub's process
  zexec.net.doors, lines   ZeroMQ, for all others: the hub's roster and the engine's lines
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from zexec.wire.frames import Message

TASKS, CONTROL = b"T", b"C"

#: what a hub receives: channel, serial of the engine, message
Received = tuple[bytes, int, Message]


class EngineChannel(Protocol):
    """An engine's end of one channel. Belongs to one thread."""

    def send(self, message: Message) -> None:
        """Send; returns when the message is on its way."""

    def receive(self) -> Message:
        """The next message; waits for it.

        Raises:
            EOFError: the hub is gone.
        """

    def receive_all(self) -> Iterable[Message]:
        """Every message that is there; waits for none.

        Raises:
            EOFError: the hub is gone.
        """

    def fileno(self) -> int:
        """Readable when a message may be there."""

    def pending(self) -> bool:
        """Whether one is there that the descriptor will not announce again."""

    def close(self) -> None: ...


class Ends(Protocol):
    """The engine's ends before the engine exists: travels to its process."""

    def open(self, letter: bytes, refer: bool) -> EngineChannel:
        """The engine's end, in the thread that will use it. ``refer``: as for ``started``."""

    def arrived(self) -> None:
        """In the engine's process, first of all."""

    def close(self) -> None:
        """Close what ``open`` did not take over."""


class HubChannel(Protocol):
    """The hub's end of all channels.

    One thread receives. Any thread may send, one at a time; the hub's lock sees to that.
    """

    #: messages that were none
    damaged: int
    #: engines whose connection has ended or broken, until somebody takes them out
    lost: list[int]

    def connect(self, serial: int) -> Ends:
        """Make the channels of an engine that is about to be started."""

    def started(self, serial: int, refer: bool) -> None:
        """The engine's process exists and has its ends.

        Args:
            serial: the engine's.
            refer: large data that is in shared memory goes by reference: each side can reach the other's.
        """

    def send(self, letter: bytes, serial: int, message: Any) -> bool:
        """Send to an engine. False if it is gone."""

    def receive(self, ready: Iterable[int]) -> list[Received]:
        """What has come. ``ready``: descriptors that the loop found ready; those of others are none of its business."""

    def pending(self) -> bool:
        """Whether something has come that no descriptor will announce again."""

    def is_connected(self, serial: int) -> bool:
        """Whether something from this engine may still come. False only when everything that it sent has been received."""

    def disconnect(self, serial: int) -> None:
        """Let go of an engine's channels."""

    def close(self) -> None: ...
