"""What has become of tasks: the part of a Client that finds what was submitted, waits for it and takes it back."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from concurrent.futures import wait as wait_for
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from zexec import errors
from zexec.client import ClosedError
from zexec.messages import OK, Function
from zexec.result import Metadata
from zexec.views.memory import Memory
from zexec.views.part import Part
from zexec.views.results import ViewResult, _seconds
from zexec.views.rites import Rites

if TYPE_CHECKING:
    from zexec.client import Client as Connection

#: what ``wait``, ``abort`` and ``get_result`` take: ids, places in the history, results, or collections of those
Jobs = Any
#: "all" or None, an engine's number, several, or a slice of ``ids``
Targets = Any


class Book:
    """Base of Client, which has what is declared here."""

    block: bool
    history: list[str]
    _closed: bool
    _connection: Connection
    #: results by the ids of their tasks, also those of other clients of the same pool or executor
    _results: WeakValueDictionary[str, ViewResult]
    _rites: Rites
    _memory: Memory
    #: those that are open, so that they are not dropped
    _open: dict[int, ViewResult]
    #: tasks that ended well or not, by engine
    _completed: dict[int, int]
    _gate: threading.Lock

    if TYPE_CHECKING:

        def resolve(self, targets: Targets) -> list[int]: ...

    @property
    def outstanding(self) -> set[str]:
        """Ids of the tasks that have not ended."""
        with self._gate:
            open_ = list(self._open.values())
        return {part.msg_id for result in open_ for part in result._parts if part.msg_id and not part.done}

    @property
    def results(self) -> dict[str, Any]:
        """By id, what tasks gave that have ended and whose results somebody holds: a value, or an exception."""
        found: dict[str, Any] = {}
        for msg_id, result in list(self._results.items()):
            for part in result._parts:
                if part.msg_id == msg_id and part.done:
                    value = part.value if result._per_item or part.value is None else part.value[0]
                    found[msg_id] = value if part.error is None else part.error
        return found

    @property
    def metadata(self) -> dict[str, Metadata]:
        """By id, facts about the tasks whose results somebody holds."""
        return {
            msg_id: result._metadata_of(part)
            for msg_id, result in list(self._results.items())
            for part in result._parts
            if part.msg_id == msg_id
        }

    def get_result(self, jobs: Jobs = None, block: bool | None = None, owner: bool = True) -> ViewResult:
        """The result of tasks.

        Args:
            jobs: an id, a place in the history (the last by default), a result, or several.
            block: wait for it.

        Raises:
            KeyError: nothing is known of such a task.
        """
        single = not isinstance(jobs, list | tuple | set)
        ids = self._ids_of(-1 if jobs is None else jobs)
        chosen = []
        for msg_id in ids:
            result = self._results.get(msg_id)
            part = None if result is None else result.part_of(msg_id)
            if result is None or part is None:
                return self._fetched(ids, single, block)
            chosen.append((result, part))
        if not chosen:
            raise ValueError("no task was named")
        first = chosen[0][0]
        found = first if ids == first.msg_ids else ViewResult.of_parts(chosen, single=single and len(chosen) == 1)
        if self.block if block is None else block:
            found.wait()
        return found

    def _fetched(self, ids: list[str], single: bool, block: bool | None) -> ViewResult:
        """The result of tasks of which some were submitted elsewhere."""
        from zexec.views.fetched import FetchedResult

        if not all(msg_id.isdecimal() for msg_id in ids):
            raise KeyError(
                f"nothing is known of task {next(i for i in ids if not i.isdecimal())!r}: that is no task's id"
            )
        found = FetchedResult(self._connection, ids, single and len(ids) == 1)
        self._connection.fetch(found._ids, lambda index, size, outcome: found._arrive_part(index, outcome))
        if self.block if block is None else block:
            found.wait()
        return found

    def look_up(self, msg_id: str) -> ViewResult:
        """The result that a task is part of, for a Dependency.

        Raises:
            InvalidDependency: nothing is known of it (a KeyError).
        """
        try:
            return self.get_result([msg_id], block=False)
        except KeyError as e:
            raise errors.InvalidDependency(e.args[0]) from None

    def wait(self, jobs: Jobs = None, timeout: float | None = -1) -> bool:
        """Wait until tasks have ended.

        Args:
            jobs: ids, places in the history, results, any futures; all that are outstanding by default.
            timeout: seconds to wait at most; None and what is below 0 mean for ever.

        Returns:
            whether they have.
        """
        left = _seconds(timeout)
        until = None if left is None else monotonic() + left
        jobs, futures = _split_jobs(jobs)
        if wait_for(futures, left).not_done:
            return False
        for result, parts in self._open_parts(jobs):
            for part in parts:
                # A part has ended when its items have, which the result's condition tells of.
                with result._condition:
                    while not part.done:
                        rest = None if until is None else until - monotonic()
                        if rest is not None and rest <= 0:
                            return False
                        result._condition.wait(rest)
        return True

    def wait_interactive(self, jobs: Jobs = None, interval: float = 0.1, timeout: float | None = None) -> bool:
        """As ``wait``, and show progress."""
        chosen = [(result, part) for result, parts in self._open_parts(jobs) for part in parts]
        if not chosen:
            return True
        return ViewResult.of_parts(chosen, single=False).wait_interactive(interval, timeout)

    def spin(self) -> None:
        """Nothing: results arrive by themselves."""

    def abort(self, jobs: Jobs = None, targets: Targets = None, block: bool | None = None) -> None:
        """Take back tasks that have not started; they fail with TaskAborted.

        Args:
            jobs: ids, places in the history, results; all that are outstanding by default.
            targets: only those that are for these engines.
            block: wait until each is known to be aborted, to run, or to have ended.
        """
        only = None if targets is None or targets == "all" else set(self.resolve(targets))
        chosen = [
            (result, part)
            for result, parts in self._open_parts(jobs)
            for part in parts
            if only is None or part.target is None or part.target in only
        ]
        if chosen:
            ViewResult.of_parts(chosen, single=False).cancel()

    def resubmit(self, jobs: Jobs = None, metadata: Any = None, block: bool | None = None) -> ViewResult:
        """Have tasks of this cluster run again, as new tasks of this client: the calls of views, its own or others'.

        Args:
            jobs: ids, places in the history (the last by default), results.
            metadata: kept; nothing becomes of it.
            block: wait for them.

        Returns:
            what becomes of them: a list, or for one job that.

        Raises:
            ClusterError: the hub knows nothing of one of them.
            ZexecError: this is a pool, whose hub keeps no tasks, once they have been sent.
        """
        if self._connection.ask is None:
            raise errors.ZexecError(
                "the hub in a pool's process keeps no tasks that it could submit again; call it again"
            )
        if self._closed:
            raise RuntimeError("this client is closed")
        ids = self._ids_of(-1 if jobs is None else jobs)
        if not ids:
            raise ValueError("no task was named")
        parts, start = [], 0
        known = [self._results.get(msg_id) for msg_id in ids]
        per_item = all(result is not None and result._per_item for result in known)
        for msg_id, result in zip(ids, known, strict=True):
            part = None if result is None else result.part_of(msg_id)
            parts.append(Part(start, part.size if part is not None and per_item else 1, None))
            start += parts[-1].size
        what = next((result._what for result in known if result is not None), "a task that was submitted before")
        again = ViewResult(self._connection, what, parts, single=len(parts) == 1 and not per_item, per_item=per_item)
        with self._submitting(again) as new:
            sink = Sink(self, again, id(again), Function(b"", b"", what), {})
            self._connection.resubmit([int(msg_id) for msg_id in ids], sink, new)
        if self.block if block is None else block:
            again.wait()
        return again

    @contextmanager
    def _submitting(self, result: ViewResult) -> Iterator[list[int]]:
        """Around the submit of a result's parts, which puts the tasks' ids into the list: they are in the book from then on.

        Raises:
            RuntimeError: the pool was closed.
        """
        key = id(result)
        result._note = self._memory.note
        with self._gate:
            self._open[key] = result
        ids: list[int] = []
        result._ids = ids
        try:
            yield ids
        except BaseException as e:
            with self._gate:
                self._open.pop(key, None)
            if isinstance(e, ClosedError):
                raise RuntimeError(f"the {self._connection.face.name} is closed") from None
            raise
        finally:
            for part, task_id in zip(result._parts, ids, strict=False):
                part.msg_id = str(task_id)
                self._results[part.msg_id] = result
            self.history.extend(map(str, ids))

    def _arrive(self, result: ViewResult, key: int, index: int, outcome: Any) -> None:
        # In the connection's io thread.
        if outcome[4] >= 0:
            self._completed[outcome[4]] = self._completed.get(outcome[4], 0) + 1
        result._arrive_part(index, outcome)
        if result.done():
            with self._gate:
                self._open.pop(key, None)

    def _ids_of(self, jobs: Jobs) -> list[str]:
        if isinstance(jobs, str):
            return [jobs]
        if isinstance(jobs, int):
            try:
                return [self.history[jobs]]
            except IndexError:
                raise IndexError(f"no task {jobs}: the history has {len(self.history)}") from None
        if isinstance(jobs, ViewResult):
            return jobs.msg_ids
        if isinstance(jobs, Iterable):
            return [msg_id for job in jobs for msg_id in self._ids_of(job)]
        raise TypeError(f"a job is a task's id, a place in the history or a view's result, not {jobs!r}")

    def _open_parts(self, jobs: Jobs) -> list[tuple[ViewResult, list[Part]]]:
        wanted = None if jobs is None else set(self._ids_of(jobs))
        with self._gate:
            open_ = list(self._open.values())
        return [
            (result, [p for p in result._parts if p.msg_id and not p.done and (wanted is None or p.msg_id in wanted)])
            for result in open_
        ]


def _split_jobs(jobs: Jobs) -> tuple[Jobs, list[Future[Any]]]:
    """Jobs, and futures that are no views' results."""
    if isinstance(jobs, Future) and not isinstance(jobs, ViewResult):
        return (), [jobs]
    if not isinstance(jobs, list | tuple | set):
        return jobs, []
    others = [job for job in jobs if isinstance(job, Future) and not isinstance(job, ViewResult)]
    return [job for job in jobs if not isinstance(job, Future) or isinstance(job, ViewResult)], others


class Sink:
    """Receives what becomes of one result's parts."""

    __slots__ = ("_client", "_function", "_key", "_payloads", "_result")

    def __init__(
        self, client: Book, result: ViewResult, key: int, function: Function, payloads: dict[int, Any]
    ) -> None:
        self._client = client
        self._result = result
        self._key = key
        self._function = function
        #: of calls that are to be done again on replacements
        self._payloads = payloads

    def __call__(self, index: int, size: int, outcome: Any) -> None:
        client, rite, payload = self._client, self._result._rite, self._payloads.pop(index, None)
        if rite is not None and outcome[1] == OK:
            client._rites.note(client._connection, outcome[4], rite, self._function, payload)
        client._arrive(self._result, self._key, index, outcome)

    def hear(self, index: int, news: bytes) -> None:
        """A part says something while it runs."""
        self._result._parts[index].hear(pickle.loads(news))
