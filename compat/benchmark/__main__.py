"""The command line: `python -m compat.benchmark`, from the root of the checkout."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from compat.benchmark import report
from compat.benchmark.peers import PEERS
from compat.benchmark.rows import ROWS, Settings
from compat.benchmark.run import Plan, Results, run

DEFAULT_ROWS = [row for row in ROWS if row != "scaling"]
QUICK_PEERS = ["zexec-pool", "zexec-executor", "multiprocessing-fork", "concurrent.futures"]


def main() -> int:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by the way that ends the measurement's processes
    if options.from_file:
        results = Results.from_json(json.loads(options.from_file.read_text()))
    else:
        results = run(_plan(options))
    if options.json:
        options.json.write_text(json.dumps(results.to_json(), indent=1) + "\n")
    if options.picture and results.records:
        from compat.benchmark import picture

        picture.draw(results, options.picture)
    print(report.text(results))
    return 0 if results.records else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m compat.benchmark",
        description="zexec against its peers, each measurement in a fresh process, in turn.",
        epilog=f"Peers: {', '.join(PEERS)}. Rows: {', '.join(ROWS)}. A peer's first word means all of its variants. "
        "What is not installed is left out, and said so.",
    )
    parser.add_argument("--peers", metavar="A,B", help="only these, or all (default: all, or a few with --quick)")
    parser.add_argument("--rows", metavar="A,B", help="only these (default: all but scaling)")
    parser.add_argument(
        "--repeat", type=int, default=3, metavar="N", help="repetitions, of which the medians are shown"
    )
    parser.add_argument("--engines", type=int, default=2, metavar="N", help="engines of each pool (default: 2)")
    parser.add_argument("--scaling", type=int, default=0, metavar="N", help="also the row scaling, with N engines")
    parser.add_argument("--quick", action="store_true", help=f"shorter, and by default only {', '.join(QUICK_PEERS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw a picture (.png or .svg; needs matplotlib)")
    parser.add_argument(
        "--from", dest="from_file", type=Path, metavar="FILE", help="measure nothing, show what --json wrote earlier"
    )
    return parser


def _plan(options: argparse.Namespace) -> Plan:
    peers = _chosen(options.peers, PEERS) if options.peers else QUICK_PEERS if options.quick else list(PEERS)
    rows = _chosen(options.rows, ROWS) if options.rows else DEFAULT_ROWS
    if "scaling" in rows and not options.scaling:
        sys.exit("the row scaling needs --scaling N")
    rows = [row for row in rows if row != "scaling" or not options.scaling]
    if options.quick:
        settings = Settings(options.engines, seconds=1.5, pending=20_000, observed=1.0)
    else:
        settings = Settings(options.engines, seconds=3.0, pending=100_000, observed=3.0)
    return Plan(list(peers), rows, options.repeat, settings, options.scaling)


def _chosen(names: str, known: Mapping[str, object]) -> list[str]:
    if names == "all":
        return list(known)
    chosen: list[str] = []
    for name in filter(None, names.split(",")):
        found = [one for one in known if one == name] or [one for one in known if one.startswith(f"{name}-")]
        if not found:
            sys.exit(f"unknown: {name}. Known: {', '.join(known)}")
        chosen += (one for one in found if one not in chosen)
    return chosen


if __name__ == "__main__":
    sys.exit(main())
