"""Puts a client and a link to a cluster together: what Pool and Executor stand on, where they are given one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zexec.client import Client
from zexec.cluster.baggage import Baggage
from zexec.cluster.link import RemoteLink
from zexec.errors import ClusterError
from zexec.helping import Helper
from zexec.net import cards
from zexec.net.cards import CLIENT, Card, find
from zexec.outcomes import Face
from zexec.wire.pickling import ForeignMain

if TYPE_CHECKING:
    from zexec.cluster.cluster import Cluster

#: names the cluster that pools use which are given none
VARIABLE = "ZEXEC_CLUSTER"


def chosen(cluster: Any) -> Any:
    """The cluster that a pool is to use: the one that it was given, or that of the environment, or None."""
    return cluster if cluster is not None else os.environ.get(VARIABLE) or None


def card_of(cluster: str | os.PathLike[str] | Cluster | Card) -> Card:
    """The connection file of a cluster, by its name, the path of that file, or itself.

    Raises:
        TypeError: that is no way to name a cluster.
        ClusterError: there is no such cluster, or it is not running any more.
    """
    if isinstance(cluster, Card):
        return cluster
    if isinstance(cluster, str | os.PathLike):
        return find(cluster, CLIENT)
    card = getattr(cluster, "card", None)
    if not isinstance(card, Card):
        raise TypeError(f"a cluster is a zexec.Cluster, its name or its connection file, not {cluster!r}")
    return card


def again(card: Card) -> Card:
    """The connection file of a cluster whose hub has ended, once it has come back.

    Raises:
        ClusterError: it has not.
    """
    try:
        return find(card.name, CLIENT)
    except ClusterError:
        if card.is_stale() is None:
            return card  # its folder is on another machine
        raise


def cluster_client(
    face: Face,
    cluster: Any,
    initializer: Callable[..., Any] | None,
    initargs: tuple[Any, ...],
    number: int = -1,
) -> Client:
    """A client of a hub in another process.

    Args:
        face: the interface it serves.
        cluster: which; see ``card_of``.
        initializer, initargs: run in each engine before the first task of this client.
        number: of a client that has detached, to go on as that.

    Raises:
        ClusterError: there is no such cluster, or it does not let us in.
    """
    card = card_of(cluster)
    main = ForeignMain()
    client = Client(face, forked=False, main=main)
    baggage = Baggage(initializer, initargs, main)
    name = f"{face.name} of {os.path.basename(sys.argv[0]) or 'python'}"
    link = RemoteLink(card, name, client.deliver, client.ended, client.hear, baggage, number, lambda: again(card))
    if card.is_same_hub(cards.joined):
        client.helper = Helper(link.tell, client.deliver, *cards.place)
    client.start(link, begin=False, first_id=link.first_id)
    return client
