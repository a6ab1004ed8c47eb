"""What is measured: one function per row, run in a fresh process with one peer. Each returns its figures by key.

Every row checks the results that it got. A row is bounded in time: a peer that would need longer gets fewer tasks,
and the record says how many (`tasks`, `wanted`).
"""

from __future__ import annotations

import os
import time

from compat.benchmark import tasks
from compat.benchmark.array_rows import ARRAY_ROWS

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 7 ms of importing typing
if TYPE_CHECKING:
    from collections.abc import Callable

    from compat.benchmark.peers import Peer

    Figures = dict[str, float]
    # Asks the orchestrator to watch all processes of this measurement for some seconds: PSS in MiB, CPU in percent.
    Observe = Callable[[float], tuple[float, float]]
    Row = Callable[["Peer", "Settings", Observe], Figures]

# Within one process a quick measurement is taken up to this often, and its median counts: 50 ms alone are mostly noise.
ROUNDS = 3


class Settings:
    """How large the rows are. A plain class, because dataclasses would be a costly import in the fresh process."""

    def __init__(self, engines: int, seconds: float, pending: int, observed: float) -> None:
        self.engines = engines
        self.seconds = seconds  # the bound of one timed part
        self.pending = pending  # how many tasks wait in the row "pending"
        self.observed = observed  # for how long an idle pool is watched

    def arguments(self) -> list[str]:
        return [str(self.engines), str(self.seconds), str(self.pending), str(self.observed)]

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> Settings:
        engines, seconds, pending, observed = arguments
        return cls(int(engines), float(seconds), int(pending), float(observed))


def start(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """Import, a pool, the first results, the end. The orchestrator adds the time of the whole process."""
    begin = time.perf_counter()
    peer.open()
    results = peer.map(tasks.noop, range(4), 1)
    peer.close()
    seconds = time.perf_counter() - begin
    _check(results == [0, 1, 2, 3])
    return {"inside_ms": seconds * 1e3}


def round_trip(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """One no-op there and back, 2,000 times one after the other."""
    # So many because the system switches between waking an idle core and staying on one, with a factor of 3 between.
    _open_warm(peer)
    for _ in range(20):
        peer.call(tasks.noop)
    wanted = 2_000
    times: list[float] = []
    end = time.perf_counter() + settings.seconds
    while len(times) < wanted and (time.perf_counter() < end or not times):
        begin = time.perf_counter()
        peer.call(tasks.noop)
        times.append(time.perf_counter() - begin)
    peer.close()
    return {"round_trip_us": _median(times) * 1e6, "tasks": len(times), "wanted": wanted}


def submits(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """5,000 submits of a no-op, and the wait for all."""

    def run(count: int) -> float:
        begin = time.perf_counter()
        results = peer.results([peer.submit(tasks.noop, number) for number in range(count)])
        seconds = time.perf_counter() - begin
        _check(results == list(range(count)))
        return seconds

    _open_warm(peer)
    figures = _rate("submits_per_s", run, wanted=5_000, probe=100, settings=settings)
    peer.close()
    return figures


def map_single(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """A map of 10,000 no-ops with chunksize 1."""
    return _map_rate("map_single_per_s", peer, settings, chunksize=1, wanted=10_000, probe=200)


def map_chunks(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """A map of 1,000,000 ints with chunksize 5,000."""
    return _map_rate("map_chunks_per_s", peer, settings, chunksize=5_000, wanted=1_000_000, probe=50_000)


def lambdas(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """1,000 different lambdas, submitted one by one."""

    def run(count: int) -> float:
        functions = tasks.different_lambdas(count)
        begin = time.perf_counter()
        results = peer.results([peer.submit(function, 1) for function in functions])
        seconds = time.perf_counter() - begin
        _check(results == [1 + number for number in range(count)])
        return seconds

    _open_warm(peer, lambdas=True)
    figures = _rate("lambdas_per_s", run, wanted=1_000, probe=20, settings=settings)
    peer.close()
    return figures


def pending(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """What one waiting task costs the client in memory: all engines are held, then tasks are queued behind."""
    import shutil
    import tempfile

    _open_warm(peer)
    folder = tempfile.mkdtemp()
    handles = [peer.submit(tasks.hold, folder) for _ in range(settings.engines)]
    _wait_until(lambda: len(os.listdir(folder)) == settings.engines)
    before = _resident_bytes()
    begin = time.perf_counter()
    queued = 0
    while queued < settings.pending and (time.perf_counter() - begin < settings.seconds * 2 or not queued):
        handles += [peer.submit(tasks.noop, number) for number in range(500)]
        queued += 500
    time.sleep(0.5)  # what the peer's threads still make of it
    figures = {"pending_bytes": (_resident_bytes() - before) / queued, "tasks": queued, "wanted": settings.pending}
    shutil.rmtree(folder)
    # Not closed: running what is queued could take minutes. The orchestrator ends the processes.
    return figures


def idle(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """Memory and processor use of a pool that has worked and has nothing to do."""
    _open_warm(peer)
    peer.map(tasks.noop, range(100), 1)
    time.sleep(min(1.0, settings.observed))
    mebibytes, percent = observe(settings.observed)
    peer.close()
    return {"idle_mib": mebibytes, "idle_cpu_percent": percent}


def scaling(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """The share of the ideal that short tasks with chunksize 1 reach. Makes sense with a core per engine."""

    def share(duration: float, wanted: int) -> float:
        def run(count: int) -> float:
            durations = [duration] * count
            begin = time.perf_counter()
            peer.map(tasks.spin, durations, 1)
            return time.perf_counter() - begin

        probe = settings.engines * 20
        per_second = _rate("", run, wanted=settings.engines * wanted, probe=probe, settings=settings)[""]
        return per_second * duration / settings.engines

    _open_warm(peer)
    figures = {"share_1ms": share(1e-3, 1_000), "share_100us": share(1e-4, 5_000)}
    peer.close()
    return figures


def core(peer: Peer, settings: Settings, observe: Observe) -> Figures:
    """zexec's scheduler alone, without processes."""
    from compat.benchmark import core_alone

    return core_alone.measure()


ROWS: dict[str, Row] = {
    "start": start,
    "round_trip": round_trip,
    "submits": submits,
    "map_single": map_single,
    "map_chunks": map_chunks,
    "lambdas": lambdas,
    "pending": pending,
    "idle": idle,
    "core": core,
    "scaling": scaling,
    **ARRAY_ROWS,
}


# ── helpers ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _open_warm(peer: Peer, lambdas: bool = False) -> None:
    """Open, and see every engine at work once: some peers start them only on demand."""
    peer.open(lambdas)
    peer.results([peer.submit(tasks.nap, 0.02) for _ in range(peer.engines * 2)])


def _map_rate(key: str, peer: Peer, settings: Settings, chunksize: int, wanted: int, probe: int) -> Figures:
    def run(count: int) -> float:
        items = range(count)
        begin = time.perf_counter()
        results = peer.map(tasks.noop, items, chunksize)
        seconds = time.perf_counter() - begin
        _check(results == list(items))
        return seconds

    _open_warm(peer)
    figures = _rate(key, run, wanted, probe, settings)
    peer.close()
    return figures


def _rate(key: str, run: Callable[[int], float], wanted: int, probe: int, settings: Settings) -> Figures:
    """Tasks per second of `run(count)`, which returns the seconds it took: with as many tasks as fit the time."""
    run(probe)
    affordable = int(settings.seconds * probe / run(probe))
    count = min(wanted, max(probe, affordable - affordable % probe))
    times = [run(count)]
    while len(times) < ROUNDS and sum(times) + times[-1] < settings.seconds:
        times.append(run(count))
    return {key: count / _median(times), "tasks": count, "wanted": wanted}


def _median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _resident_bytes() -> int:
    # RSS, not USS: a page that a forked engine shares until the client writes to it would count as growth.
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the engines did not all become busy")
        time.sleep(0.01)


def _check(right: bool) -> None:
    if not right:
        raise RuntimeError("wrong results")
