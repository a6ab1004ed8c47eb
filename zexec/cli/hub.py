"""`zexec hub`: be a cluster's hub, in this process. `zexec start` and `zexec.Cluster` start it so."""

from __future__ import annotations

import argparse
import logging
import os
import sys


def main(argv: list[str]) -> int:
    """Serve until told to stop.

    Args:
        argv: What follows the word `hub`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="zexec hub",
        description="Be a cluster's hub, in this process, until it is stopped: `zexec start` without the start.",
    )
    add_options(parser)
    parser.add_argument("--lifeline", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.add_argument("--ready", type=int, metavar="FD", help=argparse.SUPPRESS)
    parser.add_argument("--logs", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    logging.basicConfig(
        level=logging.INFO if options.logs else logging.WARNING, format="%(asctime)s %(levelname)s %(message)s"
    )
    from zexec.errors import ClusterError
    from zexec.hub.process import Settings, serve
    from zexec.hub.starters import Starting

    settings = Settings(
        name=options.name,
        engines=options.n,
        maximum=options.max,
        kind=options.engines,
        starting=Starting(
            hosts=[host for text in options.hosts for host in text.split(",") if host],
            python=options.python,
            setup=options.setup,
            arguments=options.argument,
            queue=options.queue,
            time=options.time,
            memory=options.memory,
            cores=options.cores,
            account=options.account,
            image=options.image,
            extra=options.extra,
        ),
        listen=options.listen,
        plain=options.plain,
        only_tcp=options.only_tcp,
        lifeline=options.lifeline,
        logs=options.logs,
        store=options.store,
        lost=options.lost,
        host=options.host,
    )

    def ready(why: str) -> None:
        if options.ready is not None:
            with os.fdopen(options.ready, "w") as pipe:
                pipe.write(why or "ready")

    try:
        serve(settings, ready)
    except ClusterError as e:
        if options.ready is None:
            print(f"zexec hub: {e}", file=sys.stderr)
        return 1
    return 0


def add_options(parser: argparse.ArgumentParser) -> None:
    """What `zexec hub` and `zexec start` have in common."""
    parser.add_argument("-n", type=_count, default=0, metavar="N", help="engines to start")
    parser.add_argument(
        "--max", type=_count, metavar="N", help="engines to have at most: between -n and this, as work comes"
    )
    parser.add_argument("--name", default="default", help="the cluster's name (default)")
    parser.add_argument(
        "--engines",
        default="local",
        metavar="KIND",
        help="how engines are started: local, ssh, mpi, slurm, pbs, lsf, sge, htcondor, kubernetes, or '' for not at all (local)",
    )
    parser.add_argument(
        "--listen",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="listen for engines and clients of other machines, too, over TCP with CURVE; 0.0.0.0 for all addresses",
    )
    parser.add_argument(
        "--store",
        choices=("memory", "sqlite"),
        default="memory",
        help="what remembers tasks; with sqlite a hub that was killed goes on when it is started again (memory)",
    )
    parser.add_argument(
        "--lost",
        choices=("run", "fail"),
        default="run",
        help="what becomes of tasks that were with an engine which does not come back to such a hub (run)",
    )
    parser.add_argument("--host", default="", help="the name or address that other machines are to use for this one")
    parser.add_argument("--plain", action="store_true", help="no CURVE on TCP: allowed on the loopback only")
    parser.add_argument("--only-tcp", action="store_true", help="no sockets in the file system")
    more = parser.add_argument_group("engines elsewhere", "What is not said is left to the system.")
    more.add_argument("--hosts", action="append", default=[], metavar="HOST,...", help="ssh: where")
    more.add_argument("--python", default="", metavar="PATH", help="the interpreter there (the path of this one)")
    more.add_argument("--setup", default=":", metavar="COMMANDS", help="shell commands before an engine")
    more.add_argument("--argument", action="append", default=[], metavar="ARG", help="one more for ssh or mpiexec")
    more.add_argument("--queue", metavar="NAME", help="queue or partition")
    more.add_argument("--time", type=float, metavar="SECONDS", help="that a job may take")
    more.add_argument("--memory", type=_count, metavar="MIB", help="for each engine")
    more.add_argument("--cores", type=_count, metavar="N", help="for each engine")
    more.add_argument("--account", metavar="NAME", help="who pays")
    more.add_argument("--image", default="python:3.12", metavar="NAME", help="kubernetes: the container")
    more.add_argument("--extra", action="append", default=[], metavar="LINE", help="for the job, as it is")


#: options of `zexec start` that go to `zexec hub` as they are
PASSED_ON = ("hosts", "python", "setup", "argument", "queue", "time", "memory", "cores", "account", "image", "extra")


def passed_on(options: argparse.Namespace) -> list[str]:
    """Those options again, as arguments."""
    found: list[str] = []
    for name in PASSED_ON:
        value = getattr(options, name)
        for one in value if isinstance(value, list) else [value]:
            if one not in (None, ""):
                found.append(f"--{name}={one}")
    return found


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of engines")
    return int(text)
