"""Who may import whom: design §3 and §11 as a test.

By the source, for what each package names; by a fresh interpreter, for what really is loaded.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

#: what the core may use of the standard library: nothing that knows the world
PURE = {"__future__", "bisect", "collections", "enum", "heapq", "itertools", "math", "typing"}


def modules(package: str) -> Iterator[tuple[str, Path]]:
    """The modules of a package, or the one module, by dotted name."""
    path = ROOT / Path(*package.split("."))
    files = sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    assert files, package
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), file


def imports(file: Path, everywhere: bool = True) -> set[str]:
    """Dotted names that a module imports; those inside functions too, if ``everywhere``. Not those for type checkers."""
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide who imports whom"
            assert node.module is not None
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child)
        elif everywhere or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            for child in ast.iter_child_nodes(node):
                visit(child)

    visit(ast.parse(file.read_text()))
    return found


def under(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)


FACE = {
    "zexec.arrays",
    "zexec.callbacks",
    "zexec.chunks",
    "zexec.client",
    "zexec.cluster",
    "zexec.dependency",
    "zexec.diagnosis",
    "zexec.executor",
    "zexec.helping",
    "zexec.imap",
    "zexec.ipython",
    "zexec.joblib",
    "zexec.local",
    "zexec.options",
    "zexec.outcomes",
    "zexec.pool",
    "zexec.map_result",
    "zexec.result",
    "zexec.serializers",
    "zexec.views",
}
WORLD = {"zmq", "socket", "selectors", "select", "ssl", "asyncio"}

#: package -> what it must not import, directly, anywhere
FORBIDDEN = {
    "zexec.messages": {"zexec"},
    "zexec.errors": {"zexec"},
    "zexec.records": {
        *WORLD,
        *FACE,
        "threading",
        "sqlite3",
        "pickle",
        "zexec.core",
        "zexec.net",
        "zexec.hub",
        "zexec.engine",
    },
    "zexec.wire": {*WORLD, *FACE, "zexec.core", "zexec.net", "zexec.hub", "zexec.engine", "zexec.launch"},
    **{
        f"zexec.wire.{name}": {"threading"}  # but for wire.arena: garbage is collected in any thread
        for name in ("arrays", "bundles", "frames", "parcels", "pickling", "reducers", "stream")
    },
    "zexec.net": {*FACE, "zexec.core", "zexec.hub", "zexec.engine", "zexec.launch"},
    "zexec.hub": {*FACE, "zexec.engine", "zexec.wire.pickling", "pickle", "cloudpickle"},
    "zexec.engine": {*FACE, "zexec.core", "zexec.hub", "zexec.launch"},
    "zexec.launch": {*FACE, "zexec.core", "zexec.hub"},
    "zexec.cluster": {*WORLD - {"select"}, "zexec.views", "zexec.local", "zexec.launch", "zexec.engine"},
    "zexec.ipython": {*WORLD, "zexec.core", "zexec.net", "zexec.hub", "zexec.engine", "zexec.launch", "zexec.local"},
    "zexec.views": {*WORLD, "zexec.core", "zexec.net", "zexec.hub", "zexec.launch", "zexec.local"},
    "zexec.testing": {*FACE, *WORLD, "time", "threading", "zexec.net", "zexec.hub", "zexec.engine", "zexec.launch"},
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_nobody_reaches_across(package: str) -> None:
    wrong = [
        f"{module} imports {name}"
        for module, file in modules(package)
        for name in sorted(imports(file))
        if under(name, FORBIDDEN[package])
    ]
    assert not wrong


def test_the_core_is_pure() -> None:
    """It imports itself, the vocabulary, and what of the standard library knows nothing of the world."""
    wrong = [
        f"{module} imports {name}"
        for module, file in modules("zexec.core")
        for name in sorted(imports(file))
        if not under(name, {"zexec.core", "zexec.messages"}) and name.split(".")[0] not in PURE
    ]
    assert not wrong


def test_only_net_knows_zmq() -> None:
    wrong = [
        module
        for module, file in modules("zexec")
        if any(under(name, {"zmq"}) for name in imports(file)) and not under(module, {"zexec.net"})
    ]
    assert not wrong


def test_only_pool_and_executor_know_of_views() -> None:
    """And those only when asked for a client."""
    who = {
        module
        for module, file in modules("zexec")
        if any(under(name, {"zexec.views"}) for name in imports(file))
        and not under(module, {"zexec.views", "zexec.ipython"})
    }
    assert who == {"zexec.executor", "zexec.pool"}
    for face in who:
        ((_, file),) = modules(face)
        assert not any(under(name, {"zexec.views"}) for name in imports(file, everywhere=False))


def test_nothing_but_the_command_line_imports_it() -> None:
    wrong = [
        module
        for module, file in modules("zexec")
        if any(under(name, {"zexec.cli"}) for name in imports(file))
        and not under(module, {"zexec.cli", "zexec.__main__"})
    ]
    assert not wrong


def loaded_by(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return set(run.stdout.split())


@pytest.mark.parametrize(
    ("statement", "heavy"),
    [
        ("import zexec", {"zmq", "numpy", "psutil", "cloudpickle"}),
        ("from zexec import Pool", {"numpy", "psutil", "cloudpickle"}),
        ("from zexec import Executor", {"numpy", "psutil", "cloudpickle"}),
        ("from zexec import Client, DirectView, LoadBalancedView", {"zmq", "numpy", "psutil", "cloudpickle"}),
        ("import zexec.core.scheduler, zexec.core.invariants", {"zmq", "numpy", "psutil", "cloudpickle", "threading"}),
        ("import zexec.wire.frames, zexec.wire.pickling", {"zmq", "numpy", "psutil", "cloudpickle", "ctypes"}),
        (
            "import zexec; zexec.Pool(1).terminate()",
            {"zmq", "numpy", "psutil", "cloudpickle", "ctypes", "dataclasses", "inspect", "_hashlib"},
        ),
        (
            "import zexec; zexec.Executor(1).submit(len, '').result()",
            {"zmq", "ctypes", "dataclasses", "inspect", "_hashlib"},
        ),
        ("import zexec.testing", {"zmq", "numpy", "psutil", "cloudpickle", "subprocess"}),
    ],
)
def test_nothing_heavy_is_loaded(statement: str, heavy: set[str]) -> None:
    before = loaded_by("pass")
    assert not (loaded_by(statement) - before) & heavy


def test_the_test_sees_what_it_looks_for(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text("from zexec import hub\ndef f():\n    import zmq.asyncio\n")
    assert imports(file) == {"zexec", "zexec.hub", "zmq.asyncio"}
    assert under("zmq.asyncio", {"zmq"})
    assert not under("zmqx", {"zmq"})
