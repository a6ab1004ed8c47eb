"""Showing what tasks say, and how far they are: in a terminal, in IPython, in a notebook.

Text is shown under a line that says whose it is, once until somebody else speaks. Rich outputs are for IPython; without it only
text is shown.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION
from contextlib import AbstractContextManager
from time import monotonic
from types import TracebackType
from typing import TYPE_CHECKING, Any

from zexec.errors import CompositeError, RemoteError
from zexec.views.replies import ExecuteReply, result_of

if TYPE_CHECKING:
    from zexec.views.part import Part
    from zexec.views.results import ViewResult

GROUPS = ("type", "engine", "order")
STREAMS = ("stdout", "stderr")


def ipython() -> Any:
    """The IPython that this program runs in, or None. Not imported where nobody has."""
    module = sys.modules.get("IPython")
    return None if module is None else module.get_ipython()


class Printer:
    """Writes texts under lines that say whose they are."""

    def __init__(self) -> None:
        self._whose = ""
        self._at_line_start = True

    def text(self, text: str, name: str, whose: str) -> None:
        """Write to stdout or stderr, by name."""
        if not text:
            return
        head = ""
        if whose and whose != self._whose:
            head = ("" if self._at_line_start else "\n") + whose + "\n"
            self._whose = whose
        self._at_line_start = text.endswith("\n")
        stream = getattr(sys, name)
        stream.write(head + text)
        stream.flush()

    def rich(self, shell: Any, whose: str, displays: Iterable[dict[str, Any]], engine: int | None) -> None:
        """Show rich outputs, in IPython."""
        displays = list(displays)
        if displays and whose:
            self.text(f"{whose}\n", "stdout", "")
        self._whose = ""
        for display in displays:
            shell.display_pub.publish(data=display["data"], metadata={**(display["metadata"] or {}), "engine": engine})


def display_outputs(result: ViewResult, groupby: str, result_only: bool) -> None:
    """Show all that a result's parts said; see ``ViewResult.display_outputs``."""
    if groupby not in GROUPS:
        raise ValueError(f"groupby must be one of {', '.join(GROUPS)}, not {groupby!r}")
    result.wait()
    printer, shell, alone = Printer(), ipython(), result._single
    parts = result._parts
    if groupby == "engine":
        for part in parts:
            if not result_only:
                _show_text(printer, part, alone, STREAMS)
                _show_displays(printer, shell, [part], alone)
            _show_values(shell, [part])
        return
    if not result_only:
        for name in STREAMS:
            for part in parts:
                _show_text(printer, part, alone, (name,))
        if groupby == "order":
            for turn in range(max((len(part.facts.get("displays", ())) for part in parts), default=0)):
                _show_displays(printer, shell, parts, alone, slice(turn, turn + 1))
        else:
            _show_displays(printer, shell, parts, alone)
    _show_values(shell, parts)


def _show_text(printer: Printer, part: Part, alone: bool, names: Iterable[str]) -> None:
    for name in names:
        printer.text(part.facts.get(name, ""), name, "" if alone else f"[{name}:{part.engine_id}]")


def _show_displays(
    printer: Printer, shell: Any, parts: Iterable[Part], alone: bool, which: slice = slice(None)
) -> None:
    if shell is None:
        return
    for part in parts:
        whose = "" if alone else f"[output:{part.engine_id}]"
        printer.rich(shell, whose, part.facts.get("displays", ())[which], part.engine_id)


def _show_values(shell: Any, parts: Iterable[Part]) -> None:
    for part in parts:
        if part.error is not None or result_of(part.facts) is None:
            continue
        reply = ExecuteReply(part.msg_id, part.engine_id if part.engine_id is not None else -1, part.facts)
        if shell is None:
            sys.stdout.write(f"Out[{reply.engine_id}:{reply.execution_count}]: {reply.pyout}\n")
        else:
            from IPython.display import display

            display(reply)


class StreamedOutput(AbstractContextManager[None]):
    """Shows what a result's parts say as it comes, in the client's callback thread, while this is entered.

    Args:
        result: whose.
    """

    def __init__(self, result: ViewResult) -> None:
        self._result = result
        self._printer = Printer()
        self._lock = threading.Lock()
        #: what has been shown of each part: characters of each stream, displays; whether its value or error
        self._shown = [{"stdout": 0, "stderr": 0, "displays": 0, "end": 0} for _ in result._parts]
        self._errors = 0

    def __enter__(self) -> None:
        for part in self._result._parts:
            part.listeners.append(self._soon)
        self._show()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for part in self._result._parts:
            part.listeners.remove(self._soon)
        self._show()

    def _soon(self) -> None:
        # In the io thread, which must not wait for a terminal.
        self._result._connection.callbacks.soon(self._show)

    def _show(self) -> None:
        with self._lock:
            for part, shown in zip(self._result._parts, self._shown, strict=True):
                self._show_part(part, shown)

    def _show_part(self, part: Part, shown: dict[str, int]) -> None:
        facts, shell, done = part.facts, ipython(), part.done
        for name in STREAMS:
            text = facts.get(name, "")
            fresh, shown[name] = text[shown[name] :], max(shown[name], len(text))
            self._printer.text(fresh, name, f"[{name}:{part.engine_id}]")
        displays = facts.get("displays", ())
        if shell is not None and len(displays) > shown["displays"]:
            fresh_displays, shown["displays"] = displays[shown["displays"] :], len(displays)
            self._printer.rich(shell, f"[output:{part.engine_id}]", fresh_displays, part.engine_id)
        if done and not shown["end"]:
            shown["end"] = 1
            if part.error is not None:
                self._show_error(part.error)
            else:
                _show_values(shell, [part])

    def _show_error(self, error: BaseException) -> None:
        self._errors += 1
        if isinstance(error, RemoteError) and self._errors <= CompositeError.tb_limit:
            text = "\n".join(error.render_traceback())
        else:
            text = f"{type(error).__name__}: {error}".splitlines()[0]
        self._printer.text(f"{text}\n", "stderr", "")


def wait_interactively(
    result: ViewResult, interval: float, timeout: float | None, widget: bool | None, return_when: str | None
) -> bool:
    """Wait for a result and show its progress; see ``ViewResult.wait_interactive``."""
    until = None if timeout is None else monotonic() + timeout
    parts = return_when in (FIRST_COMPLETED, FIRST_EXCEPTION)
    show = progress_bar(len(result) if result._per_item else len(result._parts), result._what, widget)
    while True:
        left = None if until is None else max(0.0, until - monotonic())
        pause = interval if left is None else min(interval, left)
        if parts:
            done, pending = result.wait(pause, return_when)
            some = bool(done) if return_when == FIRST_COMPLETED else any(not one.successful() for one in done)
            there = not pending or some
        else:
            there = bool(result.wait(pause))
        end = there or left == 0
        show(result.progress, end)
        if end:
            return there


def progress_bar(total: int, what: str, widget: bool | None = None) -> Callable[[int, bool], None]:
    """A progress bar: to be called with how many are done, and whether that is the end."""
    try:
        if widget is None:
            from tqdm.auto import tqdm
        elif widget:
            from tqdm.notebook import tqdm
        else:
            from tqdm.std import tqdm
    except ImportError:
        return _plain_progress(total, what)
    bar = tqdm(total=total, desc=what, unit="tasks")

    def update(progress: int, end: bool) -> None:
        bar.update(progress - bar.n)
        if end:
            bar.close()

    return update


def _plain_progress(total: int, what: str) -> Callable[[int, bool], None]:
    def show(progress: int, end: bool) -> None:
        sys.stderr.write(f"\r{what}: {progress} of {total}" + ("\n" if end else ""))
        sys.stderr.flush()

    return show
