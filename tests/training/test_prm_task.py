import copy
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
from torch.nn.functional import log_softmax
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.labels.estimator import label_of_rate, rate_of_label
from erprm_cli.models.outputs import output_at
from erprm_cli.prm.scorer import Scorer
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.batches import collate
from erprm_cli.training.config import PrmTrainingConfig
from erprm_cli.training.examples import Examples
from erprm_cli.training.prm_task import PrmTask, two_way_loss
from erprm_cli.training.train import train_prm
from tests.tiny_models import make_model, save_model, solution_rows


def config(base: str, output: Path, **changes: Any) -> PrmTrainingConfig:
    settings: dict[str, Any] = {"epochs": 2.0, "lr": 1e-2, "batch_size": 16, "log_every": 1} | changes
    return PrmTrainingConfig(base=base, output=output, **settings)


def examples(task: PrmTask, split: str = "train") -> Examples:
    found = task.store.examples(split)
    assert found is not None
    return found


def trained(base: str, output: Path, count: int = 48, **changes: Any) -> tuple[list[Any], dict[str, Any]]:
    """Train, and return the log rows and the weights."""
    log: list[Any] = []
    train_prm(solution_rows(count, labels=True), config(base, output, **changes), log.append)
    return log, AutoModelForCausalLM.from_pretrained(output).state_dict()


@pytest.fixture(scope="module")
def default_run(
    base: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Any], dict[str, Any]]:
    """Return the folder, the log rows and the weights of a training as `config` says."""
    folder = tmp_path_factory.mktemp("default") / "prm"
    return folder, *trained(base, folder)


@pytest.fixture(scope="module")
def whole_batches(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Any], dict[str, Any]]:
    """Return the log rows and the weights of a training whose batches are one forward pass each."""
    return trained(base, tmp_path_factory.mktemp("whole") / "prm", micro_batch_tokens=10_000)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3", "cohere"])
def test_loss_and_gradients_equal_a_plain_full_logits_implementation(
    base: str, tmp_path: Path, kind: str, packed: bool
) -> None:
    task = PrmTask(config(base, tmp_path / "prm"))
    rows = solution_rows(7, labels=True)
    for row in rows:
        task.add(row)
    ids = task.tagger.token_ids
    kept = list(examples(task))
    batch = collate(kept, packed)
    vocab_size = len(task.tokenizer)

    fast = make_model(kind, vocab_size)
    with output_at(fast, batch["positions"], task.output_rows):
        read = {name: batch[name] for name in ("input_ids", "position_ids") if name in batch}
        logits = fast(**read, use_cache=False).logits
    assert logits.shape == (sum(len(row["steps"]) for row in rows), 2)
    loss = two_way_loss(logits, batch["targets"]).sum()
    loss.backward()

    plain = make_model(kind, vocab_size)
    expected = torch.zeros(())
    for row, example in zip(rows, kept, strict=True):
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


@pytest.mark.slow
def test_a_trained_model_tells_good_steps_from_bad_ones(base: str, tmp_path: Path) -> None:
    log, _ = trained(base, tmp_path / "prm", count=128, epochs=6.0)
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    rows = solution_rows(40, labels=True)
    for row in Scorer(str(tmp_path / "prm")).score(rows):
        for score, label in zip(row["scores"], row["labels"], strict=True):
            assert (score > 0.5) == (label > 0.5)


@pytest.mark.parametrize("packing", [False, True])
def test_the_division_into_micro_batches_does_not_change_the_result(
    base: str, tmp_path: Path, whole_batches: tuple[list[Any], dict[str, Any]], packing: bool
) -> None:
    whole, whole_weights = whole_batches
    cut, cut_weights = trained(base, tmp_path / "cut", micro_batch_tokens=100, packing=packing)
    assert [row["loss"] for row in cut] == pytest.approx([row["loss"] for row in whole], rel=1e-3)
    assert cut[0]["loss"] == pytest.approx(whole[0]["loss"], rel=1e-6)
    assert cut[0]["grad_norm"] == pytest.approx(whole[0]["grad_norm"], rel=1e-4)
    for name, weight in whole_weights.items():
        assert torch.allclose(weight, cut_weights[name], atol=1e-2), name


def test_the_first_loss_is_the_mean_over_all_tags_of_the_batch(base: str, tmp_path: Path) -> None:
    rows = solution_rows(16, labels=True)
    losses = []
    for row in Scorer(base, prm_format="er-prm").score(rows):
        for score, label in zip(row["scores"], row["labels"], strict=True):
            losses.append(-label * np.log(score) - (1 - label) * np.log(1 - score))
    log, _ = trained(base, tmp_path / "prm", count=16, micro_batch_tokens=100, epochs=1.0)
    assert log[0]["loss"] == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_and_another_does_not(
    base: str, tmp_path: Path, default_run: tuple[Path, list[Any], dict[str, Any]]
) -> None:
    _, _, first = default_run
    _, second = trained(base, tmp_path / "2")
    _, other = trained(base, tmp_path / "3", seed=1)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.slow
def test_bfloat16_computes_nearly_the_same_and_keeps_float32_weights(
    base: str, tmp_path: Path, default_run: tuple[Path, list[Any], dict[str, Any]]
) -> None:
    _, exact, _ = default_run
    rounded, weights = trained(base, tmp_path / "rounded", bf16=True)
    assert rounded[0]["loss"] == pytest.approx(exact[0]["loss"], rel=0.05)
    assert rounded[0]["loss"] != exact[0]["loss"]
    assert {weight.dtype for weight in weights.values()} == {torch.float32}


def test_outcome_only_learns_the_last_label_alone(base: str, tmp_path: Path) -> None:
    task = PrmTask(config(base, tmp_path / "prm", outcome_only=True))
    row = solution_rows(4, labels=True)[3]
    task.add(row)
    example = examples(task)[0]
    assert example.positions.tolist() == [len(example.ids) - 1]
    assert example.targets.tolist() == pytest.approx([row["labels"][-1]])


def test_the_folder_says_what_made_it_and_loads_without_erprm(
    default_run: tuple[Path, list[Any], dict[str, Any]],
) -> None:
    folder, log, _ = default_run
    card = orjson.loads((folder / "erprm.json").read_bytes())
    assert card["kind"] == "token" and card["eta"] == 2.0 and card["estimator"] == "er"
    assert card["format"]["tag"] == " ки" and len(set(card["token_ids"].values())) == 3
    assert card["settings"]["lr"] == 1e-2 and len(card["settings"]["data"]) == 64
    assert card["result"] == log[-1]
    assert log[-1]["model"] == str(folder) and log[-1]["rows"] == 48
    assert (folder / "model.safetensors").is_file()
    assert "er-prm" in (folder / "README.md").read_text()
    assert [path.name for path in folder.parent.iterdir()] == ["prm"]  # no drafts and checkpoints stay behind


@pytest.mark.slow
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
        PrmTask(config(base, tmp_path))
    with pytest.raises(UserError, match="is a file"):
        PrmTask(config(base, tmp_path / "thesis.tex"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": [0.5]}, "'labels' has 1 number for 2 steps"),
        ({"labels": [0.5, 1.5]}, r"1.5, outside \[0, 1\]"),
        ({"labels": [0.5, float("nan")]}, "nan, which is not finite"),
        ({"labels": None}, r"no 'labels' \(one number in \[0, 1\] per step; `erprm label` writes it\)"),
        ({"eta": 1.0}, "labelled with .*1.0.* but the rows before with .*2.0"),
    ],
)
def test_a_row_that_cannot_be_learned_from_is_refused(
    base: str, tmp_path: Path, change: dict[str, Any], reason: str
) -> None:
    task = PrmTask(config(base, tmp_path / "prm"))
    first, second = solution_rows(2, labels=True)
    task.add(first)
    with pytest.raises(RowError, match=reason):
        task.add(second | change)
    assert task.store.count == 1


def test_too_long_solutions_are_counted_left_out_and_reported(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _ = trained(base, tmp_path / "prm", max_length=40)
    assert 0 < log[-1]["left_out"] < 48
    assert log[-1]["rows"] + log[-1]["left_out"] == 48
    assert f"{log[-1]['left_out']} of 48 solutions have more than 40 tokens" in capsys.readouterr().err
    with pytest.raises(UserError, match="nothing to train on: every solution is too long"):
        trained(base, tmp_path / "none", max_length=5)


def test_empty_data_equal_labels_and_too_small_rates_are_reported(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match="nothing to train on"):
        train_prm([], config(base, tmp_path / "prm"), print)
    rows = [row | {"labels": [1.0] * len(row["steps"])} for row in solution_rows(4, labels=True)]
    train_prm(rows, config(base, tmp_path / "prm", lr=5e-7, epochs=1.0), print, Reporter("train", quiet=True))
    told = capsys.readouterr().err
    assert "all labels are 1" in told
    assert "--lr 5e-07 suits a base with billions" in told


def test_a_loss_that_is_no_number_stops_the_training(base: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the loss is nan .*smaller --lr"):
        trained(base, tmp_path / "prm", lr=1e30, epochs=4.0)
    assert not list(tmp_path.iterdir())


def with_rollouts(rows: list[dict[str, Any]], k: int = 8) -> list[dict[str, Any]]:
    """Return labelled rows with rollouts that agree with the labels, and the outcome as the last one."""
    for row in rows:
        wins = [round(label * k) for label in row["labels"]]
        row["rollouts"] = [[1.0] * won + [0.0] * (k - won) for won in wins[:-1]]
        row["rollouts"].append([float(row["labels"][-1] > 0.5)])
    return rows


def test_counts_are_the_binomial_likelihood_of_all_completions(base: str, tmp_path: Path) -> None:
    rows = with_rollouts(solution_rows(16, labels=True))
    likelihood = trials = 0.0
    for row in Scorer(base, prm_format="er-prm").score(rows):
        for score, rewards in zip(row["scores"], row["rollouts"], strict=True):
            likelihood -= sum(np.log(score if reward else 1 - score) for reward in rewards)
            trials += len(rewards)
    log: list[Any] = []
    counts = config(base, tmp_path / "prm", target="counts", epochs=1.0)
    train_prm(rows, counts, log.append)
    assert log[0]["loss"] == pytest.approx(likelihood / trials, rel=1e-4)
    card = orjson.loads((tmp_path / "prm" / "erprm.json").read_bytes())
    assert (card["eta"], card["estimator"], card["settings"]["target"]) == (0.0, "soft", "counts")


def test_rewards_that_cannot_be_counted_are_refused(base: str, tmp_path: Path) -> None:
    task = PrmTask(config(base, tmp_path / "prm", target="counts"))
    (row,) = with_rollouts(solution_rows(1, labels=True))
    with pytest.raises(RowError, match="rewards other than 0 and 1"):
        task.add(row | {"rollouts": [[0.5]]})


def test_solutions_count_alike_if_asked_to(base: str, tmp_path: Path) -> None:
    rows = solution_rows(16, labels=True)
    means = []
    for row in Scorer(base, prm_format="er-prm").score(rows):
        pairs = zip(row["scores"], row["labels"], strict=True)
        means.append(np.mean([-label * np.log(p) - (1 - label) * np.log(1 - p) for p, label in pairs]))
    log: list[Any] = []
    train_prm(rows, config(base, tmp_path / "prm", weighting="solution", epochs=1.0), log.append)
    assert log[0]["loss"] == pytest.approx(np.mean(means), rel=1e-4)


def test_truncation_keeps_whole_steps_from_the_start(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = solution_rows(48, labels=True)
    whole = PrmTask(config(base, tmp_path / "whole"))
    cut = PrmTask(config(base, tmp_path / "cut", max_length=40, truncate=True))
    for row in rows:
        whole.add(row)
        cut.add(row)
    full = {tuple(example.ids.tolist()): example for example in examples(whole)}
    shorter = 0
    for example in examples(cut):
        assert len(example.ids) <= 40
        assert example.ids[-1] == cut.tagger.token_ids.tag  # never a step cut in its middle
        assert example.positions[-1] == len(example.ids) - 1
        like = [one for ids, one in full.items() if ids[: len(example.ids)] == tuple(example.ids.tolist())]
        assert any(np.array_equal(one.targets[: len(example.targets)], example.targets) for one in like)
        shorter += tuple(example.ids.tolist()) not in full
    assert shorter == cut.stats["truncated"] > 0
    cut.check_examples(Reporter("train"))
    assert f"{shorter} solutions of more than 40 tokens lost their last steps" in capsys.readouterr().err


def test_an_outcome_is_never_taken_from_a_step_in_the_middle(base: str, tmp_path: Path) -> None:
    task = PrmTask(config(base, tmp_path / "prm", max_length=40, truncate=True, outcome_only=True))
    for row in solution_rows(48, labels=True):
        task.add(row)
    assert task.stats["too_long"] > 0 and task.stats["truncated"] == 0


@pytest.mark.slow
def test_validation_is_by_problem_and_stands_in_the_last_row(base: str, tmp_path: Path) -> None:
    rows = solution_rows(96, labels=True)
    task = PrmTask(config(base, tmp_path / "prm", eval_fraction=0.3))
    sides: dict[str, set[int]] = {}
    for row in rows:
        before = task.store.count
        task.add(row)
        sides.setdefault(row["problem"], set()).add(task.store.count - before)
    assert all(len(side) == 1 for side in sides.values())
    assert 0 < len(examples(task, "eval")) < 48
    log: list[Any] = []
    last = train_prm(rows, config(base, tmp_path / "prm", eval_fraction=0.3, epochs=8.0), log.append)
    evaluated = [row for row in log[:-1] if row["eval_loss"] is not None]
    assert [row["epoch"] for row in evaluated] == [float(epoch) for epoch in range(1, 9)]
    assert evaluated[-1]["eval_loss"] < evaluated[0]["eval_loss"]
    assert last["eval_auc"] > 0.9 and 0 <= last["eval_brier"] < 0.2 and 0 <= last["eval_ece"] < 0.4


def test_what_validation_says_is_what_scores_say(base: str, tmp_path: Path) -> None:
    rows, held_out = solution_rows(48, labels=True), solution_rows(80, labels=True)[48:]
    path = tmp_path / "eval.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in held_out))
    last = train_prm(rows, config(base, tmp_path / "prm", eval=str(path)), lambda row: None)
    errors, losses = [], []
    for row in Scorer(str(tmp_path / "prm")).score(held_out):
        for p, label in zip(row["scores"], row["labels"], strict=True):
            errors.append((rate_of_label(p, 2.0) - rate_of_label(label, 2.0)) ** 2)
            losses.append(-label * np.log(p) - (1 - label) * np.log(1 - p))
    assert last["eval_brier"] == pytest.approx(np.mean(errors), rel=1e-3)
    assert last["eval_loss"] == pytest.approx(np.mean(losses), rel=1e-3)


def test_validation_on_what_was_trained_on_is_reported(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = solution_rows(8, labels=True)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    train_prm(rows, config(base, tmp_path / "prm", eval=str(path), epochs=1.0), print)
    assert "8 solutions of" in capsys.readouterr().err
    with pytest.raises(UsageError, match="give one of them"):
        PrmTask(config(base, tmp_path / "prm2", eval=str(path), eval_fraction=0.5))


@pytest.mark.slow
def test_a_head_learns_the_same_and_loads_as_a_token_classifier(base: str, tmp_path: Path) -> None:
    log: list[Any] = []
    train_prm(
        solution_rows(128, labels=True), config(base, tmp_path / "prm", kind="head", epochs=6.0), log.append
    )
    assert log[-1]["loss"] < 0.7 * log[0]["loss"]
    model, info = AutoModelForTokenClassification.from_pretrained(tmp_path / "prm", output_loading_info=True)
    assert not info["missing_keys"] and model.config.id2label == {0: "bad", 1: "good"}
    right = [
        (score > 0.5) == (label > 0.5)
        for row in Scorer(str(tmp_path / "prm")).score(solution_rows(40, labels=True))
        for score, label in zip(row["scores"], row["labels"], strict=True)
    ]
    assert np.mean(right) > 0.9


def test_a_head_has_the_loss_and_gradients_of_plain_token_classification(base: str, tmp_path: Path) -> None:
    task = PrmTask(config(base, tmp_path / "prm", kind="head"))
    for row in solution_rows(7, labels=True):
        task.add(row)
    torch.manual_seed(0)
    fast = task.load_model(torch.float32)
    plain = copy.deepcopy(fast)
    batch = collate(list(examples(task)))
    with output_at(fast, batch["positions"], task.output_rows):
        loss = task.loss(fast(input_ids=batch["input_ids"]).logits, batch["targets"]).sum()
    loss.backward()
    log_p = log_softmax(plain(input_ids=batch["input_ids"]).logits.flatten(0, 1)[batch["positions"]], -1)
    expected = -(batch["targets"] * log_p[:, 1] + (1 - batch["targets"]) * log_p[:, 0]).sum()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["token", "head"])
@pytest.mark.slow
def test_lora_trains_adapters_alone_and_merges_on_request(base: str, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("peft")
    rows = solution_rows(64, labels=True)
    settings: dict[str, Any] = {"lora_rank": 4, "kind": kind, "epochs": 3.0}
    log: list[Any] = []
    train_prm(rows, config(base, tmp_path / "merged", merge_lora=True, **settings), log.append)
    assert log[-1]["loss"] < log[0]["loss"]
    loader = AutoModelForCausalLM if kind == "token" else AutoModelForTokenClassification
    merged = loader.from_pretrained(tmp_path / "merged")
    before = loader.from_pretrained(base)
    assert torch.equal(merged.model.embed_tokens.weight, before.model.embed_tokens.weight)
    assert not torch.equal(
        merged.model.layers[0].mlp.up_proj.weight, before.model.layers[0].mlp.up_proj.weight
    )
    train_prm(rows, config(base, tmp_path / "adapters", **settings), log.append)
    assert not (tmp_path / "adapters" / "model.safetensors").exists()
    pairs = zip(*(Scorer(str(tmp_path / name)).score(rows) for name in ("merged", "adapters")), strict=True)
    for one, other in pairs:
        assert one["scores"] == pytest.approx(other["scores"], abs=1e-6)


def test_what_the_tokenizer_cannot_tell_apart_is_not_trained_on(base: str, tmp_path: Path) -> None:
    glued = save_model(tmp_path / "glued", keep_tag_apart=False)
    task = PrmTask(config(str(glued), tmp_path / "prm"))
    with pytest.raises(RowError, match="step 1: the tag ' ки' is not one token in"):
        task.add(solution_rows(2, labels=True)[1])
    assert task.store.count == 0
    (tmp_path / "same.toml").write_text(SAME_WORDS)
    with pytest.raises(UserError, match="must be three different tokens"):
        PrmTask(config(base, tmp_path / "prm", format=str(tmp_path / "same.toml")))
    (tmp_path / "long.toml").write_text(SAME_WORDS.replace('good = " +"', 'good = " good"'))
    with pytest.raises(UserError, match="' good' is not a single token"):
        PrmTask(config(base, tmp_path / "prm", format=str(tmp_path / "long.toml")))


SAME_WORDS = """kind = "token"
build = "text"
prompt = "{problem} "
tag = " ки"
good = " +"
bad = " +"
"""


def test_special_tokens_that_a_tokenizer_adds_by_itself_are_no_text(base: str, tmp_path: Path) -> None:
    tuned = save_model(tmp_path / "tuned")
    settings = orjson.loads((tuned / "tokenizer.json").read_bytes())
    settings["post_processor"]["single"].append({"SpecialToken": {"id": "</s>", "type_id": 0}})
    settings["post_processor"]["special_tokens"]["</s>"] = {"id": "</s>", "ids": [2], "tokens": ["</s>"]}
    (tuned / "tokenizer.json").write_bytes(orjson.dumps(settings))
    plain, ended = (PrmTask(config(name, tmp_path / "prm")) for name in (base, str(tuned)))
    assert ended.tokenizer("").input_ids == [1, 2]
    for row in solution_rows(4, labels=True):
        plain.add(row)
        ended.add(row)
    assert ended.stats["special"] == 0
    for one, other in zip(examples(plain), examples(ended), strict=True):
        assert one.ids.tolist() == other.ids.tolist()  # nothing follows the last tag


def test_special_tokens_in_a_text_and_a_missing_padding_token_are_reported(
    base: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = save_model(tmp_path / "bare")
    settings = orjson.loads((bare / "tokenizer_config.json").read_bytes())
    del settings["pad_token"]
    (bare / "tokenizer_config.json").write_bytes(orjson.dumps(settings))
    rows = solution_rows(4, labels=True)
    rows[0]["problem"] += "</s>"
    train_prm(rows, config(str(bare), tmp_path / "prm", epochs=1.0), print)
    told = capsys.readouterr().err
    assert "1 solutions contain special tokens" in told
    assert "has no padding token; the saved tokenizer pads with '</s>'" in told
    assert AutoTokenizer.from_pretrained(tmp_path / "prm").pad_token == "</s>"


def test_formats_and_kinds_that_do_not_go_together_are_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="give --kind head"):
        PrmTask(config(base, tmp_path / "prm", format="trl"))


def test_a_model_of_counts_serves_every_eta(base: str, tmp_path: Path) -> None:
    rows = with_rollouts(solution_rows(16, labels=True))
    train_prm(rows, config(base, tmp_path / "prm", target="counts", epochs=1.0), lambda row: None)
    rates = [row["scores"] for row in Scorer(str(tmp_path / "prm")).score(rows)]
    scorer = Scorer(str(tmp_path / "prm"), eta=2.0)
    for row, rate in zip(scorer.score(rows), rates, strict=True):
        assert row["scores"] == pytest.approx([label_of_rate(one, 2.0) for one in rate], abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "qwen"}, "--prm-format qwen does not suit --kind token; give --kind head"),
        ({"format": "reasoneval", "kind": "head"}, "--prm-format reasoneval has other classes than bad and"),
    ],
)
def test_a_format_that_cannot_be_trained_is_refused(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=reason):
        PrmTask(config("./nowhere", tmp_path / "prm", **changes))


def test_a_validation_set_without_solutions_is_refused(base: str, tmp_path: Path) -> None:
    task = PrmTask(config(base, tmp_path / "prm", eval_fraction=1e-9))
    for row in solution_rows(4, labels=True):
        task.add(row)
    with pytest.raises(
        UserError, match="nothing to validate on; use a larger --eval-fraction or another --eval"
    ):
        task.check_examples(Reporter("train", quiet=True))
