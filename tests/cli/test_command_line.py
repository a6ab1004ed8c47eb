"""How `python -m zexec` and its command `run` are told what to do."""

from __future__ import annotations

import pytest

from zexec._version import __version__

SIZES = """
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

def size(_):
    with multiprocessing.Pool() as pool:
        return pool._processes

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    with multiprocessing.Pool() as pool, multiprocessing.Pool(1) as told:
        print(pool._processes, told._processes, told.map(size, [0]))
    with ProcessPoolExecutor() as executor, ProcessPoolExecutor(1) as told:
        print(executor._max_workers, told._max_workers, list(told.map(size, [0])))
"""


def zexec(programs, *args):
    return programs.plain("-m", "zexec", *args)


def test_explains_itself(programs):
    ran = zexec(programs)
    assert (ran.code, ran.err) == (0, "")
    assert "usage: python -m zexec" in ran.out
    assert "run " in ran.out
    assert zexec(programs, "--help") == ran


def test_version(programs):
    assert zexec(programs, "--version") == (0, f"zexec {__version__}\n", "")


def test_unknown_command(programs):
    ran = zexec(programs, "walk")
    assert (ran.code, ran.out) == (2, "")
    assert "'walk'" in ran.err


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_run_explains_itself(programs, option):
    ran = programs.ours(option)
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.startswith("usage: python -m zexec run [-n N] [--cluster NAME] SCRIPT")


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ((), "no program"),
        (("-n", "2"), "no program"),
        (("-n",), "-n needs a value"),
        (("-m",), "-m needs a value"),
        (("-n", "0", "script.py"), "-n 0"),
        (("-n", "-1", "script.py"), "-n -1"),
        (("-n", "many", "script.py"), "-n many"),
        (("--nothing", "script.py"), "--nothing"),
        (("-x", "script.py"), "-x"),
    ],
)
def test_run_cannot_read_this(programs, args, complaint):
    ran = programs.ours(*args)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith("usage: ")
    assert complaint in ran.err.splitlines()[-1]


@pytest.mark.parametrize(
    "args", [("-n", "3", "script.py"), ("-n3", "script.py"), ("-n3", "-m", "script"), ("-n", "3", "-mscript")]
)
def test_number_of_engines_where_the_program_says_none(programs, args):
    programs.write("script.py", "import sys\n" + SIZES)
    assert programs.ours(*args, "fork") == (0, "3 1 [3]\n3 1 [3]\n", "")


def test_number_of_engines_reaches_nested_pools(programs, method):
    programs.write("script.py", "import sys\n" + SIZES)
    assert programs.ours("-n", "3", "script.py", method) == (0, "3 1 [3]\n3 1 [3]\n", "")
