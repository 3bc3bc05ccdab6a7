"""What the tests of GRPO share: one short run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from erprm_cli.engines.config import LocalConfig
from erprm_cli.io.reading import read_rows
from erprm_cli.policy.templates import load_template
from erprm_cli.rl.config import GrpoConfig
from erprm_cli.rl.grpo import Grpo
from erprm_cli.rl.run import run
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, RlhfConfig

FLAGS = (
    "--algorithm grpo -t tiny --prm-format er-prm -n 2 --batch-size 4 --max-tokens 100 --lr 1e-3 "
    "--max-steps 4 --log-every 1 --save-steps 2"
).split()


class Killed(BaseException):
    pass


def short_run(
    base: str,
    problems: Path,
    folder: Path,
    *,
    kill_at: int | None = None,
    grpo: dict[str, Any] | None = None,
    **training: Any,
) -> list[Row]:
    """Train 4 steps as FLAGS say, or die at the row of a step; return the rows."""
    rows: list[Row] = []

    def record(row: Row) -> None:
        rows.append(row)
        if row["step"] == kill_at:
            raise Killed

    settings: dict[str, Any] = {"batch_size": 4, "lr": 1e-3, "log_every": 1, "save_steps": 2}
    made = Grpo(
        RlhfConfig(base, "er-prm", n=2, max_tokens=100, eval=str(problems)),
        PolicyTrainingConfig(**settings | training),
        LocalConfig(base, engine="transformers"),
        load_template("tiny"),
        folder,
        Reporter("rlhf", quiet=True),
        grpo=GrpoConfig(**{"max_steps": 4} | (grpo or {})),
    )
    made.check()
    settings = {"algorithm": "grpo", "prm": base, "advantage": "any"}
    run(made, list(read_rows(str(problems), dict)), settings, record)
    return rows


def command(erprm: Callable[..., Any], base: str, problems: Path, folder: Path, *more: object) -> Any:
    """Run `erprm rlhf` with FLAGS."""
    return erprm("rlhf", problems, "-m", base, "--prm", base, "-o", folder, *FLAGS, *more)
