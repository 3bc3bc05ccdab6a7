"""Flags that commands share: each is declared once, with its type, help, bounds and heading."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from typer import Argument as Argument
from typer import Option as Option  # other packages declare their flags with these two, and import no typer


class Heading(StrEnum):
    """The headings of `erprm CMD --help`, in the order shown. An option names its own as rich_help_panel."""

    STREAMS = "Input and output"
    OPTIONS = "Options"  # the command's own; where no heading is named
    SAMPLING = "Sampling"
    MODEL = "Model"
    TRAINING = "Training"
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


class EngineName(StrEnum):
    auto = "auto"
    transformers = "transformers"
    vllm = "vllm"
    server = "server"


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
    Argument(
        metavar="INPUT",
        help="JSON Lines, a JSON array or CSV to read; - is stdin, the default.",
        show_default=False,
        rich_help_panel=Heading.STREAMS,
    ),
]
Target = Annotated[
    str,
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
        help="Discard an earlier output and start again.",
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


# Models
Model = Annotated[
    str,
    Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="Policy: a folder, a Hub name, or tiny (shipped).",
        rich_help_panel=Heading.MODEL,
    ),
]
Prm = Annotated[
    str,
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
        help="Backend that runs the model. auto: server with --base-url, else vllm if there is a GPU (score "
        "uses transformers), else transformers.",
        rich_help_panel=Heading.MODEL,
    ),
]
PrmOnTheWay = Annotated[
    str | None,
    Option(
        "--prm",
        metavar="MODEL",
        help="Score INPUT with this PRM first: a folder or a Hub name. Default: the scores in INPUT.",
        rich_help_panel=Heading.MODEL,
    ),
]
PrmFormatName = Annotated[
    str | None,
    Option(
        "--prm-format",
        metavar="NAME",
        help="Input format of the PRM: a shipped name or a .toml file. Default: the format of the model.",
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
        help="Load pickled weights, which can run code, if there are no safetensors.",
        rich_help_panel=Heading.MODEL,
    ),
]

# Sampling
Template = Annotated[
    str,
    Option(
        "--template",
        "-t",
        metavar="NAME",
        help="Prompt format: a shipped name or a .toml file.",
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
Seed = Annotated[int, Option(metavar="N", help="Seed of sampling, shuffling and resampling.")]

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


@dataclass(frozen=True, slots=True)
class Without:
    """Fields of a dataclass that are not flags of a command; they keep their defaults."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` for Typer, with a flag for each field of its parameters that are dataclasses.

    A field without a default becomes a required flag. `Annotated[Config, Without("seed")]` leaves fields out.
    Typer has no groups of options: it reads the signature of a command, so a signature is what is made here.
    """
    hints = get_type_hints(command, include_extras=True)
    flags: dict[str, Parameter] = {}
    groups: dict[str, tuple[Any, list[str]]] = {}
    for name, parameter in signature(command).parameters.items():
        config, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not is_dataclass(config):
            flags[name] = parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])
            continue
        left_out = {field for extra in extras if isinstance(extra, Without) for field in extra.names}
        types = get_type_hints(config, include_extras=True)
        own = [field for field in fields(config) if field.init and field.name not in left_out]
        groups[name] = config, [field.name for field in own]
        for field in own:
            default = Parameter.empty if field.default is MISSING else field.default
            assert field.name not in flags, f"two flags are called {field.name}"
            flags[field.name] = Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]
            )

    def run(**values: Any) -> None:
        configs = {
            name: config(**{field: values.pop(field) for field in names})
            for name, (config, names) in groups.items()
        }
        command(**values, **configs)

    run.__doc__ = command.__doc__
    run.__signature__ = signature(command).replace(parameters=list(flags.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: flag.annotation for name, flag in flags.items()}
    return run
