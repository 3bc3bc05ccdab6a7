"""The settings of every training, with the paper's values as defaults."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from erprm_cli.prm.formats import ER_PRM
from erprm_cli.rows.row import Row


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to train; the defaults are the paper's for a PRM (arXiv 2412.11006, section 4.1)."""

    # What does not decide the result, but for rounding: a run may be continued with other values.
    FREE: ClassVar[frozenset[str]] = frozenset(
        "output overwrite log_every save_steps report_to trust_remote_code allow_pickle micro_batch_tokens "
        "packing attn_implementation gradient_checkpointing accelerate_config num_processes".split()
    )

    base: str
    output: Path
    epochs: float = 1.0
    lr: float = 5e-7  # at its peak; cosine decay to 0
    batch_size: int = 64  # examples per optimizer step, over all devices
    micro_batch_tokens: int = 0  # of a forward pass of a device, padding included; 0: PASS_TOKENS
    packing: bool | None = None  # examples one after the other without padding; None: with flash attention
    max_length: int = 512  # tokens; longer examples are left out, never cut in a step's middle
    warmup_ratio: float = 0.0  # of the steps
    weight_decay: float = 0.0
    optim: str = "adamw_torch_fused"  # as TrainingArguments calls it
    seed: int = 0
    bf16: bool | None = None  # compute in bfloat16, weights in float32; None: on a GPU that can
    gradient_checkpointing: bool = False
    attn_implementation: str | None = None  # as transformers calls it; None: its choice
    lora_rank: int = 0  # 0: all weights are trained
    merge_lora: bool = False
    save_steps: int = 500  # between checkpoints; 0: none
    report_to: str = "none"
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    accelerate_config: str | None = None
    num_processes: int | None = None
    overwrite: bool = False
    log_every: int = 10  # steps

    def settings(self) -> Row:
        """Return what decides the result, for the folder's card and to tell a repeated run from another."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in self.FREE
        }


def config_to_job(config: Any) -> Row:
    """Return the fields of a training's configuration as JSON holds them."""
    return asdict(config) | {"output": str(config.output)}


@dataclass(frozen=True, slots=True)
class PrmTrainingConfig(TrainingConfig):
    """How to train a PRM; defaults as in the paper."""

    FREE: ClassVar[frozenset[str]] = TrainingConfig.FREE | {"eval"}

    kind: str = "token"
    format: str = ER_PRM
    target: str = "labels"
    weighting: str = "step"
    outcome_only: bool = False  # the ORM baseline: only the last tag, whose label is the outcome, is learned
    truncate: bool = False  # of a solution that is too long, keep the whole steps that fit
    eval: str | None = None  # a file of solutions to validate on
    eval_fraction: float = 0.0  # of the problems, set aside for validation


@dataclass(frozen=True, slots=True)
class PolicyTrainingConfig(TrainingConfig):
    """How to fine-tune a policy; defaults as in the paper's section 4.3."""

    epochs: float = 2.0
    batch_size: int = 128
    max_length: int = 2048


@dataclass(frozen=True, slots=True)
class RaftConfig:
    """The settings of a run; defaults are the paper's (its section 4.3 and released scripts)."""

    policy: str
    prm: str
    prm_format: str | None = None  # None: the PRM's own
    iterations: int = 3
    slice_size: int = 20_000  # problems an iteration
    n: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int = 512
    aggregate: str = "min"
    require_correct: bool = False
    epochs: float = 2.0
    lr: float = 5e-7
    batch_size: int = 128
    lora_rank: int = 0  # 0: all weights are trained; adapters are merged after each round
    seed: int = 0
