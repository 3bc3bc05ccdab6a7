"""The settings of GRPO. A field is declared once: it is the flag, its default and its help.

Names are those of TRL's GRPOConfig where it has the setting. `--help` loads this module, so it imports
nothing heavy.
"""

from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, ClassVar, Literal

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.rows.row import Row
from erprm_cli.training.config import PolicyTrainingConfig, RaftConfig, RlhfConfig

GrpoOption = partial(options.Option, rich_help_panel=options.Heading.GRPO)

Algorithm = Annotated[
    Literal["raft", "grpo"],
    options.Option(help="raft: the paper's rounds of sample, score, select, train. grpo: online RL by TRL."),
]


@dataclass(frozen=True, slots=True)
class GrpoConfig:
    """How GRPO turns outcomes and scores into a loss. Flags of --algorithm grpo only."""

    # These fields do not change the result, except by rounding: a run may continue with other values.
    FREE: ClassVar[frozenset[str]] = frozenset(
        "per_device_train_batch_size vllm_mode vllm_server_base_url".split()
    )

    advantage: Annotated[
        Literal["increments", "outcome", "process", "min-form"],
        GrpoOption(
            help="What a token is rewarded for: what is gained from its step on (increments), the outcome, "
            "the scores from its step on (process), or the worst step (min-form)."
        ),
    ] = "increments"
    outcome_weight: Annotated[
        float,
        GrpoOption(
            min=0,
            metavar="W",
            help="Weight of the outcome beside the process advantage; increments: its share in the last "
            "value, at most 1.",
        ),
    ] = 1.0
    beta: Annotated[
        float,
        GrpoOption(
            min=0, metavar="BETA", help="KL coefficient, about 1/eta; 0: no reference model and no KL."
        ),
    ] = 0.04
    loss_type: Annotated[
        Literal["grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo"],
        GrpoOption(help="How the losses of tokens are combined, as TRL names it."),
    ] = "dapo"
    scale_rewards: Annotated[
        Literal["group", "none"],
        GrpoOption(help="Divide advantages by the standard deviation of the group, or not."),
    ] = "group"
    epsilon: Annotated[
        float, GrpoOption(min=0, metavar="EPS", help="Clip the ratio of probabilities to 1 +- EPS.")
    ] = 0.2
    epsilon_high: Annotated[
        float | None, GrpoOption(min=0, metavar="EPS", help="Upper bound of the ratio. Default: --epsilon.")
    ] = None
    num_iterations: Annotated[
        int, GrpoOption(min=1, metavar="N", help="Optimizer steps on each batch of completions.")
    ] = 1
    mask_truncated_completions: Annotated[
        bool,
        GrpoOption("--mask-truncated-completions", help="Leave unfinished completions out of the loss."),
    ] = False
    max_steps: Annotated[
        int, GrpoOption(min=0, metavar="N", help="Optimizer steps; 0: as many as --epochs makes.")
    ] = 0
    per_device_train_batch_size: Annotated[
        int,
        GrpoOption(
            min=0,
            metavar="N",
            help="Completions per forward pass of one device; 0: all of a step. Changes speed and memory "
            "only.",
        ),
    ] = 0
    eval_steps: Annotated[
        int,
        GrpoOption(min=0, metavar="N", help="Steps between evaluations on --eval; 0: at both ends only."),
    ] = 0
    stop_on_divergence: Annotated[
        int,
        GrpoOption(
            min=0,
            metavar="N",
            help="Stop when the PRM's score is up and the outcome down in N log rows in a row, and keep the "
            "best checkpoint; 0: only warn.",
        ),
    ] = 0
    vllm_mode: Annotated[
        Literal["colocate", "server"],
        GrpoOption(help="With --engine vllm: in the training processes, or in a server."),
    ] = "colocate"
    vllm_server_base_url: Annotated[
        str | None, GrpoOption(metavar="URL", help="With --vllm-mode server: where `trl vllm-serve` answers.")
    ] = None
    trl_arg: Annotated[
        list[str] | None,
        GrpoOption(
            "--trl-arg", metavar="KEY=VALUE", help="Any other setting of TRL's GRPOConfig; repeatable."
        ),
    ] = None

    def __post_init__(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if self.advantage == "increments" and self.outcome_weight > 1:
            raise UsageError("--outcome-weight is at most 1 with --advantage increments")
        if self.advantage == "outcome" and self.outcome_weight != 1:
            raise UsageError("--outcome-weight is for a process advantage, not for --advantage outcome")
        if (self.vllm_mode == "server") != (self.vllm_server_base_url is not None):
            raise UsageError("--vllm-mode server requires --vllm-server-base-url, and the reverse")

    def settings(self) -> Row:
        """Return the fields that decide the result: a run directory is continued only with equal ones."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in self.FREE
        }


# Flags of `erprm rlhf` that one algorithm does not read, beside GrpoConfig, which RAFT does not.
RAFT_ONLY = {field.name for field in fields(RaftConfig)} - {field.name for field in fields(RlhfConfig)}
RAFT_TRAINING, RAFT_ENGINE = (
    {"micro_batch_tokens", "packing"},
    {*"data_parallel_size enforce_eager quantization engine_args".split()},
)
GRPO_TRAINING = {"log_every"}


def check_algorithm(
    algorithm: str,
    config: RaftConfig,
    grpo: GrpoConfig,
    training: PolicyTrainingConfig,
    engine: EngineConfig,
) -> None:
    """Raise UsageError if a flag was given that `algorithm` does not read."""
    if algorithm == "grpo":
        unread = options.given(config, RAFT_ONLY)
        unread += options.given(training, RAFT_TRAINING) + options.given(engine, RAFT_ENGINE)
        other = "raft"
    else:
        unread = options.given(grpo) + options.given(training, GRPO_TRAINING)
        other = "grpo"
    if unread:
        raise UsageError(f"{', '.join(unread)}: only with --algorithm {other}")
