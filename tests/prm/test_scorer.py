from itertools import count, repeat
from pathlib import Path
from typing import Any

import pytest
import torch

from erprm_cli.errors import RowError, Stopped, UserError
from erprm_cli.prm import scorer
from erprm_cli.prm.formats import ER_PRM
from erprm_cli.prm.scorer import Scorer, batches_by_length
from tests.tiny_models import make_model, make_tokenizer, save_model, solution_rows


def naive_scores(model: Any, tokenizer: Any, row: dict[str, Any]) -> list[float]:
    """Score like the released evaluator: one solution, all logits, tags found by their id."""
    text = f"{row['problem']} " + "".join(f"{step} ки" for step in row["steps"])
    ids = tokenizer(text, return_tensors="pt").input_ids
    tag, good, bad = (tokenizer.encode(word)[-1] for word in (" ки", " +", " -"))
    with torch.no_grad():
        logits = model(ids).logits[0]
    scores: list[float] = logits[ids[0] == tag][:, [good, bad]].softmax(-1)[:, 0].tolist()
    return scores


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3", "cohere"])
def test_batched_scores_equal_full_logits_one_row_at_a_time(tmp_path: Path, kind: str) -> None:
    scorer = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM, batch_tokens=200)
    tokenizer = make_tokenizer()
    scorer.model = make_model(kind, len(tokenizer))
    for row in scorer.score(solution_rows(12)):
        expected = naive_scores(scorer.model, tokenizer, row)
        assert len(row["scores"]) == len(row["steps"])
        assert row["scores"] == pytest.approx(expected, abs=1e-5)
    assert scorer.num_padded <= 1.2 * scorer.num_tokens


def test_scores_come_in_the_order_of_the_rows_with_their_unknown_fields(tmp_path: Path) -> None:
    rows = [row | {"note": number} for number, row in enumerate(solution_rows(9))]
    scored = list(Scorer(str(save_model(tmp_path)), prm_format=ER_PRM).score(rows))
    assert [row["note"] for row in scored] == list(range(9))
    assert all(row["prm"] == str(tmp_path) for row in scored)
    assert [{name: row[name] for name in rows[0]} for row in scored] == rows


def test_scoring_draws_a_bounded_part_of_an_endless_stream(tmp_path: Path) -> None:
    drawn = []
    row = solution_rows(1)[0]
    endless = (drawn.append(number) or row | {"problem": f"{number} + 1"} for number in count())  # type: ignore[func-returns-value]
    scores = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM, batch_tokens=64).score(endless)
    assert [len(next(scores)["scores"]) for _ in range(100)] == [1] * 100
    assert len(drawn) < 200


def test_equal_solutions_are_read_once(tmp_path: Path) -> None:
    rows = [row | {"id": str(number)} for number, row in enumerate(solution_rows(5) * 3)]
    scorer = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM)
    scores = list(scorer.score(rows))
    assert [row["id"] for row in scores] == [row["id"] for row in rows]
    assert scorer.num_tokens == sum(len(scorer.encode(row).ids) for row in rows[:5])
    for number, row in enumerate(scores):
        assert row["scores"] == scores[number % 5]["scores"]
    assert len({str(row["scores"]) for row in scores[:5]}) > 1


def test_an_endless_stream_of_one_solution_is_scored(tmp_path: Path) -> None:
    scores = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM, batch_tokens=64).score(
        repeat(solution_rows(1)[0])
    )
    assert [len(next(scores)["scores"]) for _ in range(2_000)] == [1] * 2_000


def test_on_a_cpu_rows_leave_after_two_seconds_of_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large model, or a slow core: here one that computes 30 tokens in that time."""
    folder = save_model(tmp_path)
    size = Scorer(str(folder), prm_format=ER_PRM).model.num_parameters()
    monkeypatch.setattr(scorer, "CPU_FLOPS", 2 * size * 30 / scorer.HELD_S)
    drawn = []
    rows = solution_rows(40)
    scores = Scorer(str(folder), prm_format=ER_PRM).score(drawn.append(row) or row for row in rows)  # type: ignore[func-returns-value]
    next(scores)
    assert len(drawn) < 4
    whole = Scorer(str(folder), prm_format=ER_PRM, batch_tokens=1).score(rows)
    assert [row["id"] for row in scores] == [row["id"] for row in whole][1:]


@pytest.mark.parametrize("end", [Stopped(2), UserError("no memory")])
def test_what_is_scored_when_a_run_ends_is_kept(tmp_path: Path, end: BaseException) -> None:
    rows = [row | {"id": str(number)} for number, row in enumerate(solution_rows(9))]
    one = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM, batch_tokens=1)
    one.window_tokens = 10_000
    probabilities, calls = one.probabilities, count()

    def ending(batch: Any) -> list[list[float]]:
        if next(calls) == 5:
            raise end
        return probabilities(batch)

    one.probabilities = ending  # type: ignore[method-assign]
    kept = []
    with pytest.raises(type(end)):
        for row in one.score(rows):
            kept.append(row["id"])
    assert len(kept) == 5 and kept == sorted(kept)


def test_a_solution_longer_than_the_model_reads_is_a_bad_row(tmp_path: Path) -> None:
    scorer = Scorer(str(save_model(tmp_path, max_positions=20)), prm_format=ER_PRM)
    row = solution_rows(1)[0]
    with pytest.raises(RowError, match="the model reads at most 20"):
        scorer.encode(row | {"steps": row["steps"] * 3})


@pytest.mark.parametrize("bad", ["6", '"' + "a" * 100_000 + '"', "[" + "1," * 9_999 + "1]"])
def test_ids_that_the_tokenizer_does_not_confirm_are_refused(tmp_path: Path, bad: str) -> None:
    save_model(tmp_path)
    (tmp_path / "erprm.json").write_text(
        '{"format": {"name": "er-prm", "prompt": "{problem} ", "tag": " ки", "good": " +", "bad": " -"},'
        f' "token_ids": {{"tag": 4, "good": 5, "bad": {bad}}}}}'
    )
    with pytest.raises(UserError, match="mixes files of two models") as caught:
        Scorer(str(tmp_path))
    assert len(str(caught.value)) < 500


def test_nan_scores_are_an_error(tmp_path: Path) -> None:
    scorer = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM)
    scorer.model.model.norm.weight.data.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN or infinite"):
        next(scorer.score(solution_rows(1)))


def test_batches_hold_each_solution_once_and_fit_the_budget() -> None:
    lengths = [5, 90, 7, 7, 3, 250, 12, 40]
    batches = list(batches_by_length(lengths, 100))
    assert sorted(index for batch in batches for index in batch) == list(range(8))
    assert all(
        len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= 100 for batch in batches
    )
