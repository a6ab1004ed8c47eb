"""ViewResult: what will come of a view's call, which is one task or several.

A MapResult whose items are the call's *parts*, one task each, or with ``per_item`` the items of a map that parts are chunks
of. It adds what IPython's parallel package has on its results: metadata of each part, ``get_dict``, ``split``, captured
output. What parts raise is a RemoteError here, or a CompositeError where there were several to answer for.

Threads: ``_arrive_part`` runs in the client's io thread, once for each part. ``_guard`` makes "this part has ended, who
wants to know?" one step against ``follow``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, CancelledError
from concurrent.futures import wait as wait_for
from contextlib import AbstractContextManager
from datetime import datetime
from math import inf
from time import monotonic, time
from typing import TYPE_CHECKING, Any

from zexec import errors
from zexec.dependency import where
from zexec.engine.namespace import ItemFailure, ViewFailure
from zexec.map_result import MapResult
from zexec.messages import CANCELLED, DIED, OK, Outcome
from zexec.outcomes import bare, value_of
from zexec.outcomes import items_of as items_of_chunk
from zexec.result import CANCELLED_STATE, LOGGER, AsyncResult, Metadata
from zexec.views.display import StreamedOutput, display_outputs, wait_interactively
from zexec.views.metadata import METADATA, metadata_of, uuid_of
from zexec.views.part import Part
from zexec.views.replies import ExecuteReply
from zexec.views.rites import Rite
from zexec.wire.parcels import unpack
from zexec.wire.pickling import load_report

if TYPE_CHECKING:
    from zexec.client import Client as Connection


class ViewResult(MapResult):
    """What will come of a view's call. Made by views, never by users.

    Args:
        connection: what submits its tasks.
        what: the function's name.
        parts: its tasks.
        single: the value is that of the only part, rather than a list.
        shape: makes the value of the list of values.
        per_item: each part's value is a list of items' values.
        ordered: iteration gives values in order, rather than as they arrive.
        return_exceptions: exceptions are values.
        copy: arrays in values are writable copies.
        submitted_at: when; now, if not given.
        code: the string of code that its parts run: their values are ExecuteReplies.
        rite: what its parts do to names, if that is to be done again on engines that take others' places.
    """

    def __init__(
        self,
        connection: Connection,
        what: str,
        parts: Sequence[Part],
        *,
        single: bool = False,
        shape: Callable[[list[Any]], Any] | None = None,
        per_item: bool = False,
        ordered: bool = True,
        return_exceptions: bool = False,
        copy: bool = False,
        submitted_at: float | None = None,
        code: str | None = None,
        rite: Rite | None = None,
    ) -> None:
        super().__init__(connection, connection.face, what, sum(part.size for part in parts), return_exceptions)
        self._connection = connection
        self._parts = list(parts)
        self._single = single
        self._shape = shape
        self._per_item = per_item
        self._ordered = ordered
        self._copy = copy
        #: segments of shared memory that were arguments, not copied
        self._borrowed: list[weakref.ref[Any]] = []
        self._code = code
        self._rite = rite
        self._guard = threading.Lock()
        #: indices of items in the order in which they arrived, if not ordered
        self._order: list[int] = []
        #: told of each part that has ended, before anybody who waits
        self._note: Callable[[ViewResult, Part], None] | None = None
        #: the view's, when it was made
        self.label: str | None = None
        #: ids of the tasks that it waits for
        self.after_ids: list[str] = []
        self.follow_ids: list[str] = []
        if submitted_at is not None:
            self._submitted = submitted_at
        if not self._values:
            self._complete()

    def borrow(self, payloads: Iterable[Any]) -> None:
        """Take note of what in its parts' payloads was not copied."""
        for payload in payloads:
            self._borrowed += [weakref.ref(segment) for segment in getattr(payload, "borrowed", ())]

    # -- arriving, in the client's io thread -------------------------------------------------------------------------

    def _arrive_part(self, index: int, outcome: Outcome) -> None:
        part = self._parts[index]
        if outcome[0] >= 0:
            part.msg_id = str(outcome[0])  # it may end before whoever submits it has noted that
        values, error = self._open_part(part, outcome)
        self._end_part(part, (*outcome[:2], None, *outcome[3:]), values, error)

    def _open_part(self, part: Part, outcome: Outcome) -> tuple[list[Any], BaseException | None]:
        """A part's items, and what it raised."""
        try:
            if outcome[1] == CANCELLED:
                raise errors.TaskAborted(f"{self._what} was aborted before it started")
            if outcome[1] != OK:
                raise items_of_chunk(outcome, self._face, self._what, 1)[1][0]
            [(parcel, part.facts)] = value_of(outcome, self._face)
            value = unpack(parcel, self._copy)
            if self._code is not None:
                value = ExecuteReply(part.msg_id, outcome[4], part.facts)
            return (value, None) if self._per_item else ([value], None)
        except BaseException as e:
            return [None] * part.size, self._remote(e, part, outcome)

    def _remote(self, error: BaseException, part: Part, outcome: Outcome) -> BaseException:
        """An exception as views raise it."""
        if isinstance(error, CancelledError):
            return bare(error)
        info: dict[str, Any] = {"engine_id": outcome[4] if outcome[4] >= 0 else part.target, "method": self._method}
        if isinstance(error, ViewFailure):
            part.facts = error.facts
            return _of_report(error.report, error.facts.get("evalue"), {**_place(error.facts), **info})
        if outcome[1] == DIED and outcome[3] is not None:
            info.update(pid=outcome[3].pid, host=outcome[3].host)
        text = "" if error.__cause__ is None else str(error.__cause__)
        remote = errors.RemoteError(type(error).__name__, str(error), text, info)
        remote.__cause__ = bare(error)
        return remote

    def _end_part(self, part: Part, outcome: Outcome, values: list[Any], error: BaseException | None) -> None:
        self._note_run(outcome)
        part.outcome = outcome
        part.error = error
        part.received = time()
        part.take_data(part.facts.get("data", ()))
        for offset in range(part.size):
            if error is not None:
                self._failures[part.start + offset] = error
            elif isinstance(values[offset], ItemFailure):
                info = {"engine_id": outcome[4], "method": self._method, **_place(part.facts)}
                failure = _of_report(values[offset].report, values[offset].evalue, info)
                self._failures[part.start + offset] = values[offset] = failure
        if not self._ordered:
            self._order.extend(range(part.start, part.start + part.size))
        if self._note is not None:
            self._note(self, part)
        with self._guard:
            part.done = True
            part.value = values
            followers, part.followers = part.followers, []
        for follower in followers:
            follower(part)
        for listener in list(part.listeners):
            listener()
        self._store(part.start, part.size, values)

    @property
    def _method(self) -> str:
        return "apply" if self._code is None else "execute"

    def _complete(self) -> None:
        if self._keep_going:
            for index, error in self._failures.items():
                self._values[index] = error
        elif self._failures:
            distinct = list({id(e): e for _, e in sorted(self._failures.items())}.values())
            if len(self._failures) == len(self._values) and all(isinstance(e, errors.TaskAborted) for e in distinct):
                self._settle(CANCELLED_STATE, None, None)
            elif self._single:
                self._finish(None, distinct[0])
            else:
                composite = errors.CompositeError(f"one or more exceptions raised in: {self._what}", distinct)
                composite.__cause__ = distinct[0]
                self._finish(None, composite)
            return
        self._finish(self._shaped(), None)

    def _shaped(self) -> Any:
        if self._single and not self._per_item:
            return self._values[0]
        if self._shape is None or any(isinstance(self._values[i], BaseException) for i in self._failures):
            return self._values
        try:
            return self._shape(self._values)
        except Exception:
            # Parts that do not fit together are given as they are.
            LOGGER.debug("the parts of %s were not put together", self._what, exc_info=True)
            return self._values

    # -- getting -----------------------------------------------------------------------------------------------------

    def get(
        self, timeout: float | None = None, return_exceptions: bool | None = None, return_when: str | None = None
    ) -> Any:
        """The value, when it is there; as ``result``.

        Args:
            timeout: seconds to wait at most; None and what is below 0 mean for ever.
            return_exceptions: put exceptions where values would be, rather than raise.
            return_when: ``FIRST_EXCEPTION``: raise as soon as a part has failed.
        """
        timeout = _seconds(timeout)
        if return_when == FIRST_EXCEPTION:
            done, _ = wait_for(self.split(), timeout, FIRST_EXCEPTION)
            for one in done:
                assert isinstance(one, ViewResult)
                if not one.successful() and not return_exceptions:
                    one.get()
        if return_exceptions:
            AsyncResult.wait(self, timeout)
            if not self.done():
                raise errors.TimeoutError(f"no result of {self._what} after {timeout} s")
            values = [self._failures.get(i, value) for i, value in enumerate(self._values)]
            return values[0] if self._single else values
        return self.result(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """The value, when it is there. Raises RemoteError, CompositeError, TaskAborted or TimeoutError."""
        try:
            return super().result(_seconds(timeout))
        except CancelledError:
            raise errors.TaskAborted(f"{self._what} was aborted before it started") from None

    @property
    def r(self) -> Any:
        """The value; waits for it."""
        return self.get()

    def get_dict(self, timeout: float | None = None) -> dict[int | None, Any]:
        """The values by engine.

        Raises:
            ValueError: an engine ran several parts.
        """
        value = self.get(timeout)
        values = [value] if self._single else self._values
        ids = [part.engine_id for part in self._parts]
        for id in ids:
            if ids.count(id) > 1:
                raise ValueError(f"no dict can be made of it: engine {id} ran {ids.count(id)} parts of {self._what}")
        if self._per_item:
            values = [values[part.start : part.start + part.size] for part in self._parts]
        return dict(zip(ids, values, strict=True))

    @property
    def result_dict(self) -> dict[int | None, Any]:
        """As ``get_dict()``."""
        return self.get_dict()

    def wait(self, timeout: float | None = None, return_when: str | None = None) -> Any:
        """Wait until it is there, or for ``timeout`` seconds.

        Returns:
            whether it is; with ``return_when``, as ``concurrent.futures.wait`` on ``split()``: what is done and what is not.
        """
        timeout = _seconds(timeout)
        if return_when in (FIRST_COMPLETED, FIRST_EXCEPTION, ALL_COMPLETED):
            return wait_for(self.split(), timeout, return_when)
        super().wait(timeout)
        return self.done()

    def __iter__(self) -> Iterator[Any]:
        if self._ordered:
            yield from super().__iter__()
            return
        taken = 0
        while taken < len(self._values):
            with self._condition:
                while len(self._order) <= taken or not self._done[self._order[taken]]:
                    self._condition.wait()
            index = self._order[taken]
            taken += 1
            error = self._failures.get(index)
            if error is not None and not self._keep_going:
                raise error
            yield self._values[index] if error is None else error

    def __getitem__(self, key: int | slice | str) -> Any:
        """Values by index (they have to be there), metadata by name."""
        if isinstance(key, str):
            found = [data[key] for data in self._all_metadata()]
            return found[0] if self._single else found
        self._check_done()
        chosen = list(range(len(self._values)))[key]
        for index in [chosen] if isinstance(chosen, int) else chosen:
            if index in self._failures and not self._keep_going:
                raise self._failures[index]
        if isinstance(self._value, (list, tuple)) and len(self._value) == len(self._values):
            return self._value[key]
        return self._values[key]

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *METADATA})

    def __getattr__(self, name: str) -> Any:
        if name in METADATA:
            return self[name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    # -- what is known of its tasks ----------------------------------------------------------------------------------

    @property
    def msg_ids(self) -> list[str]:
        """The ids of its tasks."""
        return [part.msg_id for part in self._parts]

    @property
    def engine_ids(self) -> list[int | None]:
        """For each part the engine that ran it, or is to run it."""
        return [part.engine_id for part in self._parts]

    @property
    def metadata(self) -> Any:
        """Facts about its run: one Metadata, or a list with one for each part."""
        found = self._all_metadata()
        return found[0] if self._single and found else found

    def _all_metadata(self) -> list[Metadata]:
        return [self._metadata_of(part) for part in self._parts]

    def part_of(self, msg_id: str) -> Part | None:
        """The part with this id."""
        return next((part for part in self._parts if part.msg_id == msg_id), None)

    def _metadata_of(self, part: Part) -> Metadata:
        return metadata_of(self, part)

    def task_ends(self) -> dict[int, tuple[bool, int, int]]:
        """For those that wait for its tasks: how each ended, as ``zexec.dependency.ends_of``."""
        return {
            int(part.msg_id): (part.error is None, *where(part.outcome))
            for part in self._parts
            if part.outcome is not None and part.msg_id
        }

    @property
    def progress(self) -> int:
        """How many of its parts have ended; of a map: how many items."""
        return sum(part.size if self._per_item else 1 for part in self._parts if part.done)

    @property
    def elapsed(self) -> float:
        """Seconds since it was submitted, or until it was there."""
        return (self._received if self.done() and self._received else time()) - self._submitted

    @property
    def serial_time(self) -> float:
        """Seconds that its parts took in all.

        Raises:
            TimeoutError: they have not all ended.
        """
        self._check_done()
        return sum(part.outcome[6] for part in self._parts if part.outcome is not None)

    @property
    def wall_time(self) -> float:
        """Seconds from submission to the arrival of the last part.

        Raises:
            TimeoutError: it has not arrived.
        """
        self._check_done()
        return max((part.received or 0.0 for part in self._parts), default=self._submitted) - self._submitted

    def timedelta(
        self,
        start: datetime | Iterable[datetime],
        end: datetime | Iterable[datetime],
        start_key: Callable[[Iterable[datetime]], datetime] = min,
        end_key: Callable[[Iterable[datetime]], datetime] = max,
    ) -> float:
        """Seconds between two times of the metadata: ``r.timedelta(r.submitted, r.started)``.

        Args:
            start, end: times, or lists with one for each part.
            start_key, end_key: choose from such lists.
        """
        begin = start if isinstance(start, datetime) else start_key(start)
        until = end if isinstance(end, datetime) else end_key(end)
        return (until - begin).total_seconds()

    def _check_done(self) -> None:
        if not self.done():
            raise errors.TimeoutError("result not ready")

    @property
    def sent(self) -> bool:
        """Whether what is done to arguments now is seen by no engine any more.

        True as soon as the call has returned, because it copies them; but for arrays of ``zexec.empty``, ``zeros`` and
        ``asshared``, which are not copied: for those when the call has ended, and no engine has kept one.
        """
        if not self._borrowed:
            return True
        if not self.done():
            return False
        self._borrowed = [segment for segment in self._borrowed if (alive := segment()) is not None and alive.is_lent()]
        return not self._borrowed

    def wait_for_send(self, timeout: float | None = None) -> None:
        """Wait until ``sent``.

        Args:
            timeout: seconds at most; None and what is below 0 mean for ever.

        Raises:
            TimeoutError: it is not in that time.
        """
        timeout = _seconds(timeout)
        until = None if timeout is None else monotonic() + timeout
        if self._borrowed:
            AsyncResult.wait(self, timeout)
        tables = [segment.table for each in self._borrowed if (segment := each()) is not None]
        if self.sent:
            return
        if self.done() and tables:
            # All arrays of this process live in one arena.
            with tables[0].releases as releases:
                while True:
                    count = releases.count
                    if self.sent:
                        return
                    left = inf if until is None else until - monotonic()
                    if left <= 0:
                        break
                    releases.wait(count, left)
        raise errors.TimeoutError(f"the arguments of {self._what} are still being used after {timeout} s")

    wait_on_send = wait_for_send

    def wait_for_output(self, timeout: float | None = None) -> bool:
        """Wait until all that it says is there. It comes with the results, at the latest.

        Returns:
            whether it is.
        """
        return bool(self.wait(timeout))

    def display_outputs(self, groupby: str = "type", result_only: bool = False) -> None:
        """Show what its parts printed and displayed, and values of last expressions. Waits for it.

        Args:
            groupby: "type": all text, then all errors' text, then the rest; "engine": all of one engine, then of the next;
                "order": as "type", but first what each engine displayed first, then second.
            result_only: values of last expressions only.

        Raises:
            ValueError: there is no such way to group.
        """
        display_outputs(self, groupby, result_only)

    def stream_output(self) -> AbstractContextManager[None]:
        """Show what its parts print and display, as it comes, for the length of a ``with``."""
        return StreamedOutput(self)

    def wait_interactive(
        self,
        interval: float = 0.1,
        timeout: float | None = None,
        widget: bool | None = None,
        return_when: str | None = None,
    ) -> bool:
        """Wait, and show progress: by tqdm, where that is installed, on stderr or in the notebook.

        Args:
            interval: seconds between two looks.
            timeout: seconds to wait at most; None and what is below 0 mean for ever.
            widget: a notebook's progress bar, or one of text; by default what fits the place.
            return_when: as for ``wait``: come back when a part has ended, or has failed.

        Returns:
            whether what was waited for is there.
        """
        return wait_interactively(self, interval, _seconds(timeout), widget, return_when)

    # -- control and pieces ------------------------------------------------------------------------------------------

    def abort(self) -> bool:
        """Take back those of its tasks that have not started.

        Returns:
            whether that were all.

        Raises:
            RuntimeError: it has ended.
        """
        if self.done():
            raise RuntimeError(f"{self._what} cannot be aborted: it has ended")
        return self.cancel()

    def split(self) -> tuple[ViewResult, ...]:
        """A result for each part. Those of a map have their part's list of values in a list, as ipyparallel's do."""
        if len(self._parts) == 1:
            return (self,)
        return tuple(ViewResult.of_parts([(self, part)], single=not self._per_item) for part in self._parts)

    @classmethod
    def join(cls, *results: ViewResult) -> ViewResult:
        """One result of several; the opposite of ``split``."""
        if not results:
            raise ValueError("at least one result is needed to join")
        if len(results) == 1:
            return results[0]
        return cls.of_parts([(result, part) for result in results for part in result._parts], single=False)

    @classmethod
    def of_parts(cls, chosen: Iterable[tuple[ViewResult, Part]], single: bool) -> ViewResult:
        """A result that follows parts of others."""
        chosen = list(chosen)
        first = chosen[0][0]
        parts = []
        for at, (_, part) in enumerate(chosen):
            copy = Part(at, 1, part.target)
            copy.msg_id = part.msg_id
            parts.append(copy)
        made = cls(first._connection, first._what, parts, single=single, submitted_at=first._submitted)
        made._ids = [int(part.msg_id) for part in parts]
        for (origin, part), copy in zip(chosen, parts, strict=True):
            origin._follow(part, made._follower(origin, copy))
        return made

    def _follower(self, origin: ViewResult, mine: Part) -> Callable[[Part], None]:
        def end(theirs: Part) -> None:
            mine.facts = theirs.facts
            mine.data = {}
            assert theirs.outcome is not None
            value = theirs.value if origin._per_item else (theirs.value or [None])[0]
            self._end_part(mine, theirs.outcome, [value], theirs.error)

        return end

    def _follow(self, part: Part, follower: Callable[[Part], None]) -> None:
        with self._guard:
            if not part.done:
                part.followers.append(follower)
                return
        follower(part)

    def __repr__(self) -> str:
        state = "pending" if not self.done() else "finished" if self.successful() else "failed"
        return f"<{type(self).__name__}({self._what}): {state}>"


def _place(facts: dict[str, Any]) -> dict[str, Any]:
    return {**{key: facts[key] for key in ("pid", "host") if key in facts}, "engine_uuid": uuid_of(facts)}


def _of_report(report: bytes, evalue: str | None, info: dict[str, Any]) -> errors.RemoteError:
    exc, name, args, text, _ = load_report(report)
    remote = errors.RemoteError(name, args if evalue is None else evalue, text, info)
    remote.__cause__ = exc
    return remote


def _seconds(timeout: float | None) -> float | None:
    return None if timeout is None or timeout < 0 else timeout


__all__ = ["Part", "ViewResult"]
