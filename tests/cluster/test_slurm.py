"""The scripts for SLURM, from sbatch to the joined labels, while tasks are killed and hosts go away."""

from pathlib import Path

import psutil

from erprm_cli.training.run_folder import checkpoints, run_folder
from tests.cluster.policy import PIPELINES, has_rows, logs, rows
from tests.cluster.slurm import Slurm
from tests.training.conftest import base, rows_file, unbroken  # noqa: F401  # fixtures
from tests.training.runs import Log, assert_close, command

ARRAY, TRAIN = PIPELINES / "slurm_array.sh", PIPELINES / "slurm_train.sh"
TASKS = 6
POLICY = {"MODEL": "tiny", "TEMPLATE": "tiny"}


def kill(word: str) -> bool:
    """Kill the processes with `word` in their command lines; return whether there were any."""
    found = [process for process in psutil.process_iter(["cmdline"]) if word in process.info["cmdline"]]
    for process in found:
        process.kill()
    return bool(found)


def test_an_array_gives_the_rows_of_one_machine_although_tasks_and_hosts_are_lost(
    slurm: Slurm, problems: Path, labels_of_one_machine: list[bytes], tmp_path: Path
) -> None:
    """One task is killed and submitted again, one requeued, a host drained, another one lost."""
    job = slurm.sbatch(f"--array=0-{TASKS - 1}", ARRAY, problems, "run", cwd=tmp_path, **POLICY)
    run = tmp_path / "run"

    def in_the_middle(task: int) -> bool:
        return has_rows(run / f"solutions-{task}.jsonl")  # seconds of rollouts are to come

    def host_of(task: int) -> str:
        (found,) = [one for one in slurm.show(job) if one.get("ArrayTaskId") == str(task)]
        return found["NodeList"]

    slurm.wait_until(lambda: in_the_middle(0) and kill("run/solutions-0.jsonl"))
    slurm.wait_until(lambda: in_the_middle(1))
    slurm.run("scontrol", "requeue", f"{job}_1")
    slurm.start_now(f"{job}_1")
    slurm.wait_until(lambda: in_the_middle(2))
    drained, lost = host_of(2), host_of(3)
    slurm.run("scontrol", "update", f"NodeName={drained}", "State=DRAIN", "Reason=test")
    slurm.wait_until(lambda: in_the_middle(3))
    slurm.run("scontrol", "update", f"NodeName={lost}", "State=DOWN", "Reason=test")
    slurm.start_now(f"{job}_3")

    assert slurm.wait_for(job) == {"COMPLETED", "FAILED"}, logs(tmp_path)
    tasks = {task["ArrayTaskId"]: task for task in slurm.show(job)}
    assert [name for name, task in tasks.items() if task["JobState"] == "FAILED"] == ["0"]
    assert (tasks["1"]["Restarts"], tasks["3"]["Restarts"]) == ("1", "1")
    assert tasks["2"]["NodeList"] == drained  # it was left to end there
    assert {tasks[str(task)]["NodeList"] for task in (1, 3, 4, 5)}.isdisjoint({drained, lost})

    again = slurm.sbatch(
        "--array=0", f"--export=ALL,SHARDS={TASKS}", ARRAY, problems, "run", cwd=tmp_path, **POLICY
    )
    joined = slurm.sbatch(
        f"--dependency=afterok:{again}", "--wrap", f"bash {ARRAY} --join run", cwd=tmp_path, **POLICY
    )
    assert slurm.wait_for(joined) == {"COMPLETED"}, logs(tmp_path)
    assert rows(run / "labels.jsonl") == labels_of_one_machine
    for node in (drained, lost):
        slurm.run("scontrol", "update", f"NodeName={node}", "State=RESUME")


def test_a_training_over_two_hosts_is_started_again_when_one_is_lost(
    slurm: Slurm,
    base: str,  # noqa: F811
    rows_file: Path,  # noqa: F811
    unbroken: tuple[Path, Log],  # noqa: F811
    tmp_path: Path,
) -> None:
    words = command(base, rows_file, tmp_path / "prm")[4:]  # without `python -m erprm_cli train`
    job = slurm.sbatch("--nodes=2", "--gpus-per-node=1", TRAIN, *words, cwd=tmp_path, CONFIG="multi-cpu")
    slurm.wait_until(lambda: bool(checkpoints(run_folder(tmp_path / "prm"))))
    lost = slurm.hosts(job)[1]
    slurm.run("scontrol", "update", f"NodeName={lost}", "State=DOWN", "Reason=test")
    slurm.start_now(job)
    assert slurm.wait_for(job) == {"COMPLETED"}, logs(tmp_path)
    assert slurm.show(job)[0]["Restarts"] == "1" and lost not in slurm.hosts(job)
    assert_close(tmp_path / "prm", unbroken[0])
    slurm.run("scontrol", "update", f"NodeName={lost}", "State=RESUME")
