"""How far the scheduler carries: simulated engines and time around the real one, from 10 to 100,000 engines and 10,000,000 tasks.

    python -m compat.benchmark.scale [--json FILE] [--picture FILE] [--quick]

For each size the cluster is filled with tasks until all are open, and then goes on: for each that ends another is submitted. The
figures: the scheduler's time for one event (a submission, a result) while each task comes back alone; the memory of the process
for one task that waits; and how evenly several clients are served who have submitted very different numbers of tasks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter, deque
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from compat.benchmark.core_alone import LONG, Cluster, one_by_one
from zexec.core import actions, events
from zexec.core.scheduler import Scheduler
from zexec.messages import CALL, CLIENT_BITS, OK, Function, Task

SIZES = [
    (10, 10_000),
    (100, 100_000),
    (1_000, 1_000_000),
    (10_000, 1_000_000),
    (100_000, 1_000_000),
    (100_000, 10_000_000),
]
CLIENTS = {1: 100_000, 2: 10_000, 3: 1_000, 4: 1_000}


def rss() -> int:
    return int(psutil.Process().memory_info().rss)


def one_size(engines: int, tasks: int) -> dict[str, float]:
    """Figures for one size."""
    cluster = Cluster(engines, LONG)
    before, began = rss(), time.perf_counter()
    cluster.submit(tasks)
    while cluster.settled < engines:
        cluster.step()
    filled = time.perf_counter() - began
    memory = (rss() - before) / tasks
    return {"engines": engines, "tasks": tasks, "bytes_per_task": memory, "seconds_to_fill": filled}


def fairness(engines: int = 100, seconds: float = 1e-5) -> dict[str, Any]:
    """Clients who submit at once, very differently much: how many of each one's tasks had run when the first was done.

    Short tasks, which travel in bulk; each client's share of engines' time is what is compared.
    """
    scheduler = Scheduler(0, elastic=True)
    coming: deque[Any] = deque(events.Joined(n) for n in range(engines))
    function = Function(b"digest", b"", "function")
    for client, amount in CLIENTS.items():
        ids = count(client << CLIENT_BITS)
        for start in range(0, amount, 1_000):
            size = min(1_000, amount - start)
            coming.append(events.Submitted([Task(next(ids), function, CALL, b"") for _ in range(size)]))
    ran: Counter[int] = Counter()
    at_first_end: dict[int, int] = {}
    now = 0.0
    while coming:
        event = coming.popleft()
        now += seconds
        scheduler.handle(now, event)
        for action in scheduler.decide(now):
            if isinstance(action, actions.Admit):
                coming.append(events.EngineUp(action.serial, action.id))
            elif isinstance(action, actions.Send):
                numbers = range(action.base, action.base + len(action.tasks))
                coming.append(events.Ran(action.serial, [(number, OK, None, now, 1e-3) for number in numbers]))
            elif isinstance(action, actions.TakeBack):
                coming.append(events.GaveBack(action.serial, action.seqs, ()))
            elif isinstance(action, actions.SettleBulk):
                for task, _ in action.pairs:
                    ran[task.id >> CLIENT_BITS] += 1
        if not at_first_end and any(ran[client] == amount for client, amount in CLIENTS.items()):
            at_first_end = {client: ran[client] for client in CLIENTS}
    assert ran == Counter(CLIENTS)
    shares = list(at_first_end.values())
    return {
        "submitted": CLIENTS,
        "ran_when_the_first_was_done": at_first_end,
        "least_to_most": min(shares) / max(shares),
    }


def picture(found: list[dict[str, float]]) -> str:
    """The cost of an event and the memory of a task over the size, as SVG."""
    width, height, left, bottom = 640, 300, 60, 60
    step = (width - left - 20) / (len(found) - 1)
    top_cost = max(8.0, max(each["us_per_event"] for each in found) * 1.2)
    top_memory = max(1_000.0, max(each["bytes_per_task"] for each in found) * 1.2)

    def line(key: str, top: float, colour: str) -> str:
        points = [
            (left + i * step, height - bottom - each[key] / top * (height - bottom - 30))
            for i, each in enumerate(found)
        ]
        dots = "".join(
            f'<circle cx="{x:.0f}" cy="{y:.0f}" r="4" fill="{colour}"/>'
            f'<text x="{x:.0f}" y="{y - 9:.0f}" text-anchor="middle" fill="{colour}">{found[i][key]:,.3g}</text>'
            for i, (x, y) in enumerate(points)
        )
        path = " ".join(f"{x:.0f},{y:.0f}" for x, y in points)
        return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>{dots}'

    names = "".join(
        f'<text x="{left + i * step:.0f}" y="{height - bottom + 18}" text-anchor="middle">{each["engines"]:,.0f}</text>'
        f'<text x="{left + i * step:.0f}" y="{height - bottom + 34}" text-anchor="middle">{each["tasks"]:,.0f}</text>'
        for i, each in enumerate(found)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
        f'<line x1="{left - 20}" y1="{height - bottom}" x2="{width}" y2="{height - bottom}" stroke="#888"/>'
        f'<text x="8" y="{height - bottom + 18}">engines</text><text x="8" y="{height - bottom + 34}">tasks</text>'
        f'<text x="{left}" y="16" fill="#1668a8">µs per event</text>'
        f'<text x="{left + 110}" y="16" fill="#b2521b">bytes per waiting task</text>'
        f"{names}{line('us_per_event', top_cost, '#1668a8')}{line('bytes_per_task', top_memory, '#b2521b')}</svg>\n"
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m compat.benchmark.scale", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--quick", action="store_true", help="small sizes only")
    parser.add_argument("--size", type=int, nargs=2, metavar=("ENGINES", "TASKS"), help="this one only, as JSON")
    options = parser.parse_args()
    if options.size:
        one_size(*SIZES[0])  # warm
        print(json.dumps(one_size(*options.size)))
        return 0
    found = []
    for size in SIZES[:3] if options.quick else SIZES:
        # In a process of its own: memory that another size has left would be used again, and not be seen.
        call = [sys.executable, "-m", "compat.benchmark.scale", "--size", *map(str, size)]
        found.append(json.loads(subprocess.run(call, check=True, stdout=subprocess.PIPE).stdout))
    # All at once and in turn: a machine that is busy with something else is so for all of them.
    sizes = [(int(each["engines"]), int(each["tasks"])) for each in found]
    for last, seconds in zip(found, one_by_one(sizes), strict=True):
        last["us_per_event"] = seconds * 1e6
        print(
            f"{last['engines']:7,} engines, {last['tasks']:10,} tasks: {last['us_per_event']:5.2f} us per event,"
            f" {last['bytes_per_task']:5.0f} bytes per task, filled in {last['seconds_to_fill']:.1f} s",
            flush=True,
        )
    fair = fairness()
    print("clients:", fair["submitted"], "-> ran when the first was done:", fair["ran_when_the_first_was_done"])
    if options.json:
        options.json.write_text(json.dumps({"sizes": found, "fairness": fair}, indent=1))
    if options.picture:
        options.picture.write_text(picture(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
