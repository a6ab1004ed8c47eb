"""An engine that comes by itself: calls the hub, gets a place, serves until the hub or the connection has gone."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

from zexec.engine.engine import Engine, EngineSpec, die_with
from zexec.engine.lasting import Lasting, LastingEnds
from zexec.engine.ledger import Ledger
from zexec.errors import ClusterError
from zexec.messages import Refused, Register, Welcome
from zexec.net import cards
from zexec.net.cards import Card
from zexec.net.channels import TASKS, Ends, EngineChannel
from zexec.net.lines import Line
from zexec.net.peers import myself
from zexec.wire.arena import doors

LOGGER = logging.getLogger("zexec")
#: Seconds that a hub may take to answer.
PATIENCE = 30.0
#: Seconds between two looks whether there still is one.
LOOK = 0.5
#: what whoever started this process says by its environment, see ``zexec.launch.children``
TOKEN, LEDGER, LIFELINE = "ZEXEC_TOKEN", "ZEXEC_LEDGER", "ZEXEC_LIFELINE"


class LineEnds:
    """An engine's ends: two lines to the hub, one of which stands already."""

    def __init__(self, card: Card, name: bytes, tasks: Line) -> None:
        self._card = card
        self._name = name
        self._tasks = tasks

    def open(self, letter: bytes, refer: bool) -> EngineChannel:
        if letter == TASKS:
            return self._tasks
        line = Line(self._card, letter + self._name)
        line.lane = self._tasks.lane
        return line

    def arrived(self) -> None: ...

    def close(self) -> None: ...


def join(
    card: Card,
    environment: Mapping[str, str] = os.environ,
    patience: float = PATIENCE,
    find: Callable[[], Card | None] | None = None,
) -> None:
    """Be an engine of a cluster. Returns when it is over.

    Args:
        card: the cluster's.
        find: looks the card up again, when the hub has ended and may come back; None: it was stopped, and will not.
        environment: where whoever started this process has put what it should know.
        patience: seconds that the hub may take to answer.

    Raises:
        ClusterError: the hub does not answer, or does not want this engine; the message says why.
    """
    ledger = Ledger(int(environment[LEDGER])) if LEDGER in environment else None
    if LIFELINE in environment:
        die_with(int(environment[LIFELINE]))
    name = os.urandom(16)
    home = doors.settle()

    def register() -> Register:
        return Register(myself(), environment.get(TOKEN, ""), name.hex(), home=home)

    line = Line(card, TASKS + name)
    try:
        line.send(register())
        welcome = _answer(line, card, patience)
        if not line.meet(welcome, home):
            LOGGER.debug("large data goes to and from cluster %r by frames", card.name)
    except BaseException:
        line.close(0)
        raise
    cards.joined, cards.place = card, (welcome.id, welcome.serial)
    ends: Ends = LineEnds(card, name, line)
    if welcome.durable:
        ends = LastingEnds(Lasting(register, find or (lambda: card), line, card, name, welcome))
    spec = EngineSpec(ends, ledger, welcome.serial, welcome.id, None, None)
    Engine(spec).run(_nothing)
    # As at an interpreter's end, but before the lines' threads are waited for: executors that tasks have left open.
    threading._shutdown()  # type: ignore[attr-defined]


def _answer(line: Line, card: Card, patience: float) -> Welcome:
    until = monotonic() + patience
    while True:
        try:
            message: Any = line.receive_within(min(LOOK, patience))
        except EOFError as e:
            raise ClusterError(str(e)) from None
        except ClusterError:
            # A hub that ends before the connection stands is missed by nobody: libzmq goes on trying.
            if card.is_stale():
                raise ClusterError(f"cluster {card.name!r} is not running any more: its hub has ended") from None
            if monotonic() > until:
                raise
            continue
        if type(message) is Welcome:
            return message
        if type(message) is Refused:
            raise ClusterError(message.reason)


def _nothing() -> None:
    """Engines of a cluster have no initializer of their own: clients bring theirs along."""
