"""Prefixes that grow by a step are scored as whole ones are, and their first steps are not read again."""

from pathlib import Path

import pytest

from erprm_cli.prm.formats import ER_PRM
from erprm_cli.prm.scorer import Scorer
from tests.tiny_models import make_model, make_tokenizer, save_model, solution_rows


def growing(scorer: Scorer) -> int:
    """Read all prefixes of solutions, step by step; return the number of tokens of all of them."""
    rows, size = [row for row in solution_rows(12) if len(row["steps"]) > 2], 0
    for count in range(1, max(len(row["steps"]) for row in rows) + 1):
        chosen = [row | {"steps": row["steps"][:count]} for row in rows if len(row["steps"]) >= count]
        solutions = [(row, scorer.encode(row)) for row in chosen]
        size += sum(len(tagged.ids) for _, tagged in solutions)
        whole = scorer.read(solutions)
        for ours, expected in zip(scorer.read(solutions, is_whole=False), whole, strict=True):
            assert [score is None for score in ours[:-1]] == [ours[0] is None and count > 1] * (count - 1)
            assert ours[-1] == pytest.approx(expected[-1], abs=1e-5)
    return size


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3"])
def test_a_prefix_is_read_from_where_its_first_steps_ended(kind: str, tmp_path: Path) -> None:
    scorer = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM, batch_tokens=200)
    scorer.model = make_model(kind, len(make_tokenizer()))
    size = growing(scorer)
    assert size < scorer.num_tokens < 1.6 * size


def test_what_does_not_fit_into_the_memory_is_read_again(tmp_path: Path) -> None:
    scorer = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM)
    scorer._kept._max_bytes = 1
    size = growing(scorer)
    assert scorer.num_tokens == 2 * size


def test_a_model_without_such_a_cache_reads_the_whole(tmp_path: Path) -> None:
    scorer = Scorer(str(save_model(tmp_path)), prm_format=ER_PRM)
    scorer._kept.can_keep = False
    size = growing(scorer)
    assert scorer.num_tokens == 2 * size
