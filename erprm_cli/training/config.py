"""The settings of every training. A field is declared once: it is the flag, its default and its help.

The defaults are the paper's (arXiv 2412.11006): its section 4.1 for a PRM, 4.3 and the released scripts for
a policy and RAFT. `--help` loads this module, so it imports nothing heavy.
"""

from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from erprm_cli import completions, options
from erprm_cli.errors import UsageError
from erprm_cli.options import Heading, Option
from erprm_cli.prm.formats import ER_PRM
from erprm_cli.roles import Role
from erprm_cli.rows.row import Row

TrainingOption = partial(Option, rich_help_panel=Heading.TRAINING)

# Options whose default differs between the configurations below
Base = Annotated[
    str,
    Role.READ_BY_NAME,
    Option(
        metavar="MODEL",
        help="Model to start from: a folder, a Hub name, or tiny.",
        rich_help_panel=Heading.MODEL,
    ),
]
Output = Annotated[
    Path,
    Role.MODEL,
    Option(
        "--output",
        "-o",
        metavar="DIR",
        help="Folder to write the model to.",
        rich_help_panel=Heading.STREAMS,
    ),
]
Epochs = Annotated[float, TrainingOption(min=0.001, metavar="N", help="Passes over the solutions.")]
BatchSize = Annotated[
    int, TrainingOption(min=1, metavar="N", help="Solutions per optimizer step, over all GPUs.")
]
MaxLength = Annotated[
    int, TrainingOption(min=1, metavar="N", help="Tokens; longer solutions are left out and counted.")
]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to train any model. `output` is the only field without a default."""

    # These fields do not change the result, except by rounding: a run may continue with other values.
    FREE: ClassVar[frozenset[str]] = frozenset(
        "output overwrite log_every save_steps report_to trust_remote_code allow_pickle micro_batch_tokens "
        "packing attn_implementation gradient_checkpointing accelerate_config num_processes".split()
    )

    output: Output
    base: Base = "tiny"
    epochs: Epochs = 1.0
    lr: Annotated[
        float, TrainingOption(min=0, metavar="RATE", help="Peak learning rate; decays to 0 as a cosine.")
    ] = 5e-7
    batch_size: BatchSize = 64
    micro_batch_tokens: Annotated[
        int,
        TrainingOption(
            min=0,
            metavar="N",
            help="Tokens per forward pass of one device, padding included; changes speed and memory only. "
            "0: 2048 on a CPU, 16384 on a GPU.",
        ),
    ] = 0
    packing: Annotated[
        bool | None,
        TrainingOption(
            help="Pack solutions without padding, instead of grouping them by length. Default: with flash "
            "attention."
        ),
    ] = None
    max_length: MaxLength = 512
    warmup_ratio: Annotated[
        float,
        TrainingOption(
            min=0, max=0.99, metavar="SHARE", help="Share of the steps in which the learning rate rises."
        ),
    ] = 0.0
    weight_decay: Annotated[float, TrainingOption(min=0, metavar="W", help="Weight decay of AdamW.")] = 0.0
    optim: Annotated[str, TrainingOption(metavar="NAME", help="Optimizer, as transformers names it.")] = (
        "adamw_torch_fused"
    )
    seed: Annotated[
        int,
        TrainingOption(
            min=0,
            max=options.MAX_SEED,
            metavar="N",
            help="Seed of the batches and of new weights (heads, adapters).",
        ),
    ] = 0
    bf16: Annotated[
        bool | None,
        TrainingOption(
            help="Compute in bfloat16; weights stay float32. Default: on GPUs that support it.", is_flag=True
        ),
    ] = None
    gradient_checkpointing: Annotated[
        bool, TrainingOption("--gradient-checkpointing", help="Use less memory and about a third more time.")
    ] = False
    attn_implementation: Annotated[
        str | None,
        TrainingOption(
            metavar="NAME", help="Attention, as transformers names it: sdpa, flash_attention_2, eager."
        ),
    ] = None
    lora_rank: Annotated[
        int,
        TrainingOption(
            min=0, metavar="R", help="Train low-rank adapters of this rank (peft); 0 trains all weights."
        ),
    ] = 0
    merge_lora: Annotated[
        bool, TrainingOption("--merge-lora", help="Save whole weights with the adapters merged into them.")
    ] = False
    save_steps: Annotated[
        int, TrainingOption(min=0, metavar="N", help="Steps between checkpoints; 0 writes none.")
    ] = 500
    report_to: Annotated[
        Literal["none", "tensorboard", "wandb", "trackio"],
        TrainingOption(help="Also send the log rows there."),
    ] = "none"
    revision: options.Revision = None
    trust_remote_code: options.TrustRemoteCode = False
    allow_pickle: options.AllowPickle = False
    accelerate_config: Annotated[
        str | None,
        Role.READ_BY_NAME,
        Option(
            metavar="NAME",
            help="Start processes with accelerate: multi-gpu, fsdp2, zero2, zero3, multi-cpu, or a .yaml "
            "file.",
            autocompletion=completions.template_names("accelerate"),
            rich_help_panel=Heading.PROCESSES,
        ),
    ] = None
    num_processes: Annotated[
        int | None,
        Option(
            min=1,
            metavar="N",
            help="Number of processes. Default: one per GPU.",
            rich_help_panel=Heading.PROCESSES,
        ),
    ] = None
    overwrite: Annotated[
        bool, Option("--overwrite", help="Replace an earlier model in DIR.", rich_help_panel=Heading.ROWS)
    ] = False
    log_every: Annotated[int, TrainingOption(min=1, metavar="N", help="Steps between log rows.")] = 10

    def __post_init__(self) -> None:
        """Raise UsageError for options that contradict each other."""
        if self.merge_lora and not self.lora_rank:
            raise UsageError("--merge-lora merges what --lora-rank trains; give both")

    def settings(self) -> Row:
        """Return the fields that decide the result: the model's card keeps them, a repeated run compares."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in self.FREE
        }

    def to_json(self) -> Row:
        """Return all fields, for `from_json` in another process."""
        return asdict(self) | {"output": str(self.output)}

    @classmethod
    def from_json(cls, row: Row) -> Self:
        """Return the configuration that `to_json` wrote."""
        return cls(**row | {"output": Path(row["output"])})


@dataclass(frozen=True, slots=True)
class PrmTrainingConfig(TrainingConfig):
    """How to train a PRM (section 4.1)."""

    FREE: ClassVar[frozenset[str]] = TrainingConfig.FREE | {"eval"}

    kind: Annotated[
        Literal["token", "head"],
        Option(
            help="What a score is read from: two words of a language model, or a head with two classes.",
            rich_help_panel=Heading.MODEL,
        ),
    ] = "token"
    format: Annotated[
        str,
        Role.READ_BY_NAME,
        Option(
            "--prm-format",
            metavar="NAME",
            help="Input format of the PRM: a shipped name or a .toml file.",
            rich_help_panel=Heading.MODEL,
        ),
    ] = ER_PRM
    target: Annotated[
        Literal["labels", "counts"],
        Option(
            help="Learn `labels`, or the counts of correct completions in `rollouts`. Counts are recommended "
            "for rollouts that stopped early: stopping does not bias their likelihood, but it biases labels, "
            "by up to 0.07 with --until-width, 0.21 with --for-eta 2 and 0.22 with --for hard."
        ),
    ] = "labels"
    weighting: Annotated[
        Literal["step", "solution"], Option(help="Weight every step equally, or every solution equally.")
    ] = "step"
    outcome_only: Annotated[
        bool,
        Option(
            "--outcome-only", help="Learn only the last label, the outcome: the outcome reward model (ORM)."
        ),
    ] = False
    truncate: Annotated[
        bool, Option("--truncate", help="Of a solution that is too long, keep the whole steps that fit.")
    ] = False
    eval: Annotated[
        str | None, Role.READ, Option(metavar="FILE", help="Labelled solutions to validate on.")
    ] = None
    eval_fraction: Annotated[
        float,
        Option(min=0, max=0.9, metavar="SHARE", help="Share of the problems to hold out for validation."),
    ] = 0.0

    def __post_init__(self) -> None:
        """As TrainingConfig."""
        TrainingConfig.__post_init__(self)
        if self.eval is not None and self.eval_fraction:
            raise UsageError("--eval and --eval-fraction both say what to validate on; give one of them")


@dataclass(frozen=True, slots=True)
class PolicyTrainingConfig(TrainingConfig):
    """How to fine-tune a policy (section 4.3). RAFT sets `base` and `output` in each iteration."""

    output: Output = Path()
    epochs: Epochs = 2.0
    batch_size: BatchSize = 128
    max_length: MaxLength = 2048


@dataclass(frozen=True, slots=True)
class RlhfConfig:
    """How the solutions that a policy learns from are sampled and scored, whatever the algorithm."""

    prm: options.Prm
    prm_format: options.PrmFormatName = None
    n: Annotated[
        int,
        Option(
            "-n", "--n", min=1, metavar="N", help="Solutions per problem.", rich_help_panel=Heading.SAMPLING
        ),
    ] = 16
    temperature: options.Temperature = 1.0
    top_p: options.TopP = 1.0
    max_tokens: options.MaxTokens = 512
    seed: options.Seed = 0
    eval: Annotated[
        str | None,
        Role.READ,
        Option(metavar="FILE", help="Problems for a greedy evaluation, at the beginning and in each round."),
    ] = None


@dataclass(frozen=True, slots=True)
class RaftConfig(RlhfConfig):
    """How RAFT chooses what the policy is fine-tuned on (section 4.3)."""

    iterations: Annotated[int, Option(min=1, metavar="N", help="Rounds of sample, score, select, train.")] = 3
    slice_size: Annotated[int, Option(min=1, metavar="N", help="Problems per round.")] = 20_000
    aggregate: options.AggregateOption = options.Aggregate.min
    require_correct: Annotated[
        bool, Option("--require-correct", help="Select only solutions whose answer is correct.")
    ] = False
    solutions: Annotated[
        str | None,
        Role.READ,
        Option(
            metavar="FILE",
            help="Scored solutions of the problems of INPUT, as `erprm search` writes them: the first round "
            "selects among them and samples none.",
        ),
    ] = None
