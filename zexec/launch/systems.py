"""Batch systems, as a table: how each is given a job, asked for jobs, told to end one, and what a job for it looks like.

A job is so many engines. Each finds out at its start which of them it is, from a variable that the system sets, and shows that to
the hub as its token. What stands in braces is filled in: ``{name}`` of the job, ``{count}`` of engines, ``{prefix}`` of tokens,
``{command}`` that is an engine (``{quoted}``, ``{condor}``: with its token, as a word), ``{log}`` a path, ``{script}`` the job's
file, ``{job}`` what the system calls it, ``{user}`` whose it is, ``{options}`` lines for what it needs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Needs:
    """What engines on a batch system need. What is None is left to the system.

    Args:
        queue: queue or partition.
        time: seconds that a job may take.
        memory: MiB for each engine.
        cores: processor cores for each engine.
        account: who pays.
        image: the container, for Kubernetes.
        extra: lines that go into the job as they are.
        setup: shell commands before the engine, for instance to activate an environment.
    """

    queue: str | None = None
    time: float | None = None
    memory: int | None = None
    cores: int | None = None
    account: str | None = None
    image: str = "python:3.12"
    extra: Sequence[str] = ()
    setup: str = ":"


@dataclass(frozen=True)
class System:
    """One batch system."""

    name: str
    #: gives it a job: the script's path is an argument, or its text comes from the standard input
    submit: Sequence[str]
    #: finds what it calls the job in what that says
    job: str
    #: asks for the user's jobs
    poll: Sequence[str]
    #: finds jobs in what that says: a group for the job, and perhaps one for its state
    line: str
    #: ends a job
    cancel: Sequence[str]
    #: asks why a job has ended, and finds it in what that says
    why: Sequence[str]
    reason: str
    #: a job
    template: str
    #: an engine's index in its job, as the job's shell sees it
    index: str = "0"
    #: states in which a job runs or waits; empty: all that are listed
    alive: frozenset[str] = frozenset()
    #: lines for what engines need
    options: Mapping[str, str] = field(default_factory=dict)
    stdin: bool = False
    #: how a time is written
    clock: Callable[[float], str] = lambda seconds: str(int(seconds))


def hours(seconds: float) -> str:
    """H:MM:SS, rounded up."""
    whole = int(-(-seconds // 1))
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def minutes(seconds: float) -> str:
    """Whole minutes, rounded up."""
    return str(int(-(-seconds // 60)))


_RUN = "{setup}\nexport ZEXEC_TOKEN={prefix}.{index}\nexec {command}\n"

SLURM = System(
    name="slurm",
    submit=("sbatch", "--parsable", "{script}"),
    job=r"^(\d+)",
    poll=("squeue", "--noheader", "--user={user}", "--format=%A %T"),
    line=r"^\s*(\d+)\s+(\w+)",
    alive=frozenset({"PENDING", "RUNNING", "CONFIGURING", "SUSPENDED", "REQUEUED", "RESIZING", "STOPPED", "SIGNALING"}),
    cancel=("scancel", "{job}"),
    why=("scontrol", "--oneliner", "show", "job", "{job}"),
    reason=r"JobState=(\S+)",
    index="$SLURM_PROCID",
    template="#!/bin/sh\n#SBATCH --job-name={name}\n#SBATCH --ntasks={count}\n#SBATCH --output={log}\n{options}\n"
    "{setup}\nexec srun sh -c {quoted}\n",
    options={
        "queue": "#SBATCH --partition={}",
        "time": "#SBATCH --time={}",
        "memory": "#SBATCH --mem-per-cpu={}M",
        "cores": "#SBATCH --cpus-per-task={}",
        "account": "#SBATCH --account={}",
    },
    clock=hours,
)

PBS = System(
    name="pbs",
    submit=("qsub", "{script}"),
    job=r"^(\d+)",
    poll=("qselect", "-u", "{user}"),
    line=r"^(\d+)",
    cancel=("qdel", "{job}"),
    why=("qstat", "-x", "-f", "{job}"),
    reason=r"(?:comment|Exit_status) = (.+)",
    # An array of one is refused.
    index="${PBS_ARRAY_INDEX:-0}",
    template="#!/bin/sh\n#PBS -N {name}\n#PBS -j oe\n#PBS -o {log}\n{array}{options}\n" + _RUN,
    options={
        "array": "#PBS -J 0-{}",
        "queue": "#PBS -q {}",
        "time": "#PBS -l walltime={}",
        "memory": "#PBS -l mem={}mb",
        "cores": "#PBS -l ncpus={}",
        "account": "#PBS -A {}",
    },
    clock=hours,
)

SGE = System(
    name="sge",
    submit=("qsub", "-terse", "{script}"),
    job=r"^(\d+)",
    poll=("qstat", "-u", "{user}"),
    line=r"^\s*(\d+)\s",
    cancel=("qdel", "{job}"),
    why=("qacct", "-j", "{job}"),
    reason=r"failed\s+(.+?)\s*$",
    index="$((SGE_TASK_ID - 1))",
    template="#!/bin/sh\n#$ -S /bin/sh\n#$ -N {name}\n#$ -t 1-{count}\n#$ -j y\n#$ -o {log}\n{options}\n" + _RUN,
    options={
        "queue": "#$ -q {}",
        "time": "#$ -l h_rt={}",
        "memory": "#$ -l h_vmem={}M",
        "cores": "#$ -pe smp {}",
        "account": "#$ -A {}",
    },
    clock=hours,
)

LSF = System(
    name="lsf",
    submit=("bsub",),
    stdin=True,
    job=r"Job <(\d+)>",
    poll=("bjobs", "-u", "{user}", "-noheader", "-o", "jobid stat"),
    line=r"^(\d+)\s+(\w+)",
    alive=frozenset({"PEND", "RUN", "PSUSP", "USUSP", "SSUSP", "WAIT", "PROV"}),
    cancel=("bkill", "{job}"),
    why=("bjobs", "-l", "{job}"),
    reason=r"(TERM_\w+|Exited [^.]+|Done successfully)",
    index="$((LSB_JOBINDEX - 1))",
    template='#!/bin/sh\n#BSUB -J "{name}[1-{count}]"\n#BSUB -o {log}\n{options}\n' + _RUN,
    options={
        "queue": "#BSUB -q {}",
        "time": "#BSUB -W {}",
        "memory": "#BSUB -M {}MB",
        "cores": "#BSUB -n {}",
        "account": "#BSUB -P {}",
    },
    clock=minutes,
)

HTCONDOR = System(
    name="htcondor",
    submit=("condor_submit", "{script}"),
    job=r"cluster (\d+)",
    poll=("condor_q", "-format", "%d ", "ClusterId", "-format", "%d\\n", "JobStatus"),
    line=r"^(\d+)\s+(\d+)",
    # idle, running, transferring, suspended; one that is held (5), say because it took too much memory, will not run
    alive=frozenset({"1", "2", "6", "7"}),
    cancel=("condor_rm", "{job}"),
    why=("condor_q", "-format", "%s", "HoldReason", "{job}"),
    reason=r"(.+)",
    index="$(ProcId)",
    template="executable = /bin/sh\narguments = \"-c '{condor}'\"\n"
    'environment = "ZEXEC_TOKEN={prefix}.{index}"\noutput = {log}\nerror = {log}\n{options}\nqueue {count}\n',
    options={
        "queue": '+Queue = "{}"',
        "time": "+MaxRuntime = {}",
        "memory": "request_memory = {}M",
        "cores": "request_cpus = {}",
        "account": "accounting_group = {}",
    },
)

KUBERNETES = System(
    name="kubernetes",
    submit=("kubectl", "create", "-f", "-"),
    stdin=True,
    job=r"job\.batch/(\S+)",
    poll=(
        *("kubectl", "get", "jobs", "-l", "app=zexec", "--no-headers"),
        *("-o", "custom-columns=N:.metadata.name,S:.status.conditions[-1:].type"),
    ),
    line=r"^(\S+)\s+(\S+)",
    alive=frozenset({"<none>", "Suspended"}),
    cancel=("kubectl", "delete", "job/{job}", "secret/{job}", "--wait=false", "--ignore-not-found"),
    why=(
        *("kubectl", "get", "pods", "-l", "job-name={job}"),
        *("-o", "jsonpath={.items[*].status.containerStatuses[*].state.terminated.reason}"),
    ),
    reason=r"(.+)",
    index="$JOB_COMPLETION_INDEX",
    # The connection file goes along as a secret, and is what the command gets.
    template="""apiVersion: v1
kind: Secret
metadata: {name: "%{name}", labels: {app: zexec}}
stringData: {engine.json: %{content}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: "%{name}", labels: {app: zexec}}
spec:
  completionMode: Indexed
  completions: %{count}
  parallelism: %{count}
  backoffLimit: 0
  ttlSecondsAfterFinished: 600
%{options}
  template:
    metadata: {labels: {app: zexec}}
    spec:
      restartPolicy: Never
      volumes:
      - {name: card, secret: {secretName: "%{name}", defaultMode: 256}}
      containers:
      - name: engine
        image: "%{image}"
        volumeMounts: [{name: card, mountPath: /etc/zexec}]
        resources: {requests: {%{resources}}, limits: {%{resources}}}
        command: [sh, -c, %{shell}]
""",
    options={"time": "  activeDeadlineSeconds: {}", "memory": 'memory: "{}Mi"', "cores": "cpu: {}"},
)

SYSTEMS: dict[str, System] = {each.name: each for each in (SLURM, PBS, SGE, LSF, HTCONDOR, KUBERNETES)}
