"""Arrays of 1 KiB to 1 GiB as arguments: what each takes, by each way that zexec has and with peers; where segments pay.

    python -m compat.benchmark.sweep [--repeat N] [--most BYTES] [--json FILE] [--picture FILE]

The ways: ``pickle`` puts everything into the message, ``frames`` puts large buffers beside it, ``segments`` all of them into
shared memory, however small; ``zexec`` is what users get. Each measurement of a repetition has a fresh process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compat.benchmark import tasks
from compat.benchmark.peers import PEERS, Peer
from compat.benchmark.report import number

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SIZES = [KIB << 2 * step for step in range(11)]
#: thresholds from which buffers leave the pickle, and whether there is shared memory
WAYS: dict[str, tuple[int | None, bool]] = {
    "zexec": (None, True),
    "zexec, pickle": (1 << 62, True),
    "zexec, frames": (1, False),
    "zexec, segments": (1, True),
}
OTHERS = ["multiprocessing-fork", "concurrent.futures", "loky", "ray"]
MEMCPY = "memcpy"
#: Seconds. Sizes after one that took longer are left out; and no size is measured for longer than that.
PATIENCE = 2.0
ROUNDS = 200


def one(name: str, most: int) -> dict[int, float]:
    """Seconds of one call by size, in this process."""
    import numpy as np

    if name == MEMCPY:
        target = np.ones(most // 8)
        return {size: _seconds(lambda a: np.copyto(target[: len(a)], a), np.ones(size // 8)) for size in _sizes(most)}
    peer = _peer(name)
    peer.open()
    peer.results([peer.submit(tasks.nap, 0.02) for _ in range(peer.engines * 2)])
    found: dict[int, float] = {}
    for size in _sizes(most):
        found[size] = _seconds(lambda a: peer.call(tasks.last, a), np.ones(size // 8))
        if found[size] > PATIENCE:
            break
    peer.close()
    return found


def _sizes(most: int) -> list[int]:
    return [size for size in SIZES if size <= most]


def _peer(name: str) -> Peer:
    if name not in WAYS:
        return PEERS[name](2)
    from zexec.wire import bundles

    threshold, shares = WAYS[name]
    if threshold is not None:
        bundles.LARGE = bundles.ALONG = threshold
        if threshold > GIB:
            # Only here are there buffers in a pickle that are large enough for it to write them as they are.
            bundles.Sink.write = _write  # type: ignore[method-assign, assignment]
    if not shares:
        os.environ["ZEXEC_SHM_BYTES"] = "0"
    return PEERS["zexec-pool"](2)


def _write(sink: Any, piece: Any) -> None:
    list.append(sink, piece if type(piece) is bytes else bytes(piece))


def _seconds(call: Any, array: Any) -> float:
    """The median, the first two left out."""
    times: list[float] = []
    end = time.perf_counter() + PATIENCE
    while len(times) < ROUNDS and (time.perf_counter() < end or len(times) < 3):
        begin = time.perf_counter()
        if call(array) not in (1, None):
            raise RuntimeError("a wrong result")
        times.append(time.perf_counter() - begin)
        if times[-1] > PATIENCE:
            break
    return statistics.median(times[2:] or times)


def all_of_them(repeat: int, most: int) -> dict[str, dict[int, float]]:
    """Medians of seconds by name and size."""
    gathered: dict[str, dict[int, list[float]]] = {}
    for _ in range(repeat):
        for name in [MEMCPY, *WAYS, *OTHERS]:
            done = subprocess.run(
                [sys.executable, "-m", "compat.benchmark.sweep", "--one", name, "--most", str(most)],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=300,
            )
            if done.returncode:
                print(f"{name}: not there, or it failed", file=sys.stderr)
                continue
            for size, seconds in json.loads(done.stdout.splitlines()[-1]).items():
                gathered.setdefault(name, {}).setdefault(int(size), []).append(seconds)
    return {name: {size: statistics.median(each) for size, each in row.items()} for name, row in gathered.items()}


def table(found: dict[str, dict[int, float]]) -> str:
    """Microseconds, a column per name."""
    names = list(found)
    lines = [" ".join([f"{'':>8}", *(f"{name:>20}" for name in names)])]
    for size in SIZES:
        if any(size in found[name] for name in names):
            cells = (number(found[name][size] * 1e6) if size in found[name] else "-" for name in names)
            lines.append(" ".join([f"{_size(size):>8}", *(f"{cell:>20}" for cell in cells)]))
    return "\n".join(lines)


def _size(size: int) -> str:
    unit, name = next((unit, name) for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")) if size >= unit)
    return f"{size // unit} {name}"


def draw(found: dict[str, dict[int, float]], file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    canvas, (left, right) = plt.subplots(1, 2, figsize=(14, 5.5), layout="constrained")
    for axis, names in ((left, [MEMCPY, *WAYS]), (right, [MEMCPY, "zexec", *OTHERS])):
        for name in names:
            if name in found:
                row = found[name]
                line, style = ("o:", {"color": "#8d949b"}) if name == MEMCPY else ("o-", {})
                bold = 2.2 if name == "zexec" else 1.2
                axis.plot(list(row), [size / row[size] / GIB for size in row], line, ms=3, lw=bold, label=name, **style)
        axis.set_xscale("log", base=2)
        axis.set_yscale("log")
        axis.set_xticks(SIZES, [_size(size) for size in SIZES], fontsize=8)
        axis.set_ylabel("GiB/s, there and a number back")
        axis.grid(color="#eeeeee")
        axis.legend(fontsize=8)
    canvas.savefig(file, dpi=130)
    plt.close(canvas)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m compat.benchmark.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3, metavar="N")
    parser.add_argument("--most", type=int, default=GIB, metavar="BYTES", help="the largest array (default: 1 GiB)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.most)))
        return
    found = all_of_them(options.repeat, options.most)
    print(table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if options.picture:
        draw(found, options.picture)


if __name__ == "__main__":
    main()
