"""Functions that run on a view's engines when they are called: ``@view.remote()`` and ``@view.parallel()``."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zexec.views import partition

if TYPE_CHECKING:
    from zexec.views.view import View


class RemoteFunction:
    """A function whose calls run on a view's engines. Has its name, docstring and signature.

    Args:
        view: where.
        f: the function; ``func`` is it.
        block: wait for the value; as the view does, by default.
        flags: of the view, for these calls.
    """

    def __init__(self, view: View, f: Callable[..., Any], block: bool | None = None, **flags: Any) -> None:
        functools.update_wrapper(self, f)
        self.view = view
        self.func = f
        self.block = block
        self.flags = flags
        try:
            self.__signature__ = inspect.signature(f)
        except (TypeError, ValueError):
            pass

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with self.view.temp_flags(**self._flags()):
            return self.view.apply(self.func, *args, **kwargs)

    def _flags(self) -> dict[str, Any]:
        return self.flags if self.block is None else {"block": self.block, **self.flags}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {getattr(self, '__qualname__', self.func)} on {self.view!r}>"

    def __reduce__(self) -> Any:
        # On an engine there is no view: there it is the function itself.
        return _itself, (self.func,)


class ParallelFunction(RemoteFunction):
    """A function whose arguments are cut into parts, one for each engine, and whose values are put together.

    Called, it gets whole parts; ``map`` calls it with each item.

    Args:
        view, f, block, flags: as for RemoteFunction.
        dist: "b" cuts into blocks, "r" deals items out.
        chunksize, ordered: for ``map`` of a LoadBalancedView; ``chunksize`` items to a part for calls on it.
        return_exceptions: exceptions are values.
    """

    def __init__(
        self,
        view: View,
        f: Callable[..., Any],
        dist: str = "b",
        block: bool | None = None,
        chunksize: int | None = None,
        ordered: bool = True,
        return_exceptions: bool = False,
        **flags: Any,
    ) -> None:
        partition.check_dist(dist)
        super().__init__(view, f, block, **flags)
        self.dist = dist
        self.chunksize = chunksize
        self.ordered = ordered
        self.return_exceptions = return_exceptions

    def __call__(self, *sequences: Any, **kwargs: Any) -> Any:
        if kwargs:
            raise TypeError(f"{self.func!r} is parallel: it takes sequences, no keywords such as {', '.join(kwargs)}")
        if not sequences:
            raise TypeError(f"{self.func!r} is parallel: it takes at least one sequence")
        with self.view.temp_flags(**self._flags()):
            return self.view._call_on_parts(self, *sequences)

    def map(self, *sequences: Any) -> Any:
        """``list(map(f, *sequences))``, on the engines."""
        options: dict[str, Any] = {"return_exceptions": self.return_exceptions}
        options.update(self.view._map_options(self))
        with self.view.temp_flags(**self._flags()):
            return self.view.map(self.func, *sequences, **options)


def _itself(f: Callable[..., Any]) -> Callable[..., Any]:
    return f


def remote(view: View, block: bool | None = None, **flags: Any) -> Callable[[Callable[..., Any]], RemoteFunction]:
    """Decorate a function so that calling it calls it on a view's engines."""
    return lambda f: RemoteFunction(view, f, block, **flags)


def parallel(
    view: View, dist: str = "b", block: bool | None = None, **flags: Any
) -> Callable[[Callable[..., Any]], ParallelFunction]:
    """Decorate a function so that calling it cuts its arguments into parts, for a view's engines."""
    return lambda f: ParallelFunction(view, f, dist, block, **flags)


__all__ = ["ParallelFunction", "RemoteFunction", "parallel", "remote"]
