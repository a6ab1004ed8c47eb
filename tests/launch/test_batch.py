"""Engines as jobs: each system is spoken to as it wants, and what becomes of its jobs is noticed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.launch.conftest import Batch, wait_gone
from zexec.launch import batch as batch_module
from zexec.launch.batch import MISSING, POLL, BatchStarter
from zexec.launch.systems import SYSTEMS, Needs, hours, minutes

#: how each system says that a job has run out of time
REASONS = {
    "slurm": "TIMEOUT",
    "pbs": "Job terminated as it exceeded its walltime",
    "sge": "37 : qmaster enforced h_rt limit",
    "lsf": "TERM_RUNLIMIT",
    "htcondor": "memory usage exceeded request_memory",
    "kubernetes": "OOMKilled",
}


class Rung:
    """Made into a bell for a starter: waits until it was rung."""

    def __init__(self) -> None:
        self.event = threading.Event()

    def __call__(self) -> None:
        self.event.set()

    def ended(self, starter: Any, count: int) -> dict[str, str]:
        """Wait until so many engines have ended."""
        found: dict[str, str] = {}
        while len(found) < count:
            assert self.event.wait(30)
            self.event.clear()
            found.update(starter.ended())
        return found


@pytest.fixture
def rung() -> Rung:
    return Rung()


@pytest.fixture(params=sorted(SYSTEMS))
def system(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def start(batch: Batch, rung: Rung, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., BatchStarter]]:
    monkeypatch.setattr(batch_module, "POLL", 0.05)
    made: list[BatchStarter] = []

    def make(system: str, needs: Needs | None = None) -> BatchStarter:
        made.append(BatchStarter(SYSTEMS[system], batch.card, batch.shared, batch.command, needs, rung))
        return made[-1]

    yield make
    for starter in made:
        starter.close()


def test_the_table_names_all() -> None:
    assert set(SYSTEMS) == {"slurm", "pbs", "sge", "lsf", "htcondor", "kubernetes"}
    assert POLL * (MISSING + 1) < 60, "an end is to be known within a minute"


def test_a_job_of_several_engines(batch: Batch, start: Any, system: str) -> None:
    starter = start(system)
    tokens = starter.start(3)
    assert len(set(tokens)) == 3
    pids = batch.wait_for(tokens)
    assert len(set(pids.values())) == 3
    starter.close()
    wait_gone(list(pids.values()))
    assert starter.ended().keys() == set(tokens)


def test_a_job_of_one_engine(batch: Batch, start: Any, system: str) -> None:
    starter = start(system)
    (token,) = starter.start(1)
    batch.wait_for([token])


def test_a_job_that_the_system_ends_is_noticed_with_its_reason(
    batch: Batch, start: Any, rung: Rung, system: str
) -> None:
    starter = start(system)
    first, second = starter.start(2), starter.start(1)
    batch.wait_for(first + second)
    (id,) = [job.id for job in starter.jobs.values() if job.tokens == first]
    batch.end(id, REASONS[system])
    ended = rung.ended(starter, 2)
    assert set(ended) == set(first)
    for why in ended.values():
        assert why.startswith(f"its {system} job {id} has ended")
        assert REASONS[system].split("(")[0] in why
    assert [job.tokens for job in starter.jobs.values()] == [second]
    batch.wait_for(second)


def test_a_job_that_nobody_wants_is_cancelled(batch: Batch, start: Any, rung: Rung, system: str) -> None:
    starter = start(system)
    tokens = starter.start(2)
    pids = batch.wait_for(tokens)
    starter.stop(tokens[:1])  # the other is wanted still
    starter.stop(tokens[1:])
    ended = rung.ended(starter, 2)
    assert all("cancelled" in why for why in ended.values())
    wait_gone(list(pids.values()))
    assert not starter.jobs


@pytest.mark.parametrize("name", ["slurm", "pbs", "sge", "lsf", "htcondor"])
def test_a_job_that_is_refused(batch: Batch, start: Any, rung: Rung, name: str) -> None:
    (batch.state / "refuse").write_text("no such partition")
    starter = start(name)
    tokens = starter.start(2)
    ended = rung.ended(starter, 2)
    assert ended.keys() == set(tokens)
    assert all("could not be submitted" in why and "no such partition" in why for why in ended.values())


def test_a_system_that_is_not_here(batch: Batch, start: Any, rung: Rung, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    starter = start("slurm")
    starter.start(1)
    ((_, why),) = rung.ended(starter, 1).items()
    assert "there is no sbatch here" in why


def test_a_system_that_does_not_answer_is_believed_to_have_its_jobs(
    batch: Batch, start: Any, rung: Rung, caplog: pytest.LogCaptureFixture
) -> None:
    starter = start("slurm")
    tokens = starter.start(1)
    batch.wait_for(tokens)
    (batch.state / "down").touch()
    while sum("cannot be asked" in record.message for record in caplog.records) <= MISSING + 1:
        assert not rung.event.wait(0.01)
    (batch.state / "down").unlink()
    assert starter.ended() == {}
    batch.end("1000", "TIMEOUT")
    assert "TIMEOUT" in rung.ended(starter, 1)[tokens[0]]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "slurm",
            [
                "#SBATCH --partition=long",
                "#SBATCH --time=1:30:01",
                "#SBATCH --mem-per-cpu=512M",
                "#SBATCH --cpus-per-task=2",
            ],
        ),
        ("pbs", ["#PBS -q long", "#PBS -l walltime=1:30:01", "#PBS -l mem=512mb", "#PBS -l ncpus=2"]),
        ("sge", ["#$ -q long", "#$ -l h_rt=1:30:01", "#$ -l h_vmem=512M", "#$ -pe smp 2"]),
        ("lsf", ["#BSUB -q long", "#BSUB -W 91", "#BSUB -M 512MB", "#BSUB -n 2"]),
        ("htcondor", ['+Queue = "long"', "+MaxRuntime = 5400", "request_memory = 512M", "request_cpus = 2"]),
        ("kubernetes", ["  activeDeadlineSeconds: 5400", 'limits: {memory: "512Mi", cpu: 2}', 'image: "mine:1"']),
    ],
)
def test_what_engines_need_is_in_the_job(batch: Batch, start: Any, name: str, lines: list[str]) -> None:
    needs = Needs("long", 5400.5, 512, 2, "me", "mine:1", ["# as it is"], "export GREETING='good day'")
    starter = start(name, needs)
    batch.wait_for(starter.start(2))
    for line in [*lines, "# as it is", batch.engine.name]:
        assert line in batch.submitted()


@pytest.mark.parametrize("queue", ["long\n#SBATCH --uid=0", "a'b", 'a"b'])
def test_what_would_break_out_of_a_line_is_refused(batch: Batch, start: Any, rung: Rung, queue: str) -> None:
    starter = start("slurm", Needs(queue=queue))
    starter.start(1)
    ((_, why),) = rung.ended(starter, 1).items()
    assert "plain words" in why


def test_scripts_are_private_and_go(batch: Batch, start: Any, rung: Rung) -> None:
    starter = start("slurm")
    tokens = starter.start(1)
    batch.wait_for(tokens)
    (script,) = batch.shared.glob("*.job")
    assert script.stat().st_mode & 0o077 == 0
    starter.stop(tokens)
    rung.ended(starter, 1)
    assert not list(batch.shared.glob("*.job"))


def test_times() -> None:
    assert [hours(0), hours(59.1), hours(3600), hours(360000)] == ["0:00:00", "0:01:00", "1:00:00", "100:00:00"]
    assert [minutes(1), minutes(60), minutes(61)] == ["1", "1", "2"]
