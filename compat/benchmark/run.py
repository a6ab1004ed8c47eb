"""The orchestration: which measurements there are, in which order they run, and the record of each.

Per repetition and row, the peers come one right after the other, so that a disturbance of the machine meets all of
them; and each repetition starts with another peer.
"""

from __future__ import annotations

import datetime
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from compat.benchmark import processes
from compat.benchmark.peers import PEERS
from compat.benchmark.rows import Settings

#: So long one measurement may take, start and end of the peer included.
DEADLINE_SECONDS = 90.0
VERSION_DEADLINE_SECONDS = 60.0


@dataclass
class Plan:
    peers: list[str]
    rows: list[str]
    repeat: int
    settings: Settings
    scaling: int = 0  # engines of the row "scaling"; 0: no such row

    def settings_of(self, row: str) -> Settings:
        if row != "scaling":
            return self.settings
        return Settings(self.scaling, self.settings.seconds, self.settings.pending, self.settings.observed)

    def order(self) -> Iterator[tuple[int, str, str]]:
        for repetition in range(self.repeat):
            for row in [*self.rows, *(["scaling"] if self.scaling else [])]:
                first = repetition % max(1, len(self.peers))
                for peer in self.peers[first:] + self.peers[:first]:
                    yield repetition, row, peer


@dataclass
class Record:
    """One measurement."""

    repetition: int
    row: str
    peer: str
    figures: dict[str, float] = field(default_factory=dict)
    tasks: int | None = None  # how many of `wanted` there was time for
    wanted: int | None = None
    wall_s: float = 0.0
    error: str | None = None
    timed_out: bool = False
    left_behind: list[str] = field(default_factory=list)


@dataclass
class Results:
    about: dict[str, Any]
    records: list[Record]
    absent: dict[str, str] = field(default_factory=dict)  # peer: why it was not measured at all

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Results:
        return cls(data["about"], [Record(**record) for record in data["records"]], data["absent"])


def run(plan: Plan) -> Results:
    """Measure everything in the plan. Interrupted (Ctrl-C), return what there is."""
    processes.adopt_orphans()
    begun = datetime.datetime.now(datetime.timezone.utc)
    results = Results(_about(plan, begun), [])
    try:
        versions = results.about["versions"] = _versions(plan, results.absent)
        plan.peers = [peer for peer in plan.peers if peer in versions]
        _measure_all(plan, results.records)
    except KeyboardInterrupt:
        results.about["interrupted"] = True
    results.about["seconds"] = round((datetime.datetime.now(datetime.timezone.utc) - begun).total_seconds())
    results.about["load_at_end"] = os.getloadavg()[0]
    return results


def _versions(plan: Plan, absent: dict[str, str]) -> dict[str, str]:
    """The peers that can be imported. That also has their modules compiled before their start is measured."""
    versions = {}
    for peer in plan.peers:
        reply = processes.measure([peer, "version"], [], VERSION_DEADLINE_SECONDS).reply
        if "version" in reply:
            versions[peer] = reply["version"]
        else:
            absent[peer] = reply["error"]
        _say(f"{peer:22} {reply.get('version') or 'absent: ' + reply['error']}")
    return versions


def _measure_all(plan: Plan, records: list[Record]) -> None:
    given_up: set[tuple[str, str]] = set()
    for repetition, row, peer in plan.order():
        if PEERS[peer].cannot(row) or (row, peer) in given_up:
            continue
        record = _measure(repetition, row, peer, plan.settings_of(row))
        records.append(record)
        if record.error:  # it would only happen again, at the price of the deadline in the worst case
            given_up.add((row, peer))
        shown = record.error or "  ".join(f"{key} {value:,.4g}" for key, value in record.figures.items())
        left = f"  left behind: {', '.join(record.left_behind)}" if record.left_behind else ""
        _say(f"{repetition + 1}/{plan.repeat}  {row:11} {peer:22} {record.wall_s:5.1f} s  {shown}{left}")


def _measure(repetition: int, row: str, peer: str, settings: Settings) -> Record:
    # The row "pending" ends with its tasks pending, so its engines cannot be expected to be gone.
    grace_s = 0.0 if row == "pending" else processes.GRACE_SECONDS
    reply, wall_s, left_behind = processes.measure([peer, row], settings.arguments(), DEADLINE_SECONDS, grace_s)
    record = Record(repetition, row, peer, wall_s=wall_s)
    record.error = reply.get("error")
    record.timed_out = reply.get("timed_out", False)
    record.left_behind = [] if row == "pending" or record.timed_out else left_behind
    figures = dict(reply.get("figures", {}))
    if "tasks" in figures:
        record.tasks, record.wanted = figures.pop("tasks"), figures.pop("wanted")
    if figures and row == "start":
        figures["process_ms"] = wall_s * 1e3
    record.figures = figures
    return record


def _about(plan: Plan, begun: datetime.datetime) -> dict[str, Any]:
    return {
        "date": begun.isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "engines": plan.settings.engines,
        "scaling_engines": plan.scaling,
        "repetitions": plan.repeat,
        "load_at_start": os.getloadavg()[0],
    }


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
