"""Flags shared by commands, so that a flag has one name, one type and one meaning."""

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from enum import StrEnum
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
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
    Argument(metavar="INPUT", help="JSON Lines to read; - is stdin.", rich_help_panel=Heading.STREAMS),
]
Target = Annotated[
    str,
    Option(
        "--output",
        "-o",
        metavar="FILE",
        help="JSON Lines to write; - is stdout.",
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
        help="Discard what is in FILE and start again.",
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
Model = Annotated[str, typer.Option("--model", "-m", help="Policy: a folder, a Hub name, or tiny.")]
Prm = Annotated[str, typer.Option("--prm", help="Process reward model: a folder or a Hub name.")]
Engine = Annotated[
    EngineName,
    typer.Option(
        help="What runs the model. auto: server with --base-url; vllm with a GPU, but not to score."
    ),
]
PrmOnTheWay = Annotated[
    str | None,
    typer.Option("--prm", metavar="MODEL", help="Score with this PRM (a folder or a Hub name) on the way."),
]
PrmFormatName = Annotated[
    str | None,
    typer.Option(
        "--prm-format",
        help="How the PRM is asked and read: a shipped name or a .toml file; else its own.",
        show_default="what the model says",
    ),
]
DtypeOption = Annotated[
    Dtype, typer.Option("--dtype", help="Number type; auto: bfloat16 on a GPU, float32 on a CPU.")
]
BatchSize = Annotated[
    int, typer.Option(min=0, help="Completions in flight at once; 0 lets the engine choose.")
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit of the model on the Hub.")]
TrustRemoteCode = Annotated[
    bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
]
AllowPickle = Annotated[
    bool, typer.Option("--allow-pickle", help="Read weights that are pickled where none are safetensors.")
]
TensorParallelSize = Annotated[int, typer.Option(min=1, help="vllm: GPUs that share one model.")]
DataParallelSize = Annotated[int, typer.Option(min=1, help="vllm: copies of the model, fed from one queue.")]
MaxModelLen = Annotated[
    int | None, typer.Option(min=1, help="vllm: longest prompt and completion together, in tokens.")
]
GpuMemoryUtilization = Annotated[
    float | None, typer.Option(min=0.0, max=1.0, help="vllm: share of the GPU's memory to use.")
]
EnforceEager = Annotated[bool, typer.Option("--enforce-eager", help="vllm: no compilation, no CUDA graphs.")]
Quantization = Annotated[str | None, typer.Option(help="vllm: how the weights are quantized.")]
EngineArgs = Annotated[
    list[str] | None,
    typer.Option("--engine-arg", metavar="KEY=VALUE", help="vllm: any other engine argument; repeatable."),
]
BaseUrl = Annotated[
    str | None,
    typer.Option(metavar="URL", help="server: an OpenAI-compatible API, like http://localhost:8000/v1."),
]
Concurrency = Annotated[int, typer.Option(min=1, help="server: requests in flight at once.")]

# Sampling
Template = Annotated[
    str, typer.Option("--template", "-t", help="Prompt format: a shipped name or a .toml file.")
]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 is greedy.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Nucleus of the distribution to draw from.")]
MaxTokens = Annotated[int, typer.Option(min=1, help="Longest completion, in tokens.")]
Seed = Annotated[int, typer.Option(help="Seed of all drawing and shuffling.")]

# Method
Eta = Annotated[
    float | None,
    typer.Option(
        help="Entropy regularization: 0 is the mean, inf the maximum, -inf the minimum.", show_default="1"
    ),
]
EstimatorOption = Annotated[
    Estimator,
    typer.Option("--estimator", help="er takes --eta; soft, hard and min are eta 0, inf and -inf by name."),
]
AggregateOption = Annotated[
    Aggregate, typer.Option("--aggregate", help="How the scores of steps make one of a solution.")
]
AllAggregates = Annotated[bool, typer.Option("--all-aggregates", help="Show the figures of every aggregate.")]


def aggregates(chosen: Aggregate, everyone: bool) -> list[str]:
    """Return the names of the aggregates that figures are shown of, the chosen one first."""
    others = [other.value for other in Aggregate if other != chosen] if everyone else []
    return [chosen.value, *others]


@dataclass(frozen=True, slots=True)
class Without:
    """Which fields of a dataclass are not flags of a command; they keep their defaults."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take dataclasses of option types as parameters: each field becomes a flag.

    A field without a default becomes a required flag. `Annotated[Config, Without("seed")]` leaves fields out.
    Typer knows no groups of options and reads the signature of a command, so that is what is written here.
    """
    hints = get_type_hints(command, include_extras=True)
    flags: dict[str, Parameter] = {}
    groups: dict[str, tuple[Any, list[str]]] = {}
    for name, parameter in signature(command).parameters.items():
        config, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not is_dataclass(config):
            flags[name] = parameter.replace(kind=Parameter.KEYWORD_ONLY)
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
        made = {
            name: config(**{field: values.pop(field) for field in names})
            for name, (config, names) in groups.items()
        }
        command(**values, **made)

    run.__doc__ = command.__doc__
    run.__signature__ = signature(command).replace(parameters=list(flags.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: flag.annotation for name, flag in flags.items()}
    return run
