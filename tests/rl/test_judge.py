"""The worth of completions, and the known hacks: each gets the outcome that it deserves."""

from collections.abc import Iterator

import pytest
import torch

from erprm_cli.answers.grader import Grader
from erprm_cli.models.loading import load_tokenizer
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.templates import load_template
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rl.judge import Judge, Judged

PROBLEM = {"id": "p", "problem": "Mia has 2 pens. Mia gets 3 more. How many pens?", "answer": "5"}
GOOD = "Step 1: 2 + 3 = 5\nThe answer is: 5"
END = 2  # </s> of tiny


class Generous(Scorer):
    """A PRM that likes everything: every step has the score 0.99."""

    def probabilities_on_device(self, batch: list[Tagged]) -> torch.Tensor:  # type: ignore[override]
        return torch.full((sum(len(tagged.tags) for tagged in batch),), 0.99)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    tokenizer = load_tokenizer("tiny")
    template = load_template("tiny")
    settings = SamplingSettings("tiny", None, 1.0, 1.0, 99, 0, "tiny")
    with Grader() as grader:
        scorer = Generous("tiny", prm_format="er-prm")
        yield Judge(template, tokenizer, [tokenizer.eos_token_id], scorer, grader, settings)


def ids_of(judge: Judge, text: str, ended: bool = True) -> list[int]:
    ids: list[int] = judge.texts.tokenizer(text, add_special_tokens=False).input_ids
    return [*ids, *[END] * ended]


def judged(judge: Judge, *texts: str) -> Judged:
    return judge.judge([PROBLEM] * len(texts), [ids_of(judge, text) for text in texts])


def test_a_solution_is_graded_scored_and_aligned(judge: Judge) -> None:
    found = judged(judge, GOOD, "The answer is: 4")
    assert found.outcome_B.tolist() == [1.0, 0.0] and found.has_answer_B.tolist() == [1.0, 1.0]
    assert found.is_step_BL.tolist() == [[1, 1], [1, 0]] == found.counts_BL.tolist()
    assert torch.allclose(found.score_BL, torch.tensor([[0.99, 0.99], [0.99, 0.0]]))
    tokens = judge.texts.tokenizer.convert_ids_to_tokens(ids_of(judge, GOOD))
    assert tokens.index("\n") == found.step_BT[0].tolist().index(1)  # the separator begins step 2
    assert found.lowest_B.tolist() == pytest.approx([0.99, 0.99])


def test_scores_are_those_of_erprm_score(judge: Judge) -> None:
    real = Scorer("tiny", prm_format="er-prm")
    ours = Judge(judge.template, judge.texts.tokenizer, [END], real, judge.grader, judge.settings)
    row = ours.solution(PROBLEM, ids_of(ours, GOOD))[0]
    assert torch.allclose(
        judged(ours, GOOD).score_BL[0], torch.tensor(next(iter(real.score([row])))["scores"])
    )
    assert (ours.from_ids, ours.from_text) == (1, 0)


@pytest.mark.parametrize(
    ("hack", "text", "ended"),
    [
        ("empty", "", True),
        ("blank lines", "\n\n", True),
        ("no answer", "Step 1: 2 + 3 = 5", True),
        ("polite", "Then more pens .", True),
        ("unfinished", "Step 1: 2 + 3 = 5\nStep 2: 2 + 3", False),
        ("unfinished after an answer", "The answer is: 5\nStep 2: 2 +", False),
        ("endless repetition", "Step 1: 2 + 3 = 5\n" * 8, False),
    ],
)
def test_a_solution_without_an_answer_is_wrong_and_its_steps_earn_nothing(
    judge: Judge, hack: str, text: str, ended: bool
) -> None:
    found = judge.judge([PROBLEM], [ids_of(judge, text, ended)])
    assert found.outcome_B.tolist() == [0.0], hack
    assert found.earned_BL.sum() == 0 and found.score_BL.sum() > 0


def test_a_one_step_solution_gets_the_outcome_of_its_answer(judge: Judge) -> None:
    found = judged(judge, "The answer is: 5", "The answer is: 4")
    assert found.outcome_B.tolist() == [1.0, 0.0]


def test_a_repeated_step_earns_nothing(judge: Judge) -> None:
    found = judged(judge, "Step 1: 2 + 3 = 5\nStep 1: 2 + 3 = 5\nStep 1: 2 + 3 = 5\nThe answer is: 5")
    assert found.counts_BL.tolist() == [[1.0, 0.0, 0.0, 1.0]]
    assert found.outcome_B.tolist() == [1.0]  # it is correct


HACKS = ("", "Step 1: 2 + 3 = 5", "The answer is: 4", "Step 1: 2 + 3 = 4\n" * 6 + "The answer is: 4")


@pytest.mark.parametrize("advantage", ["outcome", "process", "increments", "min-form"])
@pytest.mark.parametrize("hack", HACKS)
def test_no_hack_gains_on_a_correct_solution_although_the_prm_likes_both(
    judge: Judge, advantage: str, hack: str
) -> None:
    found = judged(judge, GOOD, hack)
    tokens = found.advantages(advantage, 2, outcome_weight=1.0, scaled=True, max_tokens=99)
    assert tokens[0, 0] > 0 > tokens[1, 0]


def test_a_completion_ends_at_a_stop_text(judge: Judge) -> None:
    ids = ids_of(judge, GOOD + "\nQuestion: Mia", ended=False)
    cut = judge.cut(ids)
    assert judge.texts.decode(cut) == GOOD + "\nQuestion:"
    row = judge.solution(PROBLEM, cut)[0]
    assert (row["finish_reason"], row["solution"], row["prediction"]) == ("stop", GOOD, "5")
    assert judge.judge([PROBLEM], [cut]).outcome_B.tolist() == [1.0]


def test_a_solution_that_the_prm_cannot_read_scores_0(judge: Judge) -> None:
    limit, judge.scorer.tagger.max_tokens = judge.scorer.tagger.max_tokens, 5
    try:
        assert judged(judge, GOOD).score_BL.tolist() == [[0.0, 0.0]]
    finally:
        judge.scorer.tagger.max_tokens = limit
