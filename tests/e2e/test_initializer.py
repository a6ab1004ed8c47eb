"""The initializer runs in each engine before its first task; one that fails is told to the first who asks, once."""

from __future__ import annotations

import multiprocessing
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

import zexec
from tests.e2e.conftest import MakePool
from tests.helpers import saboteurs, tasks
from tests.helpers.scripts import Scripts

FORK = multiprocessing.get_context("fork")


def test_globals_are_there_for_tasks(both: MakePool, ctx: Any) -> None:
    p = both(2, tasks.remember, ("value",), context=ctx)
    assert p.map(tasks.recall, range(10), 1) == ["value"] * 10


def test_of_an_executor(ctx: Any) -> None:
    with zexec.Executor(2, mp_context=ctx, initializer=tasks.remember, initargs=("value",)) as ex:
        assert list(ex.map(tasks.recall, range(10))) == ["value"] * 10


def test_in_engines_that_come_later(pool: zexec.Pool) -> None:
    with zexec.Pool(1, tasks.remember, ("value",), context=FORK) as mine:
        with pytest.raises(zexec.EngineDied):
            mine.apply(saboteurs.leave)
        assert mine.apply(tasks.recall) == "value"


def test_by_value(ctx: Any) -> None:
    """A lambda or closure will do, also where the stdlib could not pickle it."""
    import builtins

    def initializer(value: int) -> None:
        builtins.zexec_test_value = value  # type: ignore[attr-defined]

    with zexec.Pool(1, initializer, (5,), context=ctx) as pool:
        assert pool.apply(eval, ("zexec_test_value",)) == 5


def test_with_locks_queues_values_and_pipes(ctx: Any, flag: Any) -> None:
    lock, queue, value = ctx.Lock(), ctx.SimpleQueue(), ctx.Value("i", 0)
    here, there = ctx.Pipe()
    with zexec.Pool(2, tasks.remember, (lock,), context=ctx) as pool:
        pool.map(tasks.use_lock, [flag("log")] * 20, 1)
    assert tasks.lines(flag("log")) == ["in", "out"] * 20
    with zexec.Pool(2, tasks.remember, (value,), context=ctx) as pool:
        pool.map(tasks.add_to_value, [1] * 50, 1)
    assert value.value == 50
    with zexec.Pool(1, tasks.remember, (queue,), context=ctx) as pool:
        pool.map(tasks.put, [1, 2, 3])
        assert [queue.get() for _ in range(3)] == [1, 2, 3]
    with zexec.Pool(1, tasks.remember, (there,), context=ctx) as pool:
        pool.apply(tasks.send, ("hello",))
        assert here.recv() == "hello"
    for end in (queue, here, there):
        end.close()


def test_locks_as_arguments_are_refused_as_in_the_stdlib(both: MakePool) -> None:
    p = both(1)
    with pytest.raises(RuntimeError, match="Lock objects should only be shared between processes through inheritance"):
        p.apply(tasks.nothing, (FORK.Lock(),))
    with pytest.raises(RuntimeError, match="only be shared between processes through inheritance"):
        p.apply(tasks.nothing, (FORK.SimpleQueue(),))


def test_connections_and_sockets_as_arguments(both: MakePool) -> None:
    import socket

    p = both(1)
    here, there = FORK.Pipe()
    p.apply(tasks.say_into, (there, "hello"))
    assert here.poll(10)
    assert here.recv() == "hello"
    a, b = socket.socketpair()
    p.apply(tasks.send_into, (b, b"hello"))
    assert a.recv(5) == b"hello"
    for end in (here, there, a, b):
        end.close()
    # Whoever passes a descriptor on has a thread of the stdlib's for that.
    from multiprocessing import resource_sharer

    resource_sharer.stop(timeout=5)


def test_one_that_raises_is_told_to_who_asks(ctx: Any, flag: Any) -> None:
    with zexec.Executor(2, mp_context=ctx, initializer=saboteurs.failing_initializer, initargs=(flag("log"),)) as ex:
        with pytest.raises(BrokenProcessPool) as caught:
            ex.submit(tasks.double, 1).result(30)
        assert type(caught.value) is zexec.InitializerError
        assert "its initializer raised ValueError('the initializer failed')" in str(caught.value)
        cause = caught.value.__cause__
        assert isinstance(cause, ValueError)
        assert "in failing_initializer" in str(cause.__cause__)
        with pytest.raises(BrokenProcessPool):
            ex.submit(tasks.double, 1)
    assert len(tasks.lines(flag("log"))) <= 2  # each engine tried once


def test_one_that_raises_in_a_pool(flag: Any, ctx: Any) -> None:
    """The stdlib's pool would start workers for ever, and ``map`` would never return."""
    with zexec.Pool(2, saboteurs.failing_initializer, (flag("log"),), context=ctx) as pool:
        with pytest.raises(zexec.InitializerError, match="the initializer failed"):
            pool.map(tasks.double, range(10))
        r = pool.apply_async(tasks.double, (1,))
        with pytest.raises(zexec.InitializerError):
            r.get(30)
        with pytest.raises(zexec.InitializerError):
            list(pool.imap(tasks.double, [1, 2]))
    assert len(tasks.lines(flag("log"))) <= 2


def test_callbacks_hear_of_one_that_raises(flag: Any) -> None:
    heard: list[BaseException] = []
    with zexec.Pool(1, saboteurs.failing_initializer, (flag("log"),), context=FORK) as pool:
        pool.apply_async(tasks.double, (1,), error_callback=heard.append).wait(30)
    assert [type(e) for e in heard] == [zexec.InitializerError]


@pytest.mark.parametrize("how", saboteurs.DEATHS)
def test_one_that_dies_is_not_repeated_for_ever(how: str, flag: Any) -> None:
    with zexec.Executor(2, mp_context=FORK, initializer=saboteurs.dying_initializer, initargs=(flag("log"), how)) as ex:
        with pytest.raises(BrokenProcessPool, match=saboteurs.WORDS[how]):
            ex.submit(tasks.double, 1).result(30)
        with pytest.raises(BrokenProcessPool):
            ex.submit(tasks.double, 1)
    assert len(tasks.lines(flag("log"))) <= 6


def test_one_that_exits(flag: Any) -> None:
    with (
        zexec.Pool(1, saboteurs.system_exit, context=FORK) as pool,
        pytest.raises(zexec.InitializerError, match="SystemExit"),
    ):
        pool.apply(tasks.double, (1,))


def test_initargs_that_cannot_be_pickled(flag: Any) -> None:
    import threading

    ctx = multiprocessing.get_context("spawn")
    with pytest.raises(TypeError, match="pickle"):
        zexec.Pool(1, tasks.remember, (threading.Lock(),), context=ctx)
    with (
        zexec.Executor(1, mp_context=ctx, initializer=tasks.remember, initargs=(threading.Lock(),)) as ex,
        pytest.raises((TypeError, BrokenProcessPool), match="pickle"),
    ):
        ex.submit(tasks.double, 1).result(30)


def test_initargs_that_cannot_be_unpickled(flag: Any) -> None:
    ctx = multiprocessing.get_context("spawn")
    with (
        zexec.Pool(1, tasks.remember, (saboteurs.DoubleAtUnpickle(),), context=ctx) as pool,
        pytest.raises(BrokenProcessPool),
    ):
        pool.apply(tasks.double, (1,))


def test_a_slow_one_delays_only_its_engine(flag: Any) -> None:
    with zexec.Pool(2, tasks.first_waits, (flag("first"), flag("release")), context=FORK) as pool:
        assert pool.map(tasks.double, range(10), 1) == list(range(0, 20, 2))
        tasks.touch(flag("release"))


def test_the_log_has_it_as_the_stdlibs_does(scripts: Scripts) -> None:
    source = """
        {imports}

        def initializer():
            raise ValueError("the initializer failed")

        if __name__ == "__main__":
            with Executor(1, initializer=initializer) as ex:
                ex.submit(abs, 1).exception()
    """
    theirs = scripts.run(source.format(imports="from concurrent.futures import ProcessPoolExecutor as Executor"))
    ours = scripts.run(source.format(imports="from zexec import Executor"))
    for ran in (theirs, ours):
        assert ran.code == 0
        assert ran.err.startswith("Exception in initializer:\nTraceback (most recent call last):\n")
        assert ran.err.endswith("ValueError: the initializer failed\n")
        assert ran.err.count("Traceback") == 1


def test_an_engine_killed_while_it_initializes(flag: Any) -> None:
    with zexec.Pool(1, tasks.first_waits, (flag("first"), flag("never")), context=FORK) as pool:
        assert tasks.wait_for(flag("first"))
        os.kill(pool._pool[0].pid, signal.SIGKILL)
        assert pool.apply(tasks.double, (1,)) == 2
