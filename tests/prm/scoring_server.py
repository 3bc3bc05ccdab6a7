"""Scripted servers that score: an `erprm serve` and a vLLM, for the client's side of the wire."""

from collections.abc import Callable
from typing import Any

from tests.scripted_server import Fields, Reply, ScriptedServer, refusal

PRM = {"model": "m", "format": "er-prm", "kind": "token", "eta": None, "hash": "12ab"}


def is_probe(asked: Fields) -> bool:
    """Whether the client of vLLM asks its own question."""
    return isinstance(asked.get("input"), str)


def scores_of(asked: Fields) -> list[float]:
    """Return the scores of the one row that is asked for: of step i, i hundredths of the problem's length."""
    (row,) = asked["rows"]
    return [len(row["problem"]) * index / 1000 for index in range(len(row["steps"]))]


def scored(asked: Fields, **changes: Any) -> Reply:
    """Answer as `erprm serve` does."""
    return Reply({"scores": [scores_of(asked)], "prm": PRM, "errors": []} | changes)


def as_erprm(server: ScriptedServer) -> ScriptedServer:
    """Make a server describe itself as an `erprm serve`."""
    server.gets["/prm"] = Reply(PRM)
    return server


def pooled(data: list[Any]) -> Reply:
    """Answer as vLLM's /pooling does."""
    usage = {"prompt_tokens": len(data), "total_tokens": len(data)}
    entry = {"index": 0, "object": "pooling", "data": data}
    return Reply(
        {"id": "pool-1", "object": "list", "created": 0, "model": "m", "data": [entry], "usage": usage}
    )


def classifier(number: Callable[[int], Any], num_probe_tokens: int) -> Callable[[str, Fields], Reply]:
    """Return the script of a vLLM whose classifier gives `number(token id)` at each token."""

    def say(path: str, asked: Fields) -> Reply:
        if path != "/pooling":
            return refusal("Not Found", 404)
        ids = [5] * num_probe_tokens if is_probe(asked) else asked["input"]
        return pooled([[number(token)] for token in ids])

    return say
