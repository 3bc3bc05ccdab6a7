"""What a step of `erprm rlhf --algorithm grpo` costs beside the models: the overhead of TRL and of erprm.

    OMP_NUM_THREADS=1 python benchmarks/bench_rl.py [--prm FOLDER] [--steps 8]

overhead = 1 - (generation + policy forward + backward + optimizer + PRM forward) / step

All are processor times of this process, which other programs do not change, after one step to warm up. The
policy and (unless --prm names another) the PRM are the shipped policy, 1.2 million parameters: with larger
models the overhead is a smaller share. On a GPU, processor time is not the time of a step; nothing is
measured there.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.config import LocalConfig
from erprm_cli.io.reading import read_rows
from erprm_cli.policy.templates import load_template
from erprm_cli.prm.scorer import Scorer
from erprm_cli.rl.config import GrpoConfig
from erprm_cli.rl.grpo import Grpo, quiet_trl
from erprm_cli.rl.run import run
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, RlhfConfig

PARTS = ("generation", "policy forward", "backward", "optimizer", "PRM forward")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--prm", default="tiny")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--advantage", default="increments")
    arguments = parser.parse_args()
    spent: defaultdict[str, float] = defaultdict(float)
    measure(spent)
    begun: list[float] = []

    def log(row: Row) -> None:
        if row["step"] == 1:  # warm
            spent.clear()
            begun.append(time.process_time())
        elif row["step"] == arguments.steps + 1 and row["policy"] is None:
            begun.append(time.process_time())

    problems = list(read_rows("tiny:train", as_problem))
    with TemporaryDirectory() as folder:
        grpo = Grpo(
            RlhfConfig(arguments.prm, "er-prm", n=8, max_tokens=160),
            PolicyTrainingConfig(batch_size=64, lr=1e-5, log_every=1, save_steps=0),
            LocalConfig("tiny", engine="transformers"),
            load_template("tiny"),
            Path(folder) / "run",
            Reporter("bench", quiet=True),
            grpo=GrpoConfig(advantage=arguments.advantage, max_steps=arguments.steps + 1),
        )
        grpo.check()
        run(grpo, problems, {"algorithm": "grpo", "prm": "tiny", "advantage": "any"}, log)
    step = (begun[1] - begun[0]) / arguments.steps
    print(f"step: {step:.3f} s of processor time, 64 solutions, mean of {arguments.steps}")
    for name in (*PARTS, "reading, grading, alignment"):
        print(f"{name}: {spent[name] / arguments.steps:.3f} s, {spent[name] / arguments.steps / step:.1%}")
    overhead = 1 - sum(spent[name] for name in PARTS) / arguments.steps / step
    print(f"overhead: {overhead:.1%}")


def measure(spent: defaultdict[str, float]) -> None:
    """Add the processor time of each part to `spent`."""
    quiet_trl()
    import torch
    from accelerate import Accelerator
    from trl.trainer.grpo_trainer import GRPOTrainer

    from erprm_cli.rl.judge import Judge

    inner: defaultdict[str, float] = defaultdict(float)  # time of the PRM within the judge

    def timed(owner: Any, name: str, part: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **more: Any) -> Any:
            begin, before = time.process_time(), inner["PRM forward"]
            try:
                return original(*args, **more)
            finally:
                elapsed = time.process_time() - begin
                if part == "PRM forward":
                    inner[part] += elapsed
                if owner is Judge:
                    elapsed -= inner["PRM forward"] - before
                spent[part] += elapsed

        setattr(owner, name, call)

    timed(GRPOTrainer, "_generate_single_turn", "generation")
    timed(GRPOTrainer, "_get_per_token_logps_and_entropies", "policy forward")
    timed(Accelerator, "backward", "backward")
    timed(torch.optim.AdamW, "step", "optimizer")
    timed(Scorer, "probabilities_on_device", "PRM forward")
    timed(Judge, "judge", "reading, grading, alignment")


if __name__ == "__main__":
    main()
