"""Why is nothing happening? What every pool and executor of this process waits for, on demand or at a signal."""

from __future__ import annotations

import signal
import sys
import threading
import traceback
from typing import Any, TextIO

from zexec.client import _clients


def dump(file: TextIO | None = None) -> None:
    """Print the state of all pools and executors of this process, the stacks of their engines, and those of its own threads.

    Args:
        file: where to, by default standard error.
    """
    parts = []
    for client in list(_clients):
        if client.foreign or client.over:
            continue
        try:
            parts.append(client.dump())
        except Exception as e:
            parts.append(f"a {client.face.name} says nothing: {type(e).__name__}: {e}")
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident():
            stack = "".join(traceback.format_stack(frame)).rstrip()
            parts.append(f"stack of this process's thread {names.get(ident, ident)}:\n{stack}")
    print("\n".join(parts), file=file or sys.stderr, flush=True)


def dump_on_signal(number: int = signal.SIGUSR1) -> None:
    """From now on do ``dump()`` whenever this process gets a signal: ``kill -USR1 PID`` shows what it waits for.

    Call it in the main thread. What was done at that signal before is not done any more.

    Args:
        number: the signal.

    Raises:
        ValueError: this is not the main thread, or no such signal can be caught.
    """
    signal.signal(number, _on_signal)


def _on_signal(number: int, frame: Any) -> None:
    # In a thread of its own: the one that was interrupted may hold what ``dump`` needs.
    threading.Thread(target=dump, name="zexec-dump", daemon=True).start()
