"""What an engine cannot complete is never a reward: it is a bad row, or the end of the command."""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Completion, Failure, Request, SamplingParams
from erprm_cli.errors import EngineError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.policy.rollouts import Roller
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.templates import load_template
from erprm_cli.rows.row import Row
from tests.scripted import ScriptedEngine
from tests.scripted_server import Fields, Reply, completed, refusal, serving

SETTINGS = SamplingSettings("scripted", None, 1.0, 1.0, 200, 0, "tiny")
TINY = load_template("tiny")
Erprm = Callable[..., Result]


class Failing(ScriptedEngine):
    """Fails to complete the prompts that hold a word, at all or with odd indices."""

    def __init__(self, word: str, only_odd: bool = False, error: UserError | None = None) -> None:
        super().__init__(lambda *_: "The answer is: 5")
        self.word, self.only_odd = word, only_odd
        self.error = error or EngineError("aborted")

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion | Failure]:
        for request in requests:
            for completion in super().generate([request], params):
                assert isinstance(completion, Completion)
                index = completion.index
                fails = self.word in str(request.prompt) and not (self.only_odd and index % 2 == 0)
                yield Failure(request.key, (index,), self.error) if fails else completion


def problems(*texts: str) -> list[Row]:
    return [{"id": text, "problem": text, "answer": "5"} for text in texts]


def solution(sample: int, *steps: str) -> Row:
    text = "\n".join(steps)
    row = {"id": "a", "problem": "p", "answer": "5", "sample": sample, "reward": 1.0}
    return row | {"solution": text, "steps": list(steps)}


def bad_rows_of(path: Path) -> list[tuple[str, str, Row]]:
    rows = map(json.loads, path.read_text().splitlines())
    return [(row["place"], row["reason"], json.loads(row["line"])) for row in rows]


def test_samples_that_fail_are_one_bad_row_and_the_others_are_kept(tmp_path: Path) -> None:
    bad = BadRows(str(tmp_path / "bad"))
    rows = problems("good", "evil", "fine")
    with Grader() as grader:
        found = list(
            sample_solutions(rows, Failing("evil", only_odd=True), TINY, SETTINGS, 4, grader, bad=bad)
        )
    assert {(row["id"], row["sample"]): row["reward"] for row in found} == {
        (row["id"], sample): 1.0
        for row in rows
        for sample in range(4)
        if (row["id"], sample % 2) != ("evil", 1)
    }
    assert bad_rows_of(tmp_path / "bad") == [("id 'evil', sample 1, 3", "aborted", rows[1])]


@pytest.mark.parametrize("error", [EngineError("aborted"), UserError("too long")])
def test_without_a_file_for_bad_rows_a_failure_ends_the_command(error: UserError) -> None:
    engine = Failing("evil", error=error)
    with (
        Grader() as grader,
        pytest.raises(type(error), match=f"id 'evil', sample 0: {error}. --errors") as caught,
    ):
        list(sample_solutions(problems("good", "evil", "fine"), engine, TINY, SETTINGS, 1, grader))
    assert type(caught.value) is type(error)
    with Grader() as grader, pytest.raises(type(error), match=f"id 'a', sample 3: {error}. --errors"):
        list(Roller(engine, TINY, SETTINGS, 2, grader).roll([solution(3, "evil", "x")]))


def test_a_solution_with_a_prefix_that_fails_is_a_bad_row_without_rollouts(tmp_path: Path) -> None:
    bad = BadRows(str(tmp_path / "bad"))
    rows = [
        solution(0, "one", "evil", "x"),
        solution(1, "one", "two", "x"),
        solution(2, "one", "evil", "y", "z"),
    ]
    with Grader() as grader:
        found = list(Roller(Failing("evil", only_odd=True), TINY, SETTINGS, 2, grader, bad=bad).roll(rows))
    assert [(row["sample"], row["rollouts"]) for row in found] == [(1, [[1.0, 1.0], [1.0, 1.0], [1.0]])]
    assert bad_rows_of(tmp_path / "bad") == [
        ("id 'a', sample 0", "aborted", rows[0]),
        ("id 'a', sample 2", "aborted", rows[2]),
    ]


def test_a_prefix_that_has_failed_is_not_asked_for_again(tmp_path: Path) -> None:
    engine = Failing("evil")
    rows = [solution(0, "evil", "x"), solution(1, "evil", "y"), solution(2, "evil", "good", "z")]
    with Grader() as grader:
        assert not list(
            Roller(engine, TINY, SETTINGS, 2, grader, bad=BadRows(str(tmp_path / "bad"))).roll(rows)
        )
    assert len(engine.asked) == 1 and len(bad_rows_of(tmp_path / "bad")) == 3


# Commands with a server

MODEL = ("-m", "m", "-t", "tiny")

pytestmark = pytest.mark.usefixtures("quick_server")


@pytest.fixture
def quick_server(monkeypatch: pytest.MonkeyPatch) -> None:
    from erprm_cli.engines import server_client
    from erprm_cli.models import loading

    def load(name: str, **_: Any) -> Any:
        raise UserError(f"cannot load the model {name!r}")

    monkeypatch.setattr(server_client, "BACKOFF_S", 0.001)
    monkeypatch.setattr(loading, "load_tokenizer", load)


def aborted(fields: Fields) -> Reply:
    reply = completed(fields)
    for choice in reply.body["choices"]:
        choice["finish_reason"] = "abort"
    return reply


def filtered(fields: Fields) -> Reply:
    reply = completed(fields, text="")
    for choice in reply.body["choices"]:
        choice["finish_reason"] = "content_filter"
    return reply


FAILURES: dict[str, Callable[[Fields], Reply]] = {
    "abort": aborted,
    "content_filter": filtered,
    "500": lambda _: refusal("out of order", 500),
    "too long": lambda _: refusal(
        "The input (9 tokens) is longer than the model's context length (8 tokens)."
    ),
}


def failing(failure: str, word: str) -> Any:
    """Return the script of a server that cannot complete prompts with a word in them."""

    def say(_: str, fields: Fields) -> Reply:
        return FAILURES[failure](fields) if word in fields["prompt"] else completed(fields)

    return say


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("failure", FAILURES)
def test_sample_sets_a_prompt_aside_that_a_server_cannot_complete(
    failure: str, erprm: Erprm, tmp_path: Path
) -> None:
    source = write(tmp_path / "in.jsonl", problems("good", "evil", "fine"))
    bad, out = tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    words = ("sample", source, "-n", 2, *MODEL, "-o", out, "--errors", bad)
    with serving(failing(failure, "evil")) as server:
        done = erprm(*words, "--base-url", server.url)
        assert "1 bad row was written" in str(done.exception)
        rows = [json.loads(line) for line in out.read_text().splitlines()]
        assert {(row["id"], row["reward"]) for row in rows} == {("good", 1.0), ("fine", 1.0)}
        assert [(place, line["id"]) for place, _, line in bad_rows_of(bad)] == [
            ("id 'evil', sample 0, 1", "evil")
        ]
        kept, server.say = out.read_bytes(), lambda _, fields: completed(fields)
        assert erprm(*words, "--base-url", server.url).exit_code == 0
        assert out.read_bytes().startswith(kept) and out.read_bytes().count(b"\n") == 6
        assert bad.read_text() == ""


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("with_errors", [True, False])
def test_rollout_writes_no_reward_of_what_a_server_cannot_complete(
    failure: str, with_errors: bool, erprm: Erprm, tmp_path: Path
) -> None:
    rows = [solution(0, "one", "two", "x"), solution(1, "one", "evil", "x"), solution(2, "one", "three", "x")]
    source, bad, out = write(tmp_path / "in.jsonl", rows), tmp_path / "bad.jsonl", tmp_path / "out.jsonl"
    words = ("rollout", source, "-k", 2, *MODEL, "-o", out, *(("--errors", bad) if with_errors else ()))
    with serving(failing(failure, "evil")) as server:
        done = erprm(*words, "--base-url", server.url)
        assert isinstance(done.exception, UserError)
        is_permanent = with_errors or failure == "too long"
        assert done.exception.exit_status == (1 if is_permanent else 4)
        written = [json.loads(line) for line in out.read_text().splitlines()]
        assert all(set(sum(row["rollouts"], [])) == {1.0} and row["sample"] != 1 for row in written)
        if with_errors:
            assert len(written) == 2
            assert [place for place, _, _ in bad_rows_of(bad)] == ["id 'a', sample 1"]
        server.say = lambda _, fields: completed(fields)
        assert erprm(*words, "--base-url", server.url).exit_code == 0
    assert sorted(json.loads(line)["sample"] for line in out.read_text().splitlines()) == [0, 1, 2]


def test_a_server_that_completes_nothing_leaves_an_empty_output(erprm: Erprm, tmp_path: Path) -> None:
    source, bad = write(tmp_path / "in.jsonl", problems("evil")), tmp_path / "bad.jsonl"
    with serving(failing("abort", "evil")) as server:
        done = erprm("sample", source, "-n", 1, *MODEL, "--base-url", server.url, "--errors", bad)
    assert (done.stdout, done.exit_code) == ("", 1)
    assert "0 solutions" in done.stderr and len(bad_rows_of(bad)) == 1


def test_a_server_that_fails_every_prompt_ends_the_command(erprm: Erprm, tmp_path: Path) -> None:
    """More than a few in a row are the server's fault: thousands of bad rows would help nobody."""
    source = write(tmp_path / "in.jsonl", problems(*(f"evil {number}" for number in range(50))))
    with serving(failing("abort", "evil")) as server:
        words = (*MODEL, "--base-url", server.url, "--errors", tmp_path / "bad.jsonl")
        done = erprm("sample", source, "-n", 1, *words)
    assert isinstance(done.exception, EngineError)
    assert "failed 6 times in a row; last error: finish_reason abort" in str(done.exception)
    assert done.stdout == ""


class Leaving(ScriptedEngine):
    """Ends before the last completion."""

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion | Failure]:
        yield from list(super().generate(requests, params))[:-1]


def test_completions_that_an_engine_leaves_out_are_an_error() -> None:
    with Grader() as grader, pytest.raises(EngineError, match="the engine ended with 1 completions missing"):
        engine = Leaving(lambda *_: "The answer is: 5")
        list(sample_solutions(problems("a", "b"), engine, TINY, SETTINGS, 2, grader))
    with Grader() as grader, pytest.raises(EngineError, match="the engine stopped with 1 completions miss"):
        engine = Leaving(lambda *_: "The answer is: 5")
        list(Roller(engine, TINY, SETTINGS, 2, grader).roll([solution(0, "one", "two", "x")]))
