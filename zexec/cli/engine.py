"""`zexec engine`: be an engine of a cluster."""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str]) -> int:
    """Serve until the cluster ends, or has no use for this engine.

    Args:
        argv: What follows the word `engine`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="zexec engine",
        description="Be an engine of a cluster: run its tasks until it ends.",
        epilog="A connection file is where `zexec start` says; copy it to where the engine is to run, with mode 0600.",
    )
    parser.add_argument(
        "--connect", required=True, metavar="FILE|NAME", help="the cluster's engine.json, or its name on this machine"
    )
    parser.add_argument(
        "--patience", type=float, default=30.0, metavar="SECONDS", help="how long the hub may take to answer (30)"
    )
    options = parser.parse_args(argv)
    from zexec.engine.joined import join
    from zexec.errors import ClusterError
    from zexec.net.cards import ENGINE, again, find

    try:
        join(find(options.connect, ENGINE), patience=options.patience, find=lambda: again(options.connect, ENGINE))
    except ClusterError as e:
        print(f"zexec engine: {e}", file=sys.stderr)
        return 1
    return 0
