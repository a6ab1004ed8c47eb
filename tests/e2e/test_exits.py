"""How programs end: with work open or done, in order or by force. Whatever happens, nothing is left of them."""

from __future__ import annotations

import os
import signal
import textwrap
from time import monotonic
from typing import Any

import psutil
import pytest

from tests.helpers import leftovers, tasks
from tests.helpers.scripts import Scripts

HEAD = """
import os, sys, time, warnings, multiprocessing
from zexec import Pool, Executor
METHOD = "{method}"
ctx = multiprocessing.get_context(METHOD)

if QUIET:
    # Of pools that are left as they are, which is what these programs are about.
    warnings.simplefilter("ignore", ResourceWarning)

def double(x):
    return x + x

def nap(seconds):
    time.sleep(seconds)
    return seconds

def mark(path, seconds=0):
    with open(path, "a") as f:
        f.write("started\\n")
    time.sleep(seconds)
    with open(path, "a") as f:
        f.write("ended\\n")

def main():
{body}

if __name__ == "__main__":
    main()
"""


def program(body: str, method: str = "fork", quiet: bool = False) -> str:
    indented = textwrap.indent(textwrap.dedent(body), "    ")
    return HEAD.replace("QUIET", str(quiet)).replace("{method}", method).replace("{body}", indented)


def wait_for_lines(path: str, count: int) -> None:
    assert tasks.until(lambda: len(tasks.lines(path)) >= count)


# -- in order --------------------------------------------------------------------------------------------------------


def test_after_close(scripts: Scripts, method: str) -> None:
    body = """
    pool = Pool(2, context=ctx)
    print(pool.map(double, range(3)))
    pool.close()
    pool.join()
    with Executor(2, ctx) as ex:
        print(list(ex.map(double, range(3))))
    """
    assert scripts.good(program(body, method)) == "[0, 2, 4]\n" * 2


def test_without_close(scripts: Scripts, method: str) -> None:
    """Programs often leave their pool as it is: it ends with them, with no more to say than the stdlib's."""
    body = """
    global pool, ex
    pool = Pool(2, context=ctx)
    print(pool.map(double, range(3)))
    ex = Executor(2, ctx)
    print(list(ex.map(double, range(3))))
    """
    source = program(body, method)
    theirs = scripts.run(source.replace("from zexec import Pool, Executor", STDLIB))
    ours = scripts.run(source)
    assert (ours.code, ours.out) == (theirs.code, theirs.out) == (0, "[0, 2, 4]\n" * 2)
    words = "unclosed running multiprocessing pool"
    assert (words in ours.err) == (words in theirs.err)
    assert len(ours.err.splitlines()) <= len(theirs.err.splitlines())


STDLIB = "from multiprocessing.pool import Pool\nfrom concurrent.futures import ProcessPoolExecutor as Executor"


def test_pool_with_work_open_terminates(scripts: Scripts, method: str) -> None:
    body = """
    global pool
    pool = Pool(2, context=ctx)
    pool.map_async(nap, [60] * 4, 1)
    """
    then = monotonic()
    ran = scripts.run(program(body, method, quiet=True))
    assert ran.code == 0
    assert monotonic() - then < 15
    assert "Traceback" not in ran.err


def test_executor_with_work_open_finishes_it(scripts: Scripts, method: str) -> None:
    body = """
    global ex
    ex = Executor(2, ctx)
    for i in range(6):
        ex.submit(mark, "log", 0.01)
    """
    assert scripts.good(program(body, method)) == ""
    assert tasks.lines(str(scripts.folder / "log")).count("ended") == 6


def test_executor_shut_down_without_waiting_finishes_its_work(scripts: Scripts) -> None:
    body = """
    ex = Executor(2, ctx)
    for i in range(6):
        ex.submit(mark, "log", 0.01)
    ex.shutdown(wait=False)
    """
    assert scripts.good(program(body)) == ""
    assert tasks.lines(str(scripts.folder / "log")).count("ended") == 6


def test_submit_at_exit_is_refused(scripts: Scripts) -> None:
    body = """
    import atexit
    ex = Executor(1, ctx)
    ex.submit(double, 1).result()
    def late():
        try:
            ex.submit(double, 1)
        except RuntimeError as e:
            print(e)
    atexit.register(late)
    """
    source = program(body)
    assert scripts.good(source) == scripts.good(source.replace("from zexec import Pool, Executor", STDLIB))


def test_an_exception_ends_the_program_as_ever(scripts: Scripts) -> None:
    body = """
    with Pool(2, context=ctx) as pool:
        pool.map_async(nap, [60] * 4, 1)
        raise KeyError("the program's own")
    """
    ran = scripts.run(program(body, quiet=True))
    assert ran.code == 1
    assert ran.err.count("Traceback") == 1
    assert ran.err.rstrip().endswith('KeyError: "the program\'s own"')


@pytest.mark.parametrize("code", [0, 3])
def test_sys_exit(scripts: Scripts, code: int) -> None:
    body = f"""
    global pool
    pool = Pool(2, context=ctx)
    pool.map_async(nap, [60] * 4, 1)
    sys.exit({code})
    """
    then = monotonic()
    ran = scripts.run(program(body, quiet=True))
    assert ran.code == code
    assert "Traceback" not in ran.err
    assert monotonic() - then < 15


def test_a_pool_ended_at_exit_and_by_del(scripts: Scripts) -> None:
    body = """
    import atexit
    global pool, holder
    pool = Pool(1, context=ctx)
    pool.map(double, [1])
    atexit.register(pool.join)
    atexit.register(pool.close)
    class Holder:
        def __init__(self):
            self.pool = Pool(1, context=ctx)
            self.pool.map(double, [1])
        def __del__(self):
            self.pool.terminate()
            self.pool.join()
    holder = Holder()
    print("end")
    """
    ran = scripts.run(program(body))
    assert (ran.code, ran.out) == (0, "end\n")
    assert "Traceback" not in ran.err


def test_reference_cycles_with_a_pool(scripts: Scripts) -> None:
    body = """
    import gc
    class Holder:
        pass
    for _ in range(3):
        h = Holder()
        h.me = h
        h.pool = Pool(1, context=ctx)
        h.ex = Executor(1, ctx)
        print(h.pool.map(double, [1]), h.ex.submit(double, 1).result())
        h.pool.close()
        del h
        gc.collect()
    """
    assert scripts.good(program(body)) == "[2] 2\n" * 3


# -- output ----------------------------------------------------------------------------------------------------------


def test_prints_of_tasks_into_a_pipe(scripts: Scripts, method: str) -> None:
    body = """
    print("first", flush=True)
    pool = Pool(1, context=ctx)
    pool.map(print, ["a", "b", "c"], 1)
    pool.close()
    pool.join()
    with Executor(1, ctx) as ex:
        ex.submit(print, "d").result()
    print("last")
    """
    source = program(body, method)
    theirs = scripts.good(source.replace("from zexec import Pool, Executor", STDLIB))
    assert scripts.good(source) == theirs == "first\na\nb\nc\nd\nlast\n"


def test_prints_show_up_before_the_engine_ends(scripts: Scripts) -> None:
    """A program that is killed has lost nothing that a task printed and returned from."""
    body = """
    pool = Pool(1, context=ctx)
    pool.map(print, ["a", "b"], 1)
    open("ready", "w").close()
    time.sleep(60)
    """
    with scripts.start(scripts.write(program(body))) as process:
        assert tasks.wait_for(str(scripts.folder / "ready"))
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["a\n", "b\n"]
        process.kill()


def test_nothing_that_the_program_had_buffered_is_printed_twice(scripts: Scripts) -> None:
    body = """
    sys.stdout.write("once")
    with Pool(2, context=ctx) as pool:
        pool.map(double, range(10))
    with Executor(2, ctx) as ex:
        ex.submit(double, 1).result()
    """
    source = program(body)
    assert scripts.good(source) == scripts.good(source.replace("from zexec import Pool, Executor", STDLIB)) == "once"


# -- by force --------------------------------------------------------------------------------------------------------


def engines_of(process: Any) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.parametrize("kind", ["pool", "executor"])
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM])
def test_killed(scripts: Scripts, method: str, kind: str, sign: int) -> None:
    """No engine, no file, 5 s later; busy, idle and stopped engines alike."""
    make = "pool = Pool(3, context=ctx)" if kind == "pool" else "pool = Executor(3, ctx)"
    call = "apply_async(mark, ('log', 60))" if kind == "pool" else "submit(mark, 'log', 60)"
    body = f"""
    {make}
    held = [pool.{call} for _ in range(2)]
    while len(open("log").readlines() if os.path.exists("log") else ()) < 2:
        time.sleep(0.01)
    print("ready", flush=True)
    time.sleep(60)
    """
    with scripts.start(scripts.write(program(body, method))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        engines = engines_of(process)
        assert len(engines) >= 2
        process.send_signal(sign)
        process.wait(10)
        _, alive = psutil.wait_procs(engines, timeout=leftovers.DEADLINE)
        # Whoever lost its parent became a child of this process, and is a zombie until it is reaped.
        assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_killed_while_an_engine_is_deep_in_c(scripts: Scripts) -> None:
    """One call that never lets the interpreter go: no thread of it ever gets to look around."""
    body = """
    pool = Pool(1, context=ctx)
    pool.apply_async(sum, (range(10**12),))
    print("ready", flush=True)
    time.sleep(60)
    """
    with scripts.start(scripts.write(program(body))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        engines = engines_of(process)
        process.kill()
        process.wait(10)
        _, alive = psutil.wait_procs(engines, timeout=leftovers.DEADLINE)
        assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


INTERRUPTED = {
    "map": "pool.map(mark_all, range(2), 1)",
    "get": "pool.map_async(mark_all, range(2), 1).get()",
    "imap": "list(pool.imap(mark_all, range(2)))",
    "apply": "pool.apply(mark_all, (1,))",
    "with": "\n    with pool:\n        pool.map(mark_all, range(2), 1)",
    "executor": "ex.submit(mark_all, 1).result()",
    "executor map": "list(ex.map(mark_all, range(2)))",
    "sleep": "r = pool.map_async(mark_all, range(2), 1); time.sleep(60)",
}


@pytest.mark.parametrize("where", INTERRUPTED)
def test_ctrl_c(scripts: Scripts, where: str, method: str) -> None:
    """SIGINT to the whole group, as a terminal does: the program ends within a second, and only its own traceback shows."""
    executor = "executor" in where
    # All engines are at work: one that a fork server is just starting has a traceback to show, as docs/differences.md says.
    engines = 1 if where == "apply" else 2
    body = f"""
    {"ex = Executor(2, ctx)" if executor else f"pool = Pool({engines}, context=ctx)"}
    {INTERRUPTED[where]}
    """
    source = program(textwrap.dedent(body), method, quiet=True).replace(
        "def main():", "def mark_all(x):\n    mark('log', 60)\n\ndef main():"
    )
    if executor:
        # An executor finishes its work: what runs must end by itself.
        source = source.replace("mark('log', 60)", "mark('log', 0.4)")
    log = str(scripts.folder / "log")
    with scripts.start(scripts.write(source)) as process:
        wait_for_lines(log, 1 if where == "apply" or where == "executor" else 2)
        then = monotonic()
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
        took = monotonic() - then
    assert process.returncode in (1, -signal.SIGINT)
    assert err.count("Traceback (most recent call last)") == 1, err
    assert err.rstrip().endswith("KeyboardInterrupt"), err
    assert out == ""
    assert took < (1.5 if executor else 1.0)


def test_ctrl_c_that_the_program_catches(scripts: Scripts) -> None:
    """The pool is as good as before."""
    body = """
    pool = Pool(2, context=ctx)
    r = pool.apply_async(mark, ("log", 0.3))
    try:
        print("waiting", flush=True)
        time.sleep(60)
    except KeyboardInterrupt:
        print("caught", flush=True)
    r.get()
    print(pool.map(double, [1, 2]))
    pool.close()
    pool.join()
    """
    log = str(scripts.folder / "log")
    with scripts.start(scripts.write(program(body))) as process:
        wait_for_lines(log, 1)
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (0, "caught\n[2, 4]\n", "")
    assert tasks.lines(log) == ["started", "ended"]


def test_ctrl_c_many_times(scripts: Scripts) -> None:
    body = """
    pool = Pool(2, context=ctx)
    print("ready", flush=True)
    pool.map(nap, [60, 60], 1)
    """
    with scripts.start(scripts.write(program(body))) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        for _ in range(20):
            try:
                os.killpg(process.pid, signal.SIGINT)
            except ProcessLookupError:
                break
        process.communicate(timeout=20)
    assert process.returncode != 0
