"""A fork in the middle of another thread's import.

The child has no such thread, but it has the lock that the thread had on the module, for ever, and the half of the module that was
there: whoever imports it in the child would wait for ever (as with the stdlib's pools). So the parent waits for a moment until
nobody imports; and a child forgets what is not complete, and imports it anew when it is wanted.

But for the program itself. A module that makes a pool while it is imported, and works with it, is not complete before it is done
with that: nobody waits for it, and a child takes it as far as it is, as the children do that its own thread forks.

All this looks into the import system: its locks by the modules' names, and who has each, are no public interface. Where they are
not found nothing is done.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

_system: Any = sys.modules.get("_frozen_importlib")
#: Seconds between two looks.
LOOK = 0.001

#: modules that have made a pool while they were imported
_programs: set[str] = set()
#: imports that were waited for in vain: name and thread
_long: set[tuple[str, int]] = set()


def _held() -> list[tuple[str, int]]:
    """The modules whose locks somebody has, and the thread."""
    held = []
    for name, lock in list(getattr(_system, "_module_locks", {}).items()):
        owner = getattr(lock(), "owner", None)
        if owner is not None:
            held.append((name, owner))
    return held


def note_programs() -> None:
    """A pool is made here: what this thread is importing now goes on with it."""
    me = threading.get_ident()
    _programs.update(name for name, owner in _held() if owner == me)


def wait_for_others(limit: float) -> bool:
    """Wait until no other thread imports anything, for so many seconds at most; once for each import. Whether that is so."""
    me = threading.get_ident()
    until = time.monotonic() + limit
    while others := {each for each in _held() if each[1] != me and each[0] not in _programs} - _long:
        if time.monotonic() >= until:
            _long.update(others)
            return False
        time.sleep(LOOK)
    return True


def forget_unfinished() -> None:
    """In a forked child, first of all: let go of other threads' locks, and of what they had not imported completely."""
    me = threading.get_ident()
    for name, owner in _held():
        if owner == me:
            continue
        _system._module_locks.pop(name, None)
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if not getattr(spec, "_initializing", False):
            continue
        if name in _programs:
            spec._initializing = False  # type: ignore[union-attr]
            continue
        del sys.modules[name]
        # What a package has imported of itself is not bound to it again unless it is imported again. Modules in C cannot be.
        for inner in [inner for inner in sys.modules if inner.startswith(name + ".")]:
            loader = getattr(getattr(sys.modules[inner], "__spec__", None), "loader", None)
            if type(loader).__name__ != "ExtensionFileLoader":
                del sys.modules[inner]
