"""IPython on an engine, where it is installed: ``%magics`` and ``!commands`` in strings of code, and rich outputs.

Not a kernel: code runs as it does without, in the engine's namespace, and IPython only rewrites what is not plain Python, offers
``get_ipython()`` and formats what is displayed. It is made when IPython is loaded in the engine anyway, because the user's code
has done it, or when code needs it.
"""

from __future__ import annotations

import base64
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

from zexec.engine import outputs


def shell_if_loaded() -> Any:
    """The engine's shell if IPython is loaded here, or None."""
    return _shell() if "IPython.core.interactiveshell" in sys.modules else None


def shell_for(code: str) -> Any:
    """The engine's shell for a string of code, or None where it is plain Python and IPython is not loaded.

    Raises:
        SyntaxError: the code is no Python, and IPython is not installed.
    """
    if "IPython" in sys.modules:
        return _shell()
    try:
        compile(code, "<code>", "exec", dont_inherit=True)
    except SyntaxError:
        try:
            return _shell()
        except ImportError:
            raise
    return None


def trap(shell: Any) -> AbstractContextManager[Any]:
    """While this is entered, ``get_ipython`` is a builtin."""
    return nullcontext() if shell is None else shell.builtin_trap


def formatted(shell: Any, value: Any) -> outputs.Display:
    """A value as it is displayed."""
    if shell is None:
        return {"data": {"text/plain": repr(value)}, "metadata": {}}
    data, metadata = shell.display_formatter.format(value)
    return {"data": _plain(data), "metadata": metadata}


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """Pictures as text, as they travel to notebooks."""
    return {
        kind: base64.b64encode(value).decode("ascii") if isinstance(value, bytes) else value
        for kind, value in data.items()
    }


@cache
def _shell() -> Any:
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type
    from traitlets.config import Config

    from zexec.engine.namespace import NAMESPACE

    class EnginePublisher(DisplayPublisher):  # type: ignore[misc]
        """Displays go to the task that runs."""

        def publish(self, data: Any, metadata: Any = None, *args: Any, **kwargs: Any) -> None:
            outputs.display(_plain(data), metadata)

        def clear_output(self, wait: bool = False) -> None:
            outputs.clear_displays()

    class EngineShell(InteractiveShell):  # type: ignore[misc]
        """An IPython whose namespace is the engine's."""

        display_pub_class = Type(EnginePublisher)

        def init_sys_modules(self) -> None:
            """``__main__`` stays what it is: functions of the program's script are found there."""

        def enable_gui(self, gui: Any = None) -> None:
            """An engine has no window."""

        def init_virtualenv(self) -> None:
            """Nothing to say about it here."""

    # One that was inherited by a fork belongs to the terminal or the notebook of another process.
    if InteractiveShell._instance is not None:
        type(InteractiveShell._instance).clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    kept = dict(NAMESPACE)
    shell = EngineShell.instance(config=config, user_ns=NAMESPACE)
    NAMESPACE.update(kept)
    return shell
