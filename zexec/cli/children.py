"""Have the interpreters that multiprocessing starts patched before they run anything else.

A spawned child runs the user's script again, as `__mp_main__`, before it unpickles its first object, and the script may
import Pool by name; a fork server does so as well on some Pythons. So neither an initializer nor a preloaded module
comes early enough. What does is the command line: both are started as `python ... -c "from multiprocessing..."` by
`multiprocessing.util.spawnv_passfds`, and get one statement more in front.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False  # see after_import.py
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

# How the programs start that want the patch; the resource tracker's, which runs no user code, starts otherwise.
_PROGRAMS = ("from multiprocessing.spawn import ", "from multiprocessing.forkserver import ")

# Nothing says that the child's sys.path leads to this zexec: `python -m zexec` may have found it in the current
# directory, which a script does not have on its path. Hence the path, for the time of the patch.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def patch_children(util: ModuleType, statement: str) -> None:
    """Have every interpreter that multiprocessing starts, but its resource tracker, execute a statement first.

    Args:
        util: multiprocessing.util, whose `spawnv_passfds` starts them.
        statement: What to execute. It may import zexec, and should leave no name behind.
    """
    launch = util.spawnv_passfds
    first = f"import sys; sys.path.insert(0, {_ROOT!r}); {statement}; del sys.path[0], sys; "

    def spawnv_passfds(path: str | bytes, args: Sequence[str | bytes], passfds: Sequence[int]) -> int:
        args = [first + arg if isinstance(arg, str) and arg.startswith(_PROGRAMS) else arg for arg in args]
        pid: int = launch(path, args, passfds)
        return pid

    util.spawnv_passfds = spawnv_passfds  # type: ignore[attr-defined]
