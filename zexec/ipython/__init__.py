"""Magics for IPython and notebooks: ``%load_ext zexec``, then ``%px``, ``%%px``, ``%autopx``, ``%pxresult``, ``%pxconfig``.

They run code on a DirectView, which is the *active* one: that of the first Client that is made, or the one that
``view.activate()`` or ``client.activate()`` was called for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zexec.ipython.magics import ParallelMagics
    from zexec.views.client import Client
    from zexec.views.direct import DirectView


def load(shell: Any) -> None:
    """What ``%load_ext zexec`` does: there are magics, even if there is no view yet."""
    if _active(shell) is None:
        _register(shell, None, "")


def unload(shell: Any) -> None:
    """What ``%unload_ext zexec`` does."""
    magics = _active(shell)
    if magics is not None:
        magics.withdraw()


def activate(view: DirectView, suffix: str) -> None:
    """Have the magics, or those with a suffix, run code on a view.

    Raises:
        RuntimeError: this program does not run in IPython.
    """
    shell = running_shell()
    if shell is None:
        raise RuntimeError("magics are for IPython, and this program does not run in it")
    magics = _active(shell, suffix)
    if magics is not None:
        magics.withdraw()
    _register(shell, view, suffix)


def offer(client: Client) -> None:
    """A client was made: if this is IPython and no view is active, or only that of a client that has ended, its engines are."""
    shell = running_shell()
    if shell is None:
        return
    magics = _active(shell)
    if magics is None or magics.view is None or magics.view.client.is_over:
        activate(client.direct_view(block=True), "")


def running_shell() -> Any:
    """The IPython that this program runs in, or None. Does not import it."""
    module = sys.modules.get("IPython")
    shell = None if module is None else module.get_ipython()
    return shell if hasattr(shell, "magics_manager") else None


def _active(shell: Any, suffix: str = "") -> ParallelMagics | None:
    found = shell.magics_manager.registry.get(f"ParallelMagics{suffix}")
    return found if hasattr(found, "withdraw") else None


def _register(shell: Any, view: DirectView | None, suffix: str) -> None:
    from zexec.ipython.magics import ParallelMagics

    magics = ParallelMagics(shell, view, suffix)
    shell.register_magics(magics)
    # IPython knows them by their class; there may be several, by suffix.
    shell.magics_manager.registry[f"ParallelMagics{suffix}"] = magics


__all__ = ["activate", "load", "offer", "running_shell", "unload"]
