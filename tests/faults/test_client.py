"""The client's own ends: in good order, by force, by accident, twice, from where nobody expects it."""

from __future__ import annotations

import gc
import os
import signal
import threading
from typing import Any

import pytest

import zexec
from tests.helpers import saboteurs, tasks
from tests.helpers.hosts import Flag, Host
from tests.helpers.scripts import Scripts

METHODS = ("fork", "spawn")


def check(pool: zexec.Pool) -> None:
    """It works."""
    assert pool.map(tasks.double, range(20), 1) == list(range(0, 40, 2))


def test_a_callback_raises(anywhere: Host, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged; the result is there all the same, and so are all others."""
    pool = anywhere.pool()

    def bad(value: Any) -> None:
        raise RuntimeError(f"from a callback with {value!r}")

    assert pool.apply_async(tasks.double, (1,), callback=bad).get(30) == 2
    with pytest.raises(ValueError, match="as told"):
        pool.apply_async(tasks.fail, error_callback=bad).get(30)
    assert caplog.messages == ["a callback of double raised", "a callback of fail raised"]
    check(pool)


def test_an_initializer_raises(shared: Host, flag: Flag) -> None:
    """The pool is broken: everything open, and every further call, says why. No engine is started again."""
    pool = shared.pool(initializer=saboteurs.failing_initializer, initargs=(flag("log"),))
    open_ = pool.apply_async(tasks.double, (1,))
    for _ in range(2):
        with pytest.raises(zexec.InitializerError, match="initializer raised ValueError") as caught:
            open_.get(30)
        assert type(caught.value.__cause__) is ValueError
        open_ = pool.apply_async(tasks.double, (1,))
    assert len(tasks.lines(flag("log"))) <= 2


def broken_input(n: int) -> Any:
    yield from range(n)
    raise ZeroDivisionError("from the input")


def test_an_input_raises(anywhere: Host) -> None:
    """``map`` draws all of it before it begins; ``imap`` gives what came before."""
    pool = anywhere.pool()
    with pytest.raises(ZeroDivisionError, match="from the input"):
        pool.map(tasks.double, broken_input(5))
    it = pool.imap(tasks.double, broken_input(5))
    assert [next(it) for _ in range(5)] == [0, 2, 4, 6, 8]
    with pytest.raises(ZeroDivisionError, match="from the input"):
        next(it)
    check(pool)


def test_ended_twice_and_in_every_order(anywhere: Host) -> None:
    pool = anywhere.pool()
    check(pool)
    pool.close()
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(tasks.double, (1,))
    pool.join()
    pool.join()
    pool.terminate()
    pool.terminate()
    pool.close()
    pool.join()


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_ended_from_a_callback(shared: Host, how: str) -> None:
    """The callback thread ends the pool that it serves."""
    pool = shared.pool()
    ended = threading.Event()

    def end(value: Any) -> None:
        getattr(pool, how)()
        ended.set()

    pool.apply_async(tasks.double, (1,), callback=end)
    assert ended.wait(30)
    pool.join()


def test_ended_from_another_thread_while_waited_for(shared: Host) -> None:
    pool = shared.pool()
    r = pool.apply_async(tasks.nap, (60,))
    thread = threading.Thread(target=pool.terminate)
    thread.start()
    with pytest.raises(zexec.TerminatedError):
        r.get(30)
    thread.join()
    pool.join()


def test_ended_from_a_thread_of_a_task(shared: Host) -> None:
    """A task's own pool, in a thread that it starts: ended there, and by the task at the same time."""
    pool = shared.pool()
    assert pool.map(saboteurs.end_own_pool_from_a_thread, range(4), 1) == ["done"] * 4
    check(pool)


class Owner:
    """Ends its pool when it is collected, wherever that is."""

    def __init__(self, pool: zexec.Pool) -> None:
        self.pool = pool
        self.cycle = self

    def __del__(self) -> None:
        self.pool.terminate()


def test_ended_from_a_collection(shared: Host) -> None:
    pool = shared.pool()
    check(pool)
    owner = Owner(pool)
    r = pool.apply_async(tasks.nap, (60,))
    del owner
    gc.collect()
    with pytest.raises(zexec.TerminatedError):
        r.get(30)
    pool.join()


def test_collected_unclosed(host: Host) -> None:
    """A warning, and its engines go."""
    pool = zexec.Pool(2, context=host.context)
    check(pool)
    pids = [process.pid for process in pool._pool]
    with pytest.warns(ResourceWarning, match="unclosed running multiprocessing pool"):  # noqa: PT031
        del pool
        gc.collect()
    for pid in pids:
        tasks.until(lambda pid=pid: not os.path.exists(f"/proc/{pid}") or is_zombie(pid))


def is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


END = """
    import {imports}
    import zexec
    from tests.helpers import tasks

    if __name__ == "__main__":
        multiprocessing.set_start_method({method!r})
        {body}
"""


def program(method: str, body: str, imports: str = "atexit, multiprocessing, os, signal, threading") -> str:
    lines = "\n        ".join(line for line in body.strip().splitlines())
    return END.format(method=method, body=lines, imports=imports)


@pytest.mark.parametrize("method", METHODS)
def test_ended_at_exit(scripts: Scripts, method: str) -> None:
    body = """
pool = zexec.Pool(2)
assert pool.map(tasks.double, [1, 2]) == [2, 4]
atexit.register(lambda: (pool.close(), pool.join(), print("ended")))
"""
    assert scripts.good(program(method, body)) == "ended\n"


@pytest.mark.parametrize("method", METHODS)
def test_exits_with_work_open(scripts: Scripts, method: str) -> None:
    """A pool stops, an executor finishes, as in the stdlib."""
    body = """
pool = zexec.Pool(2)
open_ = pool.apply_async(tasks.nap, (60,))
executor = zexec.Executor(1)
executor.submit(tasks.nap, 0.2).add_done_callback(lambda f: print("finished"))
pool._state = "CLOSE"  # so that it does not warn
"""
    assert scripts.good(program(method, body)) == "finished\n"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_client_is_killed(scripts: Scripts, method: str, number: int) -> None:
    """Its engines go, also one that is deep in a C call and one that is stopped; nothing of it is left."""
    body = """
pool = zexec.Pool(3)
pool.options(targets=0).apply_async(tasks.nap, (60,))
pool.options(targets=1).apply_async(sum, (range(10**12),))
rest = pool.options(targets=2).apply_async(tasks.nap, (60,))
pids = [str(process.pid) for process in pool._pool]
print(*pids, flush=True)
rest.get()
"""
    with scripts.start(scripts.write(program(method, body))) as process:
        assert process.stdout is not None
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 3
        process.send_signal(number)
        process.wait(30)
        for pid in pids:
            tasks.until(lambda pid=pid: not os.path.exists(f"/proc/{pid}") or is_zombie(pid))


def test_a_fork_while_work_is_open(shared: Host, flag: Flag) -> None:
    """The child is told that the pool is not its own, at once; the parent goes on."""
    pool = shared.pool()
    held = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 1))
    tasks.wait_for(flag("started"))
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            said = []
            for ask in (held.get, lambda: pool.apply(tasks.double, (1,)), pool.join):
                try:
                    said.append(repr(ask()))
                except Exception as e:
                    said.append(type(e).__name__)
            os.write(write, " ".join(said).encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as f:
        said = f.read()
    os.waitpid(pid, 0)
    tasks.touch(flag("release"))
    assert said == "RuntimeError RuntimeError ValueError"
    assert held.get(30) == 1
    check(pool)


def test_a_thread_that_waits_is_killed_off(shared: Host, flag: Flag) -> None:
    """By an exception from outside: it leaves its wait behind, and nobody else notices."""
    import ctypes

    pool = shared.pool()
    held = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 1))
    ended = threading.Event()

    def wait() -> None:
        try:
            while True:
                held.wait(0.01)
        except SystemExit:
            ended.set()

    thread = threading.Thread(target=wait)
    thread.start()
    tasks.wait_for(flag("started"))
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))
    assert ended.wait(30)
    thread.join()
    tasks.touch(flag("release"))
    assert held.get(30) == 1
    check(pool)


def test_ctrl_c_while_waiting(scripts: Scripts) -> None:
    """KeyboardInterrupt in the client, nothing from engines, and all gone."""
    body = """
try:
    with zexec.Pool(2) as pool:
        r = pool.apply_async(tasks.nap, (60,))
        print("ready", flush=True)
        r.get()
except KeyboardInterrupt:
    print("interrupted")
"""
    for method in METHODS:
        with scripts.start(scripts.write(program(method, body))) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (out, err, process.returncode) == ("interrupted\n", "", 0)


def test_the_cluster_is_killed(
    scripts: Scripts, flag: Flag, monkeypatch: pytest.MonkeyPatch, nothing_left: Any
) -> None:
    """The hub's process, by SIGKILL: what is open fails and says so, engines leave, files are recognised as stale."""
    monkeypatch.setenv("ZEXEC_HOME", os.path.join(nothing_left.folder, "home"))
    with zexec.Cluster(2) as cluster:
        cluster.wait_for_engines(2, 40)
        pool = zexec.Pool(cluster=cluster)
        pids = [process.pid for process in pool._pool]
        r = pool.apply_async(tasks.nap, (60,))
        os.kill(cluster.card.pid, signal.SIGKILL)
        with pytest.raises(zexec.BrokenClusterError):
            r.get(30)
        with pytest.raises((zexec.BrokenClusterError, ValueError)):
            pool.apply(tasks.double, (1,))
        for pid in pids:
            tasks.until(lambda pid=pid: not os.path.exists(f"/proc/{pid}") or is_zombie(pid))
        pool.terminate()
        pool.join()


def test_no_such_cluster(monkeypatch: pytest.MonkeyPatch, nothing_left: Any) -> None:
    monkeypatch.setenv("ZEXEC_HOME", os.path.join(nothing_left.folder, "home"))
    with pytest.raises(zexec.ClusterError, match="nowhere"):
        zexec.Pool(cluster="nowhere")
