"""Every pool and process executor of a program run by zexec is zexec's, in whatever way the program comes by it."""

from __future__ import annotations

import textwrap
import zipfile

import pytest

STDLIB = {"pool": "multiprocessing.pool.Pool", "executor": "concurrent.futures.process.ProcessPoolExecutor"}
OURS = {"pool": "zexec.pool.Pool", "executor": "zexec.executor.ProcessPoolExecutor"}

# The head of each program below: `names(x)` says of which class x is.
HEAD = """\
import multiprocessing, sys

def names(thing):
    cls = thing if isinstance(thing, type) else type(thing)
    return f"{cls.__module__}.{cls.__qualname__}"

def square(x):
    return x * x

"""


def indent(source):
    return textwrap.indent(textwrap.dedent(source), "    ")


@pytest.fixture
def expect(programs):
    """Run a program both ways, and expect the same output but for the names of the two classes."""

    def run(source, expected, *args, plain=True, how=("script.py",), **kwargs):
        programs.write("script.py", HEAD + source)
        ran = programs.ours(*how, *args, **kwargs)
        assert ran == (0, expected.format(**OURS), "")
        if plain:
            assert programs.plain(*how, *args, **kwargs) == (0, expected.format(**STDLIB), "")

    return run


WAYS_TO_A_POOL = [
    ("import multiprocessing", "multiprocessing.Pool"),
    ("from multiprocessing import Pool", "Pool"),
    ("from multiprocessing import *", "Pool"),
    ("import multiprocessing.pool", "multiprocessing.pool.Pool"),
    ("from multiprocessing import pool as module", "module.Pool"),
    ("from multiprocessing.pool import Pool as P", "P"),
    ("from multiprocessing.pool import *", "Pool"),
    ("from multiprocessing import get_context", "get_context().Pool"),
    ("import importlib", "importlib.import_module('multiprocessing.pool').Pool"),
    ("import multiprocessing.pool, importlib; importlib.reload(multiprocessing.pool)", "multiprocessing.pool.Pool"),
    ("import multiprocessing.pool", "type('Own', (multiprocessing.pool.Pool,), {}).__base__"),
]
WAYS_TO_AN_EXECUTOR = [
    ("import concurrent.futures", "concurrent.futures.ProcessPoolExecutor"),
    ("import concurrent.futures as cf", "cf.ProcessPoolExecutor"),
    ("from concurrent.futures import ProcessPoolExecutor", "ProcessPoolExecutor"),
    ("from concurrent.futures import *", "ProcessPoolExecutor"),
    ("import concurrent.futures.process", "concurrent.futures.process.ProcessPoolExecutor"),
    ("from concurrent.futures.process import ProcessPoolExecutor as P", "P"),
    ("from concurrent.futures import process, thread", "process.ProcessPoolExecutor"),
]


class TestNames:
    @pytest.mark.parametrize(("statement", "name"), WAYS_TO_A_POOL)
    def test_pool(self, expect, statement, name):
        source = f"""
{statement}
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with {name}(2) as pool:
        print(names(pool), pool.map(square, range(5)))
"""
        expect(source, "{pool} [0, 1, 4, 9, 16]\n", "fork")

    def test_pool_of_a_context(self, expect, method):
        source = """
if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(names(pool), pool.map(square, range(5)))
"""
        expect(source, "{pool} [0, 1, 4, 9, 16]\n", method)

    @pytest.mark.parametrize(("statement", "name"), WAYS_TO_AN_EXECUTOR)
    def test_executor(self, expect, statement, name):
        source = f"""
{statement}
if __name__ == "__main__":
    with {name}(2) as executor:
        print(names(executor), list(executor.map(square, range(5))))
"""
        expect(source, "{executor} [0, 1, 4, 9, 16]\n")

    def test_names_that_were_imported_before(self, expect, programs):
        programs.write(
            "sitecustomize.py",
            """
            import multiprocessing.managers
            from concurrent.futures import ProcessPoolExecutor
            from multiprocessing.pool import Pool, ThreadPool
            """,
        )
        programs.env["PYTHONPATH"] += f":{programs.folder}"
        source = """
import sitecustomize, concurrent.futures
if __name__ == "__main__":
    print(names(sitecustomize.Pool), names(sitecustomize.ProcessPoolExecutor), names(sitecustomize.ThreadPool))
    print(names(concurrent.futures.ProcessPoolExecutor), sys.modules["__mp_main__"] is sys.modules["__main__"])
    print(names(multiprocessing.managers.SyncManager._registry["Pool"][0]))
"""
        expect(source, "{pool} {executor} multiprocessing.pool.ThreadPool\n{executor} True\n{pool}\n")

    def test_program_that_uses_zexec_itself(self, expect):
        source = """
from zexec.executor import Executor
from zexec.pool import Pool
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import ProcessPoolExecutor as ToTheSame
import multiprocessing.pool
print(Executor is ProcessPoolExecutor is ToTheSame, Pool is multiprocessing.pool.Pool)
"""
        expect(source, "True True\n", plain=False)

    def test_threads_that_ask_at_once(self, expect):
        source = """
import threading, concurrent.futures.process, multiprocessing.pool
found, start = set(), threading.Barrier(8)
def ask():
    start.wait()
    found.add(names(multiprocessing.pool.Pool) + " " + names(concurrent.futures.ProcessPoolExecutor))
threads = [threading.Thread(target=ask) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(*found)
"""
        expect(source, "{pool} {executor}\n")

    def test_replaced_by_the_program(self, expect):
        source = """
import concurrent.futures.process, multiprocessing.pool
from unittest import mock
for module, name in [(multiprocessing.pool, "Pool"), (concurrent.futures, "ProcessPoolExecutor"),
                     (concurrent.futures.process, "ProcessPoolExecutor")]:
    with mock.patch.object(module, name, "mine"):
        print(getattr(module, name), end=" ")
    print(names(getattr(module, name)), end=" ")
    before = getattr(module, name)
    setattr(module, name, None)
    print(getattr(module, name), end=" ")
    setattr(module, name, before)
    print(getattr(module, name) is before)
"""
        expected = "".join(f"mine {name} None True\n" for name in ("{pool}", "{executor}", "{executor}"))
        expect(source, expected)


class TestWhatStays:
    def test_thread_pool(self, expect):
        source = """
import multiprocessing.dummy, multiprocessing.pool
from multiprocessing.pool import ThreadPool
with ThreadPool(2) as pool, multiprocessing.dummy.Pool(2) as dummy:
    print(names(pool), names(ThreadPool.__base__), names(dummy), pool.map(square, dummy.map(abs, [-1, -2])))
"""
        thread_pool = "multiprocessing.pool.ThreadPool"
        expect(source, f"{thread_pool} multiprocessing.pool.Pool {thread_pool} [1, 4]\n")

    def test_what_python_knows_of_the_modules(self, programs):
        source = """
import concurrent.futures.process, inspect, multiprocessing.pool, multiprocessing.util, types
for module in (multiprocessing.pool, concurrent.futures, concurrent.futures.process, multiprocessing.util):
    print(isinstance(module, types.ModuleType), inspect.ismodule(module), module)
    print(type(module.__loader__), module.__loader__ is module.__spec__.loader, dir(module)[:3])
    print(len(inspect.getsource(module)))
try:
    concurrent.futures.nothing
except AttributeError as error:
    print(error)
try:
    multiprocessing.pool.nothing
except AttributeError as error:
    print(error)
"""
        programs.write("script.py", HEAD + source)
        assert programs.same("script.py").code == 0

    def test_cloudpickle_takes_the_modules(self, expect):
        source = """
import cloudpickle, concurrent.futures as cf, multiprocessing.pool as mp
function = cloudpickle.loads(cloudpickle.dumps(lambda: (cf, mp)))
print(function() == (cf, mp))
"""
        expect(source, "True\n")


class TestChildren:
    def test_script_is_imported_again(self, expect, method):
        # A spawned child runs the script's imports and class statements before anything of ours could reach it.
        source = """
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.pool import Pool

class Mine(Pool):
    pass

def inspect(_):
    return names(Mine.__base__), names(Pool), names(ProcessPoolExecutor), __name__

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with Mine(1) as pool:
        print(names(pool), *pool.map(inspect, [0]))
    with ProcessPoolExecutor(1) as executor:
        print(*executor.map(inspect, [0]))
"""
        name = "__main__" if method == "fork" else "__mp_main__"
        seen = f"('{{pool}}', '{{pool}}', '{{executor}}', '{name}')\n"
        expect(source, "__main__.Mine " + seen + seen, method)

    @pytest.mark.parametrize("name", ["script", "package.module", "package"])
    def test_module_is_imported_again_by_its_name(self, programs, method, name):
        source = (
            HEAD
            + """
from multiprocessing.pool import Pool
print(__name__, __spec__.name, names(Pool), flush=True)
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with Pool(1) as pool:
        print(pool.map(abs, [-1]), flush=True)
"""
        )
        for path in ("script.py", "package/module.py", "package/__main__.py"):
            programs.write(path, source)
        programs.write("package/__init__.py", "")
        ours, plain = programs.ours("-m", name, method), programs.plain("-m", name, method)
        assert (ours.code, ours.err) == (0, "") == (plain.code, plain.err)
        assert ours.out == plain.out.replace(STDLIB["pool"], OURS["pool"])

    def test_process(self, expect, method):
        source = """
def child(queue):
    from concurrent.futures import ProcessPoolExecutor
    with multiprocessing.Pool(1) as pool, ProcessPoolExecutor(1) as executor:
        queue.put([names(pool), names(executor), pool.map(square, [3]), list(executor.map(square, [4])), sys.argv])

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    queue = multiprocessing.SimpleQueue()
    process = multiprocessing.Process(target=child, args=(queue,))
    process.start()
    print(*queue.get())
    process.join()
    print(process.exitcode)
"""
        expect(source, "{pool} {executor} [9] [16] ['script.py', '" + method + "']\n0\n", method)

    def test_nested_pools(self, expect, method):
        source = """
def inner(depth):
    with multiprocessing.Pool(1) as pool:
        return names(pool), pool.map(inner if depth else square, [depth - 1 if depth else 7])

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(1) as pool:
        print(pool.map(inner, [1]))
"""
        expect(source, "[('{pool}', [('{pool}', [49])])]\n", method, plain=False)

    def test_nested_executors(self, expect, method):
        source = """
from concurrent.futures import ProcessPoolExecutor as Executor

def inner(x):
    with Executor(1) as executor:
        return names(executor), executor.submit(square, x).result()

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with Executor(1) as executor:
        print(executor.submit(inner, 7).result())
"""
        expect(source, "('{executor}', 49)\n", method)

    def test_pool_of_a_manager(self, expect, method):
        source = """
if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Manager() as manager:
        pool = manager.Pool(2)
        print(pool.map(square, range(3)), pool.apply(square, (5,)), list(pool.imap(square, [6])))
        print(pool.apply_async(square, (7,)).get())
        pool.close()
        pool.join()
"""
        expect(source, "[0, 1, 4] 25 [36]\n49\n", method)

    def test_zexec_that_only_the_first_process_finds(self, programs, method):
        # `python -m zexec` finds a checkout in the current folder. The script's sys.path does not have it, and the
        # program leaves for elsewhere.
        script = programs.write(
            "script.py",
            HEAD
            + "import os\nif __name__ == '__main__':\n"
            + indent(
                """
                os.chdir("/")
                multiprocessing.set_start_method(sys.argv[1])
                with multiprocessing.Pool(1) as pool:
                    print(pool.apply(names, (pool.__class__,)), sys.path[0] == os.path.dirname(__file__))
                """
            ),
        )
        del programs.env["PYTHONPATH"]
        programs.folder = programs.root
        assert programs.ours(str(script), method) == (0, "zexec.pool.Pool True\n", "")

    def test_options_of_python_reach_the_children(self, expect, method):
        source = """
def options(_):
    return sys.flags.optimize, sys.warnoptions, sys._xoptions

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool(1) as pool:
        print(pool.map(options, [0]))
"""
        options = ("-O", "-X", "utf8", "-W", "ignore::ImportWarning")
        expect(source, "[(1, ['ignore::ImportWarning'], {{'utf8': True}})]\n", method, options=options)

    @pytest.mark.parametrize("name", ["folder", "archive.zip"])
    def test_folder_and_archive(self, programs, method, name):
        main = programs.write(
            "folder/__main__.py",
            "import multiprocessing, sys, work\nif __name__ == '__main__':\n"
            + indent(
                """
                multiprocessing.set_start_method(sys.argv[1])
                with multiprocessing.Pool(1) as pool:
                    print(pool.map(work.square, [3]))
                """
            ),
        )
        work = programs.write("folder/work.py", "def square(x): return x * x\n")
        with zipfile.ZipFile(programs.folder / "archive.zip", "w") as archive:
            archive.write(main, "__main__.py")
            archive.write(work, "work.py")
        assert programs.same(name, method) == (0, "[9]\n", "")

    def test_without_the_idiom(self, programs, method):
        # The stdlib's well-known complaint, from a child that runs a script without `if __name__ == "__main__"`.
        programs.write(
            "script.py",
            "import multiprocessing, sys\n"
            "p = multiprocessing.get_context(sys.argv[1]).Process(target=print, args=('child',))\n"
            "p.start(); p.join(); print(p.exitcode, flush=True)",
        )
        ours, plain = programs.ours("script.py", method), programs.plain("script.py", method)
        assert (ours.code, ours.out) == (plain.code, plain.out)
        assert ("bootstrapping phase" in ours.err) == ("bootstrapping phase" in plain.err) == (method != "fork")
