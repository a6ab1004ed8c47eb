"""A throwaway virtual environment in which every interpreter starts with zexec's classes swapped in."""

from __future__ import annotations

import sys
import sysconfig
import venv
from pathlib import Path

HERE = Path(__file__).resolve()
CHECKOUT = HERE.parents[2]


def create(folder: Path) -> Path:
    """Make the environment below `folder`; return its interpreter."""
    venv.EnvBuilder(symlinks=True, with_pip=False).create(folder)
    packages = folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"
    # What this interpreter can import, the other one can too; the checkout comes last, behind an installed zexec.
    own = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), str(CHECKOUT), ""}
    paths = [path for path in sys.path if path not in own and Path(path).is_dir() and "lib-dynload" not in path]
    lines = [*paths, str(CHECKOUT), "import compat.stdlib.startup; compat.stdlib.startup.main()"]
    (packages / "zexec_compat.pth").write_text("\n".join(lines) + "\n")
    return folder / "bin" / "python"
