"""A hub with a store in a file is killed, and started again: what it had accepted is run, once, and nobody need do anything."""

from __future__ import annotations

import concurrent.futures
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import psutil
import pytest

import zexec
from tests.cluster.conftest import home  # noqa: F401  # a fixture by its name
from tests.helpers import tasks
from zexec.cluster.cluster import environment
from zexec.engine import joined
from zexec.errors import BrokenClusterError, EngineDied
from zexec.hub import keeper
from zexec.net import cards
from zexec.net.cards import ENGINE
from zexec.net.lines import Line

#: Seconds within which anything has to have happened: a bound against hanging, not a measure.
LONG = 50


def run(log: str, i: int, gate: str = "", value: Any = None) -> Any:
    """Say that it runs; wait for a file, if one is named."""
    fd = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, b"%d %d\n" % (i, os.getpid()))
    os.close(fd)
    while gate and not os.path.exists(gate):
        sleep(0.005)
    return i * 2 if value is None else value


def run_item(item: tuple[str, int]) -> int:
    sleep(0.01)
    return int(run(*item))


class Killed:
    """A cluster whose hub can be killed and started again."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.log = str(folder / "log")
        self.gate = str(folder / "gate")
        self._options = ["--store", "sqlite", *options]
        self._lives = 0
        self.cluster = self.start()
        self.cluster.wait_for_engines(2, LONG)

    def start(self) -> zexec.Cluster:
        self._lives += 1
        self.cluster = zexec.Cluster(2, name="killed", options=self._options)
        return self.cluster

    def kill(self) -> None:
        process = self.cluster._process
        assert process is not None
        process.kill()
        process.wait(LONG)
        self.cluster._let_go()

    def runs(self) -> Counter[int]:
        """How often each task has begun."""
        return Counter(number for number, _ in self._lines())

    def pid_of(self, number: int) -> int:
        """The process that began a task last."""
        return [pid for each, pid in self._lines() if each == number][-1]

    def _lines(self) -> list[tuple[int, int]]:
        if not os.path.exists(self.log):
            return []
        with open(self.log) as lines:
            return [(int(a), int(b)) for a, b in (line.split() for line in lines)]

    def wait_for_runs(self, count: int) -> None:
        until = monotonic() + LONG
        while len(self._lines()) < count:
            assert monotonic() < until, f"{count} runs wanted: {self._lines()}"
            sleep(0.002)

    def open(self) -> None:
        Path(self.gate).touch()

    def close(self) -> None:
        self.open()
        self.cluster.stop()


@pytest.fixture
def make(home: Path, tmp_path: Path) -> Iterator[Callable[..., Killed]]:  # noqa: F811
    made: list[Killed] = []

    def start(*options: str) -> Killed:
        made.append(Killed(tmp_path, *options))
        return made[-1]

    yield start
    for each in made:
        each.close()
    shutil.rmtree(home / "clusters" / "killed")  # the store stays when a cluster ends


@pytest.fixture
def killed(make: Callable[..., Killed]) -> Killed:
    return make()


@pytest.fixture
def pool(killed: Killed) -> Iterator[zexec.Pool]:
    pool = zexec.Pool(cluster="killed")
    yield pool
    killed.open()
    pool.terminate()
    pool.join()


def status(killed: Killed) -> Any:
    return killed.cluster.status()


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_killed_again_and_again_at_random_moments(killed: Killed, pool: zexec.Pool) -> None:
    n = 150
    result = pool.map_async(run_item, [(killed.log, i) for i in range(n)], chunksize=1)
    began = 0
    for _ in range(4):
        began += random.randint(1, 25)
        killed.wait_for_runs(began)
        sleep(random.random() * 0.02)
        killed.kill()
        sleep(random.random() * 0.1)
        killed.start()
    assert result.get(LONG) == [2 * i for i in range(n)]
    assert killed.runs() == Counter(range(n)), "each task ran once"
    assert pool.map(abs, range(-5, 0)) == [5, 4, 3, 2, 1]


def test_a_task_that_runs_meanwhile_goes_on_and_is_claimed(killed: Killed, pool: zexec.Pool) -> None:
    running = [pool.apply_async(run, (killed.log, i, killed.gate)) for i in range(2)]
    waiting = [pool.apply_async(run, (killed.log, i)) for i in range(2, 6)]
    killed.wait_for_runs(2)
    pids = {killed.pid_of(0), killed.pid_of(1)}
    killed.kill()
    killed.start()
    killed.cluster.wait_for_engines(2, LONG)
    assert {process.pid for process in pool._pool} == pids, "the same engines are back"
    assert sorted(killed.runs()) == [0, 1]
    killed.open()
    assert [each.get(LONG) for each in running + waiting] == [0, 2, 4, 6, 8, 10]
    assert killed.runs() == Counter(range(6))


def test_killed_while_nothing_is_open(killed: Killed, pool: zexec.Pool) -> None:
    """The engines come back, and nobody is started in their places."""
    pids = {process.pid for process in pool._pool}
    for _ in range(2):
        assert pool.map(abs, [-1, -2]) == [1, 2]
        killed.kill()
        killed.start()
        killed.cluster.wait_for_engines(2, LONG)
        assert pool.map(abs, [-1, -2]) == [1, 2]
        assert {engine["pid"] for engine in killed.cluster.engines()} == pids
    assert killed.cluster.status()["provider"]["starting"] == 0


def test_engines_that_are_known_to_be_gone_are_not_waited_for(killed: Killed, pool: zexec.Pool) -> None:
    """Of its own machine a hub knows who lives."""
    pids = {process.pid for process in pool._pool}
    killed.kill()
    for pid in pids:
        engine = psutil.Process(pid)
        engine.kill()
        engine.wait(LONG)
    killed.start()
    assert tasks.until(lambda: status(killed)["provider"]["starting"] + len(status(killed)["engines"]) == 2)
    assert status(killed)["up_for"] < keeper.PATIENCE
    assert pool.map(abs, [-1, -2]) == [1, 2]


def test_a_task_that_ends_while_there_is_no_hub(killed: Killed, pool: zexec.Pool) -> None:
    results = [pool.apply_async(run, (killed.log, i, killed.gate)) for i in range(2)]
    killed.wait_for_runs(2)
    killed.kill()
    killed.open()
    later = [pool.apply_async(run, (killed.log, i)) for i in range(2, 5)]
    killed.start()
    assert [each.get(LONG) for each in results + later] == [0, 2, 4, 6, 8]
    assert killed.runs() == Counter(range(5))


@pytest.mark.parametrize("policy", ["run", "fail"])
def test_an_engine_that_dies_with_the_hub(make: Callable[..., Killed], policy: str) -> None:
    killed = make("--lost", policy)
    with zexec.Pool(cluster="killed") as pool:
        lost, kept = (pool.apply_async(run, (killed.log, i, killed.gate)) for i in range(2))
        killed.wait_for_runs(2)
        engine = psutil.Process(killed.pid_of(0))
        killed.kill()
        engine.send_signal(signal.SIGKILL)
        engine.wait(LONG)
        killed.start()
        killed.open()
        assert kept.get(LONG) == 2
        if policy == "run":
            assert lost.get(LONG) == 0
            assert killed.runs() == {0: 2, 1: 1}
        else:
            with pytest.raises(EngineDied, match="did not come back"):
                lost.get(LONG)
            assert killed.runs() == {0: 1, 1: 1}
    pool.join()


def test_tasks_that_wait_for_others(killed: Killed, pool: zexec.Pool) -> None:
    first = pool.apply_async(run, (killed.log, 0, killed.gate))
    second = pool.options(after=first).apply_async(run, (killed.log, 1))
    third = pool.options(after=[first, second]).apply_async(run, (killed.log, 2))
    killed.wait_for_runs(1)
    killed.kill()
    killed.start()
    killed.open()
    assert [each.get(LONG) for each in (first, second, third)] == [0, 2, 4]
    assert killed.runs() == Counter(range(3))


def test_large_data_is_kept(killed: Killed, pool: zexec.Pool) -> None:
    import numpy as np

    data = np.arange(300_000.0)
    results = [pool.apply_async(run, (killed.log, i, killed.gate, data + i)) for i in range(4)]
    killed.wait_for_runs(2)
    killed.kill()
    killed.start()
    killed.open()
    for i, result in enumerate(results):
        assert (result.get(LONG) == data + i).all()
    assert killed.runs() == Counter(range(4))


def run_array(item: tuple[str, int, Any]) -> Any:
    log, i, a = item
    sleep(0.01)
    run(log, i)
    return a * 2


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_large_data_by_reference(killed: Killed, pool: zexec.Pool) -> None:
    """At any moment: what was on its way through the hub's descriptors is sent again, by whoever has it."""
    n = 100
    items = [(killed.log, i, np.full(50_000, float(i))) for i in range(n)]
    result = pool.map_async(run_array, items, chunksize=1)
    del items
    began = 0
    for _ in range(4):
        began += random.randint(1, 20)
        killed.wait_for_runs(began)
        sleep(random.random() * 0.02)
        killed.kill()
        sleep(random.random() * 0.1)
        killed.start()
    for i, back in enumerate(result.get(LONG)):
        assert (len(back), back[0], back[-1]) == (50_000, 2 * i, 2 * i)
    assert set(killed.runs()) == set(range(n))
    assert pool._client._link._line.lane is not None  # type: ignore[attr-defined]


def test_keys_and_ports_stay(make: Callable[..., Killed]) -> None:
    killed = make("--listen", "127.0.0.1", "--only-tcp")
    before = killed.cluster.card
    with zexec.Pool(cluster="killed") as pool:
        result = pool.apply_async(run, (killed.log, 0, killed.gate))
        killed.wait_for_runs(1)
        killed.kill()
        killed.start()
        killed.open()
        assert result.get(LONG) == 0
    pool.join()
    after = killed.cluster.card
    assert (before.endpoints, before.server_key, before.secret_key) == (
        after.endpoints,
        after.server_key,
        after.secret_key,
    )


def test_a_hub_that_does_not_come_back(make: Callable[..., Killed], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has waited long enough gives up; that the engines have left, the fixture sees."""
    monkeypatch.setenv("ZEXEC_AWAY", "0.5")
    killed = make()
    with zexec.Pool(cluster="killed") as pool:
        result = pool.apply_async(run, (killed.log, 0, killed.gate))
        killed.wait_for_runs(1)
        engine = psutil.Process(killed.pid_of(0))
        killed.kill()
        with pytest.raises(BrokenClusterError, match="is gone"):
            result.get(LONG)
        engine.wait(LONG)
    pool.join()


def test_an_engine_of_which_nobody_knows_whether_it_lives(killed: Killed, pool: zexec.Pool) -> None:
    """One that was not started by the hub, and does not come back: for 10 s it is waited for."""
    command = [sys.executable, "-m", "zexec", "engine", "--connect", str(killed.cluster.folder / "engine.json")]
    with subprocess.Popen(command, env=environment(), start_new_session=True) as engine:
        killed.cluster.wait_for_engines(3, LONG)
        results = [pool.apply_async(run, (killed.log, i, killed.gate)) for i in range(3)]
        killed.wait_for_runs(3)
        (lost,) = (i for i in range(3) if killed.pid_of(i) == engine.pid)
        killed.kill()
        engine.kill()
    killed.start()
    killed.open()
    assert [result.get(LONG) for result in results] == [0, 2, 4]
    assert killed.runs() == Counter([0, 1, 2, lost])


def until_interrupted(log: str, interrupted: str, gate: str) -> None:
    run(log, 0)
    try:
        sleep(LONG)
    except BaseException:
        tasks.touch(interrupted)
        tasks.wait_for(gate)
        raise


@pytest.mark.parametrize("by", ["its time-out", "cancel"])
def test_what_was_interrupted_has_not_just_failed(killed: Killed, pool: zexec.Pool, tmp_path: Path, by: str) -> None:
    """The hub has had a task interrupted, and is killed before it hears what came of that."""
    interrupted = str(tmp_path / "interrupted")
    bound = pool.options(timeout=3.0) if by == "its time-out" else pool
    result = bound.apply_async(until_interrupted, (killed.log, interrupted, killed.gate))
    killed.wait_for_runs(1)
    cancel = in_a_thread(result.cancel, running=True) if by == "cancel" else None
    tasks.wait_for(interrupted)
    killed.kill()
    killed.open()
    killed.start()
    if cancel is not None:
        assert cancel.result(LONG)
        assert result.cancelled()
    else:
        with pytest.raises(zexec.TimeoutError, match="longer than its time-out"):
            result.get(LONG)
    assert killed.runs() == {0: 1}


def test_killed_before_an_engine_is_let_in(killed: Killed) -> None:
    """That belongs to nobody, and goes: long before the time that a hub has to answer is over."""
    card = cards.find("killed", ENGINE)
    killed.kill()
    line = Line(card, b"nobody")  # libzmq goes on trying, and says nothing
    with pytest.raises(zexec.ClusterError, match="is not running any more"):
        joined._answer(line, card, LONG)
    line.close(0)
    killed.start()


def test_stopped_while_engines_start(killed: Killed) -> None:
    """In order: then nobody is to wait for another hub. The fixture looks for who does."""
    before = pids_of(killed)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert tasks.until(lambda: status(killed)["provider"]["starting"] or pids_of(killed) - before)
    killed.cluster.stop()


class Deaf:
    """A hub that takes nothing up any more: what it is told before it is killed is lost."""

    def __init__(self, killed: Killed) -> None:
        self._killed = killed
        os.kill(killed.cluster.pid, signal.SIGSTOP)

    def come_back(self) -> None:
        self._killed.kill()
        self._killed.start()


def in_a_thread(f: Callable[..., Any], *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
    """What will come of a call."""
    threads = concurrent.futures.ThreadPoolExecutor(1)
    future = threads.submit(f, *args, **kwargs)
    threads.shutdown(wait=False)
    return future


def test_a_cancel_that_the_hub_has_not_heard(killed: Killed, pool: zexec.Pool) -> None:
    results = [pool.apply_async(run, (killed.log, i, killed.gate)) for i in range(4)]
    killed.wait_for_runs(2)
    hub = Deaf(killed)
    cancels = [in_a_thread(result.cancel, running=True) for result in (results[0], results[3])]
    assert tasks.until(lambda: len(pool._client._cancels) == 2 and not inbox_of(pool))
    hub.come_back()
    assert [cancel.result(LONG) for cancel in cancels] == [True, True]
    assert [result.cancelled() for result in results] == [True, False, False, True]
    killed.open()
    assert [result.get(LONG) for result in results[1:3]] == [2, 4]


def inbox_of(pool: zexec.Pool) -> Any:
    """What has not been sent to the hub yet."""
    return pool._client._link._inbox  # type: ignore[attr-defined]


def test_a_question_that_the_hub_has_not_heard(killed: Killed, pool: zexec.Pool) -> None:
    """It is asked again. An order is not: it may have been carried out."""
    result = pool.apply_async(run, (killed.log, 0))
    assert result.get(LONG) == 0
    ask = pool._client.ask
    assert ask is not None
    hub = Deaf(killed)
    question = in_a_thread(ask, "history", None, LONG)
    order = in_a_thread(ask, "signal", [[], 1], LONG)
    assert tasks.until(lambda: len(pool._client._link._questions) == 2 and not inbox_of(pool))  # type: ignore[attr-defined]
    hub.come_back()
    assert question.result(LONG) == [str(result._task_id)]
    with pytest.raises(zexec.ClusterError, match="has ended meanwhile, and may have done it or not"):
        order.result(LONG)


def test_names_that_were_pushed_are_there_in_engines_that_come_later(killed: Killed) -> None:
    """Their clients remember them, for a hub that comes back as well."""
    with zexec.Client("killed") as client:
        view = client[:]
        view.push({"pushed": 5}, block=True)
        killed.kill()
        killed.start()
        killed.cluster.wait_for_engines(2, LONG)
        replace_engines(killed)
        assert view.pull("pushed", block=True) == [5, 5]


def test_names_are_there_in_engines_that_have_come_before_their_client(killed: Killed) -> None:
    """A hub has come back, and its engines were replaced, before the client has found it."""
    with zexec.Client("killed") as client:
        view = client[:]
        view.push({"pushed": 5, "other": [1]}, block=True)
        view.push({"other": [2]}, block=True)
        link: Any = client._connection._link
        found, find = threading.Event(), link._find
        link._find = lambda: find() if found.is_set() else not_found()
        killed.kill()
        killed.start()
        killed.cluster.wait_for_engines(2, LONG)
        replace_engines(killed)
        pulled = view.pull(["pushed", "other"], block=False)
        found.set()
        assert pulled.get(LONG) == [[5, [2]]] * 2
        replace_engines(killed)
        assert view.pull("pushed", block=True) == [5, 5]


def not_found() -> Any:
    raise zexec.ClusterError("it is not to be found yet")


def replace_engines(killed: Killed) -> None:
    """Kill both, and wait for those that take their places."""
    before = {engine["pid"] for engine in killed.cluster.engines()}
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    assert tasks.until(lambda: len(pids_of(killed)) == 2 and not pids_of(killed) & before)


def pids_of(killed: Killed) -> set[int]:
    return {engine["pid"] for engine in killed.cluster.engines() if engine["state"] == "up"}
