"""Running a program by zexec costs next to nothing until it makes a pool."""

from __future__ import annotations

import json

IMPORTED = "import sys, json; print(json.dumps(sorted(sys.modules)))"
HEAVY = {"zmq", "numpy", "psutil", "cloudpickle", "zexec.pool", "zexec.executor"}


def modules(ran):
    assert (ran.code, ran.err) == (0, "")
    return set(json.loads(ran.out))


def imported(programs, *statements):
    """What a program finds imported by us: not by itself, by `python -m`, or by the bare package."""
    programs.write("script.py", "\n".join([*statements, IMPORTED]))
    programs.write("with_zexec.py", "\n".join(["import zexec", IMPORTED]))
    return (
        modules(programs.ours("script.py"))
        - modules(programs.plain("-m", "script"))
        - modules(programs.plain("-m", "with_zexec"))
    )


def test_the_bare_package_is_light(programs):
    programs.write("script.py", "\n".join(["import zexec", IMPORTED]))
    assert not HEAVY & modules(programs.plain("script.py"))


def test_imports_nothing_but_itself(programs):
    ours = ["", ".after_import", ".children", ".patch", ".program", ".run"]
    assert imported(programs) == {f"zexec.cli{name}" for name in ours}


def test_importing_the_modules_is_not_making_a_pool(programs):
    extra = imported(
        programs, "import multiprocessing.pool, multiprocessing.util", "import concurrent.futures.process, asyncio"
    )
    assert all(name.startswith("zexec.cli") for name in extra)


def test_a_thread_pool_is_not_a_pool_of_ours(programs):
    extra = imported(
        programs,
        "from multiprocessing.pool import ThreadPool",
        "from concurrent.futures import ThreadPoolExecutor",
        "with ThreadPool(1) as pool, ThreadPoolExecutor(1) as executor: pool.map(abs, executor.map(abs, [1]))",
    )
    assert all(name.startswith("zexec.cli") for name in extra)
