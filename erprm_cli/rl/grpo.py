"""GRPO with a process reward model: one run in one directory, like RAFT's.

The directory holds

    log.jsonl       all rows of the log, when the run is complete
    step-N/         the greedy solutions of the --eval problems after step N, eval.jsonl
    policy/         the trained policy
    .policy.run/    until then: the last checkpoint, from which a stopped run continues
"""

import warnings
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from erprm_cli.engines.config import LocalConfig
from erprm_cli.engines.open import choose_engine
from erprm_cli.engines.vllm_environment import set_environment
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.typed_fields import from_table
from erprm_cli.options import Dtype
from erprm_cli.packages import check_packages
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rl.config import GrpoConfig
from erprm_cli.rl.vllm_server import check_device, check_server
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, RlhfConfig
from erprm_cli.training.rlhf import Rlhf

SET_HERE = {"base", "seed", "merge_lora", "epochs", "max_length"}  # fields of the training


def quiet_trl() -> None:
    """Keep TRL from warning of vLLM's version five times when it is imported, whether vLLM is used or not.

    It imports vLLM then, whose log must not come between the rows on stdout.
    """
    set_environment()
    warnings.filterwarnings("ignore", "TRL currently supports vLLM versions")


@dataclass(eq=False)
class Grpo(Rlhf):
    """One run in one directory. Settings of RAFT in `config` are left out."""

    grpo: GrpoConfig = field(kw_only=True)

    def __post_init__(self) -> None:
        engine = self.engine
        self.training = replace(
            self.training,
            base=engine.model,
            output=self.directory / "policy",
            seed=self.config.seed,
            trust_remote_code=engine.trust_remote_code,
            allow_pickle=engine.allow_pickle,
        )
        shared = [each.name for each in fields(RlhfConfig)]
        self.config = RlhfConfig(**{name: getattr(self.config, name) for name in shared})

    @property
    def use_vllm(self) -> bool:
        """Whether vLLM generates the completions."""
        return choose_engine(self.engine) == "vllm"

    @property
    def log_file(self) -> Path:
        """The file of the rows of a complete run."""
        return self.directory / "log.jsonl"

    def check(self) -> None:
        """As Rlhf; also TRL, its settings and the division of a step."""
        check_packages(["trl"], "--algorithm grpo")
        quiet_trl()
        from erprm_cli.prm.card import read_card
        from erprm_cli.rl.arguments import check_batch, grpo_arguments

        check_batch(self.config, self.grpo, self.training, self.training.num_processes or 1)
        super().check()
        card = read_card(self.config.prm)
        if card is not None and card.get("settings", {}).get("outcome_only"):
            raise UserError(
                "is an outcome reward model, which does not score steps",
                where=self.config.prm,
                remedy="train one without --outcome-only",
            )
        grpo_arguments(self.config, self.grpo, self.training, self.engine, self.use_vllm)
        if self.grpo.vllm_server_base_url is not None:
            if not self.use_vllm:
                raise UsageError("--vllm-mode server requires --engine vllm")
            check_device()
            check_server(self.grpo.vllm_server_base_url)

    def check_problems(self, problems: list[Row]) -> None:
        """Raise UserError if the problems have no answers, or are too few for a step."""
        for problem in (*problems, *self.eval_problems):
            if problem["answer"] is None:
                raise UserError(
                    "has no answer, but GRPO needs the outcome of every solution",
                    where=f"problem {problem['id']!r}",
                    remedy="--field answer=NAME names the field that has it",
                )
        per_step = self.training.batch_size // self.config.n
        if len(problems) < per_step:
            raise UserError(
                f"a step needs {per_step:,} problems (--batch-size / -n), but INPUT has {len(problems):,}; "
                "a smaller --batch-size helps"
            )

    def plan(self, num_problems: int) -> Row:
        """Return what a whole run on `num_problems` problems would do at most."""
        from erprm_cli.models.size import model_size  # torch
        from erprm_cli.training.plan import training_size

        config, code = self.config, self.engine.trust_remote_code
        steps = self.num_steps(num_problems)
        generations = -(-steps // self.grpo.num_iterations)
        every = self.grpo.eval_steps
        rounds = 2 + ((steps - 1) // every if every else 0)
        completions, evaluated = generations * self.training.batch_size, rounds * len(self.eval_problems)
        policy = model_size(self.engine.model, trust_remote_code=code)
        return {
            "steps": steps,
            "problems": num_problems,
            "completions": completions,
            "evaluated": evaluated,
            "max_generated_tokens": (completions + evaluated) * config.max_tokens,
            **training_size(policy, self.training),
            "prm_parameters": model_size(config.prm, trust_remote_code=code).parameters,
        }

    def num_steps(self, num_problems: int) -> int:
        """Return the number of optimizer steps."""
        batches = num_problems // (self.training.batch_size // self.config.n)
        return self.grpo.max_steps or int(self.training.epochs * batches * self.grpo.num_iterations)

    def settings(self, source: str, problems: list[Row]) -> Row:
        """Return what decides the result: a run directory is continued only with equal settings.

        `problems` are those of the file `source`.
        """
        training = self.training.settings()
        return {
            "command": "rlhf",
            "algorithm": "grpo",
            "policy": self.engine.model,
            **{name: value for name, value in training.items() if name not in SET_HERE},
            "epochs": None if self.grpo.max_steps else self.training.epochs,
            **asdict(self.config),
            **self.grpo.settings(),
            "template": self.template.name,
            **self.template.options(),
            "input": source,
            **self.contents(source, problems),
            **self.engine.settings(),
        }

    def job(self, problems: Path, held_out: Path) -> Row:
        """Return the JSON of which `from_job` makes this run in another process.

        `problems` and `held_out` are files with the problems of INPUT and --eval.
        """
        training = replace(self.training, accelerate_config=None, num_processes=None)
        return {
            "command": "rlhf",
            "config": asdict(self.config) | {"eval": str(held_out) if self.eval_problems else None},
            "grpo": asdict(self.grpo),
            "training": training.to_json(),
            "engine": asdict(self.engine),
            "template": asdict(self.template),
            "directory": str(self.directory),
            "problems": str(problems),
        }

    @classmethod
    def from_job(cls, job: Row, reporter: Reporter) -> "Grpo":
        """Return the run that `job` describes."""
        quiet_trl()
        engine = job["engine"] | {"dtype": Dtype(job["engine"]["dtype"])}
        return cls(
            RlhfConfig(**job["config"]),
            PolicyTrainingConfig.from_json(job["training"]),
            LocalConfig(**engine),
            from_table(PolicyTemplate, job["template"], "the job"),
            Path(job["directory"]),
            reporter,
            grpo=GrpoConfig(**job["grpo"]),
        )
