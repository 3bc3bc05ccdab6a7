"""Servers of a PRM from strangers, and strangers who ask `erprm serve`: scores, or one line that says why."""

import json
import random
from collections import Counter
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from tests.prm.scoring_server import PRM, is_probe, pooled, scored
from tests.scripted_server import Reply, ScriptedServer, serving
from tests.torture.mutations import damaged, mutated, odd_value
from tests.torture.strangers import impatient, odd_reply
from tests.torture.tries import Tell, tries

# A PRM behind a server


def prm_servers(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Score with an `erprm serve` and a vLLM that describe themselves and answer in odd ways."""
    from erprm_cli.engines.config import EngineConfig
    from erprm_cli.engines.server_dialect import PROBE
    from erprm_cli.models.loading import load_tokenizer
    from erprm_cli.prm.server_scorer import open_server_scorer
    from tests.tiny_models import save_model, solution_rows

    impatient()
    prm, rows = str(save_model(folder / "prm")), solution_rows(2)
    num_probe_tokens = len(load_tokenizer(prm)(PROBE).input_ids)

    def attempt(number: int) -> None:
        draw = random.Random(f"{seed} {number}")
        is_vllm = draw.random() < 0.5

        def say(path: str, asked: Any) -> Reply:
            if path == "/score" and not is_vllm:
                good = scored(asked, prm=PRM | {"model": prm})
            elif path == "/pooling":
                num_tokens = num_probe_tokens if is_probe(asked) else len(asked["input"])
                good = pooled([[0.5]] * num_tokens)
            else:
                good = Reply({"detail": "Not Found"}, 404)
            return odd_reply(good.body, draw) if draw.random() < 0.2 else good

        def describe(server: ScriptedServer) -> None:
            about = {"data": [{"id": prm, "max_model_len": 64}]}
            server.models = odd_reply(about, draw) if draw.random() < 0.3 else Reply(about)
            if not is_vllm:
                served = PRM | {"model": prm}
                server.gets["/prm"] = odd_reply(served, draw) if draw.random() < 0.3 else Reply(served)

        with serving(say) as server:
            server.http.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client left
            describe(server)
            config = EngineConfig(model=prm, base_url=server.url, concurrency=2)
            with closing(open_server_scorer(config, "er-prm" if is_vllm else None)) as scorer:
                for row in scorer.score(rows):
                    assert len(row["scores"]) == len(row["steps"]), row
                    assert all(0 <= score <= 1 for score in row["scores"]), row

    return tries("PRM servers", count, attempt, folder, tell)


# Requests to `erprm serve`

ROW = {"problem": "Tom has 2 apples?", "steps": ["Step 1: 2", "The answer is: 2"]}
QUERY = "<|im_start|>user\nTom?<|im_end|>\n<|im_start|>assistant\n"
BODIES: dict[str, list[Any]] = {
    "/v1/score": [{"rows": [ROW] * 3, "partial": True}, {"rows": [{"problem": "x", "solution": "a\nb"}]}],
    "/get_reward": [{"query": [QUERY + "Step 1\nThe answer is: 2<|im_end|>"], "prompts": [QUERY]}],
    "/pooling": [{"input": "Tom has"}, {"input": [[1, 2, 3], [4]], "task": "token_classify"}],
}
OTHER_PATHS = ("/v1/prm", "/v1/models", "/health", "/metrics", "/docs", "/openapi.json", "/", "/../x", "/%00")
STATUSES = (200, 400, 401, 404, 405, 408, 411, 413, 415, 422, 503)  # without 500, which is a bug


@cache
def service(prm: str) -> str:
    """Serve a PRM in a thread of this process, until it ends; return the URL."""
    from erprm_cli.prm.scorer import Scorer
    from erprm_cli.serving import guard, server
    from tests.serving import servers

    guard.HEADERS_TIMEOUT_S = server.KEEP_ALIVE_S = 1
    running = servers.serving(Scorer(prm), max_body_mb=0.1, timeout_s=2.0)
    url = running.__enter__()
    RUNNING.append(running)
    return url


RUNNING: list[Any] = []  # kept, because a service that is collected ends


def requests(folder: Path, count: int, seed: int, tell: Tell) -> Counter[str]:
    """Send odd requests to a service; each gets an answer that says what is wrong, and the next one too."""
    from tests.serving.servers import connected, received
    from tests.tiny_models import save_model

    prm = str(save_model(folder / "Llama3.1-Math-PRM", max_positions=64))

    def attempt(number: int) -> None:
        draw, url = random.Random(f"{seed} {number}"), service(prm)
        with connected(url, request(draw)) as client:
            if draw.random() < 0.1:
                return  # the client leaves
            answer = received(client).removeprefix("HTTP/1.1 100 Continue\r\n\r\n")
        status = int(answer.split(" ", 2)[1]) if answer else 0
        assert not answer or status in STATUSES, answer
        if status >= 400:
            body = answer.partition("\r\n\r\n")[2]  # another answer may follow, to what is behind the request
            error = json.JSONDecoder().raw_decode(body)[0]["error"] if body.startswith("{") else {}
            assert len(error.get("message", "")) < 2_000, answer
        with connected(url, b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") as client:
            assert received(client).startswith("HTTP/1.1 200"), "the service does not work any more"

    return tries("requests", count, attempt, folder, tell)


def request(draw: random.Random) -> bytes:
    """Return a request whose body, head or both are not what the service expects."""
    path = draw.choice([*BODIES] * 4 + [*OTHER_PATHS])
    good: Any = draw.choice(BODIES.get(path, [{}]))
    action = draw.random()
    if action < 0.6:
        body = json.dumps(mutated(good, draw)).encode()
    elif action < 0.8:
        body = damaged(json.dumps(good).encode(), draw)
    else:
        body = json.dumps(draw.choice((good, odd_value(draw)))).encode()
    method = draw.choice(("POST",) * 8 + ("GET", "PUT", "HEAD", "OPTIONS", "X"))
    headers = {"Host": "a", "Connection": "close", "Content-Type": "application/json"}
    headers["Content-Length"] = str(len(body))
    if draw.random() < 0.15:
        name = draw.choice((*headers, "Transfer-Encoding", "Expect", "Authorization", "Content-Encoding"))
        values = ("", "0", "-1", "9" * 30, "chunked", "100-continue", "gzip", "text/plain", "a" * 70_000)
        headers[name] = draw.choice(values)
        if headers["Content-Length"] not in ("", str(len(body))) or name == "Transfer-Encoding":
            body += b"\r\n\r\n" + b"0\r\n\r\n"
    head = f"{method} {path} HTTP/1.1\r\n" + "".join(f"{key}: {value}\r\n" for key, value in headers.items())
    whole = head.encode() + b"\r\n" + body
    return damaged(whole, draw) if draw.random() < 0.1 else whole
