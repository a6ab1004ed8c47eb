"""The medians as a picture: a panel per figure, a dot per peer, and a line where the budget is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from compat.benchmark.figures import FIGURES, Figure
from compat.benchmark.peers import PEERS
from compat.benchmark.report import Medians, Verdict, medians, number, verdicts
from compat.benchmark.run import Results

ZEXEC, OTHER, LINE = "#1f6fb2", "#8d949b", "#c0392b"
COLUMNS = 3


def draw(results: Results, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    table = medians(results)
    judged = verdicts(table)
    figures = [figure for figure in FIGURES if len(table.get(figure.key, ())) > 1]  # else there is nothing to see
    rows = -(-len(figures) // COLUMNS)
    most = max((len(row) for row in table.values()), default=1)
    height = rows * (0.8 + 0.21 * most)
    canvas, axes = plt.subplots(rows, COLUMNS, figsize=(14, height), squeeze=False, layout="constrained")
    for axis in axes.flat[len(figures) :]:
        axis.set_visible(False)
    for figure, axis in zip(figures, axes.flat, strict=False):
        _panel(axis, figure, table, [verdict for verdict in judged if verdict.figure is figure])
    about = results.about
    canvas.suptitle(
        f"Python {about['python']}, {about['engines']} engines on {about['cores']} cores, medians of "
        f"{about['repetitions']}. Dashed: the strictest budget of zexec. Logarithmic scales.",
        fontsize=9,
        color="#555555",
    )
    canvas.savefig(file, dpi=130)
    plt.close(canvas)


def _panel(axis: Any, figure: Figure, table: Medians, judged: list[Verdict]) -> None:
    row = table[figure.key]
    # The best on top, and the vertical axis counts from below. Dots, as a bar has no honest foot on a logarithmic scale.
    peers = sorted(row, key=lambda peer: row[peer], reverse=figure.better == "lower")
    values = [max(row[peer], 1e-3) for peer in peers]  # a logarithm needs more than 0
    colors = [ZEXEC if PEERS[peer].is_zexec else OTHER for peer in peers]
    axis.hlines(range(len(peers)), 0, 1, transform=axis.get_yaxis_transform(), color="#eeeeee", linewidth=1, zorder=1)
    axis.scatter(values, range(len(peers)), color=colors, s=36, zorder=3)
    axis.set_xscale("log")
    axis.set_yticks(range(len(peers)), peers)
    axis.set_ylim(-0.7, len(peers) - 0.3)
    floor, ceiling = min(values), max(values)
    bounds = [verdict.bound for verdict in judged]
    if bounds:
        bound = min(bounds) if figure.better == "lower" else max(bounds)
        axis.axvline(bound, color=LINE, linestyle="--", linewidth=1, zorder=2)
        floor, ceiling = min(floor, bound), max(ceiling, bound)
    axis.set_xlim(floor / 1.5, ceiling * (ceiling / floor) ** 0.2 * 1.5)  # room for the numbers
    box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
    for position, (peer, value) in enumerate(zip(peers, values, strict=True)):
        axis.annotate(
            number(row[peer]),
            (value, position),
            (7, 0),
            textcoords="offset points",
            va="center",
            fontsize=7.5,
            bbox=box,
            zorder=4,
        )
    better = "less is better" if figure.better == "lower" else "more is better"
    axis.set_title(f"{figure.title}\n({better})", fontsize=8.5, loc="left")
    axis.tick_params(axis="y", labelsize=8, length=0)
    axis.tick_params(axis="x", which="both", bottom=False, labelbottom=False)  # the numbers are at the dots
    for side in ("top", "right", "left", "bottom"):
        axis.spines[side].set_visible(False)
