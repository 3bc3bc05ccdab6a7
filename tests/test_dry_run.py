"""A dry run counts what the run would do, and changes nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig
from typer.testing import CliRunner, Result

from erprm_cli.app import make_app
from erprm_cli.models.size import ModelSize, model_size
from erprm_cli.shipped import resolve
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.plan import num_steps, training_size

Run = Callable[..., Result]


def plan(erprm: Run, *words: object) -> dict[str, Any]:
    """Return the row of a dry run."""
    done = erprm(*words, "--dry-run", "-q")
    assert done.exit_code == 0, done.output + str(done.exception)
    row: dict[str, Any] = json.loads(done.stdout)
    return row


def contents(folder: Path) -> dict[str, bytes]:
    """Return all files under a folder, with their bytes."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Solutions, rollouts and labels of three problems, made by the commands."""
    folder = tmp_path_factory.mktemp("chain")
    samples, rollouts, labels = (folder / f"{name}.jsonl" for name in ("samples", "rollouts", "labels"))
    for words in (
        ["sample", "tiny:test", "-L", "3", "-n", "2", "-o", samples],
        ["rollout", samples, "-k", "4", "-o", rollouts],
        ["label", rollouts, "-o", labels],
    ):
        assert CliRunner().invoke(make_app(), [*map(str, words), "-q"]).exit_code == 0
    return folder


def test_samples_are_counted_as_they_are_made(erprm: Run, tmp_path: Path) -> None:
    words = ["sample", "tiny:test", "-L", "3", "-n", "2", "--max-tokens", "40"]
    counts = plan(erprm, *words)
    out = tmp_path / "out.jsonl"
    done = erprm(*words, "-o", out)
    assert counts["completions"] == counts["solutions"] == len(out.read_text().splitlines()) == 6
    assert f"{counts['prompt_tokens']:,} prompt tokens" in done.stderr
    assert counts["max_generated_tokens"] == 6 * 40
    assert (counts["requests"], counts["too_long"]) == (3, 0)


def test_only_what_is_missing_is_counted(erprm: Run, chain: Path) -> None:
    before = contents(chain)
    again = ["sample", "tiny:test", "-L", "3", "-o", chain / "samples.jsonl", "-n"]
    assert plan(erprm, *again, "5")["completions"] == 9
    done = erprm(*again, "2", "--dry-run")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "nothing is missing" in done.stderr
    assert contents(chain) == before


def test_a_run_that_would_be_refused_is_refused(erprm: Run, chain: Path) -> None:
    done = erprm("sample", "tiny:test", "-n", "5", "--seed", "1", "-o", chain / "samples.jsonl", "--dry-run")
    assert done.exit_code == 1
    assert "made with seed 0, not 1" in str(done.exception)


def test_rollouts_share_prefixes_as_in_the_run(erprm: Run, chain: Path) -> None:
    counts = plan(erprm, "rollout", chain / "samples.jsonl", "-k", "4")
    done = erprm("rollout", chain / "samples.jsonl", "-k", "4")
    assert f"{counts['completions']:,} completions" in done.stderr
    assert f"{counts['shared_prefixes']:,} prefixes shared" in done.stderr
    assert f"{counts['prompt_tokens']:,} prompt tokens" in done.stderr
    assert counts["completions"] == 4 * counts["requests"]
    assert plan(erprm, "rollout", chain / "samples.jsonl", "-k", "4", "--shard", "1/2")["solutions"] < 6


def test_scores(erprm: Run, chain: Path, tmp_path: Path) -> None:
    words = ["score", chain / "samples.jsonl", "--prm", "tiny", "--prm-format", "er-prm"]
    counts = plan(erprm, *words, "-o", tmp_path / "scores.jsonl")
    steps = sum(len(json.loads(line)["steps"]) for line in (chain / "samples.jsonl").open())
    assert (counts["solutions"], counts["steps"]) == (6, steps)
    assert counts["tokens"] > steps
    assert list(tmp_path.iterdir()) == []


def test_training(erprm: Run, chain: Path, tmp_path: Path) -> None:
    words = ["train", chain / "labels.jsonl", "-o", tmp_path / "prm", "--epochs", "3", "--batch-size", "4"]
    counts = plan(erprm, *words)
    assert (counts["solutions"], counts["steps"]) == (6, 6)
    assert counts["training_gib"] == pytest.approx(4 * counts["weights_gib"], abs=0.002)
    assert list(tmp_path.iterdir()) == []


def test_rlhf(erprm: Run, tmp_path: Path) -> None:
    words = [
        "rlhf",
        "tiny:train",
        "-L",
        "10",
        "--prm",
        "tiny",
        "--prm-format",
        "er-prm",
        "-o",
        tmp_path / "raft",
    ]
    words += ["-n", "4", "--iterations", "2", "--slice-size", "8", "--max-tokens", "50", "--batch-size", "4"]
    counts = plan(erprm, *words)
    assert (counts["completions"], counts["evaluated"], counts["steps"]) == (64, 0, 8)
    assert counts["max_generated_tokens"] == 64 * 50
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["sample", "tiny:test", "-m", "./missing"],
        ["sample", "tiny:test", "-t", "nosuch"],
        ["score", "tiny:test", "--prm", "./missing"],
        ["search", "tiny:test", "--prm", "./missing"],
        ["train", "nosuch.jsonl", "-o", "prm"],
        ["rlhf", "tiny:train", "--prm", "./missing", "-o", "raft"],
    ],
    ids=lambda words: " ".join(words),
)
def test_what_is_wrong_is_found(
    erprm: Run, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert erprm(*words, "--dry-run").exit_code != 0
    assert list(tmp_path.iterdir()) == []


def test_hours_follow_from_the_rate(erprm: Run) -> None:
    words = ["sample", "tiny:test", "-L", "2", "-n", "3", "--max-tokens", "30"]
    counts = plan(erprm, *words, "--tokens-per-s", "0.5")
    assert counts["max_hours"] == pytest.approx(180 / 0.5 / 3600, abs=0.001)
    for command in (words, ["train", "labels.jsonl", "-o", "prm"]):
        done = erprm(*command, "--tokens-per-s", "5")
        assert "--tokens-per-s is for --dry-run" in str(done.exception)


def test_hours_of_reading_follow_from_the_rate(erprm: Run, chain: Path, tmp_path: Path) -> None:
    for words in (
        ["score", chain / "samples.jsonl", "--prm", "tiny", "--prm-format", "er-prm"],
        ["train", chain / "labels.jsonl", "-o", tmp_path / "prm"],
    ):
        counts = plan(erprm, *words, "--tokens-per-s", "0.5")
        assert counts["hours"] == pytest.approx(counts["tokens"] / 0.5 / 3600, abs=0.001)


def test_a_person_reads_lines(erprm: Run) -> None:
    said = erprm("sample", "tiny:test", "-L", "2", "-n", "3", "--dry-run").stderr
    assert "completions: 6\n" in said and "no model was run and nothing was written" in said


def test_the_size_of_a_model_is_that_of_its_weights() -> None:
    model = AutoModelForCausalLM.from_pretrained(resolve("tiny"))
    assert model_size("tiny") == ModelSize(model.num_parameters(), model.config.max_position_embeddings)


def test_the_size_of_an_8b_model_needs_its_configuration_only(tmp_path: Path) -> None:
    llama = LlamaConfig(
        vocab_size=128_256,
        hidden_size=4096,
        intermediate_size=14_336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131_072,
        tie_word_embeddings=False,
    )
    llama.save_pretrained(tmp_path)
    size = model_size(str(tmp_path))
    assert (size.parameters, size.max_tokens) == (8_030_261_248, 131_072)  # of Llama 3.1 8B
    assert size.weights_gib(torch.bfloat16) == pytest.approx(14.96, abs=0.01)
    whole = training_size(size, PrmTrainingConfig(tmp_path / "prm"))
    assert whole["training_gib"] == pytest.approx(119.66, abs=0.01)
    adapters = training_size(size, PrmTrainingConfig(tmp_path / "prm", lora_rank=16, bf16=False))
    assert adapters["training_gib"] == pytest.approx(29.92, abs=0.01)
    adapters = training_size(size, PrmTrainingConfig(tmp_path / "prm", lora_rank=16, bf16=True))
    assert adapters["training_gib"] == pytest.approx(14.96, abs=0.01)


@pytest.mark.parametrize(
    ("examples", "epochs", "steps"), [(64, 1.0, 1), (65, 1.0, 2), (65, 3.0, 6), (65, 0.5, 1)]
)
def test_the_steps_of_a_training(examples: int, epochs: float, steps: int, tmp_path: Path) -> None:
    assert num_steps(examples, PrmTrainingConfig(tmp_path / "prm", epochs=epochs)) == steps
