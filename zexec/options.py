"""Per-call options: bound first, so that they never enter a signature that forwards ``**kwargs``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from zexec.dependency import Dependency


class Options(NamedTuple):
    """What one call wants of the scheduler. Validated when it is made."""

    timeout: float | None = None
    retries: int = 0
    priority: int = 0
    targets: frozenset[int] | None = None
    after: Dependency | None = None
    follow: Dependency | None = None
    #: seconds that it may wait for those
    patience: float | None = None
    #: engines may load the function once, with all that it holds, and use that for every task
    shared: bool = False

    @classmethod
    def of(
        cls,
        *,
        timeout: float | None = None,
        retries: int = 0,
        priority: int = 0,
        targets: int | Iterable[int] | None = None,
        after: Any = None,
        follow: Any = None,
        patience: float | None = None,
        shared: bool = False,
    ) -> Options:
        """Check the values a user gave.

        Raises:
            TypeError, ValueError: one of them is no such thing; the message says which and what would be.
        """
        if timeout is not None:
            if isinstance(timeout, bool) or not isinstance(timeout, int | float):
                raise TypeError(f"timeout must be a number of seconds or None, not {timeout!r}")
            if not timeout > 0:
                raise ValueError(f"timeout must be greater than 0 seconds, not {timeout!r}; None means no limit")
        if isinstance(retries, bool) or not isinstance(retries, int):
            raise TypeError(f"retries must be a whole number of further attempts, not {retries!r}")
        if retries < 0:
            raise ValueError(f"retries must be 0 or more, not {retries!r}")
        if isinstance(priority, bool) or not isinstance(priority, int):
            raise TypeError(f"priority must be a whole number (higher runs first), not {priority!r}")
        if not isinstance(shared, bool):
            raise TypeError(f"shared must be True or False, not {shared!r}")
        if after is None and follow is None and patience is None:
            return cls(timeout, retries, priority, _targets(targets), shared=shared)
        if patience is not None and (isinstance(patience, bool) or not isinstance(patience, int | float)):
            raise TypeError(f"patience must be a number of seconds or None, not {patience!r}")
        if patience is not None and patience < 0:
            raise ValueError(f"patience must be 0 seconds or more, not {patience!r}; None means no limit")
        from zexec.dependency import Dependency
        from zexec.errors import InvalidDependency

        wanted = Dependency.of(after), Dependency.of(follow)
        for each in wanted:
            if each is not None and each.names:
                raise InvalidDependency(f"nothing is known here of task {each.names[0]!r}: give its result")
        return cls(timeout, retries, priority, _targets(targets), *wanted, patience, shared)


def _targets(targets: Any) -> frozenset[int] | None:
    if targets is None:
        return None
    if isinstance(targets, int) and not isinstance(targets, bool):
        targets = (targets,)
    try:
        chosen = frozenset(targets)
    except TypeError:
        raise TypeError(f"targets must be an engine's number or several, not {targets!r}") from None
    if not chosen:
        raise ValueError("targets must name at least one engine; None means any")
    for id in chosen:
        if isinstance(id, bool) or not isinstance(id, int):
            raise TypeError(f"targets must be numbers of engines, not {id!r}")
    return chosen


DEFAULT = Options()
