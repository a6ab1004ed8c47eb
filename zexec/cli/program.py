"""Be `python script.py ...` or `python -m module ...` from here on, as if zexec had never been started.

What plain python does before a program's first line is done again, for this program: sys.argv, sys.path[0], and a
`__main__` of its own (pickle and spawned children look there for the user's functions, and must not find zexec's).
What it does after the last line is left to python itself: an exception goes up through this file to the interpreter,
which knows best about SystemExit, about dying of SIGINT, and in which order it all ends. Only the lines about zexec are
taken out of the traceback, at the last moment, by an excepthook in front of the one that is set.

What a program can still see of us: eight frames below its own (in printed stacks, in warnings whose stacklevel reaches
too far, in the room for recursion), more modules in sys.modules (ours, and those of `python -m`), one more finder in
sys.meta_path, and the true sys.orig_argv. And python words it differently when a source file cannot be decoded.
"""

from __future__ import annotations

import builtins
import marshal
import os
import sys
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from importlib.util import MAGIC_NUMBER
from types import CodeType, ModuleType

TYPE_CHECKING = False  # see after_import.py
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any


def run_script(path: str, args: list[str]) -> None:
    """Run a program as `python path args` would.

    Args:
        path: A source or .pyc file, or a directory or zip file with a `__main__.py` in it.
        args: The program's own arguments.

    Raises:
        BaseException: What the program did not catch, SystemExit too. It is the interpreter's: do not handle it.
    """
    sys.argv = [path, *args]
    absolute = os.path.join(os.getcwd(), path)
    if _is_importable(absolute):
        sys.path[: _has_own_folder()] = [absolute]
        _run(_run_by_name, "__main__", False)
    else:
        if _has_own_folder():
            sys.path[0] = _folder(absolute)
        _run(_run_file, absolute)


def run_module(name: str, args: list[str]) -> None:
    """Run a program as `python -m name args` would.

    Args:
        name: A module, or a package with a `__main__` in it.
        args: The program's own arguments.

    Raises:
        BaseException: What the program did not catch, SystemExit too. It is the interpreter's: do not handle it.
    """
    sys.argv = ["-m", *args]
    if _has_own_folder():
        sys.path[0] = os.getcwd()
    _run(_run_by_name, name, True)


def _has_own_folder() -> bool:
    """Say whether python puts a folder of the program's first on sys.path; it put zexec's there if so."""
    return not getattr(sys.flags, "safe_path", sys.flags.isolated)


def _folder(script: str) -> str:
    try:
        return os.path.dirname(os.path.realpath(script, strict=True))
    except OSError:
        return os.path.dirname(script)


def _is_importable(path: str) -> bool:
    """Say whether sys.path could have this as an entry: the test by which python tells a zip file from a script."""
    for hook in sys.path_hooks:
        try:
            hook(path)
            return True
        except ImportError:
            pass
    return False


def _run(program: Callable[..., None], *args: Any) -> None:
    # A module of its own rather than an emptied old one: the frames of zexec's below still need their globals.
    main = ModuleType("__main__")
    if sys.version_info < (3, 14):
        main.__annotations__ = {}
    vars(main)["__builtins__"] = builtins
    sys.modules["__main__"] = main
    if "__mp_main__" in sys.modules:
        sys.modules["__mp_main__"] = main
    try:
        program(main, *args)
    except SystemExit:
        raise
    except BaseException:
        if hasattr(sys, "excepthook"):
            sys.excepthook = _without_our_frames(sys.excepthook)
        raise


def _run_by_name(main: ModuleType, name: str, is_module: bool) -> None:
    # A private function, and the very one that the interpreter calls for -m and for zip files: its error messages and
    # its two lines in each traceback are part of what plain python prints. It takes `main` from sys.modules.
    import runpy

    runpy._run_module_as_main(name, is_module)  # type: ignore[attr-defined]


def _run_file(main: ModuleType, path: str) -> None:
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        print(f"{sys.orig_argv[0]}: can't open file {path!r}: [Errno {error.errno}] {error.strerror}", file=sys.stderr)
        raise SystemExit(2) from None
    is_compiled = path.endswith(".pyc")
    loader = SourcelessFileLoader if is_compiled else SourceFileLoader
    vars(main).update(__file__=path, __cached__=None, __loader__=loader("__main__", path))
    exec(_load(content) if is_compiled else compile(content, path, "exec", dont_inherit=True), vars(main))


def _load(content: bytes) -> CodeType:
    if not content.startswith(MAGIC_NUMBER):
        raise RuntimeError("Bad magic number in .pyc file")
    code = marshal.loads(content[16:])  # behind the magic number: flags, and what the source's date and size were
    if not isinstance(code, CodeType):
        raise RuntimeError("Bad code object in .pyc file")
    return code


def _without_our_frames(hook: Callable[..., object]) -> Callable[..., object]:
    """Wrap an excepthook so that the traceback starts at the program's first frame, for it and sys.last_traceback."""
    here = _run.__code__.co_filename

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        sys.excepthook = hook
        link = trace
        while link is not None:
            if link.tb_frame.f_code.co_filename == here:
                trace = link.tb_next
            link = link.tb_next
        sys.last_traceback = error.__traceback__ = trace
        hook(kind, error, trace)

    return excepthook
