"""`zexec status`: what a cluster is doing."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any


def main(argv: list[str]) -> int:
    """Show a cluster's state, once or again and again.

    Args:
        argv: What follows the word `status`.

    Returns:
        The exit code: 0 if it runs, 1 if it does not, 3 if it is broken.
    """
    parser = argparse.ArgumentParser(
        prog="zexec status",
        description="Show what a cluster is doing. Exit code: 0 it runs, 1 it does not, 3 it is broken.",
    )
    parser.add_argument("cluster", nargs="?", default="default", metavar="NAME|FILE", help="which (default)")
    parser.add_argument("--json", action="store_true", help="as JSON, one line each time")
    parser.add_argument("--watch", action="store_true", help="again and again, until Ctrl-C or its end")
    parser.add_argument("--interval", type=float, default=1.0, metavar="SECONDS", help="between two looks (1)")
    parser.add_argument("--stuck", action="store_true", help="what each engine has been running, longest first")
    options = parser.parse_args(argv)
    from zexec.cluster.calls import Call
    from zexec.errors import ClusterError
    from zexec.net import cards

    try:
        card = cards.find(options.cluster, cards.CLIENT)
        with Call(card) as call:
            while True:
                status = call.order("status")
                if options.stuck:
                    status["stuck"] = call.order("stuck")
                text = json.dumps(status) if options.json else render(status)
                if options.watch and not options.json and sys.stdout.isatty():
                    text = "\x1b[H\x1b[2J" + text
                print(text, flush=True)
                if not options.watch:
                    return 3 if status["broken"] else 0
                time.sleep(options.interval)
    except ClusterError as e:
        print(f"zexec status: {e}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 0


def render(status: dict[str, Any]) -> str:
    """For people."""
    tasks, provider = status["tasks"], status["provider"]
    up = sum(engine["state"] == "up" for engine in status["engines"])
    lines = [
        f"cluster {status['name']!r}  hub {status['pid']} on {status['host']}  Python {status['python']}"
        f"  up for {_span(status['up_for'])}",
        f"engines  {up} up, {provider['starting']} starting, {provider['minimum']} wanted"
        + (f" (to {provider['maximum']})" if provider["maximum"] != provider["minimum"] else ""),
        f"tasks    {tasks['open']} open, {tasks['waiting']} waiting for an engine",
    ]
    if status["store"]["trouble"]:
        lines.append(f"TROUBLE  {status['store']['trouble']}")
    if status["broken"]:
        lines.append(f"BROKEN   {status['broken']}")
    for engine in status["engines"]:
        what = f"runs {engine['runs']}" + (f" and holds {engine['holds'] - 1} more" if engine["holds"] > 1 else "")
        odd = f"  clock {engine['clock_ahead']:+.1f} s" if not -30 < engine["clock_ahead"] < 2 else ""
        lines.append(
            f"  {engine['id']:4}  {engine['host']}:{engine['pid']}  {engine['state']:8}"
            f"  {what if engine['holds'] else 'idle'}{odd}"
        )
    for client in status["clients"]:
        state = "  away" if client["detached"] else ""
        lines.append(f"  client {client['host']}:{client['pid']}  {client['name']}  {client['open']} open{state}")
    for each in status.get("stuck", ()):
        lines.append(
            f"  engine {each['engine']} has run {each['function']} for {each['seconds']:.1f} s,"
            f" {each['behind_it']} behind it: {each['what']}"
        )
    return "\n".join(lines)


def _span(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
