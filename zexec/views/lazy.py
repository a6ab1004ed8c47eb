"""Balanced views as iterators and as executors: values while the input is still being drawn."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor
from concurrent.futures import wait as wait_for
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zexec.views.balanced import LoadBalancedView
    from zexec.views.results import ViewResult


class LazyMapIterator(Iterator[Any]):
    """Values of calls that are made as values are taken. Made by ``LoadBalancedView.imap``.

    Args:
        calls: makes a call each time it is asked for the next.
        limit: calls that are open at a time, None for all at once.
        ordered: give values in order, rather than as they arrive.
        return_exceptions: give a call's exception, rather than raise it.
    """

    def __init__(self, calls: Iterator[ViewResult], limit: int | None, ordered: bool, return_exceptions: bool) -> None:
        self._calls = calls
        self._ordered = ordered
        self._return_exceptions = return_exceptions
        self._waiting = deque(islice(calls, limit))

    def __next__(self) -> Any:
        waiting = self._waiting
        if not waiting:
            raise StopIteration
        if self._ordered:
            result = waiting.popleft()
        else:
            wait_for(waiting, return_when=FIRST_COMPLETED)
            result = next(result for result in waiting if result.done())
            waiting.remove(result)
        try:
            value = result.get(return_exceptions=self._return_exceptions)
        except BaseException:
            self.cancel()
            raise
        waiting.extend(islice(self._calls, 1))
        return value

    def cancel(self) -> None:
        """Draw no more, and cancel the calls that no engine has started."""
        self._calls = iter(())
        while self._waiting:
            self._waiting.popleft().cancel_rest()

    close = cancel

    def __del__(self) -> None:
        if hasattr(self, "_waiting"):
            self.cancel()


class ViewExecutor(Executor):
    """An Executor on a balanced view. Its results are the view's: what calls raise is a RemoteError.

    Args:
        view: whose.
    """

    def __init__(self, view: LoadBalancedView) -> None:
        self.view = view
        #: results of its calls that may not have ended
        self._results: list[ViewResult] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> ViewResult:
        """As ``view.apply_async``."""
        result = self.view.apply_async(fn, *args, **kwargs)
        self._results = [one for one in self._results if not one.done()]
        self._results.append(result)
        return result

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, **options: Any
    ) -> Iterator[Any]:
        """As ``view.imap``; all of the input is drawn at once, unless ``max_outstanding`` says otherwise.

        Args:
            fn, iterables: as for the builtin.
            timeout: not supported.
            options: as for ``imap``.

        Raises:
            TypeError: a timeout was given.
        """
        if timeout is not None:
            raise TypeError("a view's executor has no time-out for map: give the view's results one")
        options.setdefault("max_outstanding", 0)
        lazy: LazyMapIterator = self.view.imap(fn, *iterables, **options)
        self._results += lazy._waiting
        return lazy

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for its calls. The view and its engines go on."""
        if cancel_futures:
            for result in self._results:
                result.cancel()
        if wait:
            wait_for(self._results)


__all__ = ["LazyMapIterator", "ViewExecutor"]
