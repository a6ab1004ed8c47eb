"""Tasks of several clients that wait for an engine: each client in turn.

Each client has a ready queue of its own, with its own priorities. They are served in turn, as much at a time as one engine is
given in one decision: one task, or some milliseconds' worth of short ones. So a client with one task waits for a turn of each
of the others, not for all that they have submitted before it.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator, Sequence
from itertools import groupby

from zexec.core.ready import ReadyQueue
from zexec.messages import CLIENT_BITS, Task


def client_of(task: Task) -> int:
    """The number of the client whose task it is."""
    return task.id >> CLIENT_BITS


class FairQueue(ReadyQueue):
    """As a ReadyQueue, for tasks of several clients."""

    __slots__ = ("_clients",)

    def __init__(self) -> None:
        super().__init__()
        #: those that have tasks here, next turn first
        self._clients: OrderedDict[int, ReadyQueue] = OrderedDict()

    def __iter__(self) -> Iterator[Task]:
        for queue in self._clients.values():
            yield from queue

    def extend(self, tasks: Sequence[Task]) -> None:
        for client, some in groupby(tasks, client_of):
            own = list(some)
            self._queue(client).extend(own)
            self._count += len(own)

    def put_back(self, tasks: Sequence[Task]) -> None:
        by_client: dict[int, list[Task]] = {}
        for task in tasks:
            by_client.setdefault(client_of(task), []).append(task)
        for client, own in by_client.items():
            self._queue(client).put_back(own)
            self._count += len(own)

    def front(self) -> deque[Task] | None:
        while self._clients:
            level = next(iter(self._clients.values())).front()
            if level is not None:
                return level
            self._clients.popitem(last=False)
        return None

    def took(self, waiting: int, leftovers: int) -> None:
        client, queue = next(iter(self._clients.items()))
        queue.took(waiting, leftovers)
        self._count -= waiting
        if queue:
            self._clients.move_to_end(client)
        else:
            del self._clients[client]

    def left(self, task: Task) -> None:
        self._clients[client_of(task)].left(task)
        self._count -= 1

    def _queue(self, client: int) -> ReadyQueue:
        queue = self._clients.get(client)
        if queue is None:
            queue = self._clients[client] = ReadyQueue()
        return queue
