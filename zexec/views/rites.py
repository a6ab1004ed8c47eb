"""What is done again on an engine that takes another's place: names that were pushed, scattered or imported there.

Each call that binds names on an engine is remembered with its payload, as the engine got it, until all of its names have been
bound anew, or unbound. Whoever takes the place runs them in their order, before all else. What code did there (``execute``,
``run``, functions that write globals) is not done again.

All of it happens in the client's io thread, where results arrive.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import count
from typing import Any, Literal

from zexec.client import Client as Connection
from zexec.messages import Function

#: what a call does to names, and to which
Rite = tuple[Literal["bind", "unbind", "clear"], frozenset[str]]
_ROOT = re.compile(r"\w+")


class Rites:
    """What is remembered for the engines of one hub."""

    def __init__(self) -> None:
        self._keys = count(1)
        #: by place and key: the names for which a call is remembered
        self._calls: dict[int, dict[int, set[str]]] = {}

    def note(self, connection: Connection, place: int, rite: Rite, function: Function, payload: Any) -> None:
        """A call has ended well on an engine."""
        what, names = rite
        calls = self._calls.setdefault(place, {})
        if what == "clear":
            for key in list(calls):
                self._drop(connection, place, key)
            return
        # Where the call that bound a name is done again for the sake of others, so is this one.
        needed = self._supersede(connection, place, names) or what == "bind"
        if needed:
            key = next(self._keys)
            calls[key] = set(names) if what == "bind" else {f"del {name}" for name in names}
            connection.remember(place, key, function, payload)

    def _supersede(self, connection: Connection, place: int, names: Iterable[str]) -> bool:
        """Names mean something else from now on. Whether one was bound by a call that is still needed for others."""
        calls, shared = self._calls[place], False
        gone = {*names, *(f"del {name}" for name in names)}
        for key, bound in list(calls.items()):
            lost = {name for name in bound if name in gone or _root(name) in gone}
            if lost:
                bound -= lost
                if bound:
                    shared = True
                else:
                    self._drop(connection, place, key)
        return shared

    def _drop(self, connection: Connection, place: int, key: int) -> None:
        del self._calls[place][key]
        connection.forget(place, key)


def _root(name: str) -> str:
    """The name that an expression such as ``a.b`` or ``a[0]`` begins with."""
    found = _ROOT.match(name)
    return name if found is None else found.group()


__all__ = ["Rite", "Rites"]
