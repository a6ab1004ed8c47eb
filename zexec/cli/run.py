"""`python -m zexec run`: read the command line, put the patch in place, be the program.

The command line is read by hand, as python reads its own: whatever stands behind the script's or the module's name is
the program's, dashes and all. argparse does not do that, and takes longer to import than all of this takes to run.
"""

from __future__ import annotations

import os
import sys

from zexec.cli import patch, program

USAGE = """\
usage: python -m zexec run [-n N] [--cluster NAME] SCRIPT [ARG ...]
       python -m zexec run [-n N] [--cluster NAME] -m MODULE [ARG ...]
"""

HELP = f"""\
{USAGE}
Run a program, unmodified, on zexec: each multiprocessing.Pool and each
concurrent.futures.ProcessPoolExecutor that it makes is zexec's, also in the
processes that it starts. All else is as in `python SCRIPT` and `python -m MODULE`.

  SCRIPT      a file, or a directory or zip file with a __main__.py
  -m MODULE   a module or package to run in place of a script
  -n N        how many engines a pool gets where the program does not say
              (default: as many as the stdlib would give it processes)
  --cluster NAME|FILE
              run them on the engines of that cluster
  -h, --help  show this text
"""


class _UsageError(Exception):
    """The command line cannot be read; the text says why."""


def main(argv: list[str]) -> int:
    """Run the program that a command line names.

    Args:
        argv: What follows the word `run`.

    Returns:
        The exit code, if the program came to its end by itself. Exceptions, SystemExit too, are let through.
    """
    if argv[:1] in (["-h"], ["--help"]):
        print(HELP, end="")
        return 0
    try:
        engines, module, args = _parse(argv)
    except _UsageError as error:
        print(f"{USAGE}python -m zexec run: error: {error}", file=sys.stderr)
        return 2
    patch.install(engines)
    if module is not None:
        program.run_module(module, args)
    else:
        program.run_script(args[0], args[1:])
    return 0


def _parse(argv: list[str]) -> tuple[int | None, str | None, list[str]]:
    """Split a command line into N, MODULE and the rest, which starts with SCRIPT if there is no MODULE."""
    rest = list(argv)
    engines = None
    while rest and rest[0].startswith("-"):
        if rest[0] == "--cluster" or rest[0].startswith("--cluster="):
            _, _, name = rest.pop(0).partition("=")
            if not name and not rest:
                raise _UsageError("--cluster needs a value")
            # Pools look there; so do those of the processes that the program starts.
            os.environ["ZEXEC_CLUSTER"] = name or rest.pop(0)
            continue
        option, value = rest[0][:2], rest.pop(0)[2:]
        if option not in ("-m", "-n"):
            raise _UsageError(f"unknown option {option + value}")
        if not value and not rest:
            raise _UsageError(f"{option} needs a value")
        value = value or rest.pop(0)
        if option == "-m":
            return engines, value, rest
        if not value.isdecimal() or int(value) == 0:
            raise _UsageError(f"-n {value}: not a number of engines")
        engines = int(value)
    if not rest:
        raise _UsageError("no program to run")
    return engines, None, rest
