"""Single orders to a hub, and their answers: no thread, no connection that stays."""

from __future__ import annotations

import os
from time import monotonic
from typing import Any

from zexec.errors import ClusterError
from zexec.messages import Answer, Ask, Bye, Greet, Greeted, Refused
from zexec.net.cards import Card
from zexec.net.lines import Line
from zexec.net.peers import myself

#: Seconds that a hub may take to answer.
PATIENCE = 10.0


class Call:
    """A connection for a few orders. A context manager.

    Args:
        card: the cluster's connection file.
        patience: seconds that the hub may take for each answer.

    Raises:
        ClusterError: the hub does not answer, or does not let us in.
    """

    def __init__(self, card: Card, patience: float = PATIENCE) -> None:
        self._card = card
        self._patience = patience
        self._number = 0
        self._line = Line(card, b"o" + os.urandom(16))
        try:
            self._line.send(Greet(myself(), ""))
            self._wait_for(Greeted, 0)
        except BaseException:
            self._line.close(0)
            raise

    def order(self, what: str, args: Any = None) -> Any:
        """Give an order, or ask a question; the answer.

        Raises:
            ClusterError: there is none, or it says why it cannot be done.
        """
        self._number += 1
        self._line.send(Ask(self._number, what, args))
        answer = self._wait_for(Answer, self._number)
        if answer.error:
            raise ClusterError(answer.error)
        return answer.value

    def _wait_for(self, kind: Any, number: int) -> Any:
        until = monotonic() + self._patience
        try:
            while True:
                message: Any = self._line.receive_within(max(0.0, until - monotonic()))
                if type(message) is kind and (kind is Greeted or message.number == number):
                    return message
                if type(message) in (Refused, Bye):
                    raise ClusterError(message.reason)
        except EOFError as e:
            raise ClusterError(f"the hub of cluster {self._card.name!r} is gone: {e}") from None

    def __enter__(self) -> Call:
        return self

    def __exit__(self, *args: object) -> None:
        try:
            if not self._line.lost:
                self._line.send(Bye())
        finally:
            self._line.close(500)


def order(card: Card, what: str, args: Any = None, patience: float = PATIENCE) -> Any:
    """Give one order.

    Raises:
        ClusterError: the hub is gone, refuses, or does not answer in time.
    """
    with Call(card, patience) as call:
        return call.order(what, args)
