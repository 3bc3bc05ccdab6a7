"""Sample, roll out and label on a Ray cluster: each task is one GPU with a share of the problems.

    ray start --head                     # on the first machine
    ray start --address FIRST:6379       # on each other one
    python ray_shards.py problems.jsonl DIR -m Qwen/Qwen2.5-Math-7B-Instruct -t math-chat --shards 64

DIR is on a file system that all machines share. Every shard writes its own files there, so a task whose
machine is lost continues on another one, and the same command continues a run that was stopped. More shards
than GPUs keep the cluster busy to the end. Other flags: variables such as ERPRM_ROLLOUT_MAX_TOKENS.
"""

import argparse
import os
import subprocess
from pathlib import Path

import ray

TRIES = 5  # after a failure of the engine; a lost machine does not count


@ray.remote(max_retries=-1)
def rollouts_of(shard: str, problems: Path, run: Path, policy: list[str], prm: str | None) -> Path:
    """Make the rollouts of one shard I/N, and scores if there is a PRM; return the file of rollouts."""
    number = shard.partition("/")[0]
    solutions, rollouts = run / f"solutions-{number}.jsonl", run / f"rollouts-{number}.jsonl"
    common = ["--shard", shard, *policy]
    erprm("sample", problems, *common, "-n", "15", "-o", solutions)
    if prm is not None:
        erprm("score", solutions, "--shard", shard, "--prm", prm, "-o", run / f"scores-{number}.jsonl")
    erprm("rollout", solutions, *common, "-k", "16", "-o", rollouts)
    return rollouts


def erprm(*words: object) -> None:
    """Run erprm; again if it ends with status 4, after which the same command continues."""
    # It ends with the process that started it: what outlives a lost task would keep its files locked.
    command = ["setpriv", "--pdeathsig", "TERM", "erprm", *map(str, words)]
    for _ in range(TRIES):
        status = subprocess.run(command).returncode
        if status != 4:
            break
    if status:
        raise RuntimeError(f"{' '.join(command)} ended with status {status}, see above")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problems", type=Path)
    parser.add_argument("run", type=Path, metavar="DIR")
    parser.add_argument("-m", "--model", required=True)
    parser.add_argument("-t", "--template", required=True)
    parser.add_argument("--shards", type=int, required=True)
    parser.add_argument("--prm", help="score the solutions too, into scores-*.jsonl")
    parser.add_argument("--gpus", type=float, default=1, help="of each task; 0: one processor instead")
    asked = parser.parse_args()
    problems, run = asked.problems.absolute(), asked.run.absolute()
    run.mkdir(parents=True, exist_ok=True)
    settings = {name: value for name, value in os.environ.items() if name.startswith("ERPRM_")}
    ray.init(address="auto", runtime_env={"env_vars": settings})
    task = rollouts_of.options(num_gpus=asked.gpus, num_cpus=1)
    policy = ["-m", asked.model, "-t", asked.template]
    shards = [f"{index}/{asked.shards}" for index in range(asked.shards)]
    made = ray.get([task.remote(shard, problems, run, policy, asked.prm) for shard in shards])
    with subprocess.Popen(["cat", *made], stdout=subprocess.PIPE) as rows:
        labels = ["erprm", "label", "--eta", "2", "-o", run / "labels.jsonl"]
        subprocess.run(labels, stdin=rows.stdout, check=True)


if __name__ == "__main__":
    main()
