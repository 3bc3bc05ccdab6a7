"""A SLURM cluster of hosts on this machine: munged, slurmctld and one slurmd per host."""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
WAIT_S = 900
CONFIGURATION = """
ClusterName=erprm
SlurmctldHost={host}
SlurmUser=root
SlurmdUser=root
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/slurmctld
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
# Without control groups, which a namespace may not have.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# GPUs and processors that are not there, so that the scripts run as they are.
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=DEFAULT CPUs=8 Gres=gpu:1
NodeName=node[1-{count}] NodeHostname={host} NodeAddr=10.9.0.[1-{count}] Port=[17001-1700{count}]
PartitionName=main Nodes=ALL Default=YES State=UP
"""


class Slurm:
    """The cluster; `folder` has its configuration, state and logs."""

    def __init__(self, folder: Path, nodes: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start nothing yet. Jobs get the `environment`."""
        missing = [program for program in PROGRAMS if shutil.which(program) is None]
        if missing:
            raise FileNotFoundError(f"{', '.join(missing)}: apt install slurm-wlm munge")
        self.folder, self.nodes = folder, nodes
        self.environment = os.environ | environment | {"SLURM_CONF": str(folder / "slurm.conf")}

    def start(self) -> None:
        """Start the daemons; return when all hosts are idle."""
        folder = self.folder
        folder.chmod(0o755)  # munged wants its socket where everyone can enter
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        text = CONFIGURATION.format(folder=folder, host=socket.gethostname(), count=len(self.nodes))
        (folder / "slurm.conf").write_text(text)
        (folder / "gres.conf").write_text(f"NodeName=node[1-{len(self.nodes)}] Name=gpu File=/dev/null\n")
        for name in ("slurmctld", *self.nodes):
            (folder / name).mkdir()
        named = {"key-file": key, "socket": folder / "munge.socket", "pid-file": folder / "munged.pid"}
        named |= {"log-file": folder / "munged.log", "seed-file": folder / "munged.seed"}
        self.run("munged", "--force", *(f"--{name}={path}" for name, path in named.items()))
        self.run("slurmctld", "-i")
        for node in self.nodes:
            self.run("slurmd", "-N", node)
        self.wait_until(lambda: self.run("sinfo", "-h", "-o", "%T %D").strip() == f"idle {len(self.nodes)}")

    def stop(self) -> None:
        """End the daemons, jobs included."""
        self.run("scancel", "--user", "root")
        self.run("scontrol", "shutdown")

    def run(self, *words: object, cwd: Path | None = None, **variables: str) -> str:
        """Run a command of SLURM; return its stdout."""
        done = subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env=self.environment | variables,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    def sbatch(self, *words: object, cwd: Path, **variables: str) -> str:
        """Submit a job; return its number."""
        return self.run("sbatch", "--parsable", *words, cwd=cwd, **variables).strip()

    def show(self, job: str) -> list[dict[str, str]]:
        """Return what SLURM says about a job, a dict per task."""
        lines = self.run("scontrol", "--oneliner", "show", "job", job).splitlines()
        return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]

    def states(self, job: str) -> set[str]:
        return {task["JobState"] for task in self.show(job)}

    def start_now(self, job: str) -> None:
        """Start a job that was put back into the queue, without the two minutes that SLURM lets it rest."""
        self.wait_until(lambda: self.states(job) == {"PENDING"})
        self.run("scontrol", "update", f"JobId={job}", "StartTime=now")

    def hosts(self, job: str) -> list[str]:
        """Return the hosts of a job without tasks."""
        (found,) = self.show(job)
        return self.run("scontrol", "show", "hostnames", found["NodeList"]).split()

    def processes(self, node: str) -> list[psutil.Process]:
        """Return the processes of a host: its slurmd, the slurmstepd of each step, and their children."""
        daemons = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it has ended
                if str(self.folder / f"{node}.log") in {file.path for file in process.open_files()}:
                    daemons.append(process)
        return daemons + [child for daemon in daemons for child in daemon.children(recursive=True)]

    def lose(self, node: str) -> None:
        """Kill all processes of a host; mark it as SLURM does itself after SlurmdTimeout, five minutes."""
        for process in self.processes(node):
            process.kill()
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def bring_back(self, node: str) -> None:
        self.run("slurmd", "-N", node)
        self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def wait_for(self, job: str) -> set[str]:
        """Return the states of the tasks of a job when none is waiting or running."""
        unfinished = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"}
        self.wait_until(lambda: not self.states(job) & unfinished)
        return self.states(job)

    def wait_until(self, is_true: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not is_true():
            if time.monotonic() > deadline:
                raise TimeoutError(self.run("squeue") + self.run("sinfo", "-N", "-l"))
            time.sleep(0.2)
