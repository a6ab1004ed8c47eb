"""A fork in the middle of another thread's import.

The child has no such thread, but it has the lock that the thread had on the module, for ever, and the half of the module that was
there: whoever imports it in the child would wait for ever (as with the stdlib's pools). So the parent waits for a moment until
nobody imports; and a child forgets what is not complete, and imports it anew when it is wanted.

Both look into the import system: its locks by the modules' names, and who has each, are no public interface. Where they are not
found nothing is done.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

_system: Any = sys.modules.get("_frozen_importlib")
#: Seconds between two looks.
LOOK = 0.001


def _held_by_others() -> list[str]:
    """Names of the modules whose locks other threads than this one have."""
    me = threading.get_ident()
    held = []
    for name, lock in list(getattr(_system, "_module_locks", {}).items()):
        owner = getattr(lock(), "owner", None)
        if owner is not None and owner != me:
            held.append(name)
    return held


def wait_for_others(limit: float) -> bool:
    """Wait until no other thread imports anything, for so many seconds at most. Whether that is so."""
    until = time.monotonic() + limit
    while _held_by_others():
        if time.monotonic() >= until:
            return False
        time.sleep(LOOK)
    return True


def forget_unfinished() -> None:
    """In a forked child, first of all: let go of other threads' locks, and of what they had not imported completely."""
    for name in _held_by_others():
        _system._module_locks.pop(name, None)
        module = sys.modules.get(name)
        if getattr(getattr(module, "__spec__", None), "_initializing", False):
            del sys.modules[name]
            # What a package has imported of itself is not bound to it again unless it is imported again. Modules in C cannot be.
            for inner in [inner for inner in sys.modules if inner.startswith(name + ".")]:
                loader = getattr(getattr(sys.modules[inner], "__spec__", None), "loader", None)
                if type(loader).__name__ != "ExtensionFileLoader":
                    del sys.modules[inner]
