"""`zexec stop`: end a cluster."""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str]) -> int:
    """End a cluster.

    Args:
        argv: What follows the word `stop`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="zexec stop", description="End a cluster, with all its engines. What is open fails at its clients."
    )
    parser.add_argument("cluster", nargs="?", default="default", metavar="NAME|FILE", help="which (default)")
    parser.add_argument("--all", action="store_true", help="all that run on this machine")
    parser.add_argument("--timeout", type=float, default=15.0, metavar="SECONDS", help="how long that may take (15)")
    options = parser.parse_args(argv)
    from zexec.cluster.cluster import Cluster
    from zexec.errors import ClusterError
    from zexec.net import cards

    chosen = [options.cluster]
    if options.all:
        chosen = []
        for name in cards.names():
            try:
                cards.find(name, cards.CLIENT)
            except ClusterError:
                continue
            chosen.append(name)
    code = 0
    for each in chosen:
        try:
            found = Cluster.from_file(each) if each.endswith(".json") else Cluster.from_name(each)
            found.stop(options.timeout)
        except ClusterError as e:
            print(f"zexec stop: {e}", file=sys.stderr)
            code = 1
    return code
