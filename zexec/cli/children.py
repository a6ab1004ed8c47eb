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
# directory, which a script does not have on its path. Hence the path, for the time of this one import.
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_PATCH = (
    f"import sys; sys.path.insert(0, {_ROOT!r}); from zexec.cli import patch; "
    "del sys.path[0]; patch.install(); del sys, patch; "
)


def patch_children(util: ModuleType) -> None:
    """Replace `spawnv_passfds` of multiprocessing.util, which starts every interpreter that multiprocessing needs."""
    launch = util.spawnv_passfds

    def spawnv_passfds(path: str | bytes, args: Sequence[str | bytes], passfds: Sequence[int]) -> int:
        pid: int = launch(path, [_patched(arg) for arg in args], passfds)
        return pid

    util.spawnv_passfds = spawnv_passfds  # type: ignore[attr-defined]


def _patched(arg: str | bytes) -> str | bytes:
    return _PATCH + arg if isinstance(arg, str) and arg.startswith(_PROGRAMS) else arg
