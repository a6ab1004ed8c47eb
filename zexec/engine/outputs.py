"""What a view's task says while it runs: text on its streams, rich outputs, data. Kept for its result, and told on the way.

Everything goes back with the result. Of a task that takes longer, what there is by then is told earlier, by the engine's io
thread: ``on_news`` is called when there is something that has not been told, and ``news`` gives it, as plain data that says
where it belongs, so that it does no harm if it comes late or is lost.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from typing import Any

from zexec.wire.parcels import Parcel, pack

#: a rich output: ``data`` by MIME type, ``metadata``
Display = dict[str, Any]
#: what ``news`` gives: (place, text) for each stream, (place, items) for displays and data
News = dict[str, tuple[int, Any]]


class Output:
    """What one task has said so far.

    Args:
        on_news: called with this when there is news, from whichever thread has it.
    """

    def __init__(self, on_news: Callable[[Output], None] | None = None) -> None:
        self.stdout = _Stream(self)
        self.stderr = _Stream(self)
        self.displays: list[Display] = []
        self.data: list[Parcel] = []
        #: the value of a last expression, and the number of the piece of code
        self.result: Display | None = None
        self.number: int | None = None
        self.over = False
        self._on_news = on_news
        self._announced = False
        self._told = {"stdout": 0, "stderr": 0, "displays": 0, "data": 0}

    def changed(self) -> None:
        """There is something new."""
        if not self._announced and self._on_news is not None:
            self._announced = True
            self._on_news(self)

    def news(self) -> bytes | None:
        """What has not been told, or None. For one thread only, the io thread."""
        self._announced = False  # first: what comes from now on is announced anew
        if self.over:
            return None
        now: dict[str, Any] = {
            "stdout": self.stdout.getvalue(),
            "stderr": self.stderr.getvalue(),
            "displays": self.displays,
            "data": self.data,
        }
        fresh: News = {}
        for name, whole in now.items():
            told, size = self._told[name], len(whole)
            if size > told:
                fresh[name] = told, whole[told:size]
                self._told[name] = size
        return pickle.dumps(fresh) if fresh else None

    def facts(self) -> dict[str, Any]:
        """All of it, for the result."""
        facts: dict[str, Any] = {"stdout": self.stdout.getvalue(), "stderr": self.stderr.getvalue()}
        if self.displays:
            facts["displays"] = self.displays
        if self.data:
            facts["data"] = self.data
        if self.result is not None:
            facts["result"] = self.result
        if self.number is not None:
            facts["number"] = self.number
        return facts


class _Stream(io.StringIO):
    encoding = "utf-8"

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def write(self, text: str) -> int:
        written = super().write(text)
        self._output.changed()
        return written


#: set by the engine: told of outputs that have news
on_news: Callable[[Output], None] | None = None
#: of the task that runs now
_current: Output | None = None


def begin() -> Output:
    """A task begins."""
    global _current
    _current = Output(on_news)
    return _current


def end(output: Output) -> None:
    """It has ended: nothing more is told on the way."""
    global _current
    output.over = True
    _current = None


def display(data: dict[str, Any], metadata: dict[str, Any] | None = None) -> None:
    """Add a rich output to the task that runs, if one does."""
    if _current is not None:
        _current.displays.append({"data": data, "metadata": metadata or {}})
        _current.changed()


def finish(number: int, result: Display | None) -> None:
    """Note the number of a piece of code, and the value of its last expression."""
    if _current is not None:
        _current.number, _current.result = number, result


def clear_displays() -> None:
    """Forget what the task that runs has displayed."""
    if _current is not None:
        _current.displays.clear()


def publish_data(data: dict[str, Any]) -> None:
    """Send values on their way to the client while a view's task runs: they are in its result's ``data``, by name.

    Does nothing outside such a task.

    Args:
        data: values by name, pickled here and now; later ones take the place of earlier ones of the same name.

    Raises:
        Exception: what pickling them raises.
    """
    if _current is not None:
        _current.data.append(pack(dict(data)))
        _current.changed()
