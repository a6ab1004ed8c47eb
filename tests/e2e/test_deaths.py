"""An engine's death costs exactly the task it ran: that fails and says why, everything else goes on."""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import socket
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

import zexec
from tests.helpers import saboteurs, tasks

FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=saboteurs.DEATHS)
def how(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_in_a_task(ctx: Any, how: str) -> None:
    with zexec.Executor(2, mp_context=ctx) as ex:
        before = [ex.submit(tasks.double, i) for i in range(20)]
        dead = ex.submit(saboteurs.act, how)
        after = [ex.submit(tasks.double, i) for i in range(20)]
        with pytest.raises(BrokenProcessPool, match=saboteurs.WORDS[how]) as caught:
            dead.result(30)
        assert [f.result(30) for f in [*before, *after]] == [2 * i for i in [*range(20), *range(20)]]
    assert type(caught.value) is zexec.EngineDied


def test_the_exception_names_who_where_and_how(pool: zexec.Pool, how: str) -> None:
    pid = pool.options(targets=1).apply(tasks.pid)
    with pytest.raises(zexec.EngineDied) as caught:
        pool.options(targets=1).apply(saboteurs.act, (how,))
    e = caught.value
    assert (e.engine_id, e.pid, e.host) == (1, pid, socket.gethostname())
    assert e.exitcode == {"leave": saboteurs.EXIT_CODE, "kill": -signal.SIGKILL, "crash": -signal.SIGSEGV}[how]
    text = str(e)
    assert f"engine 1 (pid {pid} on {e.host}) died: " in text
    assert saboteurs.WORDS[how] in text
    assert text.endswith("while it ran act")


def test_exactly_the_running_task_of_a_bulk_fails(how: str) -> None:
    """The engine holds many short tasks when one of them kills it."""
    with zexec.Pool(1, context=FORK) as pool:
        pool.map(tasks.double, range(2000), 1)  # now tasks are known to be short
        rs = [pool.apply_async(saboteurs.act_if, (how, i == 500, i)) for i in range(1000)]
        failed = []
        for i, r in enumerate(rs):
            try:
                assert r.get(30) == i
            except zexec.EngineDied:
                failed.append(i)
        assert failed == [500]


def test_a_task_that_ended_before_the_death_is_not_run_again(flag: Any) -> None:
    with zexec.Pool(1, context=FORK) as pool:
        log = flag("log")
        rs = [pool.apply_async(saboteurs.log_and_act_if, (log, "kill", i == 50, i)) for i in range(100)]
        outcomes = []
        for r in rs:
            r.wait(30)
            outcomes.append(r.successful())
        assert outcomes.count(False) == 1
    assert sorted(tasks.lines(log), key=int) == [str(i) for i in range(100)]


def test_in_a_map(pool: zexec.Pool, how: str) -> None:
    got = pool.starmap(saboteurs.act_if, [(how, i == 3, i) for i in range(8)], 1, return_exceptions=True)
    assert [v for i, v in enumerate(got) if i != 3] == [0, 1, 2, 4, 5, 6, 7]
    assert type(got[3]) is zexec.EngineDied
    with pytest.raises(zexec.EngineDied):
        pool.starmap(saboteurs.act_if, [(how, i == 3, i) for i in range(8)], 2)


def test_in_an_imap(pool: zexec.Pool, how: str) -> None:
    it = pool.imap(saboteurs.act_if_3, [(how, i == 1, i) for i in range(4)])
    assert next(it) == 0
    with pytest.raises(zexec.EngineDied):
        next(it)
    assert list(it) == [2, 3]


@pytest.mark.parametrize("cls", [saboteurs.ExitAtUnpickle, saboteurs.KillAtUnpickle])
def test_while_unpickling_arguments(executor: zexec.Executor, cls: type) -> None:
    f = executor.submit(saboteurs.take, cls())
    with pytest.raises(zexec.EngineDied, match="while it ran take"):
        f.result(30)
    assert executor.submit(tasks.double, 1).result(30) == 2


def test_while_pickling_the_result(executor: zexec.Executor) -> None:
    f = executor.submit(saboteurs.make, saboteurs.ExitAtPickle)
    with pytest.raises(zexec.EngineDied, match=f"exit code {saboteurs.EXIT_CODE}.* while it ran make"):
        f.result(30)
    assert executor.submit(tasks.double, 1).result(30) == 2


def test_of_an_idle_engine(pool: zexec.Pool) -> None:
    pids = [w.pid for w in pool._pool]
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert tasks.until(lambda: len(pool._pool) == 2 and not {w.pid for w in pool._pool} & set(pids))
    assert pool.map(tasks.double, range(10)) == list(range(0, 20, 2))


def test_of_all_engines_at_once(pool: zexec.Pool, flag: Any) -> None:
    rs = [pool.apply_async(tasks.hold, (flag("started"), flag("release"), i)) for i in range(6)]
    assert tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    for w in pool._pool:
        os.kill(w.pid, signal.SIGKILL)
    tasks.touch(flag("release"))
    outcomes = []
    for i, r in enumerate(rs):
        try:
            assert r.get(30) == i
        except zexec.EngineDied:
            outcomes.append(i)
    assert len(outcomes) == 2


def test_every_task_dies(pool: zexec.Pool) -> None:
    rs = [pool.apply_async(saboteurs.leave) for _ in range(20)]
    pids = set()
    for r in rs:
        with pytest.raises(zexec.EngineDied) as caught:
            r.get(30)
        pids.add(caught.value.pid)
    assert len(pids) == 20
    assert pool.map(tasks.double, [1]) == [2]


def test_deaths_at_random_places(pool: zexec.Pool, flag: Any) -> None:
    """Short tasks, and a SIGKILL from outside now and then: each task gives its result or names the death."""
    rs = [pool.apply_async(tasks.double, (i,)) for i in range(3000)]
    for n in range(8):
        rs[n * 300].wait(30)
        for w in pool._pool[:1]:
            os.kill(w.pid, signal.SIGKILL)
    died = 0
    for i, r in enumerate(rs):
        try:
            assert r.get(30) == 2 * i
        except zexec.EngineDied:
            died += 1
    assert died <= 8


def test_retries_make_deaths_invisible(pool: zexec.Pool) -> None:
    rs = [pool.options(retries=5).apply_async(tasks.double, (i,)) for i in range(2000)]
    for n in range(5):
        rs[n * 300].wait(30)
        pid = pool._pool[n % 2].pid
        os.kill(pid, signal.SIGKILL)
        assert tasks.until(lambda pid=pid: len(pool._pool) == 2 and pid not in {w.pid for w in pool._pool})
    assert [r.get(30) for r in rs] == [2 * i for i in range(2000)]


def test_break_as_in_the_stdlib(how: str, flag: Any) -> None:
    with zexec.Executor(2, mp_context=FORK, on_engine_death="break") as ex:
        held = ex.submit(tasks.hold, flag("started"), flag("never"))
        assert tasks.wait_for(flag("started"))
        dead = ex.submit(saboteurs.act, how)
        waiting = [ex.submit(tasks.nap, 60) for _ in range(5)]
        for f in [dead, held, *waiting]:
            with pytest.raises(BrokenProcessPool):
                f.result(30)
        with pytest.raises(BrokenProcessPool):
            ex.submit(tasks.double, 1)
        with pytest.raises(BrokenProcessPool):
            ex.map(tasks.double, [1])
        assert ex._broken


def test_break_of_a_pool(how: str) -> None:
    with zexec.Pool(2, context=FORK, on_engine_death="break") as pool:
        rs = [pool.apply_async(tasks.nap, (60,)) for _ in range(3)]
        dead = pool.options(priority=5).apply_async(saboteurs.act, (how,))
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        for r in [dead, *rs]:
            with pytest.raises(BrokenProcessPool):
                r.get(30)
        with pytest.raises(BrokenProcessPool):
            pool.apply(tasks.double, (1,))


def test_with_sigstop_a_pool_can_still_be_ended(pool: zexec.Pool) -> None:
    r = pool.apply_async(saboteurs.stop)
    assert pool.apply(tasks.double, (1,)) == 2
    pool.terminate()
    with pytest.raises(zexec.TerminatedError):
        r.get(0)


def test_no_traceback_of_the_engine_on_stderr(pool: zexec.Pool, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(zexec.EngineDied):
        pool.apply(saboteurs.leave)
    pool.apply(tasks.double, (1,))
    pool.terminate()
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    assert not re.search("Traceback", err)


def test_an_exit_status_that_somebody_else_took(flag: Any) -> None:
    """A program may call ``os.wait()``. The death is noticed all the same, and nothing of it is kept."""
    with zexec.Pool(1, context=FORK) as pool:
        pid = pool.apply(os.getpid)
        r = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 7))
        assert tasks.until(lambda: tasks.lines(flag("started")))
        with pool._client._link.lock:  # the io thread cannot take it first
            os.kill(pid, signal.SIGKILL)
            assert os.waitpid(pid, 0)[0] == pid
        with pytest.raises(zexec.EngineDied, match=f"pid {pid}.* vanished"):
            r.get(20)
        assert pool.apply(tasks.double, (2,)) == 4
    pool.join()
    assert pid not in [p.pid for p in multiprocessing.active_children()]
