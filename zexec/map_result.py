"""MapResult: the AsyncResult of a map. A list in the end, and each item as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from itertools import repeat
from time import monotonic
from typing import TYPE_CHECKING, Any

from zexec import errors, result
from zexec.messages import OK, RAN, Outcome
from zexec.outcomes import Face, describe_item, items_of
from zexec.result import CANCELLED_STATE, PENDING, AsyncResult, Metadata

if TYPE_CHECKING:
    from zexec.client import Client


class MapResult(AsyncResult):
    """What will come of a map: a list, and each item as it arrives.

    ``len`` and ``progress`` count items, however they were chunked. Iterating gives the values in order as they arrive, and
    raises an item's exception at its turn.
    """

    __slots__ = ("_begin", "_done", "_end", "_engines", "_failures", "_ids", "_keep_going", "_left", "_values")

    def __init__(
        self,
        client: Client,
        face: Face,
        what: str,
        size: int,
        keep_going: bool,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> None:
        super().__init__(client, face, what, callback, error_callback)
        self._values: list[Any] = [None] * size
        self._done = bytearray(size)
        self._failures: dict[int, BaseException] = {}
        self._keep_going = keep_going
        self._left = size
        #: ids of the tasks of its chunks
        self._ids: list[int] = []
        #: places and serials of engines that ran some of it, when the first item started and the last ended
        self._engines: set[tuple[int, int]] = set()
        self._begin, self._end = 0.0, 0.0

    def __len__(self) -> int:
        return len(self._values)

    @property
    def progress(self) -> int:
        """How many items have ended."""
        return len(self._values) - self._left

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self._values)):
            self._wait_item(index, None)
            error = self._failures.get(index)
            if error is not None and not self._keep_going:
                raise error
            yield self._values[index] if error is None else error

    def drain(self, deadline: float | None, before_last: Callable[[], Any] | None = None) -> Iterator[Any]:
        """Iterate, letting go of each value that is handed out; what is not waited for any more is cancelled.

        Args:
            deadline: ``time.monotonic()`` until which each item must have arrived, None for ever.
            before_last: called when the last item has arrived, before it is handed out.

        Raises:
            TimeoutError: an item has not arrived by then.
        """
        index, size = 0, len(self._values)
        try:
            while index < size:
                self._wait_item(index, deadline)
                end = self._done.find(0, index)
                end = size if end < 0 else end
                values, self._values[index:end] = self._values[index:end], [None] * (end - index)
                values.reverse()
                if not self._failures and before_last is None:
                    # A third faster than asking the list each time whether there are more.
                    take = values.pop
                    for _ in repeat(None, end - index):
                        yield take()
                    index = end
                    continue
                for at in range(index, end):
                    value, error = values.pop(), self._failures.get(at)
                    if at == size - 1 and before_last is not None:
                        before_last()
                    if error is not None and not self._keep_going:
                        raise error
                    yield value if error is None else error
                    del value
                index = end
        finally:
            self.cancel_rest()

    @property
    def metadata(self) -> Metadata:
        """As for one call; ``started`` is the first item's and ``completed`` the last one's, ``engine_id`` a list."""
        return Metadata(
            submitted=self._submitted,
            started=self._begin or None,
            completed=self._end or None,
            received=self._received or None,
            engine_id=sorted({place for place, _ in self._engines}),
            status=None if self._state_ is PENDING else ("ok" if self._error is None else "error"),
            pyerr=self._error,
            msg_id=[str(id) for id in self._ids],
        )

    def cancel_rest(self) -> None:
        """Cancel the chunks that no engine has started; do not wait for that."""
        if self._left:
            self._client.withdraw(self._ids)

    def _wait_item(self, index: int, deadline: float | None) -> None:
        if self._done[index]:
            return
        if self._client.helper is not None and deadline is None:
            self._client.help(self, lambda: bool(self._done[index]))
        cond = self._condition
        with cond:
            while not self._done[index]:
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise errors.TimeoutError(f"item {index} of {self._what} has not arrived")
                cond.wait(left)

    def _arrive_chunk(self, start: int, size: int, outcome: Outcome) -> None:
        """One chunk has ended: in the client's io thread."""
        what = self._what if outcome[1] == OK else name_items(self._what, start, size)
        values, failures = items_of(outcome, self._face, what, size)
        self._note_run(outcome)
        for offset, error in failures.items():
            self._failures[start + offset] = describe_item(error, start, offset, failures)
        self._store(start, size, values)

    def _note_run(self, outcome: Outcome) -> None:
        started = outcome[5]
        if not started:
            return
        self._engines.add((outcome[4], outcome[3] if outcome[1] in RAN else 0))
        if not self._begin or started < self._begin:
            self._begin = started
        ended = started + outcome[6]
        if ended > self._end:
            self._end = ended

    def _store(self, start: int, size: int, values: list[Any]) -> None:
        """Values of items that have ended; what they raised is in ``_failures`` already."""
        if size == 1:
            self._values[start] = values[0]
        else:
            self._values[start : start + size] = values
        with result._creation:
            cond = self._cond
            if cond is None:
                if size == 1:
                    self._done[start] = 1
                else:
                    self._done[start : start + size] = b"\1" * size
                self._left -= size
        if cond is not None:
            with cond:
                self._done[start : start + size] = b"\1" * size
                self._left -= size
                cond.notify_all()
        if not self._left:
            self._complete()

    def _complete(self) -> None:
        if self._keep_going:
            for index, error in self._failures.items():
                self._values[index] = error
        elif self._failures:
            error = self._failures[min(self._failures)]
            if isinstance(error, CancelledError):
                self._settle(CANCELLED_STATE, None, None)
            else:
                self._finish(None, error)
            return
        self._finish(self._values, None)


def name_items(what: str, start: int, size: int) -> str:
    """The function and the items of a chunk, for messages."""
    return (
        f"{what} on item {start} of the map"
        if size == 1
        else f"{what} on items {start} to {start + size - 1} of the map"
    )
