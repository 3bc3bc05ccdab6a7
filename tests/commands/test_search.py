"""`erprm search` with the shipped policy and a small random reward model."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner, Result

from erprm_cli.app import make_app
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError, UserError
from erprm_cli.labels.estimator import label_of_rate, relabel
from erprm_cli.search.config import SearchConfig
from erprm_cli.search.methods import METHODS
from erprm_cli.search.prefix import Prefix
from erprm_cli.search.search import share_gpu
from erprm_cli.search.values import make_value
from tests.prm.scoring_server import PRM
from tests.scripted_server import Reply, refusal, serving
from tests.tiny_models import save_model

Run = Callable[..., Result]


def save_prm(folder: Path, **kwargs: Any) -> str:
    """Save a random PRM with the words of the shipped policy, whose scores differ from step to step."""
    words = ("dozen", "add", "less", "each", "half", "twice", "double", "triple", "total")
    return str(save_model(folder / "Llama3.1-Math-PRM", words=words, **kwargs))


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_prm(tmp_path_factory.mktemp("prm"), max_positions=512)


def rows(result: Result) -> list[dict[str, Any]]:
    assert result.exception is None, result.stderr + repr(result.exception)
    return [json.loads(line) for line in result.stdout.splitlines()]


def by_key(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(found, key=lambda row: (row["id"], row["sample"]))


def search(prm: str, *words: object, problems: int = 4, n: int = 4) -> list[dict[str, Any]]:
    args = ["search", "tiny:test", "-L", problems, "--prm", prm, "-n", n, *words]
    return by_key(rows(CliRunner().invoke(make_app(["search"]), list(map(str, args)))))


def texts(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["id"], row["sample"], row["solution"], row["num_tokens"], row["reward"]) for row in found]


def assert_alike(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Assert that rows are equal, but for the last digits of numbers, which depend on the batch."""

    def without_numbers(value: Any, numbers: list[float]) -> Any:
        if isinstance(value, dict):
            return {name: without_numbers(one, numbers) for name, one in value.items()}
        if isinstance(value, list):
            return [without_numbers(one, numbers) for one in value]
        if isinstance(value, float):
            numbers.append(value)
            return None
        return value

    our_numbers, their_numbers = list[float](), list[float]()
    assert without_numbers(ours, our_numbers) == without_numbers(theirs, their_numbers)
    assert our_numbers == pytest.approx(their_numbers, abs=1e-4)


def test_best_of_n_is_sample_and_score_and_bon_row_by_row(erprm: Run, prm: str, tmp_path: Path) -> None:
    found, sampled, scored = (tmp_path / f"{name}.jsonl" for name in ("found", "sampled", "scored"))
    words = ("tiny:test", "-L", 5, "-n", 4, "--temperature", 0.9, "--seed", 3)
    rows(erprm("search", *words, "--prm", prm, "--method", "best-of-n", "-o", found))
    rows(erprm("sample", *words, "-o", sampled))
    rows(erprm("score", sampled, "--prm", prm, "-o", scored))
    ours, theirs = (by_key([json.loads(line) for line in path.open()]) for path in (found, scored))
    for row, expected in zip(ours, theirs, strict=True):
        assert row["scores"] == pytest.approx(expected["scores"], abs=1e-5)
        assert {name: row[name] for name in expected} | {"scores": 0} == expected | {"scores": 0}
    # By the last score: the lowest one is often that of a first step which two solutions share, and then the
    # last bits decide, which depend on the batch.
    chosen = [rows(erprm("bon", path, "--aggregate", "last")) for path in (found, scored)]
    best = [{row["id"]: (row["solution"], row["correct"]) for row in one} for one in chosen]
    assert best[0] == best[1] and len(best[0]) == 5


@pytest.mark.parametrize("method", METHODS)
def test_the_rows_of_every_method_are_scored_solutions(erprm: Run, prm: str, method: str) -> None:
    found = search(prm, "--method", method)
    per_problem = len(found) // 4
    assert per_problem == (4 if method in ("smc", "best-of-n") else 1)
    for row in found:
        assert len(row["scores"]) == len(row["steps"]) and row["method"] == method
        assert row["solution"].split("\n") == row["steps"] and row["finish_reason"] == "stop"
        assert row["reward"] == float(row["prediction"] == row["answer"])
        figures = row["search"]
        assert figures["generated_tokens"] >= row["num_tokens"] and figures["prompt_tokens"] > 0
        assert figures["prm_tokens"] > 0 and 1 <= figures["distinct"] <= per_problem
        assert (row["log_weight"] is None) == (figures["log_z"] is None) == (method != "smc")
    again = erprm("score", "--prm", prm, stdin="".join(json.dumps(row) + "\n" for row in found))
    for row, scored in zip(found, rows(again), strict=True):
        assert row["scores"] == pytest.approx(scored["scores"], abs=1e-5)


@pytest.mark.parametrize("method", ["smc", "beam"])
def test_the_batch_size_changes_nothing(prm: str, method: str) -> None:
    words = ("--method", method, "--temperature", 1.3)
    found = search(prm, *words)
    assert_alike(found, search(prm, *words, "--batch-size", 3))
    assert texts(found) != texts(search(prm, *words, "--seed", 1))


def test_a_stopped_run_goes_on_and_ends_with_the_same_rows(erprm: Run, prm: str, tmp_path: Path) -> None:
    whole, part = tmp_path / "whole.jsonl", tmp_path / "part.jsonl"
    words = ["search", "tiny:test", "-L", 4, "--prm", prm, "-n", 4, "--temperature", 1.3]
    erprm(*words, "-o", whole)
    erprm(*words, "-o", part)
    kept = part.read_bytes().splitlines(keepends=True)[:6]  # one problem, and half of another
    part.write_bytes(b"".join(kept) + b'{"id": "torn')
    result = erprm(*words, "-o", part)
    assert result.exception is None and "10 solutions, " in result.stderr
    ours, theirs = (by_key([json.loads(line) for line in path.open()]) for path in (part, whole))
    assert_alike(ours, theirs)
    result = erprm(*words, "-o", part)
    assert "nothing is missing: the output has 16 solutions" in result.stderr
    result = erprm(*words, "--eta", 2, "-o", part)
    assert isinstance(result.exception, UserError) and "eta 5.0, not 2.0" in str(result.exception)


@pytest.mark.thorough
def test_a_run_that_is_killed_goes_on_and_ends_with_the_same_rows(
    erprm: Run, prm: str, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole.jsonl", tmp_path / "broken.jsonl"
    words = ["search", "tiny:test", "-L", 8, "--prm", prm, "-n", 4, "--temperature", 1.3, "--batch-size", 4]
    rows(erprm(*words, "-o", whole))
    command = [sys.executable, "-m", "erprm_cli", *map(str, words), "-o", str(broken), "-q"]
    with subprocess.Popen(command) as process:
        while not broken.exists() or not broken.stat().st_size:
            assert process.poll() is None
            time.sleep(0.005)
        process.kill()
    assert broken.stat().st_size < whole.stat().st_size
    rows(erprm(*words, "-o", broken))
    assert_alike(*(by_key([json.loads(line) for line in path.open()]) for path in (broken, whole)))


def test_weights_are_shares_and_draws_have_equal_ones(prm: str) -> None:
    weights = [torch.tensor(row["log_weight"]).exp().item() for row in search(prm, problems=1)]
    assert sum(weights) == pytest.approx(1.0, abs=1e-5)
    drawn = search(prm, "--draws", 2)
    assert len(drawn) == 8 and all(row["log_weight"] == pytest.approx(-0.693147, abs=1e-5) for row in drawn)


def test_a_verifier_gives_right_solutions_e_to_the_eta_of_the_weight(prm: str) -> None:
    """Without resampling: weights are e^(eta r) over their sum."""
    found = search(prm, "--verify", "--eta", 3, "--ess-threshold", 0, "--temperature", 1.3, n=16, problems=3)
    for identity in {row["id"] for row in found}:
        weights = {row["reward"]: row["log_weight"] for row in found if row["id"] == identity}
        if len(weights) == 2:
            assert weights[1.0] - weights[0.0] == pytest.approx(3.0)
    assert any(row["reward"] == 0 for row in found) and any(row["reward"] == 1 for row in found)


def test_a_solution_is_bounded_by_max_tokens(prm: str) -> None:
    for row in search(prm, "--max-tokens", 20):
        assert (row["finish_reason"], row["num_tokens"], row["reward"]) == ("length", 20, 0.0)
        assert row["solution"].startswith("Step 1:") and len(row["scores"]) == len(row["steps"])


def test_a_particle_without_a_step_break_is_bounded(prm: str, tmp_path: Path) -> None:
    """A random policy writes words without end."""
    policy = save_model(tmp_path / "policy")
    for row in search(prm, "-m", policy, "-t", "tiny", "--max-tokens", 30, problems=2):
        assert row["num_tokens"] <= 30 and row["finish_reason"] in ("stop", "length")


def test_a_prefix_that_the_prm_cannot_read_makes_a_bad_row(erprm: Run, tmp_path: Path) -> None:
    small, bad = save_prm(tmp_path / "small", max_positions=40), tmp_path / "bad.jsonl"
    result = erprm("search", "tiny:test", "-L", 2, "--prm", small, "-n", 2, "--errors", bad)
    reasons = [json.loads(line)["reason"] for line in bad.open()]
    assert result.stdout == "" and len(reasons) == 2
    assert "the PRM cannot read a prefix" in reasons[0] and "the model reads at most 40" in reasons[0]


def changed_prm(prm: str, folder: Path, value: float) -> Path:
    """Return a copy of a PRM whose output layer has this number everywhere."""
    from transformers import AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(prm)
    model.lm_head.weight.data.fill_(value)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(prm).save_pretrained(folder)
    return folder


def test_a_broken_prm_gets_a_clear_message(erprm: Run, prm: str, tmp_path: Path) -> None:
    words = ("search", "tiny:test", "-L", 2, "-n", 2, "--prm-format", "er-prm", "--prm")
    result = erprm(*words, changed_prm(prm, tmp_path / "nan", float("nan")))
    assert isinstance(result.exception, UserError) and "NaN or infinite scores" in str(result.exception)
    result = erprm(*words, changed_prm(prm, tmp_path / "constant", 0.0))
    assert result.exception is None
    assert "gave every step the score 0.5, so the search was left to chance" in result.stderr


def test_prms_that_smc_cannot_use_are_refused_with_the_reason(erprm: Run, tmp_path: Path) -> None:
    folder = save_model(tmp_path / "prm")

    def refused(card: dict[str, Any], *words: str) -> str:
        (folder / "erprm.json").write_text(json.dumps({"format": {}, "token_ids": {}} | card))
        result = erprm("search", "--prm", folder, *words)
        assert isinstance(result.exception, UsageError)
        return str(result.exception)

    assert "do not tell how likely success is" in refused({"eta": None, "estimator": "hard"})
    assert "scores whole solutions only" in refused({"settings": {"outcome_only": True}}, "--method", "beam")
    assert make_value(SearchConfig("best-of-n"), str(folder))(Prefix(scores=(0.5, 0.25))) == 0.25


def test_scores_become_values_at_eta_from_whatever_the_prm_learned(tmp_path: Path) -> None:
    folder, prefix = tmp_path / "prm", Prefix(scores=(0.9, 0.3))
    folder.mkdir()

    def value(card: dict[str, Any], one: Prefix = prefix) -> float:
        (folder / "erprm.json").write_text(json.dumps({"format": {}, "token_ids": {}} | card))
        return make_value(SearchConfig("smc", eta=2.0), str(folder))(one)

    assert value({"eta": 0.0, "estimator": "soft"}) == pytest.approx(label_of_rate(0.3, 2.0))
    assert value({"eta": 5.0, "estimator": "er"}) == pytest.approx(relabel(0.3, 5.0, 2.0))
    assert value({"eta": 2.0, "estimator": "er"}) == 0.3
    assert value({"eta": None, "settings": {"target": "counts"}}) == pytest.approx(label_of_rate(0.3, 2.0))
    assert value({"eta": 0.0}, Prefix(scores=(0.3,), finish_reason="stop", outcome=1.0)) == 1.0


def test_templates_without_a_text_to_stop_at_are_refused(erprm: Run, prm: str, tmp_path: Path) -> None:
    template = tmp_path / "own.toml"
    template.write_text('prompt = "{problem}"\nstep_break = "Step [0-9]+:"\n')
    result = erprm("search", "--prm", prm, "-t", template)
    assert isinstance(result.exception, UsageError) and "matches neither a line break" in str(
        result.exception
    )
    template.write_text('prompt = "{problem}"\nreasoning = "think"\n')
    result = erprm("search", "--prm", prm, "-t", template)
    assert isinstance(result.exception, UsageError) and "thinking models" in str(result.exception)


def test_a_dry_run_counts_and_writes_nothing(erprm: Run, prm: str, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    words = ("--max-tokens", 100, "--dry-run", "-o", out)
    (plan,) = rows(erprm("search", "tiny:test", "-L", 3, "--prm", prm, "-n", 4, *words))
    assert plan["max_generated_tokens"] == 3 * 4 * 100 and plan["prm_parameters"] > 0
    assert "prm_tokens" not in plan and not out.exists()


def test_policy_and_prm_share_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def shares(policy: EngineConfig, prm: EngineConfig) -> tuple[float | None, float | None]:
        policy, prm = share_gpu(policy, prm)
        return policy.gpu_memory_utilization, prm.gpu_memory_utilization

    config = EngineConfig("tiny")
    monkeypatch.setattr("erprm_cli.engines.open.local_engine", lambda: "transformers")  # without a GPU
    assert shares(config, config) == (None, None)
    monkeypatch.setattr("erprm_cli.engines.open.local_engine", lambda: "vllm")
    assert shares(config, config) == (0.45, 0.45)
    assert shares(config, EngineConfig("tiny", "transformers")) == (0.45, None)
    assert shares(config, EngineConfig("tiny", base_url="http://localhost:1/v1")) == (None, None)
    given = EngineConfig("tiny", gpu_memory_utilization=0.3)
    assert shares(given, given) == (0.3, 0.3)


def test_an_empty_input_needs_no_model(erprm: Run) -> None:
    result = erprm("search", "--prm", "tiny")
    assert result.exception is None and result.stdout == ""


def test_bon_compares_searches_at_equal_tokens(erprm: Run, prm: str, tmp_path: Path) -> None:
    """`bon` knows all fields of `search`: an unknown figure of a problem would look like another search."""
    names = ("best-of-n", "smc", "beam")
    files = [tmp_path / f"{name}.jsonl" for name in names]
    for name, file in zip(names, files, strict=True):
        n = 8 if name == "best-of-n" else 4  # a search may use a few more tokens than as many samples
        words = ("search", "tiny:test", "-L", 3, "--prm", prm, "-n", n, "--temperature", 1.3, "-o", file)
        rows(erprm(*words, "--method", name))
    report, others = tmp_path / "report.jsonl", [word for file in files[1:] for word in ("--compare", file)]
    rows(erprm("bon", files[0], *others, "--x", "tokens", "--report", report))
    found = [json.loads(line) for line in report.open()]
    assert {row["search"] for row in found if row["minus"] is None} == set(names)
    assert {row["minus"] for row in found} == {None, "smc", "beam"}
    smc = next(row for row in found if row["search"] == "smc")
    written = [json.loads(line)["search"] for line in files[1].open()]
    assert smc["tokens"] == pytest.approx(sum(row["generated_tokens"] for row in written) / len(written))
    assert smc["prm_tokens"] is not None and smc["prompt_tokens"] is not None


def test_the_prm_may_be_behind_a_server(erprm: Run, tmp_path: Path) -> None:
    """Only the server knows how its PRM is read, and its eta. Here it scores each step by its length."""
    served, bad = PRM | {"eta": 2.0}, tmp_path / "bad.jsonl"

    def say(_: str, asked: dict[str, Any]) -> Reply:
        (row,) = asked["rows"]
        if "Nobody" in row["problem"]:
            return refusal("the solution has too many tokens")
        return Reply({"scores": [[len(step) / 100 for step in row["steps"]]], "prm": served, "errors": []})

    names = ("Tom", "Ann", "Nobody")
    problems = "".join(
        json.dumps({"problem": f"{name} has 3 apples and gets 4 more. How many?", "answer": "7"}) + "\n"
        for name in names
    )
    with serving(say) as server:
        server.gets["/prm"] = Reply(served)
        words = ("--prm", "m", "--prm-base-url", server.url, "-n", 4, "--ess-threshold", 0, "--eta", 3)
        result = erprm("search", *words, "--errors", bad, stdin=problems)
    (refused,) = [json.loads(line) for line in bad.open()]
    assert "cannot read a prefix" in refused["reason"] and "Nobody" in refused["line"]
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(found) == 8 and {row["prm"] for row in found} == {"m"}
    for name in names[:2]:
        of_problem = [row for row in found if name in row["problem"]]
        weights = torch.tensor([3 * relabel(row["scores"][-1], 2.0, 3.0) for row in of_problem])
        expected = weights.log_softmax(0).tolist()
        assert [row["log_weight"] for row in of_problem] == pytest.approx(expected, abs=1e-6)
        for row in of_problem:
            assert row["scores"] == [len(step) / 100 for step in row["steps"]]
            assert row["search"]["prm_tokens"] is None


def test_what_was_not_graded_is_told(erprm: Run, prm: str) -> None:
    problems = [{"id": "a", "problem": "Tom has 3?", "gold": "3"}, {"id": "b", "problem": "Ida has 4?"}]
    text = "".join(json.dumps(row) + "\n" for row in problems)
    done = erprm("search", "--prm", prm, "-n", 2, "--max-tokens", 8, stdin=text)
    assert [row["reward"] for row in by_key(rows(done))][2:] == [None, None]
    assert "warning: 2 of 4 solutions were not graded because their problems have no answer" in done.stderr
