"""What is remembered of tasks after they have ended and nobody holds their results: records for queries, without values.

For the hub in a pool's own process, which keeps nothing. The hub of a cluster has a store.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from zexec.views.metadata import metadata_of

if TYPE_CHECKING:
    from zexec.views.part import Part
    from zexec.views.results import ViewResult

#: Records that are kept, about a kilobyte each, and characters of what a task printed.
RECORDS, TEXT = 10_000, 1_000
#: what records lack: it may be large, and is in the result
_LARGE = ("outputs", "data", "execute_result", "pyerr")


class Memory:
    """Records of the newest tasks that have ended. Written by the io thread, read by any."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, dict[str, Any]] = OrderedDict()

    def note(self, result: ViewResult, part: Part) -> None:
        """A part has ended."""
        self._records[part.msg_id] = record_of(result, part)
        if len(self._records) > RECORDS:
            self._records.popitem(last=False)

    def records(self) -> dict[str, dict[str, Any]]:
        """All of them, by id, in the order in which the tasks ended."""
        return dict(self._records)

    def forget(self, msg_ids: list[str] | None = None) -> None:
        """Forget these, or all."""
        if msg_ids is None:
            self._records.clear()
        for msg_id in msg_ids or ():
            self._records.pop(msg_id, None)


def record_of(result: ViewResult, part: Part) -> dict[str, Any]:
    """What queries see of one task."""
    record = {key: value for key, value in metadata_of(result, part).items() if key not in _LARGE}
    for name in ("stdout", "stderr"):
        record[name] = record[name][:TEXT]
    record["error"] = None if part.error is None else f"{type(part.error).__name__}: {part.error}"[:TEXT]
    return {**record, "label": result.label, "queue": "task" if part.target is None else "mux"}


__all__ = ["Memory", "record_of"]
