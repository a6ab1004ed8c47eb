"""What every interpreter of a run does first; the run's virtual environment calls `main` through a .pth file.

The classes come in as they do in a program under `python -m zexec run`. And that way also an interpreter which a test
starts with `-I`, and one that multiprocessing spawns, has them.
"""

from __future__ import annotations

import faulthandler
import os
import signal

STAND_IN = "ZEXEC_COMPAT_STAND_IN"
RUN = "ZEXEC_COMPAT_RUN"
STACKS = "ZEXEC_COMPAT_STACKS"
START_METHOD = "ZEXEC_COMPAT_START_METHOD"
DUMP_SIGNAL = signal.SIGUSR1


def main() -> None:
    """Swap the classes in, and promise to write all stacks to the run's file on DUMP_SIGNAL."""
    if RUN not in os.environ:
        return
    if os.environ.get(STAND_IN):
        from compat.stdlib.stand_in import install
    else:
        from zexec.cli.patch import install
    install()
    stacks = open(os.environ[STACKS], "a")  # noqa: SIM115 - faulthandler keeps it open
    faulthandler.register(DUMP_SIGNAL, file=stacks, all_threads=True)
