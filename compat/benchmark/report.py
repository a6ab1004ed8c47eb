"""Medians, verdicts on the budgets, and both as text."""

from __future__ import annotations

from statistics import median
from typing import NamedTuple

from compat.benchmark.figures import FIGURES, Budget, Figure
from compat.benchmark.peers import PEERS
from compat.benchmark.run import Record, Results

Medians = dict[str, dict[str, float]]  # figure: peer: median


class Verdict(NamedTuple):
    figure: Figure
    peer: str
    budget: Budget
    value: float
    bound: float  # what the value must not exceed, or must reach
    reference: str  # the peer that set the bound, if one did

    @property
    def passed(self) -> bool:
        return self.figure.within(self.value, self.bound)

    @property
    def ratio(self) -> float:
        """zexec's figure as a multiple of the peer's; of the bound itself where no peer sets it."""
        return self.value / (self.bound / self.budget.factor) if self.reference else self.value / self.bound


def medians(results: Results) -> Medians:
    values: dict[str, dict[str, list[float]]] = {}
    for record in results.records:
        for key, value in record.figures.items():
            values.setdefault(key, {}).setdefault(record.peer, []).append(value)
    return {key: {peer: median(one) for peer, one in peers.items()} for key, peers in values.items()}


def verdicts(table: Medians) -> list[Verdict]:
    """Each budget that can be judged: zexec's figure is there, and a peer's to hold it against."""
    found = []
    for figure in FIGURES:
        row = table.get(figure.key, {})
        for peer in (peer for peer in row if PEERS[peer].is_zexec):
            for budget in _budgets(figure, peer):
                bound, reference = budget.factor, ""
                if budget.peers:
                    rivals = [rival for rival in budget.peers if rival in row]
                    if not rivals:
                        continue
                    reference = (min if figure.better == "lower" else max)(rivals, key=row.__getitem__)
                    bound *= row[reference]
                found.append(Verdict(figure, peer, budget, row[peer], bound, reference))
    return found


def _budgets(figure: Figure, peer: str) -> list[Budget]:
    # The start has a budget under fork; under spawn it is only compared with the others.
    return [] if peer.endswith("-spawn") and figure.row == "start" else list(figure.budgets)


def text(results: Results) -> str:
    table = medians(results)
    parts = [_header(results), _table(results, table), _alone(table), _budget_table(results, table), _notes(results)]
    return "\n\n".join(part for part in parts if part)


def _header(results: Results) -> str:
    about = results.about
    return "  ".join(
        (
            about["date"],
            f"Python {about['python']}",
            about["system"],
            f"{about['cores']} cores, {about['engines']} engines",
            f"load {about['load_at_start']:.1f} to {about['load_at_end']:.1f}",
            f"medians of {about['repetitions']}",
        )
    )


def _table(results: Results, table: Medians) -> str:
    figures = [figure for figure in FIGURES if figure.key in table and figure.row != "core"]
    peers = [peer for peer in PEERS if any(peer in table[figure.key] for figure in figures)]
    if not figures:
        return ""
    lines = []
    for part in range(2):
        lines.append(f"{'':22}" + "".join(f"{figure.column[part]:>10}" for figure in figures))
    for peer in peers:
        cells = (_cell(results.records, table, figure, peer) for figure in figures)
        lines.append(f"{peer:22}" + "".join(f"{cell:>10}" for cell in cells))
    return "\n".join(lines)


def _alone(table: Medians) -> str:
    """The figures that no peer has."""
    lines = []
    for figure in FIGURES:
        if figure.row == "core":
            lines += [f"{figure.title}: {number(value)}" for value in table.get(figure.key, {}).values()]
    return "\n".join(lines)


def _cell(records: list[Record], table: Medians, figure: Figure, peer: str) -> str:
    if peer in table[figure.key]:
        return number(table[figure.key][peer])
    own = [record for record in records if record.peer == peer and record.row == figure.row]
    if any(record.timed_out for record in own):
        return "too long"
    return "failed" if any(not record.figures for record in own) else "-"


def number(value: float) -> str:
    for limit, divisor, suffix in ((1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / divisor:.3g}{suffix}" if value / divisor < 1000 else f"{value / divisor:.0f}{suffix}"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _budget_table(results: Results, table: Medians) -> str:
    judged = verdicts(table)
    unmeasured = _unmeasured(results.records, table)
    if not judged and not unmeasured:
        return ""
    lines = []
    for figure in FIGURES:
        own = [verdict for verdict in judged if verdict.figure is figure]
        missing = [peer for key, peer in unmeasured if key == figure.key]
        if own or missing:
            lines.append(figure.title)
        lines += [f"  {peer:16} {'-':>8}   {'':32} {'':30} NO FIGURE" for peer in missing]
        for verdict in own:
            sign = "<=" if figure.better == "lower" else ">="
            budget = f"{sign} {verdict.budget.factor:g}"
            if verdict.reference:
                budget += f"x {verdict.budget.against}"
            is_ratio = f"{verdict.ratio:.2f}x {verdict.reference}" if verdict.reference else ""
            lines.append(
                f"  {verdict.peer:16} {number(verdict.value):>8}   {budget:32} {is_ratio:30}"
                f" {'pass' if verdict.passed else 'FALLS SHORT'}"
            )
    passed = sum(verdict.passed for verdict in judged)
    total = f"{passed} of {len(judged)} pass"
    if unmeasured:
        total += f"; {len(unmeasured)} figures could not be measured"
    return "\n".join(["Budgets", *lines, total])


def _unmeasured(records: list[Record], table: Medians) -> list[tuple[str, str]]:
    """Figures with a budget that zexec was asked for and did not deliver."""
    asked = {(record.row, record.peer) for record in records if PEERS[record.peer].is_zexec}
    return [
        (figure.key, peer)
        for figure in FIGURES
        for row, peer in sorted(asked)
        if row == figure.row and _budgets(figure, peer) and peer not in table.get(figure.key, {})
    ]


def _notes(results: Results) -> str:
    lines = [f"{peer} was not measured: {why}" for peer, why in results.absent.items()]
    lines += dict.fromkeys(note for record in results.records for note in _record_notes(record))
    lines += _fewer(results.records)
    if results.about.get("interrupted"):
        lines.append("The run was interrupted.")
    return "\n".join(["Notes", *(f"  {line}" for line in lines)]) if lines else ""


def _record_notes(record: Record) -> list[str]:
    notes = []
    if record.error:
        notes.append(f"{record.row}: {record.peer} failed: {record.error}")
    if record.left_behind:
        notes.append(f"{record.row}: {record.peer} left processes behind: {', '.join(sorted(set(record.left_behind)))}")
    return notes


def _fewer(records: list[Record]) -> list[str]:
    """Who was given fewer tasks than the row has, for want of time."""
    fewest: dict[tuple[str, str], tuple[int, int]] = {}
    for record in records:
        if record.tasks is not None and record.wanted is not None and record.tasks < record.wanted:
            key = (record.row, record.peer)
            fewest[key] = min(fewest.get(key, (record.tasks, record.wanted)), (record.tasks, record.wanted))
    return [f"{row}: {peer} had {some:,} of {wanted:,} tasks" for (row, peer), (some, wanted) in fewest.items()]
