"""The lazy maps: items drawn from the input as others complete, values handed out as they arrive.

Who draws
  Without ``buffersize`` a thread of the iterator's own draws, at the pace of completion: it keeps a window of chunks
  submitted, which grows while they turn out to be short. A generator that blocks therefore blocks nobody else, nor the items
  it gave before: it may wait for what becomes of them. So they are submitted one chunk at a time, unless the input is of a
  kind that never blocks.
  With ``buffersize`` the consumer draws, inside ``next``: what has been drawn never exceeds what was taken by more.

A pool that is closed still takes the rest of an input that it accepted before, as the stdlib's does; hence ``begin_feeding``
and ``end_feeding``. An iterator with a buffer that is dropped will never be drawn to its end, so it gives that up.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from time import monotonic
from typing import TYPE_CHECKING, Any

from zexec import errors
from zexec.client import ClosedError
from zexec.messages import KEEP_GOING, MAP, Outcome
from zexec.outcomes import describe_item, items_of

if TYPE_CHECKING:
    from zexec.client import Client
    from zexec.options import Options

#: Chunks that are kept submitted: at first per engine, and at most.
WINDOW, WINDOW_MAX = 2, 4096
#: Seconds between two looks of a task that waits for an imap of its own cluster: what it waits for may be there to be run.
LOOK = 0.05
#: A window that completes within this many seconds is too small: the next is twice as large.
SHORT = 0.01


#: Kinds of input that are certain to give all their items at once.
_NEVER_BLOCK = (list, tuple, range, str, bytes, dict, set, frozenset)


class ImapIterator:
    """What ``imap`` and ``imap_unordered`` return: an iterator that also has ``next(timeout)``."""

    def __init__(
        self,
        client: Client,
        f: Callable[[Any], Any],
        iterable: Iterable[Any],
        chunksize: int,
        buffersize: int | None,
        ordered: bool,
        return_exceptions: bool,
        options: Options,
    ) -> None:
        self._client = client
        self._name = getattr(f, "__qualname__", repr(f))
        self._chunksize = chunksize
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._options = options
        # Everything below is guarded by _cond.
        self._cond = threading.Condition()
        self._drawn = 0  #: items drawn so far
        self._taken = 0  #: items handed out so far
        self._outstanding = 0  #: chunks submitted and not back
        self._arrived: dict[int, tuple[Any, BaseException | None]] = {}  #: by index, if ordered
        self._queue: deque[tuple[Any, BaseException | None]] = deque()  #: if not
        self._exhausted = False
        #: what the input raised; handed out after the values of all items before it
        self._failure: BaseException | None = None
        self._window = max(1, WINDOW * len(client.processes()))
        self._buffersize = buffersize
        self._bulk = isinstance(iterable, _NEVER_BLOCK)
        self._feeding = False
        try:
            self._function = client.function(f, options.shared)
            self._items = iter(iterable)
        except Exception as e:
            self._exhausted, self._failure = True, e
            return
        client.begin_feeding()
        self._feeding = True
        if buffersize is None:
            threading.Thread(target=self._feed, name="zexec-imap", daemon=True).start()
        else:
            self._draw_ahead()

    # -- handing out -------------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return self

    def next(self, timeout: float | None = None) -> Any:
        """The next value.

        Args:
            timeout: seconds to wait at most, None for ever.

        Raises:
            TimeoutError: it has not arrived in time; it may be asked for again.
            StopIteration: there are no more.
            Exception: what the item raised; the next call gives the next item.
        """
        deadline = None if timeout is None else monotonic() + timeout
        self._client.check_owned()
        helper = self._client.helper
        with self._cond:
            while not self._is_next_there():
                if self._exhausted and self._taken >= self._drawn:
                    failure, self._failure = self._failure, None
                    if failure is not None:
                        raise failure
                    raise StopIteration
                left = None if deadline is None else deadline - monotonic()
                if left is not None and left <= 0:
                    raise errors.TimeoutError(f"item {self._taken} of {self._name} has not arrived")
                if helper is not None and left is None:
                    self._cond.release()
                    try:
                        helper.help_any(self._is_next_there)
                    finally:
                        self._cond.acquire()
                    if self._is_next_there():
                        break
                    # More may be drawn, or given back, and nobody says so.
                    left = LOOK
                self._cond.wait(left)
            value, error = self._arrived.pop(self._taken) if self._ordered else self._queue.popleft()
            self._taken += 1
        if self._buffersize is not None:
            self._draw_ahead()
        if error is None:
            return value
        if self._return_exceptions:
            return error
        raise error

    __next__ = next

    def _is_next_there(self) -> bool:
        return self._taken in self._arrived if self._ordered else bool(self._queue)

    # -- drawing -----------------------------------------------------------------------------------------------------

    def _feed(self) -> None:
        """The drawing thread."""
        then = monotonic()
        while not self._exhausted:
            with self._cond:
                room = self._window - self._outstanding
            if not self._draw(room if self._bulk else 1):
                return
            if room > 1 and not self._bulk:
                continue
            with self._cond:
                # Half, so that short chunks are submitted in bulk.
                while self._outstanding > self._window // 2 and not self._exhausted:
                    self._cond.wait()
                now = monotonic()
                if now - then < SHORT:
                    self._window = min(self._window * 2, WINDOW_MAX)
                then = now

    def _draw_ahead(self) -> None:
        """The consumer draws: as many chunks as the buffer has room for."""
        assert self._buffersize is not None
        while not self._exhausted:
            room = self._buffersize - (self._drawn - self._taken)
            # A buffer smaller than a chunk still takes one chunk, cut to size.
            if room < min(self._chunksize, self._buffersize):
                return
            if not self._draw(max(1, room // self._chunksize), limit=room):
                return

    def _draw(self, chunks: int, limit: int | None = None) -> bool:
        """Draw and submit up to ``chunks`` chunks; False when the input is exhausted, or nobody takes tasks any more."""
        drawn: list[tuple[int, list[Any]]] = []
        failure: BaseException | None = None
        more = True
        start = self._drawn
        size = self._chunksize if limit is None else min(self._chunksize, limit)
        while more and len(drawn) < chunks:
            chunk: list[Any] = []
            try:
                chunk.extend(islice(self._items, size))
            except BaseException as e:
                # The chunk that the input broke off in is not run, as in the stdlib.
                failure, more, chunk = e, False, []
            if len(chunk) < size:
                more = False
            if chunk:
                drawn.append((start, chunk))
                start += len(chunk)
        with self._cond:
            self._drawn = start
            self._outstanding += len(drawn)
        kind = MAP | KEEP_GOING
        try:
            self._client.submit_chunks(self._function, kind, drawn, self._arrive, self._options, feeding=True)
        except ClosedError:
            with self._cond:
                self._drawn -= sum(len(chunk) for _, chunk in drawn)
                self._outstanding -= len(drawn)
            failure = errors.TerminatedError(f"the pool was terminated before the input of {self._name} was at its end")
            more = False
        if not more:
            with self._cond:
                self._failure = failure
                self._exhausted = True
                self._cond.notify_all()
            self._end_feeding()
        return more

    def _end_feeding(self) -> None:
        if self._feeding:
            self._feeding = False
            self._client.end_feeding()

    def __del__(self) -> None:
        self._end_feeding()

    # -- arriving, in the client's io thread -------------------------------------------------------------------------

    def _arrive(self, start: int, size: int, outcome: Outcome) -> None:
        values, failures = items_of(outcome, self._client.face, self._name, size)
        pairs = [
            (value, describe_item(failures[offset], start, offset, failures) if offset in failures else None)
            for offset, value in enumerate(values)
        ]
        with self._cond:
            if self._ordered:
                self._arrived.update(zip(range(start, start + size), pairs, strict=True))
            else:
                self._queue.extend(pairs)
            self._outstanding -= 1
            self._cond.notify_all()
