"""Flags that commands share: each is declared once, with its type, help, bounds and heading."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal

from typer import Argument as Argument  # other packages declare their flags with these, and import no typer
from typer import BadParameter as BadParameter
from typer import Option as Option

from erprm_cli.completions import shipped_model, shipped_problems, template_names
from erprm_cli.errors import UsageError
from erprm_cli.flag_groups import Without as Without
from erprm_cli.flag_groups import given as given
from erprm_cli.flag_groups import grouped as grouped
from erprm_cli.roles import Role as Role


class Heading(StrEnum):
    """The headings of `erprm CMD --help`, in the order shown. An option names its own as rich_help_panel."""

    STREAMS = "Input and output"
    OPTIONS = "Options"  # the command's own; where no heading is named
    SAMPLING = "Sampling"
    MODEL = "Model"
    TRAINING = "Training"
    GRPO = "GRPO"
    PROCESSES = "Processes"
    VLLM = "vLLM"
    SERVER = "Server"
    ROWS = "Rows"
    OTHER = "Other"


class Dtype(StrEnum):
    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


LocalEngineName = Literal["auto", "transformers", "vllm"]
EngineName = Literal["auto", "transformers", "vllm", "server"]


class Aggregate(StrEnum):
    min = "min"
    last = "last"
    prod = "prod"
    mean = "mean"
    max = "max"


class Estimator(StrEnum):
    er = "er"
    soft = "soft"
    hard = "hard"
    min = "min"


# Rows in and rows out
Source = Annotated[
    str,
    Role.READ,
    Argument(
        metavar="INPUT",
        help="JSON Lines, a JSON array or CSV to read; - is stdin, the default.",
        show_default=False,
        autocompletion=shipped_problems,
        rich_help_panel=Heading.STREAMS,
    ),
]
Target = Annotated[
    str,
    Role.ROWS,
    Option(
        "--output",
        "-o",
        metavar="FILE",
        help="JSON Lines to write; - is stdout, the default.",
        show_default=False,
        rich_help_panel=Heading.STREAMS,
    ),
]
Limit = Annotated[
    int | None,
    Option("--limit", "-L", min=0, metavar="N", help="Read at most N rows.", rich_help_panel=Heading.ROWS),
]
Shard = Annotated[
    str | None,
    Option(
        metavar="I/N",
        help="Process only shard I of N; I counts from 0 or from 1. Default: all rows, or the shard of the "
        "task in a SLURM array.",
        rich_help_panel=Heading.ROWS,
    ),
]
Field = Annotated[
    list[str] | None,
    Option(
        "--field",
        metavar="NAME=OTHER",
        help="Read the field OTHER of INPUT as NAME, such as answer=gold; repeatable.",
        rich_help_panel=Heading.ROWS,
    ),
]
Errors = Annotated[
    str | None,
    Role.BAD_ROWS,
    Option(
        metavar="FILE",
        help="Write bad rows to FILE and go on. Default: stop at the first bad row.",
        rich_help_panel=Heading.ROWS,
    ),
]
MaxErrors = Annotated[
    int | None,
    Option(min=0, metavar="N", help="Stop after more than N bad rows.", rich_help_panel=Heading.ROWS),
]
Overwrite = Annotated[
    bool,
    Option(
        "--overwrite",
        help="Discard an earlier output of erprm and start again.",
        rich_help_panel=Heading.ROWS,
    ),
]
Quiet = Annotated[
    bool,
    Option("--quiet", "-q", help="Print warnings and errors only.", rich_help_panel=Heading.OTHER),
]


@dataclass(frozen=True, slots=True)
class Input:
    """The rows that a command reads, and what happens to bad ones."""

    source: Source = "-"
    field: Field = None
    limit: Limit = None
    errors: Errors = None
    max_errors: MaxErrors = None


@dataclass(frozen=True, slots=True)
class Streams(Input):
    """The rows that a command reads and writes; `io.streams.open_streams` opens them."""

    output: Target = "-"
    overwrite: Overwrite = False
    quiet: Quiet = False


@dataclass(frozen=True, slots=True)
class ShardedStreams(Streams):
    """As Streams, for commands whose work several machines can share."""

    shard: Shard = None


# Dry runs
DryRun = Annotated[
    bool,
    Option(
        "--dry-run",
        help="Check everything, count what would be done, and run no model.",
        rich_help_panel=Heading.OTHER,
    ),
]
TokensPerS = Annotated[
    float | None,
    Option(
        "--tokens-per-s",
        min=0.001,
        metavar="RATE",
        help="With --dry-run: tokens generated (score, train: read) per second, to state hours.",
        rich_help_panel=Heading.OTHER,
    ),
]


def check_dry_run(dry_run: bool, tokens_per_s: float | None) -> None:
    """Raise UsageError if --tokens-per-s is given for a run that is not dry."""
    if tokens_per_s is not None and not dry_run:
        raise UsageError("--tokens-per-s is for --dry-run, which states hours")


# Models
Model = Annotated[
    str,
    Role.READ_BY_NAME,
    Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Policy: a folder, a Hub name, or tiny (shipped).",
        autocompletion=shipped_model,
        rich_help_panel=Heading.MODEL,
    ),
]
Prm = Annotated[
    str,
    Role.READ_BY_NAME,
    Option(
        "--prm",
        metavar="MODEL",
        help="Process reward model: a folder or a Hub name.",
        rich_help_panel=Heading.MODEL,
    ),
]
Engine = Annotated[
    EngineName,
    Option(
        help="Backend that runs the model. auto: server with --base-url, else vllm if there is a GPU, else "
        "transformers.",
        rich_help_panel=Heading.MODEL,
    ),
]
LocalEngine = Annotated[
    LocalEngineName,
    Option(
        help="Backend that runs the models. auto: vllm if there is a GPU, else transformers.",
        rich_help_panel=Heading.MODEL,
    ),
]
ScoringEngine = Annotated[
    LocalEngineName,
    Option(
        help="Backend that runs the PRM. auto: vllm if there is a GPU, else transformers.",
        rich_help_panel=Heading.MODEL,
    ),
]
PrmOnTheWay = Annotated[
    str | None,
    Role.READ_BY_NAME,
    Option(
        "--prm",
        metavar="MODEL",
        help="Score INPUT with this PRM first: a folder or a Hub name. Default: the scores in INPUT.",
        rich_help_panel=Heading.MODEL,
    ),
]
PrmFormatName = Annotated[
    str | None,
    Role.READ_BY_NAME,
    Option(
        "--prm-format",
        metavar="NAME",
        help="Input format of the PRM: a shipped name or a .toml file. Default: the format of the model.",
        autocompletion=template_names("prm"),
        rich_help_panel=Heading.MODEL,
    ),
]
DtypeOption = Annotated[
    Dtype,
    Option(
        "--dtype",
        help="Number type of the weights. auto: bfloat16 on a GPU, float32 on a CPU.",
        rich_help_panel=Heading.MODEL,
    ),
]
Revision = Annotated[
    str | None,
    Option(
        metavar="REVISION",
        help="Branch, tag or commit of the model on the Hub.",
        rich_help_panel=Heading.MODEL,
    ),
]
TrustRemoteCode = Annotated[
    bool,
    Option(
        "--trust-remote-code",
        help="Run Python code that comes with the model.",
        rich_help_panel=Heading.MODEL,
    ),
]
AllowPickle = Annotated[
    bool,
    Option(
        "--allow-pickle",
        help="Load pickled weights if the model has none as safetensors. They can run code.",
        rich_help_panel=Heading.MODEL,
    ),
]

# Sampling
Template = Annotated[
    str | None,
    Role.READ_BY_NAME,
    Option(
        "--template",
        "-t",
        metavar="NAME",
        help="Prompt format: a shipped name or a .toml file. Default: one for chats if the model has a chat "
        "template, tiny for the model tiny, else math.",
        autocompletion=template_names("policy"),
        rich_help_panel=Heading.SAMPLING,
    ),
]
ChatTemplateKwargs = Annotated[
    list[str] | None,
    Option(
        "--chat-template-kwarg",
        metavar="KEY=VALUE",
        help="Option of the model's chat template, such as enable_thinking=false or reasoning_effort=high; "
        "repeatable. Default: those of the prompt format.",
        rich_help_panel=Heading.SAMPLING,
    ),
]
StepsOf = Annotated[
    Literal["answer", "reasoning"] | None,
    Option(
        help="Part of a thinking model's solution to split into steps. Default: as the prompt format says, "
        "usually the answer.",
        rich_help_panel=Heading.SAMPLING,
    ),
]
Temperature = Annotated[
    float,
    Option(
        min=0,
        metavar="T",
        help="Sampling temperature; 0 is greedy.",
        rich_help_panel=Heading.SAMPLING,
    ),
]
TopP = Annotated[
    float,
    Option(
        min=0,
        max=1,
        metavar="P",
        help="Nucleus sampling: keep the smallest set of tokens with this total probability.",
        rich_help_panel=Heading.SAMPLING,
    ),
]
MaxTokens = Annotated[
    int,
    Option(
        min=1,
        metavar="N",
        help="Longest completion, in tokens.",
        rich_help_panel=Heading.SAMPLING,
    ),
]
MAX_SEED = 2**32 - 1  # the largest that numpy takes
Seed = Annotated[
    int, Option(min=0, max=MAX_SEED, metavar="N", help="Seed of sampling, shuffling and resampling.")
]

# Method
Eta = Annotated[
    float | None,
    Option(
        metavar="ETA",
        help="Entropy regularization of the rewards: 0 is the mean, inf the maximum, -inf the minimum. "
        "Default: 1.",
    ),
]
EstimatorOption = Annotated[
    Estimator,
    Option("--estimator", help="er uses --eta; soft, hard and min are names of eta 0, inf and -inf."),
]
AggregateOption = Annotated[
    Aggregate,
    Option("--aggregate", help="How the scores of the steps become one score of the solution."),
]
AllAggregates = Annotated[bool, Option("--all-aggregates", help="Show the results for every aggregate.")]


def aggregates(chosen: Aggregate, show_all: bool) -> list[str]:
    """Return the names of the aggregates to show results for, `chosen` first."""
    others = [other.value for other in Aggregate if other != chosen] if show_all else []
    return [chosen.value, *others]


def key_values(flag: str, texts: Iterable[str]) -> dict[str, Any]:
    """Return the settings in the values KEY=VALUE of a repeatable flag; UsageError if one has no key.

    A value is JSON if it can be read as JSON (True, False and None also count), else text.

    >>> key_values("--arg", ["thinking=false", "effort=high"])
    {'thinking': False, 'effort': 'high'}
    """
    import msgspec  # here, because `--help` loads this module

    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"{flag} {text!r} is not KEY=VALUE")
        try:
            found[key] = msgspec.json.decode(value)
        except msgspec.DecodeError:
            found[key] = {"True": True, "False": False, "None": None}.get(value, value)
    return found
