"""Make every Pool and every process executor of this program ours: here, and in the processes it starts.

    who asks                                            who answers
    multiprocessing.Pool() ────────────────┐
    get_context(...).Pool() ───────────────┼─► multiprocessing.pool.Pool ──────────────────► zexec.pool.Pool
    from multiprocessing.pool import Pool ─┘
    concurrent.futures.ProcessPoolExecutor ─────────► the same name ──────────────────┬────► zexec.executor.Executor
    concurrent.futures.process.ProcessPoolExecutor ─► the same name ──────────────────┘
    a forked child ─────────────────────────────────► its copy of this process, patch and all
    a spawned child, a fork server ─────────────────► multiprocessing.util.spawnv_passfds: see children.py

So three names and one function are all there is to replace: everything else looks them up when it is called. (The
managers look up at import, and get a word of their own below.) Each is replaced right after the program has imported
its module: see after_import.py.

A name is replaced for those who look at the module from outside, and not for the module itself: the stdlib's ThreadPool
calls `Pool.__init__(self, ...)` by its module's global, and with our class in that place no ThreadPool would start.
Hence a property on the module's class. Attribute access and `from ... import` go through it; the globals, which the
stdlib's own code reads, stay the stdlib's. And a property is asked late: zexec.pool, with all that it needs, is
imported when the program first asks for a pool.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

from zexec.cli.after_import import AfterImport
from zexec.cli.children import patch_children

TYPE_CHECKING = False  # see after_import.py
if TYPE_CHECKING:
    from typing import Any

_NOTHING = object()


class _Ours:
    """The property: one class of ours in a stdlib module, under the name that the stdlib's has there."""

    def __init__(self, name: str, home: str, ours: str) -> None:
        self.name, self.home, self.ours = name, home, ours
        self.assigned: Any = _NOTHING

    def __get__(self, module: ModuleType, owner: type | None = None) -> Any:
        if self.assigned is not _NOTHING:
            return self.assigned
        try:
            home = importlib.import_module(self.home)
        except AttributeError as error:
            # An attribute error means to Python that there is no such name here, and would hide what happened there.
            raise ImportError(f"cannot import {self.home}") from error
        # This waits for another thread that is importing the module, and not for ourselves: our module asks for the
        # stdlib's class as well, to derive its own from it, and ours is not there yet when it does.
        found = getattr(home, self.ours, _NOTHING)
        if found is not _NOTHING:
            return found
        try:
            return vars(module)[self.name]
        except KeyError:
            # Python goes on to the module's own __getattr__, which is how concurrent.futures finds it.
            raise AttributeError(self.name) from None

    # A program may replace the class as well, and put it back: unittest.mock reads what it will put back from the
    # module's dictionary, so getting the stdlib's class here means that ours is wanted again.
    def __set__(self, module: ModuleType, value: Any) -> None:
        self.assigned = _NOTHING if value is vars(module).get(self.name, _NOTHING) else value

    def __delete__(self, module: ModuleType) -> None:
        self.assigned = _NOTHING


def _patch_module(module: ModuleType) -> None:
    class Module(ModuleType):
        # cloudpickle knows modules by their exact type, and functions that it pickles by value may refer to this one.
        def __reduce__(self) -> tuple[Any, ...]:
            return importlib.import_module, (self.__name__,)

    name, home, ours = _NAMES[module.__name__]
    setattr(Module, name, _Ours(name, home, ours))
    module.__class__ = Module


def _patch_managers(managers: ModuleType) -> None:
    # Where managers was imported before the patch, it still has the stdlib's class.
    managers.SyncManager.register("Pool", managers.pool.Pool, managers.PoolProxy)
    # A manager lists the methods of each result that it serves, and reads its attributes to find them. Some of ours wait
    # for the result. So it is told the list, which is what it finds out about the stdlib's.
    managers.SyncManager.register("AsyncResult", exposed=("get", "ready", "successful", "wait"), create_method=False)


_EXECUTOR = ("ProcessPoolExecutor", "zexec.executor", "Executor")
_NAMES = {
    "multiprocessing.pool": ("Pool", "zexec.pool", "Pool"),
    "concurrent.futures": _EXECUTOR,
    "concurrent.futures.process": _EXECUTOR,
}


def install(engines: int | None = None) -> None:
    """Replace the stdlib's process pools by zexec's, in this process and in all that multiprocessing starts from it.

    It is meant to come before the program's first import. Modules that were imported earlier (by a sitecustomize, say)
    are patched as well, and where they hold one of the stdlib's classes they get ours in its place; a subclass that
    somebody has already made is left as it is. To call it again changes nothing.

    Args:
        engines: How many engines a pool or executor gets that is not told; by default as many as the stdlib's.
    """
    if any(isinstance(finder, AfterImport) for finder in sys.meta_path):
        return

    def patch_children_too(util: ModuleType) -> None:
        patch_children(util, f"from zexec.cli import patch; patch.install({engines}); del patch")

    def set_default(pool: ModuleType) -> None:
        pool._default_processes = engines  # type: ignore[attr-defined]

    finder = AfterImport(
        {
            **dict.fromkeys(_NAMES, _patch_module),
            "multiprocessing.managers": _patch_managers,
            "multiprocessing.util": patch_children_too,
            "zexec.pool": set_default,
        }
    )
    finder.install()
    for home in ("multiprocessing.pool", "concurrent.futures.process"):
        if home in sys.modules:
            _rebind(vars(sys.modules[home])[_NAMES[home][0]], sys.modules[home])


def _rebind(theirs: type, home: ModuleType) -> None:
    """Put our class wherever a module, other than those patched, holds the stdlib's."""
    name = _NAMES[home.__name__][0]
    for module in list(sys.modules.values()):
        if not isinstance(module, ModuleType) or module.__name__ in _NAMES or module.__name__.startswith("zexec."):
            continue
        for alias, value in list(vars(module).items()):
            if value is theirs:
                setattr(module, alias, getattr(home, name))
