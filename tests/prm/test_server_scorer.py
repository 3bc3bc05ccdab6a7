"""Scoring through a server: against scripted servers here, against a real vLLM in test_vllm_scorer.py."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import Result

from erprm_cli.engines import server_client
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import EngineError, UserError
from erprm_cli.prm.scoring import open_scorer
from tests.prm.scoring_server import PRM, as_erprm, classifier, is_probe, pooled, scored, scores_of
from tests.scripted_server import Fields, Reply, ScriptedServer, refusal, serving
from tests.tiny_models import save_model, solution_rows

pytestmark = pytest.mark.usefixtures("quick")

Run = Callable[..., Result]
Say = Callable[[str, Fields], Reply]
ROWS = solution_rows(12)
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)


def say_scores(_: str, asked: Fields) -> Reply:
    return scored(asked)


def score(
    erprm: Run, server: ScriptedServer, *words: object, prm: object = "m", stdin: bytes = LINES
) -> Result:
    return erprm("score", "--prm", prm, "--base-url", server.url, *words, stdin=stdin)


def rows(done: Result) -> list[dict[str, Any]]:
    """Return the rows of a run that went well."""
    assert done.exception is None, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_erprm_serve_gets_problems_and_steps_and_gives_the_scores(erprm: Run) -> None:
    with serving(say_scores) as server:
        done = score(erprm, as_erprm(server))
    assert "m is read with the format er-prm (the server's)\n" in done.stderr
    assert server.asked[0].keys() == {"rows"} and len(server.asked) == len(ROWS)
    for row, ours in zip(rows(done), ROWS, strict=True):  # in order
        assert row == ours | {"scores": scores_of({"rows": [ours]}), "prm": "m"}


def test_a_client_of_erprm_serve_loads_no_model_library() -> None:
    code = "import sys; from erprm_cli.app import main; main()"
    check = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "
    with serving(say_scores) as server:
        command = [sys.executable, "-c", check + code, "score", "-q", "--prm", "m"]
        done = subprocess.run(
            [*command, "--base-url", as_erprm(server).url], input=LINES, capture_output=True, check=True
        )
    assert done.stderr.decode() == "False\n" and len(done.stdout.splitlines()) == len(ROWS)


def test_rows_are_asked_for_as_they_are_read_and_no_more_than_the_concurrency(erprm: Run) -> None:
    def say(_: str, asked: Fields) -> Reply:
        time.sleep(0.02)
        return scored(asked)

    with serving(say) as server:
        done = score(erprm, as_erprm(server), "--concurrency", 3)
    assert len(rows(done)) == len(ROWS) and 1 < server.most_at_once <= 3


def test_a_run_whose_server_fails_is_continued(erprm: Run, tmp_path: Path) -> None:
    target, source = tmp_path / "out.jsonl", tmp_path / "in.jsonl"
    source.write_bytes(LINES)
    left = count(5, -1)

    def say(_: str, asked: Fields) -> Reply:
        return scored(asked) if next(left) > 0 else Reply(None)

    words = ("score", source, "--prm", "m", "-o", target, "--concurrency", 1, "--base-url")
    with serving(say) as server:
        failed = erprm(*words, as_erprm(server).url)
    assert isinstance(failed.exception, EngineError) and "failed 6 times in a row" in str(failed.exception)
    kept = target.read_bytes()
    assert kept.count(b"\n") == 5
    with serving(say_scores) as server:
        assert "7 solutions scored, 5 were scored before" in erprm(*words, as_erprm(server).url).stderr
    assert target.read_bytes().startswith(kept) and target.read_bytes().count(b"\n") == len(ROWS)
    with serving(say_scores) as server:
        server.gets["/prm"] = Reply(PRM | {"hash": "34cd"})
        other = erprm(*words, server.url)
    assert "was made with another version of prm m" in str(other.exception)


def test_an_empty_input_needs_no_server(erprm: Run) -> None:
    done = erprm("score", "--prm", "m", "--base-url", "http://127.0.0.1:9")
    assert done.exception is None and done.stdout == ""


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_server_that_has_too_much_to_do_is_asked_again(status: int, erprm: Run) -> None:
    left = count(4, -1)

    def say(_: str, asked: Fields) -> Reply:
        busy = Reply({"error": {"message": "later"}}, status, {"Retry-After": "0.01"})
        return busy if next(left) > 0 else scored(asked)

    with serving(say) as server:
        assert len(rows(score(erprm, as_erprm(server)))) == len(ROWS)


def test_the_key_is_sent_and_never_shown(erprm: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ERPRM_API_KEY", "sk-canary")
    with serving(lambda *_: refusal("wrong key sk-canary", 401)) as server:
        done = score(erprm, as_erprm(server))
    assert server.headers[0]["authorization"] == "Bearer sk-canary"
    assert "refused the request: status 401: wrong key ***" in str(done.exception)
    assert "the key is read from ERPRM_API_KEY or OPENAI_API_KEY" in str(done.exception)


# What `erprm serve` cannot have meant is asked for again, and then the row has no scores.
def endless() -> Iterator[bytes]:
    while True:
        yield b"[" * 65536


BAD_ANSWERS: dict[str, tuple[Callable[[Fields], Reply], str]] = {
    "one score too few": (lambda asked: scored(asked, scores=[scores_of(asked)[1:]]), "scores for"),
    "two rows": (
        lambda asked: scored(asked, scores=[scores_of(asked)] * 2),
        "not the scores of one solution",
    ),
    "none": (lambda asked: scored(asked, scores=[None]), "not the scores of one solution"),
    "above one": (lambda asked: scored(asked, scores=[[1.5] * len(scores_of(asked))]), "outside 0 to 1"),
    "text": (lambda asked: scored(asked, scores=[["0.5"] * len(scores_of(asked))]), "not a number"),
    "a truth value": (lambda asked: scored(asked, scores=[[True] * len(scores_of(asked))]), "not a number"),
    "no prm": (lambda asked: scored(asked, prm=None), "not a description of a PRM"),
    "a list": (lambda asked: Reply([scores_of(asked)]), "not the scores of one solution"),
    "a page": (lambda asked: Reply(b"<html>sorry</html>"), "an HTML page"),
    "no end": (lambda asked: Reply(endless()), "the answer is larger than 1 MB"),
    "nothing": (lambda asked: Reply(None), "RemoteProtocolError"),
}


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_an_answer_that_cannot_be_right_is_a_bad_row_and_no_score(
    name: str, erprm: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "MAX_ANSWER_BYTES", 1 << 20)
    monkeypatch.setattr(server_client, "RETRIES_OF_ONE", 2)
    answer, said = BAD_ANSWERS[name]
    bad = tmp_path / "bad.jsonl"

    def say(_: str, asked: Fields) -> Reply:
        return answer(asked) if asked["rows"][0]["steps"] == ROWS[4]["steps"] else scored(asked)

    with serving(say) as server:
        done = score(erprm, as_erprm(server), "--errors", bad)
    assert done.exit_code == 1 and len(done.stdout.splitlines()) == len(ROWS) - 1
    (failure,) = map(json.loads, bad.read_text().splitlines())
    assert failure["place"] == "id 'p1', sample 1" and said in failure["reason"]
    assert json.loads(failure["line"]) == ROWS[4]


def test_without_a_file_for_bad_rows_the_first_one_ends_the_run(
    erprm: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "RETRIES_OF_ONE", 1)

    def say(_: str, asked: Fields) -> Reply:
        return Reply({}) if asked["rows"][0]["steps"] == ROWS[4]["steps"] else scored(asked)

    with serving(say) as server:
        done = score(erprm, as_erprm(server))
    assert isinstance(done.exception, EngineError)
    assert str(done.exception).startswith("id 'p1', sample 1: ")
    assert "--errors FILE writes such rows" in str(done.exception)


@pytest.mark.parametrize("number", [None, float("nan"), float("inf")])
def test_scores_that_are_not_finite_end_the_run(number: float | None, erprm: Run) -> None:
    with serving(lambda _, asked: scored(asked, scores=[[number] * len(scores_of(asked))])) as server:
        done = score(erprm, as_erprm(server))
    assert "m produced NaN or infinite scores; its weights may be corrupt" in str(done.exception)
    assert len(server.asked) <= len(ROWS)


def test_a_row_that_the_server_cannot_score_is_a_bad_row(erprm: Run, tmp_path: Path) -> None:
    def say(_: str, asked: Fields) -> Reply:
        is_long = asked["rows"][0]["steps"] == ROWS[0]["steps"]
        return (
            refusal("rows[0]: 9,000 tokens, but the model reads at most 64", 422)
            if is_long
            else scored(asked)
        )

    with serving(say) as server:
        done = score(erprm, as_erprm(server), "--errors", tmp_path / "bad.jsonl")
    assert len(done.stdout.splitlines()) == len(ROWS) - 1
    assert "the model reads at most 64" in (tmp_path / "bad.jsonl").read_text()


def test_a_refusal_of_every_row_is_about_the_settings(erprm: Run, tmp_path: Path) -> None:
    with serving(lambda *_: refusal("no such field", 422)) as server:
        done = score(erprm, as_erprm(server), "--errors", tmp_path / "bad.jsonl")
    assert done.stdout == "" and "refused the request: status 422: no such field" in str(done.exception)


def test_another_prm_behind_the_same_url_is_noticed(erprm: Run) -> None:
    left = count(3, -1)

    def say(_: str, asked: Fields) -> Reply:
        return scored(asked) if next(left) > 0 else scored(asked, prm=PRM | {"hash": "34cd"})

    with serving(say) as server:
        done = score(erprm, as_erprm(server))
    assert isinstance(done.exception, EngineError) and "now serves another PRM (m, format" in str(
        done.exception
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("--prm-format", "er-prm"),
            "--prm-format: .* is an `erprm serve`, which decides that; give it there",
        ),
        (("--eta", 2), "--eta: .* is an `erprm serve`, which decides that"),
        (("--prm", "other"), "serves m, not other; set --prm to the served model"),
        (("--engine", "vllm"), "--engine server requires --base-url URL, and the reverse"),
    ],
)
def test_flags_that_contradict_the_server_are_refused(
    words: tuple[object, ...], said: str, erprm: Run
) -> None:
    with serving(say_scores) as server, pytest.raises(UserError, match=said):
        raise score(erprm, as_erprm(server), *words).exception or AssertionError


def test_a_server_that_is_not_there_is_an_engine_error(erprm: Run) -> None:
    done = erprm("score", "--prm", "m", "--base-url", "http://127.0.0.1:9", stdin=LINES)
    assert isinstance(done.exception, EngineError)


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("prm") / "Llama3.1-Math-PRM"))


def named(server: ScriptedServer, prm: str) -> ScriptedServer:
    server.models = Reply({"data": [{"id": "prm", "root": prm, "max_model_len": 64}]})
    return server


def probe_tokens(prm: str) -> int:
    from transformers import AutoTokenizer

    from erprm_cli.engines.server_dialect import PROBE

    return len(AutoTokenizer.from_pretrained(prm)(PROBE).input_ids)


def test_vllm_gets_token_ids_and_the_tags_are_selected_here(erprm: Run, prm: str) -> None:
    from erprm_cli.prm.loading import load_tagger

    tagger = load_tagger(prm)[1]
    with serving(classifier(lambda token: token / 1000, probe_tokens(prm))) as server:
        done = score(erprm, named(server, prm), prm=prm)
    assert "is read with the format er-prm (known by its name)" in done.stderr
    assert [asked["model"] for asked in server.asked] == ["prm"] * (len(ROWS) + 1)
    for row, ours in zip(rows(done), ROWS, strict=True):
        tagged = tagger.encode(ours["problem"], ours["steps"])
        assert row["scores"] == [tagged.ids[tag] / 1000 for tag in tagged.tags]


def test_a_solution_longer_than_the_served_model_can_read_is_a_bad_row(erprm: Run, prm: str) -> None:
    steps = ["Step 1: Tom has 9 is."] * 9
    long = ROWS[0] | {"steps": steps, "solution": "\n".join(steps)}
    with serving(classifier(lambda _: 0.5, probe_tokens(prm))) as server:
        done = score(erprm, named(server, prm), prm=prm, stdin=orjson.dumps(long))
    assert "stdin:1: " in str(done.exception) and "the model reads at most 64" in str(done.exception)
    assert len(server.asked) == 1  # the client's own question


def test_an_output_of_vllm_that_cannot_be_right_is_a_bad_row(
    erprm: Run, prm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_client, "RETRIES_OF_ONE", 2)
    usual = classifier(lambda _: 0.5, probe_tokens(prm))
    left = count(5, -1)

    def say(path: str, asked: Fields) -> Reply:
        reply = usual(path, asked)
        if not is_probe(asked) and next(left) <= 0:
            del reply.body["data"][0]["data"][0]
        return reply

    with serving(say) as server:
        words = ("--errors", tmp_path / "bad.jsonl", "--concurrency", 1)
        done = score(erprm, named(server, prm), *words, prm=prm)
    assert len(done.stdout.splitlines()) == 5
    assert "invalid answer: numbers for" in (tmp_path / "bad.jsonl").read_text()


# What is wrong with a vLLM is found out with its first answer.
WRONG_SERVERS: dict[str, tuple[Say, str]] = {
    "a policy": (
        lambda *_: refusal("Not Found", 404),
        "does not classify tokens .*; start it with `vllm serve .* --runner pooling --pooler-config",
    ),
    "another task": (
        lambda *_: refusal("Unsupported task: 'token_classify' Supported tasks: ('embed',)"),
        "does not classify tokens .status 400: Unsupported task",
    ),
    "another tokenizer": (lambda *_: pooled([[0.5]] * 3), "is not the server's .* and 3 tokens"),
    "a key": (lambda *_: refusal("who are you", 401), "the key is read from"),
}


@pytest.mark.parametrize("name", WRONG_SERVERS)
def test_what_is_wrong_with_a_vllm_is_said_before_a_row_is_scored(name: str, prm: str) -> None:
    say, said = WRONG_SERVERS[name]
    with serving(say) as server, pytest.raises(UserError, match=said):
        open_scorer(EngineConfig(prm, base_url=named(server, prm).url))


def test_a_head_of_other_classes_is_refused(prm: str) -> None:
    two = [[0.25, 0.75]] * probe_tokens(prm)
    with (
        serving(lambda *_: pooled(two)) as server,
        pytest.raises(UserError, match="gives 2 numbers per token, but"),
    ):
        open_scorer(EngineConfig(prm, base_url=named(server, prm).url))


def test_classes_that_are_no_probabilities_are_refused(prm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_client, "RETRIES_OF_ONE", 1)
    two = [[0.75, 0.75]] * probe_tokens(prm)
    with serving(lambda *_: pooled(two)) as server, pytest.raises(EngineError, match="do not add up to 1"):
        open_scorer(EngineConfig(prm, base_url=named(server, prm).url))


def test_the_classes_that_mean_good_are_added(prm: str, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('kind = "head"\nprompt = "{problem} "\ntag = " ки"\nnum_labels = 3\nlabels = [1, 2]\n')
    three = classifier(lambda _: 0.0, probe_tokens(prm))

    def say(path: str, asked: Fields) -> Reply:
        tokens = three(path, asked).body["data"][0]["data"]
        return pooled([[0.5, 0.125, 0.375]] * len(tokens))

    with serving(say) as server:
        scorer = open_scorer(EngineConfig(prm, base_url=named(server, prm).url), prm_format=str(own))
        (row,) = scorer.score(ROWS[3:4])
        scorer.close()
    assert row["scores"] == [0.5] * 4


def test_a_url_with_nothing_there_is_refused_with_a_better_one(prm: str) -> None:
    with serving(lambda *_: refusal("Not Found", 404)) as server:
        server.models = Reply({"detail": "Not Found"}, 404)
        with pytest.raises(UserError, match="neither /prm nor /models nor /pooling .* such as .*/api/v1"):
            open_scorer(EngineConfig(prm, base_url=server.url + "/api"))
