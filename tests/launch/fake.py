"""Every command of every batch system, as far as launchers use it: what it does depends on the name it is called by.

Jobs are really run, as processes of this machine, one for each engine. What is known of them is in files under $FAKE_BATCH: the
groups of processes, how they would be listed, and why they ended, if they did.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

HOME = Path(os.environ["FAKE_BATCH"])
ME = Path(sys.argv[0]).name
ARGUMENTS = sys.argv[1:]


def jobs():
    return {path.stem: json.loads(path.read_text()) for path in sorted(HOME.glob("*.json"))}


def save(id, **facts):
    path = HOME / f"{id}.json"
    new = path.with_suffix(".new")
    new.write_text(json.dumps(facts))
    new.replace(path)


def run(script, variable, indices, environment=None, log=os.devnull):
    """One process for each index, each a group of its own."""
    groups = []
    for index in indices:
        with open(log, "ab") as output:
            process = subprocess.Popen(
                script,
                env={**os.environ, **(environment or {}), variable: str(index)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        groups.append(process.pid)
    return groups


def new_id():
    return str(1000 + len(list(HOME.glob("*.json"))))


def submitted(script):
    """What somebody submits: its text, kept as evidence."""
    text = Path(script).read_text() if script else sys.stdin.read()
    (HOME / f"submitted-{new_id()}").write_text(text)
    return text


def directive(text, pattern, default=1):
    found = re.search(pattern, text, re.MULTILINE)
    return int(found.group(1)) if found else default


def refuse(text):
    sys.exit(f"{ME}: {text}")


def end(id, why):
    job = jobs()[id]
    for group in job["groups"]:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            pass
    save(id, groups=[], ended=why)


def main():
    if (HOME / "down").exists():
        refuse("cannot contact the server")
    if ME in ("sbatch", "qsub", "bsub", "condor_submit") and (HOME / "refuse").exists():
        refuse((HOME / "refuse").read_text())
    id = new_id()
    if ME == "sbatch":
        assert ARGUMENTS[0] == "--parsable"
        text = submitted(ARGUMENTS[1])
        count = directive(text, r"^#SBATCH --ntasks=(\d+)$")
        save(id, groups=run(["sh", ARGUMENTS[1]], "SLURM_NTASKS", [count]))
        print(f"{id};cluster")
    elif ME == "srun":
        children = [
            subprocess.Popen(ARGUMENTS, env={**os.environ, "SLURM_PROCID": str(i)})
            for i in range(int(os.environ["SLURM_NTASKS"]))
        ]
        sys.exit(max([child.wait() for child in children]))
    elif ME == "qsub" and ARGUMENTS[0] == "-terse":
        text = submitted(ARGUMENTS[1])
        count = directive(text, r"^#\$ -t 1-(\d+)$")
        save(id, groups=run(["sh", ARGUMENTS[1]], "SGE_TASK_ID", range(1, count + 1)))
        print(f"{id}.1-{count}:1")
    elif ME == "qsub":
        text = submitted(ARGUMENTS[0])
        last = directive(text, r"^#PBS -J 0-(\d+)$", 0)
        if "#PBS -J" in text and not last:
            refuse("illegal -J value")
        save(id, groups=run(["sh", ARGUMENTS[0]], "PBS_ARRAY_INDEX" if last else "NOTHING", range(last + 1)))
        print(f"{id}[].server" if last else f"{id}.server")
    elif ME == "bsub":
        text = submitted(None)
        script = HOME / f"{id}.sh"
        script.write_text(text)
        count = directive(text, r'^#BSUB -J "\S+\[1-(\d+)\]"$')
        save(id, groups=run(["sh", str(script)], "LSB_JOBINDEX", range(1, count + 1)))
        print(f"Job <{id}> is submitted to default queue <normal>.")
    elif ME == "condor_submit":
        text = submitted(ARGUMENTS[0])
        count = directive(text, r"^queue (\d+)$")
        arguments = re.search(r'^arguments = "(.*)"$', text, re.MULTILINE).group(1).replace('""', '"')
        words = ["-c", re.fullmatch(r"-c '(.*)'", arguments).group(1).replace("''", "'")]
        environment = re.search(r'^environment = "ZEXEC_TOKEN=(.*)"$', text, re.MULTILINE).group(1)
        groups = []
        for i in range(count):
            groups += run(["/bin/sh", *words], "ZEXEC_TOKEN", [environment.replace("$(ProcId)", str(i))])
        save(id, groups=groups)
        print(f"Submitting job(s).\n{count} job(s) submitted to cluster {id}.")
    elif ME == "kubectl" and ARGUMENTS[0] == "create":
        text = submitted(None)
        name = re.search(r'^kind: Job\nmetadata: \{name: "(\S+)"', text, re.MULTILINE).group(1)
        card = HOME / f"{name}.card"
        card.write_text(json.loads(re.search(r"^stringData: \{engine.json: (.*)\}$", text, re.MULTILINE).group(1)))
        command = json.loads(re.search(r"^        command: \[sh, -c, (.*)\]$", text, re.MULTILINE).group(1))
        command = command.replace("/etc/zexec/engine.json", shlex.quote(str(card)))
        count = directive(text, r"^  completions: (\d+)$")
        save(name, groups=run(["sh", "-c", command], "JOB_COMPLETION_INDEX", range(count)))
        print(f"secret/{name} created\njob.batch/{name} created")
    elif ME == "squeue":
        print(*[f"{id} RUNNING" for id, job in jobs().items() if job["groups"]], sep="\n")
    elif ME == "qselect":
        print(*[f"{id}.server" for id, job in jobs().items() if job["groups"]], sep="\n")
    elif ME == "qstat" and ARGUMENTS[0] == "-u":
        print("job-ID  prior   name\n-------------------")
        print(*[f"   {id} 0.555 zexec me r" for id, job in jobs().items() if job["groups"]], sep="\n")
    elif ME == "bjobs" and ARGUMENTS[0] == "-u":
        print(*[f"{id} {'RUN' if job['groups'] else 'EXIT'}" for id, job in jobs().items()], sep="\n")
    elif ME == "condor_q" and "JobStatus" in ARGUMENTS:
        print(*[f"{id} {2 if job['groups'] else 5}" for id, job in jobs().items()], sep="\n")
    elif ME == "kubectl" and ARGUMENTS[:2] == ["get", "jobs"]:
        print(*[f"{id}   {'<none>' if job['groups'] else 'Failed'}" for id, job in jobs().items()], sep="\n")
    elif ME == "kubectl" and ARGUMENTS[:2] == ["get", "pods"]:
        print(jobs()[ARGUMENTS[3].removeprefix("job-name=")]["ended"])
    elif ME == "kubectl" and ARGUMENTS[0] == "delete":
        end(ARGUMENTS[1].removeprefix("job/"), "deleted")
    elif ME in ("scancel", "qdel", "bkill", "condor_rm"):
        end(ARGUMENTS[0], "cancelled")
    elif ME in ("scontrol", "qacct", "bjobs", "qstat", "condor_q"):
        why = jobs()[ARGUMENTS[-1]]["ended"]
        print(
            {
                "scontrol": f"JobId={id} JobName=x JobState={why} Reason=None",
                "qacct": f"qname all.q\nfailed       {why}   \nexit_status 137",
                "bjobs": f"Job <1>\n{why}: job killed after reaching a limit",
                "qstat": f"    comment = {why}",
                "condor_q": why,
            }[ME]
        )
    elif ME == "end":
        end(*ARGUMENTS)
    elif ME == "ssh":
        if "nowhere" in ARGUMENTS:
            refuse("Could not resolve hostname nowhere: Name or service not known")
        os.execvp("sh", ["sh", "-c", ARGUMENTS[-1]])
    elif ME == "mpiexec":
        count, command = int(ARGUMENTS[1]), ARGUMENTS[2:]
        children = [subprocess.Popen(command, env={**os.environ, "PMI_RANK": str(i)}) for i in range(count)]
        signal.signal(signal.SIGTERM, lambda *_: [child.terminate() for child in children])
        sys.exit(max([child.wait() for child in children]))
    else:
        refuse(f"{ARGUMENTS} is nothing that launchers do")


main()
