"""AsyncResult: one class that is a ``concurrent.futures.Future`` and a ``multiprocessing.pool.AsyncResult``.

It does not call ``Future.__init__``: a Future with its condition, deque and lists costs two kilobytes and two microseconds,
and there is one result per call. Here ``get`` waits on a bare lock, and the condition is made when the stdlib asks for it.

How a result settles, and why no waiter is forgotten
  ``_settle`` looks for a condition and, if there is none, sets the state, both under the one lock ``_creation``; ``_condition``
  creates under the same lock. So a waiter that comes after finds the state set, and one that came before is seen and notified
  under its condition, as the stdlib's ``wait`` and ``as_completed`` expect. Whoever waits by ``get`` looks at the state and
  leaves its lock to be released under ``_creation`` too, and ``_settle`` takes the locks in the same step that sets the state.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from time import time
from types import GenericAlias
from typing import TYPE_CHECKING, Any, Literal

from zexec import errors
from zexec.messages import CANCELLED, OK, Outcome
from zexec.outcomes import Face, bare, error_of, value_of

if TYPE_CHECKING:
    from zexec.client import Client

LOGGER = logging.getLogger("concurrent.futures")

PENDING: Literal["PENDING"] = "PENDING"
FINISHED: Literal["FINISHED"] = "FINISHED"
#: what a cancelled Future becomes once everybody who waits has been told
CANCELLED_STATE: Literal["CANCELLED_AND_NOTIFIED"] = "CANCELLED_AND_NOTIFIED"

#: Bytes of a payload that a settled result need not let go of: to make another outcome without it takes more.
SMALL = 64

_creation = threading.Lock()


def _after_fork_in_child() -> None:
    # Whoever held it at the fork is not here to release it.
    global _creation
    _creation = threading.Lock()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Metadata(dict[str, Any]):
    """A dict whose keys are attributes as well."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


def _nothing(result: Any) -> None:
    """A callback for its own sake: that it is due wakes the callback thread."""


class _Afterwards:
    """Stands for the client in a result that has settled, so that keeping the result keeps no pool, hub or thread."""

    helper = None

    @property
    def callbacks(self) -> _Afterwards:
        return self

    def check_owned(self) -> None: ...

    def is_running(self, result: Any) -> bool:
        return False

    def cancel(self, result: Any, running: bool) -> None: ...

    def withdraw(self, task_ids: Any) -> None: ...

    def are_run_here(self) -> bool:
        return False


_AFTERWARDS: Any = _Afterwards()


class AsyncResult(Future):  # type: ignore[type-arg]
    """What will come of a call. Made by Pool, Executor and the views, never by users.

    All of ``concurrent.futures.Future`` and all of ``multiprocessing.pool.AsyncResult``.
    """

    __slots__ = (
        "_callback",
        "_callbacks",
        "_client",
        "_cond",
        "_error",
        "_error_callback",
        "_face",
        "_locks",
        "_outcome",
        "_received",
        "_state_",
        "_submitted",
        "_task_id",
        "_value",
        "_waiting",
        "_what",
    )

    __class_getitem__: Any = classmethod(GenericAlias)

    def __init__(
        self,
        client: Client,
        face: Face,
        what: str,
        callback: Callable[[Any], Any] | None = None,
        error_callback: Callable[[BaseException], Any] | None = None,
    ) -> None:
        self._client = client
        self._face = face
        self._what = what
        self._callback = callback
        self._error_callback = error_callback
        self._state_: str = PENDING
        self._cond: threading.Condition | None = None
        self._locks: list[Any] | None = None
        self._callbacks: list[Callable[[Any], Any]] | None = None
        self._waiting: list[Any] | None = None
        self._value: Any = None
        self._error: BaseException | None = None
        self._task_id = -1
        self._outcome: Outcome | None = None
        self._submitted = time()
        self._received = 0.0

    # -- what Future keeps in attributes, and the stdlib's own functions reach for -----------------------------------

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]
        cond = self._cond
        if self._state_ is PENDING:
            # Nobody must come to wait in a fork of the process, where nothing will ever arrive.
            self._client.check_owned()
        if cond is None:
            with _creation:
                cond = self._cond
                if cond is None:
                    cond = self._cond = threading.Condition()
        return cond

    @property
    def _state(self) -> str:  # type: ignore[override]  # an attribute there, which only its own executors set
        return self._state_

    @property
    def _result(self) -> Any:  # type: ignore[override]
        return self._value

    @property
    def _exception(self) -> BaseException | None:  # type: ignore[override]
        return self._error

    @property
    def _waiters(self) -> list[Any]:  # type: ignore[override]
        # Used by concurrent.futures.wait and as_completed, under the condition.
        if self._waiting is None:
            self._waiting = []
            if self._client.helper is not None:
                # Whoever waits so holds locks, and waits for others too.
                threading.Thread(
                    target=self._client.help, args=(self, self.done), name="zexec-help", daemon=True
                ).start()
        return self._waiting

    def __repr__(self) -> str:
        state = self._state_.lower().replace("cancelled_and_notified", "cancelled")
        name = type(self).__name__
        if self._state_ != FINISHED:
            return f"<{name} at {id(self):#x} state={state}>"
        if self._error is not None:
            return f"<{name} at {id(self):#x} state=finished raised {type(self._error).__name__}>"
        return f"<{name} at {id(self):#x} state=finished returned {type(self._value).__name__}>"

    # -- both interfaces ---------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> Any:
        """The value, when it is there.

        Args:
            timeout: seconds to wait at most, None for ever.

        Raises:
            TimeoutError: it is not there in time.
            CancelledError: the task was cancelled.
            Exception: what the task raised.
        """
        if self._state_ is PENDING and not self._wait(timeout):
            raise errors.TimeoutError(f"no result of {self._what} after {timeout} s")
        if self._state_ is CANCELLED_STATE:
            raise CancelledError()
        if self._error is not None:
            try:
                raise self._error
            finally:
                # The traceback holds this frame: without self in it there is no cycle.
                del self
        return self._value

    get = result

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """What the task raised, or None, when it has ended. Arguments and errors as for ``result``."""
        if self._state_ is PENDING and not self._wait(timeout):
            raise errors.TimeoutError(f"no result of {self._what} after {timeout} s")
        if self._state_ is CANCELLED_STATE:
            raise CancelledError()
        return self._error

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the task has ended, or for ``timeout`` seconds. Never raises what the task raised."""
        if self._state_ is PENDING:
            self._wait(timeout)

    def done(self) -> bool:
        """Whether the task has ended, well or not."""
        return self._state_ is not PENDING

    ready = done

    def successful(self) -> bool:
        """Whether the task ended without an exception.

        Raises:
            NotReadyError: it has not ended (a ValueError and an AssertionError).
        """
        if self._state_ is PENDING:
            raise errors.NotReadyError(f"{self!r} not ready")
        return self._state_ is FINISHED and self._error is None

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._state_ is CANCELLED_STATE

    def running(self) -> bool:
        """Whether an engine runs it now, as far as the hub knows."""
        return self._state_ is PENDING and self._client.is_running(self)

    def cancel(self, running: bool = False) -> bool:
        """Take the task back.

        Args:
            running: also if it has started: it is interrupted, and if it does not react, its engine is replaced.

        Returns:
            True if it is cancelled, False if it runs (without ``running``) or has ended.
        """
        if self._state_ is PENDING:
            self._client.cancel(self, running)
        return self._state_ is CANCELLED_STATE

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        """Call ``fn(self)`` when the task has ended: in the client's callback thread, or here if it has ended already.

        What it raises is logged, as in the stdlib.
        """
        with _creation:
            if self._state_ is PENDING:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(fn)
                client = self._client
            else:
                client = None
        if client is None:
            self._call_back(fn)
        elif client.helper is not None:
            client.help_later(self)

    @property
    def metadata(self) -> Metadata:
        """Facts about the run: who ran it, when, for how long (seconds; times are ``time.time()``)."""
        outcome = self._outcome
        _, status, _, _, engine, started, seconds = outcome or (0, None, None, None, -1, 0.0, 0.0)
        return Metadata(
            submitted=self._submitted,
            started=started or None,
            completed=started + seconds if started else None,
            received=self._received or None,
            engine_id=engine if engine >= 0 else None,
            status=None if status is None else ("ok" if status == OK else "error"),
            pyerr=self._error,
            msg_id=str(self._task_id),
        )

    # -- settling ----------------------------------------------------------------------------------------------------

    def _arrive(self, outcome: Outcome) -> None:
        """The task has ended: in the client's io thread."""
        self._outcome = outcome
        if outcome[1] == CANCELLED:
            self._settle(CANCELLED_STATE, None, None)
            return
        try:
            if outcome[1] == OK:
                value, error = value_of(outcome, self._face), None
            else:
                value, error = None, error_of(outcome, self._face, self._what)
        except BaseException as e:
            value, error = None, bare(e)
        payload = outcome[2]
        if payload is not None and len(payload) > SMALL:
            self._outcome = (*outcome[:2], None, *outcome[3:])
        if error is None and self._callback is None:
            # What most results come to, short: nobody has asked for a condition or a callback.
            with _creation:
                if self._cond is None and not self._callbacks:
                    self._value = value
                    self._received = time()
                    self._state_ = FINISHED
                    locks, self._locks = self._locks, None
                    self._client = _AFTERWARDS
                    if locks:
                        for lock in locks:
                            lock.release()
                    return
        self._finish(value, error)

    def _finish(self, value: Any, error: BaseException | None) -> None:
        """Settle, after the Pool's callback if there is one: the stdlib's is ready only once that has returned."""
        callback = self._callback if error is None else self._error_callback
        self._callback = self._error_callback = None
        if callback is not None:
            self._client.callbacks.soon(self._finish_with, callback, value, error)
        elif self._callbacks:
            # In the callback thread, which wakes the waiters and runs the callbacks right after, as the stdlib's manager
            # thread does: programs count on both to happen almost at once.
            self._client.callbacks.soon(self._settle, FINISHED, value, error)
        else:
            self._settle(FINISHED, value, error)

    def _finish_with(self, callback: Callable[[Any], Any], value: Any, error: BaseException | None) -> None:
        try:
            callback(value if error is None else error)
        except BaseException:
            LOGGER.exception("a callback of %s raised", self._what)
        finally:
            self._settle(FINISHED, value, error)

    def _settle(self, state: str, value: Any, error: BaseException | None) -> None:
        self._received = time()
        self._value, self._error = value, error
        callbacks = locks = None
        with _creation:
            cond = self._cond
            if cond is None:
                self._state_ = state
                callbacks, self._callbacks = self._callbacks, None
                locks, self._locks = self._locks, None
        if cond is not None:
            with cond:
                with _creation:
                    self._state_ = state
                    callbacks, self._callbacks = self._callbacks, None
                    locks, self._locks = self._locks, None
                for waiter in self._waiting or ():
                    if state is CANCELLED_STATE:
                        waiter.add_cancelled(self)
                    elif error is not None:
                        waiter.add_exception(self)
                    else:
                        waiter.add_result(self)
                cond.notify_all()
        if locks:
            for lock in locks:
                lock.release()
        if callbacks:
            here = self._client.callbacks.are_run_here()
            for fn in callbacks:
                if here:
                    self._call_back(fn)
                else:
                    self._client.callbacks.soon(self._call_back, fn)
        self._client = _AFTERWARDS

    def _call_back(self, fn: Callable[[Any], Any]) -> None:
        try:
            fn(self)
        except Exception:
            LOGGER.exception("exception calling callback for %r", self)

    def _wait(self, timeout: float | None) -> bool:
        if timeout is not None and timeout <= 0:
            return self._state_ is not PENDING
        client = self._client
        client.check_owned()
        if client.callbacks.are_run_here():
            # What settles this may stand in the queue behind the callback that waits here.
            self.add_done_callback(_nothing)
            client.callbacks.run(self.done, timeout)
            if self._state_ is not PENDING or timeout is not None:
                return self._state_ is not PENDING
        if client.helper is not None and timeout is None:
            client.help(self, self.done)
        # A bare lock, released by ``_settle``: a condition would cost a microsecond and a half on either side.
        lock = threading.Lock()
        lock.acquire()
        with _creation:
            if self._state_ is not PENDING:
                return True
            if self._locks is None:
                self._locks = []
            self._locks.append(lock)
        if lock.acquire(timeout=-1 if timeout is None else timeout):
            return True
        with _creation:
            if self._locks is not None:
                self._locks.remove(lock)
        return self._state_ is not PENDING

    # -- what only the stdlib's executors do to their futures --------------------------------------------------------

    def set_running_or_notify_cancel(self) -> bool:
        raise concurrent.futures.InvalidStateError("a zexec result is settled by its engine alone")

    def set_result(self, result: Any) -> None:
        raise concurrent.futures.InvalidStateError("a zexec result is settled by its engine alone")

    def set_exception(self, exception: BaseException | None) -> None:
        raise concurrent.futures.InvalidStateError("a zexec result is settled by its engine alone")
