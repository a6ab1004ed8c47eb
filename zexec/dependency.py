"""Dependency: which results a call waits for, as users write it, and what is told of them to the hub.

The hub knows only of tasks that are open. Which of the results have ended already is seen here at the call; of the others
the hub sees the end itself, or, where the word was on its way to this client just then, is told of it by
``Client._submit_after``.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import Any

from zexec.core.dependencies import Condition, End
from zexec.core.following import Where
from zexec.errors import UnmetDependency
from zexec.map_result import MapResult
from zexec.messages import DIED, OK, RAN, Outcome
from zexec.result import AsyncResult


class Dependency:
    """Results, or ids of tasks, and which of their ends count.

    Args:
        dependencies: a result, an id, another Dependency, or several of those.
        all: all of them have to have ended so, rather than one.
        success: a good end counts.
        failure: an exception, a death, a time-out or a cancelled task counts.

    Raises:
        TypeError: that is no result.
        ValueError: neither success nor failure counts.
    """

    def __init__(self, dependencies: Any = (), all: bool = True, success: bool = True, failure: bool = False) -> None:
        if not (success or failure):
            raise ValueError("a Dependency on neither success nor failure can never be met")
        self.all = all
        self.success = success
        self.failure = failure
        self.results: list[AsyncResult] = []
        #: ids whose results are to be looked up at the call
        self.names: list[str] = []
        self._take(dependencies)

    @classmethod
    def of(cls, given: Any) -> Dependency | None:
        """What a user gave: a Dependency, what makes one, or None."""
        return given if given is None or isinstance(given, Dependency) else cls(given)

    def _take(self, given: Any) -> None:
        if isinstance(given, AsyncResult):
            self.results.append(given)
        elif isinstance(given, str):
            self.names.append(given)
        elif isinstance(given, Dependency):
            self.results += given.results
            self.names += given.names
        elif isinstance(given, Iterable):
            for one in given:
                self._take(one)
        else:
            raise TypeError(f"a Dependency is made of results and ids of tasks, not of {given!r}")

    def found(self, look_up: Callable[[str], AsyncResult]) -> Dependency:
        """The same, with results in place of ids."""
        if not self.names:
            return self
        found = Dependency((), self.all, self.success, self.failure)
        found.results = [*self.results, *map(look_up, self.names)]
        return found

    def condition(self) -> Condition:
        """As the hub knows it."""
        ids: list[int] = []
        for result in self.results:
            ids += task_ids(result)
        return Condition(frozenset(ids), self.all, self.success, self.failure)

    def check(self, completed: Iterable[str], failed: Iterable[str] = ()) -> bool:
        """Whether it would be met if these tasks had ended well, and those not; for them that want to know."""
        met, _ = self._count(completed, failed)
        return met == len(self) if self.all else bool(met) or not len(self)

    def unreachable(self, completed: Iterable[str], failed: Iterable[str] = ()) -> bool:
        """Whether it could not be met any more."""
        _, lost = self._count(completed, failed)
        return bool(lost) if self.all else lost == len(self) > 0

    def _count(self, completed: Iterable[str], failed: Iterable[str]) -> tuple[int, int]:
        """How many of its tasks have ended as wanted, and how many otherwise."""
        good = {*(completed if self.success else ()), *(failed if self.failure else ())}
        bad = {*(() if self.success else completed), *(() if self.failure else failed)}
        return sum(id in good for id in self), sum(id in bad for id in self)

    def __iter__(self) -> Iterator[str]:
        """The ids."""
        yield from (str(id) for result in self.results for id in task_ids(result))
        yield from self.names

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __repr__(self) -> str:
        return f"<Dependency {list(self)} all={self.all} success={self.success} failure={self.failure}>"


def task_ids(result: AsyncResult) -> list[int]:
    """The ids of a result's tasks."""
    return result._ids if isinstance(result, MapResult) else [result._task_id]


def ends_of(result: AsyncResult) -> dict[int, End]:
    """How the tasks of a result ended that is there. Those of a Pool's map count as one: well only if all did."""
    ids = task_ids(result)
    own = getattr(result, "task_ends", None)
    if own is not None:
        ends: dict[int, End] = own()
        return ends
    if isinstance(result, MapResult):
        places = cycle(sorted(result._engines) or [(-1, 0)])
        return {id: (not result._failures, *place) for id, place in zip(ids, places, strict=False)}
    outcome = result._outcome
    return {ids[0]: (False, -1, 0) if outcome is None else (outcome[1] == OK, *where(outcome))}


def where(outcome: Outcome) -> Where:
    """The engine that ran a task: its place and, where that is known, its serial. (-1, 0) if it is gone, or there was none."""
    status, detail, place = outcome[1], outcome[3], outcome[4]
    return (-1, 0) if status == DIED else (place, detail if status in RAN else 0)


class Dependent:
    """A function that first asks another whether it can run on this engine. Made by ``depend`` and ``require``."""

    def __init__(self, f: Callable[..., Any], check: Callable[..., Any], args: Any, kwargs: Any) -> None:
        functools.update_wrapper(self, f)
        self.f = f
        self.check = check
        self.args = args
        self.kwargs = kwargs

    def check_dependency(self) -> None:
        """Raise UnmetDependency unless it can run here."""
        if self.check(*self.args, **self.kwargs) is False:
            raise UnmetDependency(
                f"{getattr(self.f, '__qualname__', self.f)} cannot run here: what it depends on says no"
            )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.check_dependency()
        return self.f(*args, **kwargs)

    def __reduce__(self) -> Any:
        return Dependent, (self.f, self.check, self.args, self.kwargs)


def depend(check: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], Dependent]:
    """Decorate a function so that it runs only where ``check(*args, **kwargs)`` does not give False.

    An engine where it does, or where ``check`` raises UnmetDependency, is not asked again, and another is tried; where all have
    been, the call fails with UnmetDependency.
    """
    return lambda f: Dependent(f, check, args, kwargs)


def require(*objects: Any, **names: Any) -> Callable[[Callable[..., Any]], Dependent]:
    """Decorate a function so that it runs only where modules can be imported.

    They, and the other objects, are bound to their names in the engine's namespace; see ``zexec.views``.

    Args:
        objects: modules, by name or as they are; functions and classes.
        names: any objects, by name.

    Raises:
        TypeError: an object has no name.
    """
    from zexec.engine import namespace

    modules = []
    for each in objects:
        if isinstance(each, types.ModuleType):
            modules.append(each.__name__)
        elif isinstance(each, str):
            modules.append(each)
        elif hasattr(each, "__name__"):
            names[each.__name__] = each
        else:
            raise TypeError(f"{each!r} has no name of its own: give it as name=object")
    return depend(namespace.require, modules, names)


__all__ = ["Dependency", "Dependent", "depend", "require"]
