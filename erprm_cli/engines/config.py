"""Which model runs, where and how: the options of every command that generates or scores."""

from dataclasses import dataclass, fields
from functools import partial
from typing import Annotated, Any, ClassVar, get_args, get_type_hints

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.content import Content
from erprm_cli.io.provenance import is_secret
from erprm_cli.terminal.reporter import Reporter

_model = partial(options.Option, rich_help_panel=options.Heading.MODEL)
_vllm = partial(options.Option, rich_help_panel=options.Heading.VLLM)
_server = partial(options.Option, rich_help_panel=options.Heading.SERVER)


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Which model runs, where and how.

    Each field declares its option (see `options.grouped`); a new one is read by its engine and needs no
    other place.
    """

    # These fields change the speed, the memory or the place of the work. All others are recorded with an
    # output and compared; `model` and `revision` under names that a command gives them, such as "prm".
    FREE: ClassVar[frozenset[str]] = frozenset(
        "model revision engine batch_size tensor_parallel_size data_parallel_size gpu_memory_utilization "
        "enforce_eager base_url concurrency dry_run tokens_per_s".split()
    )

    model: options.Model = "tiny"
    engine: options.Engine = "auto"
    dtype: options.DtypeOption = options.Dtype.auto
    batch_size: Annotated[
        int, _model(metavar="N", min=0, help="Completions in flight at once; 0: the engine chooses.")
    ] = 0
    revision: options.Revision = None
    trust_remote_code: options.TrustRemoteCode = False
    allow_pickle: options.AllowPickle = False
    tensor_parallel_size: Annotated[
        int, _vllm(metavar="N", min=1, help="GPUs that share one copy of the model.")
    ] = 1
    data_parallel_size: Annotated[
        int, _vllm(metavar="N", min=1, help="Copies of the model, fed from one queue.")
    ] = 1
    max_model_len: Annotated[
        int | None,
        _vllm(
            metavar="N",
            min=1,
            help="Longest prompt and completion together, in tokens. Default: the model's limit.",
        ),
    ] = None
    gpu_memory_utilization: Annotated[
        float | None,
        _vllm(
            metavar="SHARE",
            min=0,
            max=1,
            help="Share of the GPU's memory to use, 0 to 1. Default: vLLM's.",
        ),
    ] = None
    enforce_eager: Annotated[
        bool,
        _vllm("--enforce-eager", help="Run without compilation and CUDA graphs: starts faster, runs slower."),
    ] = False
    quantization: Annotated[
        str | None,
        _vllm(
            metavar="METHOD", help="Quantization of the weights. Default: as the model's configuration says."
        ),
    ] = None
    engine_args: Annotated[
        list[str] | None,
        _vllm("--engine-arg", metavar="KEY=VALUE", help="Any other engine argument of vLLM; repeatable."),
    ] = None
    base_url: Annotated[
        str | None,
        _server(metavar="URL", help="API of a server, such as http://localhost:8000/v1."),
    ] = None
    concurrency: Annotated[int, _server(metavar="N", min=1, help="Requests in flight at once.")] = 256
    dry_run: options.DryRun = False
    tokens_per_s: options.TokensPerS = None

    def __post_init__(self) -> None:
        """Reject a secret among the options before the command line is written to a file; UsageError."""
        for text in self.engine_args or ():
            key = text.partition("=")[0]
            if is_secret(key):
                raise UsageError(
                    f"--engine-arg {key}: pass secrets in the environment only (such as HF_TOKEN)"
                )
        options.check_dry_run(self.dry_run, self.tokens_per_s)
        if self.base_url is not None and ("@" in self.base_url or "?" in self.base_url):
            raise UsageError(
                "--base-url contains a password or a query; put a key into ERPRM_API_KEY instead"
            )

    def settings(self) -> dict[str, Any]:
        """Return the settings recorded with an output: the dtype, and others that are not FREE, if given."""
        compared = {field.name: getattr(self, field.name) for field in fields(self)}
        given = {name: value for name, value in compared.items() if value and name not in self.FREE}
        return given | {"dtype": self.dtype.value}

    def report_unread(self, engine: options.EngineName, reporter: Reporter) -> None:
        """Warn of flags that were given and that `engine` does not read: those of vLLM or of a server."""
        read = {"vllm": options.Heading.VLLM, "server": options.Heading.SERVER}.get(engine)
        others = {options.Heading.VLLM, options.Heading.SERVER} - {read}
        hints = get_type_hints(type(self), include_extras=True)
        options_of = {name: get_args(hint)[-1] for name, hint in hints.items()}  # a role may come before it
        unread = [field.name for field in fields(self) if options_of[field.name].rich_help_panel in others]
        flags = options.given(self, unread)
        if flags:
            reporter.warn(f"{', '.join(flags)}: not used by the engine {engine}")

    def content(self) -> Content | None:
        """Return the content of a local model; None for one on the Hub or on a server."""
        if self.base_url is not None:
            return None
        from erprm_cli.models.content import model_content  # here, because `--help` loads this module

        return model_content(self.model)


@dataclass(frozen=True, slots=True)
class LocalConfig(EngineConfig):
    """As EngineConfig, for a command that runs its models here, never on a server."""

    engine: options.LocalEngine = "auto"


@dataclass(frozen=True, slots=True)
class ScoringConfig(EngineConfig):
    """As EngineConfig, for a PRM."""

    engine: options.ScoringEngine = "auto"
