"""Call a function on a module right after somebody has imported it, and do not import it ourselves.

Importing the stdlib's modules only to patch them would cost every program 20 ms, those that never make a pool too, and
would settle what `multiprocessing` or `queue` mean before the program's own sys.path is in place.

The finder stands before all others, lets them find the module as ever, and changes one thing: this one loader's
`exec_module`. The loader stays the object that it was, so `__loader__`, `inspect.getsource` and reload see nothing new.
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False  # typing's own constant would cost more to import than this whole folder
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class AfterImport:
    """A finder for `sys.meta_path` that finds what the others find, and has its say once a module has run.

    Args:
        actions: What to call, with the module, after each import (and reload) of the module of that name.
    """

    def __init__(self, actions: dict[str, Callable[[ModuleType], None]]) -> None:
        self._actions = actions

    def install(self) -> None:
        """Go before all other finders, and catch up on what is imported already."""
        sys.meta_path.insert(0, self)
        for name, action in self._actions.items():
            if name in sys.modules:
                action(sys.modules[name])

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find as the other finders do; None, as they expect, for all modules that have no action."""
        if name not in self._actions:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                self._follow(spec)
                return spec
        return None

    def _follow(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None:
            return
        run = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            # A loader may serve many modules (a zip file's does), so this may not be the module it was asked for here.
            if module.__name__ in self._actions:
                self._actions[module.__name__](module)

        loader.exec_module = exec_module  # type: ignore[method-assign]
