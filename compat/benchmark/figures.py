"""What each number means, and zexec's budgets for it. In the order of the tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

POOL = "multiprocessing-fork"
FUTURES = "concurrent.futures"


class Budget(NamedTuple):
    """zexec's figure held against `factor` times the best figure of `peers`, or against `factor` itself if none."""

    factor: float
    peers: tuple[str, ...] = ()
    name: str = ""  # for a group of peers

    @property
    def against(self) -> str:
        return self.name or ", ".join(self.peers)


class Figure(NamedTuple):
    key: str
    row: str
    title: str
    column: tuple[str, str]  # heading of the table's column, in two lines
    better: str  # "lower" or "higher"
    budgets: Sequence[Budget] = ()

    def within(self, value: float, bound: float) -> bool:
        return value <= bound if self.better == "lower" else value >= bound


# Every peer with machinery of its own: multiprocess is the stdlib's Pool with another pickler.
_OWN = ("loky", "pebble", "mpire", "ipyparallel", "dask", "ray")

FIGURES: tuple[Figure, ...] = (
    Figure(
        "process_ms",
        "start",
        "start: a whole process, from its start over first results to its exit, ms",
        ("process", "ms"),
        "lower",
        [Budget(2.5, (POOL,)), Budget(1.0, _OWN, "every other")],
    ),
    Figure(
        "inside_ms",
        "start",
        "of that, from import over first results to the end of close, ms",
        ("import..", "close ms"),
        "lower",
        [Budget(2.5, (POOL,)), Budget(1.0, _OWN, "every other")],
    ),
    Figure(
        "round_trip_us",
        "round_trip",
        "one no-op there and back, µs",
        ("round", "trip µs"),
        "lower",
        [Budget(1.2, (POOL,)), Budget(1.0, (FUTURES, *_OWN), "every other")],
    ),
    Figure(
        "submits_per_s",
        "submits",
        "5,000 submits of a no-op, tasks/s",
        ("submits", "/s"),
        "higher",
        [Budget(4.0, (POOL,)), Budget(10.0, (FUTURES,))],
    ),
    Figure(
        "map_single_per_s",
        "map_single",
        "map of 10,000 no-ops, chunksize 1, items/s",
        ("map by 1", "/s"),
        "higher",
        [Budget(2.0, (POOL,))],
    ),
    Figure(
        "map_chunks_per_s",
        "map_chunks",
        "map of 1,000,000 ints, chunksize 5,000, items/s",
        ("by 5,000", "/s"),
        "higher",
        [Budget(1.0, (POOL,))],
    ),
    Figure(
        "lambdas_per_s",
        "lambdas",
        "1,000 different lambdas, tasks/s",
        ("lambdas", "/s"),
        "higher",
        [Budget(1.5, (*_OWN, "multiprocess"), "the best")],
    ),
    Figure(
        "pending_bytes",
        "pending",
        "client memory per pending task, bytes",
        ("pending", "bytes"),
        "lower",
        [Budget(1.0, (POOL,))],
    ),
    Figure("idle_mib", "idle", "idle: memory of all processes (PSS), MiB", ("idle", "MiB"), "lower", [Budget(40.0)]),
    Figure("idle_cpu_percent", "idle", "idle: processor use, % of a core", ("idle", "CPU %"), "lower", [Budget(0.3)]),
    Figure(
        "share_1ms",
        "scaling",
        "scaling: share of ideal, tasks of 1 ms, chunksize 1",
        ("share,", "1 ms"),
        "higher",
        [Budget(0.95)],
    ),
    Figure(
        "share_100us",
        "scaling",
        "scaling: share of ideal, tasks of 0.1 ms, chunksize 1",
        ("share,", "0.1 ms"),
        "higher",
        [Budget(2.5, (POOL,))],
    ),
    Figure(
        "core_us_per_task",
        "core",
        "scheduler alone: one task in bulk, µs",
        ("core", "µs/task"),
        "lower",
        [Budget(3.0)],
    ),
    Figure(
        "core_us_per_event",
        "core",
        "scheduler alone: one event, 10k engines and 1M tasks, µs",
        ("core", "µs/event"),
        "lower",
    ),
    Figure(
        "core_growth",
        "core",
        "scheduler alone: cost of an event, 10k engines and 1M tasks to 10 and 1k",
        ("core", "growth"),
        "lower",
        [Budget(1.25)],
    ),
    Figure(
        "array_in_gib_s",
        "array_in",
        "100 MB array to an engine, GiB/s",
        ("array in", "GiB/s"),
        "higher",
        [Budget(4.0, ("ray",))],
    ),
    Figure("memcpy_gib_s", "array_in", "memcpy of it in the same process, GiB/s", ("memcpy", "GiB/s"), "higher"),
    Figure(
        "array_out_gib_s",
        "array_out",
        "100 MB array back, GiB/s",
        ("array out", "GiB/s"),
        "higher",
        [Budget(4.0, ("ray",))],
    ),
    Figure(
        "echo_gib_s",
        "echo",
        "1 MB there and back, GiB/s",
        ("1 MB echo", "GiB/s"),
        "higher",
        [Budget(3.0, (POOL, FUTURES, *_OWN), "the best")],
    ),
    Figure("broadcast_gib_s", "broadcast", "100 MB to every engine, GiB/s arriving", ("broadcast", "GiB/s"), "higher"),
    Figure("broadcast_copied", "broadcast", "copies made of it for all engines", ("copies", "of it"), "lower"),
    Figure("scatter_gather_gib_s", "scatter", "1 GB scattered and gathered, GiB/s", ("scatter..", "GiB/s"), "higher"),
    Figure(
        "frame_echo_gib_s", "frame_echo", "pandas frame of 10 MB there and back, GiB/s", ("frame", "GiB/s"), "higher"
    ),
    Figure("shared_in_us", "shared_in", "zexec.empty of 100 MB to an engine, µs", ("shared in", "µs"), "lower"),
)
BY_KEY = {figure.key: figure for figure in FIGURES}
