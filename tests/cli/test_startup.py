"""Running a program by zexec costs next to nothing until it makes a pool."""

from __future__ import annotations

import json

IMPORTED = "import sys, json; print(json.dumps(sorted(sys.modules)))"
# What `python -m` imports to find a module; the Pythons differ in which of them a bare `python` has imported too.
BY_MINUS_M = {"__future__"}


def imported(programs, *statements):
    programs.write("script.py", "\n".join([*statements, IMPORTED]))
    minus_m, ours = programs.plain("-m", "script"), programs.ours("script.py")
    assert (ours.code, ours.err) == (0, "")
    return {name for name in json.loads(ours.out) if name not in json.loads(minus_m.out)}


def test_imports_nothing_but_itself(programs):
    extra = imported(programs)
    assert {name for name in extra if not name.startswith("zexec")} <= {"__future__"}
    assert {name for name in extra if name.startswith("zexec.")} <= {
        "zexec.cli",
        "zexec.cli.after_import",
        "zexec.cli.children",
        "zexec.cli.patch",
        "zexec.cli.program",
        "zexec.cli.run",
    }


def test_importing_the_modules_is_not_making_a_pool(programs):
    extra = imported(
        programs, "import multiprocessing.pool, multiprocessing.util", "import concurrent.futures.process, asyncio"
    )
    assert {name for name in extra if not name.startswith("zexec")} <= {"__future__"}
    assert not {"zexec.pool", "zexec.executor", "zmq", "numpy", "psutil"} & extra


def test_a_thread_pool_is_not_a_pool_of_ours(programs):
    extra = imported(
        programs,
        "from multiprocessing.pool import ThreadPool",
        "from concurrent.futures import ThreadPoolExecutor",
        "with ThreadPool(1) as pool, ThreadPoolExecutor(1) as executor: pool.map(abs, executor.map(abs, [1]))",
    )
    assert not {"zexec.pool", "zexec.executor", "zmq", "numpy", "psutil"} & extra
