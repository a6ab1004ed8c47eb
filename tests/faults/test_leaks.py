"""After many pools, and after many tasks: descriptors, threads, memory, segments and files as they were at the start.

``ZEXEC_LONG=1`` makes it 10,000 pools and a million tasks, as ``tox -e chaos`` does.
"""

from __future__ import annotations

import os

import pytest

from tests.helpers.scripts import Scripts

LONG = bool(os.environ.get("ZEXEC_LONG"))
POOLS, TASKS = (10_000, 1_000_000) if LONG else (150, 60_000)

#: in a process of its own: pytest's grows by what it remembers
MEASURE = """
    import gc, multiprocessing, os, sys, threading
    import zexec
    from zexec.engine.memory import used
    from tests.helpers import tasks

    def now():
        gc.collect()
        return {
            "descriptors": len(os.listdir("/proc/self/fd")),
            "threads": len(os.listdir("/proc/self/task")),
            "children": len(multiprocessing.active_children()),
            "segments": sorted(name for name in os.listdir("/dev/shm") if f"zexec-{os.getpid()}" in name),
            "memory": used(),
        }

    def check(before, what):
        after = now()
        growth = after.pop("memory") / before.pop("memory") - 1
        print(f"{what}: memory {growth:+.1%}", after)
        assert after == before, (before, after)
        assert growth < 0.05, growth
"""


def run(scripts: Scripts, body: str) -> None:
    scripts.env["PYTHONDEVMODE"] = "1"
    ran = scripts.command(scripts.write(MEASURE + body), timeout=7000)
    print(ran.out)
    assert (ran.code, ran.err) == (0, "")


@pytest.mark.timeout(7200 if LONG else 120)
@pytest.mark.parametrize("kind", ["Pool", "Executor"])
def test_pools(scripts: Scripts, kind: str) -> None:
    run(
        scripts,
        f"""
    def use():
        with zexec.{kind}(1) as pool:
            assert list(pool.map(tasks.double, [1, 2])) == [2, 4]
        if hasattr(pool, "join"):
            pool.join()

    if __name__ == "__main__":
        multiprocessing.set_start_method("fork")
        for _ in range(100):
            use()
        before = now()
        for _ in range({POOLS}):
            use()
        check(before, "{POOLS} x {kind}")
        """,
    )


@pytest.mark.timeout(7200 if LONG else 120)
def test_tasks(scripts: Scripts) -> None:
    run(
        scripts,
        f"""
    import psutil

    if __name__ == "__main__":
        multiprocessing.set_start_method("fork")
        with zexec.Pool(2) as pool:
            def use(count):
                for start in range(0, count, 10_000):
                    results = [pool.apply_async(tasks.double, (i,)) for i in range(5_000)]
                    assert pool.map(tasks.double, range(5_000), 1) == list(range(0, 10_000, 2))
                    assert [r.get() for r in results] == list(range(0, 10_000, 2))
                    del results
            def engines():
                return [psutil.Process(p.pid).memory_info().rss for p in pool._pool]
            use(50_000)
            before, theirs = now(), engines()
            use({TASKS})
            check(before, "{TASKS} tasks")
            for a, b in zip(theirs, engines()):
                assert b <= 1.05 * a, (a, b)
        """,
    )
