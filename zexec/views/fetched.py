"""Results of tasks that somebody else has submitted to the same cluster, or this user in another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from zexec.messages import OK, Outcome
from zexec.outcomes import value_of
from zexec.views.part import Part
from zexec.views.results import ViewResult

if TYPE_CHECKING:
    from zexec.client import Client as Connection


class FetchedResult(ViewResult):
    """What will come of tasks of which nothing is known here but their ids: the value of each, whatever made it.

    A call's value, a list of values for a chunk of a map; the parts of a view's call each for itself.
    """

    def __init__(self, connection: Connection, ids: Sequence[str], single: bool) -> None:
        parts = [Part(index, 1, None) for index in range(len(ids))]
        for part, msg_id in zip(parts, ids, strict=True):
            part.msg_id = msg_id
        super().__init__(connection, "a task fetched by its id", parts, single=single)
        self._ids = [int(msg_id) for msg_id in ids]

    def _open_part(self, part: Part, outcome: Outcome) -> tuple[list[Any], BaseException | None]:
        if outcome[1] != OK:
            return super()._open_part(part, outcome)
        try:
            value = value_of(outcome, self._face)
        except BaseException as e:
            return [None], self._remote(e, part, outcome)
        return super()._open_part(part, outcome) if _is_views(value) else ([value], None)


def _is_views(value: Any) -> bool:
    """Whether an engine made this for a view: one item, a parcel and the facts of its run."""
    if type(value) is not list or len(value) != 1 or type(value[0]) is not tuple or len(value[0]) != 2:
        return False
    parcel, facts = value[0]
    return type(facts) is dict and type(parcel) is tuple and len(parcel) == 2 and type(parcel[1]) is list
