"""`python -m zexec COMMAND ...`, and the `zexec` script: find the command's file and hand over.

Each command reads its own arguments, in a file of its own under zexec/cli/ that offers `main(argv)`. What is imported
here is imported by every program that `zexec run` runs, hence argparse only where nothing is run.
"""

from __future__ import annotations

import importlib
import sys

# Command: the file that runs it, and a line for the list of commands.
COMMANDS = {
    "start": ("zexec.cli.start", "start a cluster: a hub and engines"),
    "status": ("zexec.cli.status", "show what a cluster is doing"),
    "stop": ("zexec.cli.stop", "end a cluster"),
    "list": ("zexec.cli.list", "name the clusters that there are"),
    "clean": ("zexec.cli.clean", "remove what dead clusters have left"),
    "hub": ("zexec.cli.hub", "be a cluster's hub, in this process"),
    "engine": ("zexec.cli.engine", "be an engine of a cluster, in this process"),
    "run": ("zexec.cli.run", "run an unmodified program with its process pools on zexec"),
}


def main(argv: list[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The command line without the program's name; by default that of this process.

    Returns:
        The exit code.
    """
    args = sys.argv[1:] if argv is None else argv
    if args and args[0] in COMMANDS:
        command = importlib.import_module(COMMANDS[args[0]][0])
        code: int = command.main(args[1:])
        return code
    return _explain(args)


def _explain(args: list[str]) -> int:
    import argparse

    from zexec._version import __version__

    parser = argparse.ArgumentParser(
        prog="python -m zexec",
        description="Run Python programs that use process pools on zexec.",
        epilog="`python -m zexec COMMAND --help` says more about each.",
    )
    parser.add_argument("--version", action="version", version=f"zexec {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text)
    parser.parse_args(args)
    parser.print_help()
    return 0


if __name__ == "__main__":
    code = main()
    # Only if there is something to say: falling off the end is how a program that came to its end leaves, too.
    if code:
        sys.exit(code)
