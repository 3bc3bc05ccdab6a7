from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM

from erprm_cli.errors import RowError, UserError
from erprm_cli.prm import Scorer, output_at
from erprm_cli.prm_training import PrmData, PrmTrainingConfig, train_prm, two_way_loss
from erprm_cli.progress import News
from erprm_cli.training import SortedWithinBatches, collate
from tests.tiny_models import make_model, save_model, solution_rows


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base")))


def config(base: str, output: Path, **changes: Any) -> PrmTrainingConfig:
    settings: dict[str, Any] = {"epochs": 2.0, "lr": 1e-2, "batch_size": 16, "log_every": 1} | changes
    return PrmTrainingConfig(base=base, output=output, **settings)


def trained(base: str, output: Path, count: int = 48, **changes: Any) -> tuple[list[Any], dict[str, Any]]:
    """Train, and return the log rows and the weights."""
    log: list[Any] = []
    train_prm(solution_rows(count, labels=True), config(base, output, **changes), log.append)
    return log, AutoModelForCausalLM.from_pretrained(output).state_dict()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3", "cohere"])
def test_loss_and_gradients_equal_a_plain_full_logits_implementation(
    base: str, tmp_path: Path, kind: str
) -> None:
    data = PrmData(config(base, tmp_path / "prm"))
    rows = solution_rows(7, labels=True)
    for row in rows:
        data.add(row)
    ids = data.tagger.token_ids
    batch = collate(data.examples)
    vocab_size = len(data.tokenizer)

    fast = make_model(kind, vocab_size)
    with output_at(fast, batch["positions"], data.tagger.rows):
        logits = fast(input_ids=batch["input_ids"]).logits
    assert logits.shape == (sum(len(row["steps"]) for row in rows), 2)
    loss = two_way_loss(logits, batch["targets"])
    loss.backward()

    plain = make_model(kind, vocab_size)
    expected = torch.zeros(())
    for row, example in zip(rows, data.examples, strict=True):
        two = plain(input_ids=torch.tensor(example.ids[None].astype(np.int64))).logits[0][
            :, [ids.good, ids.bad]
        ]
        for position, label in zip(example.positions, row["labels"], strict=True):
            good, bad = log_softmax(two[position], -1)
            expected = expected - label * good - (1 - label) * bad
    expected.backward()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for (name, ours), theirs in zip(fast.named_parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4), name


def test_a_trained_model_tells_good_steps_from_bad_ones(base: str, tmp_path: Path) -> None:
    log, _ = trained(base, tmp_path / "prm", count=128, epochs=6.0)
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    rows = solution_rows(40, labels=True)
    for row in Scorer(str(tmp_path / "prm")).score(rows):
        for score, label in zip(row["scores"], row["labels"], strict=True):
            assert (score > 0.5) == (label > 0.5)


def test_the_cut_into_micro_batches_does_not_change_the_result(base: str, tmp_path: Path) -> None:
    whole, whole_weights = trained(base, tmp_path / "whole", micro_batch_size=16)
    cut, cut_weights = trained(base, tmp_path / "cut", micro_batch_size=2)
    assert [row["loss"] for row in cut] == pytest.approx([row["loss"] for row in whole], rel=1e-3)
    assert cut[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-6)
    assert cut[0]["grad_norm"] == pytest.approx(whole[0]["grad_norm"], rel=1e-4)
    for name, weight in whole_weights.items():
        assert torch.allclose(weight, cut_weights[name], atol=1e-2), name


def test_the_first_loss_is_the_mean_over_all_tags_of_the_batch(base: str, tmp_path: Path) -> None:
    rows = solution_rows(16, labels=True)
    losses = []
    for row in Scorer(base, form="er-prm").score(rows):
        for score, label in zip(row["scores"], row["labels"], strict=True):
            losses.append(-label * np.log(score) - (1 - label) * np.log(1 - score))
    log, _ = trained(base, tmp_path / "prm", count=16, micro_batch_size=4, epochs=1.0)
    assert log[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)


def test_the_same_seed_gives_the_same_bits_and_another_does_not(base: str, tmp_path: Path) -> None:
    _, first = trained(base, tmp_path / "1")
    _, second = trained(base, tmp_path / "2")
    _, other = trained(base, tmp_path / "3", seed=1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_bfloat16_computes_nearly_the_same_and_keeps_float32_weights(base: str, tmp_path: Path) -> None:
    exact, _ = trained(base, tmp_path / "exact")
    rounded, weights = trained(base, tmp_path / "rounded", bf16=True)
    assert rounded[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.05)
    assert rounded[0]["loss"] != exact[0]["loss"]
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_outcome_only_learns_the_last_label_alone(base: str, tmp_path: Path) -> None:
    data = PrmData(config(base, tmp_path / "prm", outcome_only=True))
    row = solution_rows(4, labels=True)[3]
    data.add(row)
    example = data.examples[0]
    assert example.positions.tolist() == [len(example.ids) - 1]
    assert example.targets.tolist() == pytest.approx([row["labels"][-1]])


def test_the_folder_says_what_made_it_and_loads_without_erprm(base: str, tmp_path: Path) -> None:
    log, _ = trained(base, tmp_path / "prm")
    card = orjson.loads((tmp_path / "prm" / "erprm.json").read_bytes())
    assert card["kind"] == "token" and card["eta"] == 2.0 and card["estimator"] == "er"
    assert card["format"]["tag"] == " ки" and len(set(card["token_ids"].values())) == 3
    assert card["settings"]["lr"] == 1e-2 and len(card["settings"]["data"]) == 64
    assert card["result"] == log[-1]
    assert log[-1]["model"] == str(tmp_path / "prm") and log[-1]["rows"] == 48
    assert (tmp_path / "prm" / "model.safetensors").is_file()
    assert "er-prm" in (tmp_path / "prm" / "README.md").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["prm"]  # no drafts stay behind


def test_a_repeated_run_trains_nothing_and_other_settings_or_rows_are_refused(
    base: str, tmp_path: Path
) -> None:
    log, _ = trained(base, tmp_path / "prm")
    made = (tmp_path / "prm" / "model.safetensors").stat().st_mtime_ns
    again, _ = trained(base, tmp_path / "prm")
    assert again == log[-1:]
    assert (tmp_path / "prm" / "model.safetensors").stat().st_mtime_ns == made
    with pytest.raises(UserError, match="made with lr 0.01, not 0.02.*--overwrite"):
        trained(base, tmp_path / "prm", lr=0.02)
    with pytest.raises(UserError, match="made with data"):
        trained(base, tmp_path / "prm", count=47)
    trained(base, tmp_path / "prm", lr=0.02, overwrite=True)
    assert (tmp_path / "prm" / "model.safetensors").stat().st_mtime_ns != made


def test_a_folder_of_something_else_is_not_touched(base: str, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="not a model made by erprm"):
        PrmData(config(base, tmp_path))
    with pytest.raises(UserError, match="is a file"):
        PrmData(config(base, tmp_path / "thesis.tex"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": [0.5]}, "'labels' has 1 number for 2 steps"),
        ({"labels": [0.5, 1.5]}, r"1.5, outside \[0, 1\]"),
        ({"labels": [0.5, float("nan")]}, "nan, which is not finite"),
        ({"labels": None}, "no 'labels'; `erprm label` writes it"),
        ({"eta": 1.0}, "labelled with .*1.0.* but the rows before with .*2.0"),
    ],
)
def test_a_row_that_cannot_be_learned_from_is_refused(
    base: str, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    data = PrmData(config(base, tmp_path / "prm"))
    first, second = solution_rows(2, labels=True)
    data.add(first)
    with pytest.raises(RowError, match=reason):
        data.add(second | change)
    assert len(data.examples) == 1


def test_too_long_solutions_are_counted_left_out_and_told_of(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = trained(base, tmp_path / "prm", max_length=40)
    assert 0 < log[-1]["left_out"] < 48
    assert log[-1]["rows"] + log[-1]["left_out"] == 48
    assert f"{log[-1]['left_out']} of 48 solutions have more than 40 tokens" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing to train on: every solution is too long"):
        trained(base, tmp_path / "none", max_length=5)


def test_empty_data_equal_labels_and_hopeless_rates_are_told(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="nothing to train on"):
        train_prm([], config(base, tmp_path / "prm"), print)
    rows = [row | {"labels": [1.0] * len(row["steps"])} for row in solution_rows(4, labels=True)]
    train_prm(rows, config(base, tmp_path / "prm", lr=5e-7, epochs=1.0), print, News("train", quiet=True))
    told = capsys.readouterr().err
    assert "all labels are 1" in told
    assert "--lr 5e-07 suits a base of billions" in told


def test_a_loss_that_is_no_number_stops_the_training(base: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is nan .*smaller --lr"):
        trained(base, tmp_path / "prm", lr=1e30, epochs=4.0)
    assert not (tmp_path / "prm").exists()


def test_batches_are_random_and_sorted_within() -> None:
    lengths = [number * 7 % 50 for number in range(50)]
    sampler = SortedWithinBatches(lengths, 8, seed=0)
    first = list(sampler)
    assert sorted(first) == list(range(50)) and first == list(sampler)
    for begin in range(0, 50, 8):
        batch = [lengths[index] for index in first[begin : begin + 8]]
        assert batch == sorted(batch, reverse=True)
    sampler.set_epoch(1)
    assert set(first[:8]) != set(list(sampler)[:8])
