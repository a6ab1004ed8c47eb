"""`zexec start`: start a cluster, and stay with it or leave it running."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import Any

from zexec.cli.hub import add_options, passed_on


def main(argv: list[str]) -> int:
    """Start a cluster.

    Args:
        argv: What follows the word `start`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="zexec start",
        description="Start a cluster: a hub and engines. It ends with this command, by Ctrl-C, or goes on with --daemon.",
        epilog="Use it by Pool(cluster=NAME), by ZEXEC_CLUSTER=NAME in the environment of a program, or by"
        " `zexec run --cluster NAME SCRIPT`. End it by `zexec stop NAME`.",
    )
    add_options(parser)
    parser.set_defaults(n=None)
    parser.add_argument("--daemon", action="store_true", help="leave it running, and say only where it is")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait until its engines are up, so long at most")
    options = parser.parse_args(argv)
    from zexec.cluster.cluster import Cluster
    from zexec.errors import ClusterError, TimeoutError

    more = passed_on(options)
    for flag in ("plain", "only_tcp"):
        if getattr(options, flag):
            more.append("--" + flag.replace("_", "-"))
    try:
        cluster = Cluster(
            options.n,
            name=options.name,
            maximum=options.max,
            engines=options.engines,
            listen=options.listen,
            host=options.host,
            daemon=options.daemon,
            options=more,
        )
        if options.wait is not None:
            wanted = cluster.status()["provider"]["minimum"]
            cluster.wait_for_engines(wanted, options.wait)
    except (ClusterError, TimeoutError, ValueError) as e:
        print(f"zexec start: {e}", file=sys.stderr)
        return 1
    print(f"cluster {cluster.name!r}: hub is process {cluster.pid}; connection files in {cluster.folder}", flush=True)
    return 0 if options.daemon else _stay(cluster)


def _stay(cluster: Any) -> int:
    """Until Ctrl-C, or the hub's end."""

    def leave(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, leave)
    try:
        _, status = os.waitpid(cluster.pid, 0)
        code = os.waitstatus_to_exitcode(status)
        print(f"zexec start: the hub has ended with exit code {code}", file=sys.stderr)
        return 0 if code == 0 else 1
    except KeyboardInterrupt:
        cluster.stop()
        return 0
