"""The server engine against a real `vllm serve` of tiny on loopback: one for all tests, one for the last."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from erprm_cli import app
from erprm_cli.engines import server_client
from tests.commands.test_search import assert_alike, save_prm
from tests.commands.test_serve import serving
from tests.vllm_server import VllmServer

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed (pip install 'erprm[vllm]')"),
]

Row = dict[str, Any]

TINY = str(files("erprm_cli.templates") / "tiny")
UNKNOWN_HERE = "served:policy"  # a second name of tiny; nothing of this name can be loaded here
# Formats a chat as the prompt that tiny was trained on, so that chats and plain prompts must agree.
CHAT_TEMPLATE = """{{ bos_token }}{% for turn in messages %}{% if turn.role == 'user' %}Question: \
{{ turn.content }}
Answer:
{% else %}{{ turn.content }}{{ eos_token }}{% endif %}{% endfor %}"""
AS_CHAT = 'chat = true\nprompt = "{problem}"\n'


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VllmServer, VllmServer]]:
    """The server and the one that takes over when it dies; they start together, because that takes long."""
    with ExitStack() as stack:
        started = []
        for name in ("first", "second"):
            folder = tmp_path_factory.mktemp(name)
            (folder / "chat.jinja").write_text(CHAT_TEMPLATE)
            names = ("--served-model-name", "tiny", UNKNOWN_HERE)
            started.append(VllmServer(folder, TINY, *names, "--chat-template", folder / "chat.jinja"))
            stack.callback(started[-1].kill)
        first, second = started
        first.wait()
        yield first, second


@pytest.fixture(scope="module")
def server(servers: tuple[VllmServer, VllmServer]) -> VllmServer:
    return servers[0]


@pytest.fixture(scope="module")
def greedy(server: VllmServer) -> list[Row]:
    """Greedy solutions by the server."""
    return rows(erprm("sample", "tiny:test", "-L", 8, "--greedy", "--base-url", server.url))


def erprm(*args: object, stdin: str = "") -> Result:
    """Run the program in this process, so that transformers is loaded once."""
    words = [*map(str, args), "--max-tokens", "160"]
    return CliRunner().invoke(app.make_app(), words, input=stdin)


def rows(done: Result) -> list[Row]:
    """Return the rows on stdout, sorted by key; stdout must hold nothing else."""
    assert done.exit_code == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return sorted(found, key=lambda row: (row["id"], row["sample"]))


def lines(given: list[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in given)


def test_greedy_solutions_are_those_of_the_transformers_engine(greedy: list[Row]) -> None:
    assert greedy == rows(erprm("sample", "tiny:test", "-L", 8, "--greedy", "--engine", "transformers"))


def test_greedy_rollouts_are_the_rest_of_the_greedy_solution(server: VllmServer, greedy: list[Row]) -> None:
    done = erprm(
        "rollout", "-k", 2, "--temperature", 0, "--keep-text", "--base-url", server.url, stdin=lines(greedy)
    )
    for row in rows(done):
        begin = 0
        assert len(row["completions"]) == len(row["steps"]) >= 2
        for step, texts in zip(row["steps"][1:], row["completions"][:-1], strict=True):
            begin = row["solution"].index(step, begin)
            assert texts == [row["solution"][begin:]] * 2


def test_without_a_tokenizer_here_the_rows_are_the_same(server: VllmServer, greedy: list[Row]) -> None:
    """With text prompts. --greedy, because a rounding error can change a sampled token."""
    common = ("-m", UNKNOWN_HERE, "-t", "tiny", "--base-url", server.url)
    done = erprm("sample", "tiny:test", "-L", 8, "--greedy", *common)
    assert f"no local tokenizer for {UNKNOWN_HERE!r}, so prompts are sent as text" in done.stderr
    named = [row | {"sampling": row["sampling"] | {"model": UNKNOWN_HERE}} for row in greedy]
    assert rows(done) == named
    plain = ("rollout", "-k", 2, "--temperature", 0, "--keep-text", "--base-url", server.url)
    with_ids, with_text = erprm(*plain, stdin=lines(greedy)), erprm(*plain, *common[:4], stdin=lines(greedy))
    assert [row["completions"] for row in rows(with_text)] == [row["completions"] for row in rows(with_ids)]


def test_chats_are_continued_by_the_server(server: VllmServer, greedy: list[Row], tmp_path: Path) -> None:
    template = tmp_path / "as-chat.toml"
    template.write_text(AS_CHAT)
    chat = ("-t", template, "-m", UNKNOWN_HERE, "--base-url", server.url)
    solutions = rows(erprm("sample", "tiny:test", "-L", 8, "--greedy", *chat))
    assert [row["solution"] for row in solutions] == [row["solution"] for row in greedy]
    done = erprm("rollout", "-k", 1, "--temperature", 0, "--keep-text", *chat, stdin=lines(solutions))
    for row in rows(done):
        for (text,) in row["completions"][:-1]:
            assert text and row["solution"].endswith(text)


def test_a_sample_is_the_same_in_whatever_request_it_comes(server: VllmServer) -> None:
    common = ("sample", "tiny:test", "-L", 4, "--base-url", server.url)
    many, few = (rows(erprm(*common, "-n", n)) for n in (4, 2))
    assert few == [row for row in many if row["sample"] < 2]
    assert len({row["solution"] for row in many}) > 4
    assert all(row["num_tokens"] > 10 for row in many)


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_prm(tmp_path_factory.mktemp("prm"), max_positions=512)


def searched(prm: str, *words: object) -> list[Row]:
    return rows(erprm("search", "tiny:test", "-L", 6, "-n", 4, "--prm", prm, *words))


def test_a_greedy_search_is_that_of_the_transformers_engine(server: VllmServer, prm: str) -> None:
    """It goes on from the token ids that the server sends."""
    words = ("--method", "beam", "--temperature", 0)
    found, expected = (
        searched(prm, *words, *engine)
        for engine in (("--base-url", server.url), ("--engine", "transformers"))
    )
    assert_alike(found, expected)
    assert all(len(row["steps"]) > 2 for row in found)


@pytest.mark.thorough
def test_policy_and_prm_may_be_behind_two_servers(server: VllmServer, prm: str, tmp_path: Path) -> None:
    words = ("--temperature", 1.3, "--base-url", server.url)
    found = searched(prm, *words)
    assert len({row["solution"] for row in found}) > 6
    assert_alike(found, searched(prm, *words, "--concurrency", 3))
    with serving(prm) as (_, url, _):
        served = searched(prm, *words, "--prm-base-url", f"{url}/v1")
    for row in found:  # `erprm serve` reads the rows themselves, so nobody here counts the PRM's tokens
        row["search"] |= {"prm_tokens": None, "prm_new_tokens": None}
    assert_alike(served, found)


def test_a_prompt_that_fills_the_context_is_a_bad_row(server: VllmServer, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    long = {"id": "long", "problem": "Tom has 2 coins. " * 200, "answer": "5"}
    for model in ("tiny", UNKNOWN_HERE):
        words = ("sample", "-n", 2, "-m", model, "-t", "tiny", "--base-url", server.url, "--errors", bad)
        done = erprm(*words, stdin=lines([long]))
        assert done.exit_code == 1 and not done.stdout
        assert "too long for the model" in json.loads(bad.read_text())["reason"]


def test_the_key_is_not_in_anything_that_is_written(
    server: VllmServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = "sk-canary-7730"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    command = ("sample", "tiny:test", "-L", 2, "-n", 1, "--base-url")
    done = erprm(*command, server.url, "-o", tmp_path / "a.jsonl")
    failed = erprm(*command, server.url + "/wrong", "-o", tmp_path / "b.jsonl")
    assert (done.exit_code, failed.exit_code) == (0, 1)
    for text in (done.output, str(failed.exception), *(path.read_text() for path in tmp_path.iterdir())):
        assert key not in text


def test_a_run_whose_server_dies_is_continued_by_the_command_it_names(
    servers: tuple[VllmServer, VllmServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The last test here: it kills the server."""
    server, second = servers
    monkeypatch.setattr(server_client, "BACKOFF_S", 0.1)  # the server is not going to come back
    monkeypatch.setattr(app, "catch_signals", lambda: None)  # signals are pytest's here
    target = tmp_path / "out.jsonl"
    words = ["sample", "tiny:train", "-L", "60", "-n", "8", "-o", str(target)]
    command = [*words, "--max-tokens", "160", "--concurrency", "4", "--base-url", server.url]
    monkeypatch.setattr("sys.argv", ["erprm", *command])

    def kill_when_there_are_rows() -> None:
        deadline = time.monotonic() + 200
        while not (target.exists() and target.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.02)
        server.kill()

    killer = Thread(target=kill_when_there_are_rows)
    killer.start()
    with pytest.raises(SystemExit) as exit:
        app.main()
    killer.join()
    stdout, stderr = capsys.readouterr()
    assert (exit.value.code, stdout) == (4, "")
    assert stderr.endswith(f"to continue: erprm {' '.join(command)}\n")
    kept = target.read_bytes()
    assert 0 < kept.count(b"\n") < 480

    second.wait()
    done = erprm(*words, "--base-url", second.url)
    assert (done.exit_code, done.stdout) == (0, ""), done.stderr
    assert target.read_bytes().startswith(kept)
    keys = [(row["id"], row["sample"]) for row in map(json.loads, target.read_text().splitlines())]
    assert len(keys) == len(set(keys)) == 480
