"""Choose and load the engine that the options ask for."""

import sys
from importlib.util import find_spec
from typing import Any

from erprm_cli import options
from erprm_cli.engines.base import Engine
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.models.content import hub_commit
from erprm_cli.models.names import find_model
from erprm_cli.packages import MODELS, check_packages
from erprm_cli.terminal.reporter import Reporter


def provenance(loaded: Any, config: EngineConfig) -> dict[str, Any]:
    """Return what a sidecar records of a loaded engine or scorer: its name, versions, the model's commits."""
    libraries = ("torch", "transformers", "vllm")
    versions = {library: sys.modules[library].__version__ for library in libraries if library in sys.modules}
    return {"engine": type(loaded).__name__, **commits(loaded, config), **versions}


def commits(loaded: Any, config: EngineConfig) -> dict[str, str | None]:
    """Return the `commit` of a loaded model on the Hub, for adapters that of their base.

    Adapters have their own `adapter_commit` then.
    """
    own = None if config.base_url else hub_commit(config.model, config.revision)
    commit = getattr(getattr(getattr(loaded, "model", None), "config", None), "_commit_hash", None) or own
    return {"commit": commit} | ({"adapter_commit": own} if own != commit else {})


def choose_engine(config: EngineConfig) -> options.EngineName:
    """Return the engine that `config` names, or that auto stands for; nothing is loaded.

    Raises UsageError if options contradict each other, UserError if there is no such model or if a package
    is missing.
    """
    check_server(config)
    chosen: options.EngineName = config.engine
    if chosen == "auto":
        chosen = "server" if config.base_url else local_engine()
    if chosen != "server":
        check_packages([*MODELS, *["vllm"] * (chosen == "vllm")], f"--engine {chosen}")
        find_model(config.model, config.revision)
    return chosen


def check_server(config: EngineConfig) -> None:
    """Raise UsageError if only one of the server engine and its URL is given."""
    if config.engine != "auto" and (config.engine == "server") != (config.base_url is not None):
        raise UsageError("--engine server requires --base-url URL, and the reverse")


def open_engine(config: EngineConfig, reporter: Reporter | None = None) -> Engine:
    """Load the model with the engine that `choose_engine` returns."""
    chosen = choose_engine(config)
    config.report_unread(chosen, reporter or Reporter("engine"))
    if config.dry_run:
        from erprm_cli.engines.dry_engine import DryEngine

        return DryEngine(config)
    if chosen == "server":
        from erprm_cli.engines.server_engine import ServerEngine

        return ServerEngine.open(config, reporter)
    if chosen == "vllm":
        from erprm_cli.engines.vllm_engine import VllmEngine

        return VllmEngine(config)
    from erprm_cli.engines.transformers_engine import TransformersEngine

    return TransformersEngine.load(config)


def local_engine() -> options.LocalEngineName:
    """Return vllm if it is installed and there is a GPU, else transformers."""
    if find_spec("vllm") is not None and find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            return "vllm"
    return "transformers"
