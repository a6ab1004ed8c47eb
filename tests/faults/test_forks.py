"""An engine is forked at a bad moment of another thread."""

from __future__ import annotations

from tests.helpers.scripts import Scripts

#: A package that takes until a file is there to be imported, but only in the process that is named; a part of it is quick.
PARTS = {
    "slow/__init__.py": """
        import os, time
        import slow.part
        from slow.part import VALUE
        if os.getpid() == int(os.environ["IMPORTER"]):
            open("begun", "w").close()
            while not os.path.exists("go"):
                time.sleep(0.001)
        DOUBLE = slow.part.VALUE * 2
    """,
    "slow/part.py": "VALUE = 21",
}

SCRIPT = """
    import os, sys, threading, time
    import multiprocessing
    import zexec

    def use():
        import slow, slow.part
        return slow.DOUBLE, slow.part.VALUE

    def imports():
        import slow
        assert slow.DOUBLE == 42

    def wait(path):
        while not os.path.exists(path):
            time.sleep(0.001)

    if __name__ == "__main__":
        os.chdir(sys.argv[1])
        sys.path.insert(0, sys.argv[1])
        os.environ["IMPORTER"] = str(os.getpid())
        make = {
            "executor": lambda: zexec.Executor(1, mp_context=multiprocessing.get_context("fork")),
            "pool": lambda: zexec.Pool(1, context=multiprocessing.get_context("fork")),
        }[sys.argv[2]]
        thread = threading.Thread(target=imports, daemon=True)
        if sys.argv[3] == "replaced":
            pool = make()
            if sys.argv[2] == "pool":
                pool.apply(os.getpid)
            else:
                pool.submit(os.getpid).result()
            thread.start()
            wait("begun")
            run = pool.submit if sys.argv[2] == "executor" else (lambda f, *args: pool.apply_async(f, args))
            try:
                run(os._exit, 3).result()
            except zexec.EngineDied:
                pass
        else:
            thread.start()
            wait("begun")
            pool = make()
            run = pool.submit if sys.argv[2] == "executor" else (lambda f, *args: pool.apply_async(f, args))
        print(run(use).result(20))
        open("go", "w").close()
        thread.join()
        print(run(use).result(20), use())
        with pool:
            pass
        if sys.argv[2] == "pool":
            pool.join()
"""


def test_in_the_middle_of_an_import(scripts: Scripts) -> None:
    """The lock of a module that is being imported is copied, and nobody there would ever let go of it."""
    (scripts.folder / "slow").mkdir()
    for name, source in PARTS.items():
        scripts.write(source, name)
    path = scripts.write(SCRIPT)
    for kind in ("pool", "executor"):
        for when in ("first", "replaced"):
            for name in ("begun", "go"):
                (scripts.folder / name).unlink(missing_ok=True)
            ran = scripts.command(path, str(scripts.folder), kind, when)
            assert ran.err == ""
            assert ran.out.splitlines() == ["(42, 21)", "(42, 21) (42, 21)"]
            assert ran.code == 0


def test_by_a_program_that_is_imported(scripts: Scripts) -> None:
    """What makes the pool while it is imported has not been imported completely by whoever forks the pool's later engines."""
    scripts.write(
        """
        import multiprocessing
        import os
        import zexec

        def square(x):
            return x * x

        if not hasattr(os, "imported"):
            os.imported = True
            with zexec.Pool(2, context=multiprocessing.get_context("fork"), maxtasksperchild=1) as pool:
                print(pool.map(square, range(20), 1) == [x * x for x in range(20)])
            pool.join()
        else:
            print("imported again")
        """,
        "program.py",
    )
    scripts.env["PYTHONPATH"] += f":{scripts.folder}"
    ran = scripts.command("-c", "import program")
    assert (ran.out, ran.err, ran.code) == ("True\n", "", 0)
