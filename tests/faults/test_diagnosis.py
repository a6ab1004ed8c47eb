"""When nothing happens, the user can see why."""

from __future__ import annotations

import io
import os
import signal

import pytest

import zexec
from tests.helpers import saboteurs, tasks
from tests.helpers.hosts import Flag, Host
from tests.helpers.scripts import Scripts
from zexec.hub.report import describe


def dumped(thing: zexec.Pool | zexec.Executor) -> str:
    out = io.StringIO()
    thing.dump(out)
    return out.getvalue()


def test_what_engines_do_and_what_waits_for_them(shared: Host, flag: Flag) -> None:
    pool = shared.pool()
    held = [pool.apply_async(tasks.hold, (flag("started"), flag("release"), i)) for i in range(5)]
    tasks.until(lambda: len(tasks.lines(flag("started"))) == 2)
    text = dumped(pool)
    assert f"pool of process {os.getpid()}: 5 tasks are open" in text
    assert "2 engines are up, 0 starting; of 5 open tasks" in text
    for id, process in enumerate(pool._pool):
        assert f"engine {id}, process {process.pid}, up, holds " in text
        assert f"stacks of engine {id}:" in text
    assert text.count("in wait_for") == 2, "where each is, by faulthandler"
    assert "engine 0 runs it" in text
    assert "it waits, " in text
    tasks.touch(flag("release"))
    assert [r.get(30) for r in held] == list(range(5))


def test_tasks_that_nobody_has_looked_at_count_too(fork: Host, flag: Flag) -> None:
    """While no engine has room, a submit does not turn the hub."""
    pool = fork.pool(1)
    first = pool.apply_async(tasks.hold, (flag("started"), flag("release"), 0))
    tasks.wait_for(flag("started"))
    link = pool._client._link
    link.hungry = False  # type: ignore[attr-defined]
    with link.lock:  # type: ignore[attr-defined]
        behind = pool.apply_async(tasks.double, (1,))
        assert pool._client._link.hub.inbox  # type: ignore[attr-defined]
        text = describe(link.hub)  # type: ignore[attr-defined]
        [(_, what)] = link.hub.story(behind._task_id)  # type: ignore[attr-defined]
    assert "of 2 open tasks 1 are with engines, 1 wait for one" in text
    assert "it waits, and nobody has looked at it yet" in text
    assert "not looked at yet" in what
    tasks.touch(flag("release"))
    assert (first.get(30), behind.get(30)) == (0, 2)


def test_an_engine_that_holds_the_interpreter_shows_its_stack_too(shared: Host, flag: Flag) -> None:
    pool = shared.pool(1)
    r = pool.apply_async(saboteurs.say_and_keep_the_interpreter, (flag("started"), 3.0))
    tasks.wait_for(flag("started"))
    assert "in say_and_keep_the_interpreter" in dumped(pool)
    assert not r.ready()
    assert r.get(30) == "done"


def test_an_engine_that_is_stopped_says_that(fork: Host) -> None:
    executor = fork.executor(1)
    f = executor.submit(saboteurs.stop)
    tasks.until(lambda: "it is stopped, by SIGSTOP" in dumped(executor))
    for process in (executor._processes or {}).values():
        os.kill(process.pid, signal.SIGCONT)
    assert f.result(30) is None


def test_an_engine_that_a_task_has_made_deaf_is_not_killed(fork: Host) -> None:
    """The signal's default is to end the process."""
    pool = fork.pool(1)
    pool.apply(saboteurs.take_the_signal_for_stacks)
    assert "has taken the signal" in dumped(pool)
    assert pool.map(tasks.double, range(10), 1) == list(range(0, 20, 2))


def test_again_and_again(fork: Host) -> None:
    """What was written before is not shown again, and takes no room."""
    pool = fork.pool(1)
    assert pool.apply(tasks.double, (1,)) == 2
    for _ in range(50):
        assert dumped(pool).count("most recent call first") == 2


def test_states_in_which_there_is_little_to_say(fork: Host, flag: Flag) -> None:
    executor = fork.executor()
    assert "no call yet" in dumped(executor)
    assert executor.submit(tasks.double, 2).result(30) == 4
    first = executor.submit(tasks.hold, flag("started"), flag("release"), 1)
    after = executor.options(after=first).submit(tasks.double, 5)
    tasks.wait_for(flag("started"))
    tasks.until(lambda: "1 for other tasks" in dumped(executor))
    executor.shutdown(wait=False)
    tasks.until(lambda: "closed: it ends when the last" in dumped(executor))
    tasks.touch(flag("release"))
    assert after.result(30) == 10
    executor.shutdown()
    assert "it has ended" in dumped(executor)


def test_while_somebody_is_in_the_hub(fork: Host) -> None:
    """A dump does not wait for what it is to show."""
    pool = fork.pool(1)
    with pool._client._link.lock:  # type: ignore[attr-defined]
        assert "somebody has been in the hub for a second" in dumped(pool)


def test_the_story_of_a_call(anywhere: Host, flag: Flag) -> None:
    pool = anywhere.pool()
    r = pool.options(retries=1).apply_async(saboteurs.act_once, ("kill", flag("once")))
    assert r.get(30) == "alive"
    sentences = [what for _, what in pool.story(r)]
    assert sentences[0] == "submitted"
    assert any("attempt 1 failed, tried again" in what for what in sentences)
    assert "ran on engine" in sentences[-1]
    mapped = pool.map_async(tasks.double, range(4), 2)
    mapped.get(30)
    assert len([what for _, what in pool.story(mapped) if what.endswith(": submitted")]) == 2


def test_at_a_signal(scripts: Scripts) -> None:
    """Of the whole process, while its main thread waits for a result."""
    with scripts.start(
        scripts.write(
            """
            import signal, zexec
            from tests.helpers import tasks

            if __name__ == "__main__":
                zexec.dump_on_signal()
                with zexec.Pool(2) as pool, zexec.Executor(1) as executor:
                    r = pool.apply_async(tasks.hold, ("started", "release", "held"))
                    executor.submit(tasks.double, 1).result()
                    tasks.wait_for("started")
                    print("ready", flush=True)
                    print(r.get())
            """
        )
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGUSR1)
        assert process.stderr is not None
        seen = ""
        missing = {
            "pool of process",
            "executor of process",
            "stacks of engine 0:",
            "in wait_for",
            "stack of this process's thread MainThread",
            "print(r.get())",
        }
        while missing:
            line = process.stderr.readline()
            assert line, (missing, seen)
            seen += line
            missing = {words for words in missing if words not in line}
        tasks.touch(str(scripts.folder / "release"))
        out, _ = process.communicate(timeout=30)
    assert out == "held\n"
    assert process.returncode == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, 12345])
def test_impossible_signals(number: int) -> None:
    with pytest.raises((ValueError, OSError)):
        zexec.dump_on_signal(number)
