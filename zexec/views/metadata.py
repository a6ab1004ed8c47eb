"""What is known of the run of one task, as IPython's parallel package names it."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from zexec.result import Metadata
from zexec.views.replies import result_of

if TYPE_CHECKING:
    from zexec.views.part import Part
    from zexec.views.results import ViewResult

#: the keys, which are attributes of a result as well
METADATA = frozenset(
    {
        *("msg_id", "status", "submitted", "started", "completed", "received", "after", "follow"),
        *("engine_id", "engine_uuid", "host", "pid", "peak_memory"),
        *("pyerr", "error", "pyout", "execute_input", "execute_result", "stdout", "stderr", "outputs", "data"),
    }
)


def metadata_of(result: ViewResult, part: Part) -> Metadata:
    """What is known of one part of a result."""
    started = seconds = 0.0
    if part.outcome is not None:
        started, seconds = part.outcome[5], part.outcome[6]
    facts = part.facts
    shown = result_of(facts)
    return Metadata(
        msg_id=part.msg_id,
        submitted=_moment(result._submitted),
        started=_moment(started),
        completed=_moment(started + seconds if started else None),
        received=_moment(part.received),
        engine_id=part.engine_id,
        engine_uuid=uuid_of(facts),
        host=facts.get("host"),
        pid=facts.get("pid"),
        peak_memory=facts.get("peak_memory"),
        status=None if part.outcome is None else "ok" if part.error is None else "error",
        pyerr=part.error,
        error=part.error,
        pyout=None if shown is None else shown["data"].get("text/plain"),
        execute_input=result._code,
        execute_result=shown,
        outputs=list(facts.get("displays", ())),
        data=dict(part.data),
        stdout=facts.get("stdout", ""),
        stderr=facts.get("stderr", ""),
        after=list(result.after_ids),
        follow=list(result.follow_ids),
    )


def uuid_of(facts: dict[str, Any]) -> str | None:
    """What tells an engine from all others, also from those that had its number before."""
    return f"{facts.get('host')}-{facts['pid']}" if facts.get("pid") is not None else None


def _moment(seconds: float | None) -> datetime | None:
    """A time with its zone."""
    return datetime.fromtimestamp(seconds, timezone.utc) if seconds else None


__all__ = ["METADATA", "metadata_of", "uuid_of"]
