"""The fresh process: one row of one peer. Answers on a pipe, the repr of a dict per line (importing json costs 4 ms).

{"version": …}    to the row "version"        {"figures": {…}} or {"error": "…"}    to any other
{"observe": seconds}                          asks to be watched; the reply comes on stdin: "MiB percent"
"""

from __future__ import annotations

import os
import sys

from compat.benchmark.peers import PEERS
from compat.benchmark.rows import ROWS, Settings

TYPE_CHECKING = False  # typing.TYPE_CHECKING, without the 7 ms of importing typing
if TYPE_CHECKING:
    from typing import Any

#: What follows `python` on the command line, before peer, row, pipe and the settings. A `-c` program rather than `-m`,
#: because runpy costs some milliseconds, which would be in every peer's start.
COMMAND = ["-c", "from compat.benchmark.child import main; main()"]


def main() -> None:
    peer, row, pipe, *settings = sys.argv[1:]

    def tell(message: dict[str, Any]) -> None:
        os.write(int(pipe), f"{message!r}\n".encode())

    def observe(seconds: float) -> tuple[float, float]:
        tell({"observe": seconds})
        mebibytes, percent = sys.stdin.readline().split()
        return float(mebibytes), float(percent)

    try:
        if row == "version":
            tell({"version": _version(PEERS[peer].package)})
            return
        read = Settings.from_arguments(settings)
        figures = ROWS[row](PEERS[peer](read.engines), read, observe)
    except BaseException as error:
        import traceback

        traceback.print_exc()
        tell({"error": f"{type(error).__name__}: {error}"[:300]})
        sys.stderr.flush()
        os._exit(1)  # an exit handler of a broken pool may wait for ever
    tell({"figures": figures})
    if row == "pending":
        os._exit(0)


def _version(package: str) -> str:
    import importlib

    module = importlib.import_module(package)
    if package == "zexec":  # there may be a package without its face yet
        module.Pool, module.Executor
    version = getattr(module, "__version__", None)
    if version is None:
        from importlib import metadata

        try:
            version = metadata.version(package)
        except metadata.PackageNotFoundError:
            version = "stdlib" if package.split(".")[0] in sys.stdlib_module_names else "?"
    return str(version)
