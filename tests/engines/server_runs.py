"""Runs of the server engine against a scripted server."""

from collections.abc import Iterable
from contextlib import closing
from typing import Any

from erprm_cli.engines.base import Completion, Failure, Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from tests.scripted_server import ScriptedServer

PARAMS = SamplingParams(1.0, 1.0, 50)


def config(server: ScriptedServer, **changes: Any) -> EngineConfig:
    return EngineConfig(model="m", base_url=server.url, **changes)


def complete(server: ScriptedServer, n: int = 1, requests: int = 1, **changes: Any) -> list[Completion]:
    with closing(open_engine(config(server, **changes))) as engine:
        wanted = (Request(key, f"prompt {key}", tuple(range(n)), key) for key in range(requests))
        return only_completions(engine.generate(wanted, PARAMS))


def only_completions(results: Iterable[Completion | Failure]) -> list[Completion]:
    """Return `results`, which must not have a failure among them."""
    found = list(results)
    completions = [one for one in found if isinstance(one, Completion)]
    assert completions == found
    return completions
