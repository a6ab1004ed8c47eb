"""`zexec clean`: remove what dead clusters have left."""

from __future__ import annotations

import argparse
import sys


def main(argv: list[str]) -> int:
    """Remove connection files and sockets of clusters that are gone.

    Args:
        argv: What follows the word `clean`.

    Returns:
        The exit code.
    """
    parser = argparse.ArgumentParser(
        prog="zexec clean",
        description="Remove connection files and sockets of clusters that are gone. Stores stay, unless --store is given.",
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="which, also if it was on another machine; all dead ones"
    )
    parser.add_argument("--store", action="store_true", help="remove what they have stored, and their logs, as well")
    options = parser.parse_args(argv)
    from zexec.cli.list import look_at
    from zexec.net import cards

    code = 0
    for name in options.names or cards.names():
        facts = look_at(name)
        state = "dead" if facts is None else facts["state"]
        if state == "running":
            if options.names:
                print(f"zexec clean: cluster {name!r} is running: stop it first", file=sys.stderr)
                code = 1
            continue
        if state != "dead" and not options.names:
            print(
                f"zexec clean: cluster {name!r} was on {facts['host'] if facts else '?'}: name it if it is gone",
                file=sys.stderr,
            )
            continue
        cards.remove_all(name, options.store)
        print(f"removed what was left of cluster {name!r}")
    return code
