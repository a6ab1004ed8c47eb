"""Run a program by plain python and by `python -m zexec run`, and learn who started its processes."""

from __future__ import annotations

import hashlib
import marshal
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

#: A sitecustomize: each process that multiprocessing starts is put down under the first of these in the starting stack.
RECORDER = """
import os, sys
from multiprocessing.process import BaseProcess

STARTERS = {"zexec.launch.local": "zexec", "concurrent.futures.process": "stdlib", "multiprocessing.pool": "stdlib"}
start = BaseProcess.start

def recorded(self):
    frame, who = sys._getframe(1), "somebody else"
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if name in STARTERS:
            who = STARTERS[name]
            break
        frame = frame.f_back
    start(self)
    with open(os.environ["ZEXEC_COMPAT_STARTS"], "a") as file:
        file.write(who + "\\n")

BaseProcess.start = recorded
"""


class Ran(NamedTuple):
    """What became of a program."""

    code: int
    out: str
    err: str
    #: contents of the folder in which it ran, by path
    files: dict[str, str]
    #: who started processes: "zexec", "stdlib" or "somebody else", once for each
    starts: list[str]


class Programs:
    """Runs programs in equal folders.

    Args:
        folder: for everything.
        root: where zexec and compat are.
    """

    def __init__(self, folder: Path, root: str) -> None:
        self._folder = folder
        self._root = root
        site = folder / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(RECORDER)
        #: copied to where each program runs
        self.template = folder / "template"
        self.template.mkdir()

    def both(self, *args: str) -> tuple[Ran, Ran]:
        """Run ``python ARGS`` and ``python -m zexec run ARGS``: ours, plain. Each has made processes, by its own pools."""
        plain, ours = self._run([], args), self._run(["-m", "zexec", "run"], args)
        assert set(plain.starts) == {"stdlib"}, plain
        assert set(ours.starts) == {"zexec"}, ours
        return ours, plain

    def _run(self, runner: list[str], args: tuple[str, ...]) -> Ran:
        # The same path for both, as it is in what they print and in the files that they write.
        here = self._folder / "here"
        shutil.copytree(self.template, here)
        starts = self._folder / "starts"
        starts.write_text("")
        env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        env["PYTHONPATH"] = os.pathsep.join([str(self._folder / "site"), self._root])
        env["ZEXEC_COMPAT_STARTS"] = str(starts)
        for name in ("HOME", "XDG_CACHE_HOME", "BLACK_CACHE_DIR", "PYLINTHOME"):
            env[name] = str(self._folder / "home" / (runner[-1] if runner else "plain"))
        command = [sys.executable, *runner, *args]
        done = subprocess.run(command, cwd=here, env=env, capture_output=True, text=True, timeout=120)
        found = Ran(done.returncode, done.stdout, done.stderr, contents(here), starts.read_text().split("\n")[:-1])
        shutil.rmtree(here)
        return found

    def copy_package(self, name: str) -> int:
        """Put the sources of an installed package into the template; how many files."""
        source = Path(sys.modules[name].__path__[0])
        paths = [path for path in source.rglob("*.py") if "site-packages" not in path.relative_to(source).parts]
        for path in paths:
            target = self.template / name / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not its date: some of what these programs write holds that.
            shutil.copyfile(path, target)
            os.utime(target, (1_700_000_000, 1_700_000_000))
        return len(paths)


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(canonical(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def canonical(path: Path) -> bytes:
    """A file's bytes; of compiled code, without the marks of what was in memory twice when it was written.

    Those depend on what else the writing process had imported, also in plain python.
    """
    data = path.read_bytes()
    if path.suffix != ".pyc":
        return data
    return data[:16] + marshal.dumps(marshal.loads(data[16:]), 2)
