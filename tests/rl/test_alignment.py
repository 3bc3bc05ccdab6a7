"""The step of each token, and the input of the PRM from the policy's ids."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from erprm_cli.models.loading import load_tokenizer
from erprm_cli.prm.formats import load_prm_format
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rl.advantages import token_advantages
from erprm_cli.rl.alignment import Steps, TokenTagger, TokenTexts, same_tokenizer, step_of_tokens
from erprm_cli.rows.steps import split_steps, step_starts
from tests.real_tokenizers import llama3, mistral, published
from tests.tiny_models import make_tokenizer

PROBLEM = "Mia has 2 pens. Mia gets 3 more. How many pens does Mia have now?"
SOLUTION = "Step 1: Mia has 2 pens.\nStep 2: Mia gets 3 more, so 2 + 3 = 5.\nThe answer is: 5"


def steps_in(text: str) -> Steps:
    steps = split_steps(text, r"\n+")
    begins = step_starts(text, steps)
    return Steps(
        text, tuple(begins), tuple(begin + len(step) for begin, step in zip(begins, steps, strict=True))
    )


def test_each_token_gets_the_advantage_of_its_step_even_if_the_step_ends_inside_it() -> None:
    tokenizer = make_tokenizer()
    text = "So.\nTom has 5"
    ids = [*tokenizer(text, add_special_tokens=False).input_ids, tokenizer.eos_token_id]
    assert tokenizer.convert_ids_to_tokens(ids) == ["So", ".\n", "Tom", " has", " 5", "</s>"]
    ends = TokenTexts(tokenizer).ends(ids, text)
    assert ends.tolist() == [2, 4, 7, 11, 13, 13]
    steps = step_of_tokens(ends, steps_in(text).ends)
    assert steps.tolist() == [0, 0, 1, 1, 1, 1]  # ".\n" begins in step 1, which ends inside it
    # Two completions, correct and wrong; the other has one step. V_0 = 1/2, and 1/4 after the first step.
    found = token_advantages(
        "increments",
        torch.tensor([[0.25, 0.9], [0.75, 0.0]]),
        torch.tensor([[1.0, 1.0], [1.0, 0.0]]),
        torch.tensor([1.0, 0.0]),
        torch.tensor([steps.tolist(), [0] * 6]),
        2,
        outcome_weight=1.0,
        scaled=False,
        max_tokens=6,
    )
    assert found.tolist() == [[0.5, 0.5, 0.75, 0.75, 0.75, 0.75], [-0.5] * 6]


@pytest.mark.parametrize(
    ("token_ends", "step_ends", "expected"),
    [
        ([1, 2, 3], [3], [0, 0, 0]),
        ([2, 3, 6], [2, 6], [0, 1, 1]),  # a separator of its own belongs to the step after it
        ([2, 6, 8], [2, 8], [0, 1, 1]),
        ([6, 8], [2, 8], [0, 1]),  # one token over the end of a step and the beginning of the next
        ([9], [2, 4, 9], [0]),  # all steps in one token: it begins in the first
        ([0], [0], [0]),  # an empty solution: its end belongs to its one empty step
        ([3, 5, 7], [3], [0, 0, 0]),  # what follows the last step belongs to it
    ],
)
def test_a_token_belongs_to_the_step_in_which_it_begins(
    token_ends: list[int], step_ends: list[int], expected: list[int]
) -> None:
    assert step_of_tokens(np.array(token_ends), step_ends).tolist() == expected


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "tiny": lambda: load_tokenizer("tiny"),
    "llama3": llama3,
    "qwen3": lambda: published("qwen3"),
    "mistral": mistral,
}


@pytest.mark.parametrize(
    ("name", "prm_format"),
    [("tiny", "er-prm"), ("tiny", "math-psa"), ("llama3", "er-prm"), ("qwen3", "math-psa")],
)
def test_the_input_from_ids_is_the_one_from_text(name: str, prm_format: str) -> None:
    tokenizer = TOKENIZERS[name]()
    tagger = Tagger(load_prm_format(prm_format), tokenizer)
    texts, by_ids = TokenTexts(tokenizer), TokenTagger(tagger, tokenizer)
    for text in (SOLUTION, SOLUTION.replace("\n", "\n\n"), "5", "The 5.\nThe 5.\nThe 5.", SOLUTION + "\n"):
        ids = tokenizer(text, add_special_tokens=False).input_ids
        steps = steps_in(texts.decode(ids))
        found = by_ids.encode(PROBLEM, steps, ids, texts.ends(ids, steps.text))
        expected = tagger.encode(PROBLEM, split_steps(text, r"\n+"))
        assert found is not None, text
        assert found.ids.tolist() == expected.ids.tolist(), text
        assert found.tags.tolist() == expected.tags.tolist()


def test_a_prm_with_another_tokenizer_reads_the_text() -> None:
    tiny, other = load_tokenizer("tiny"), make_tokenizer()
    assert same_tokenizer(tiny, tiny) and not same_tokenizer(tiny, other)
    by_ids = TokenTagger(Tagger(load_prm_format("er-prm"), other), tiny)
    assert by_ids.encode(PROBLEM, steps_in(SOLUTION), [5], np.array([1])) is None


def test_a_tokenizer_that_adds_a_space_to_seams_reads_the_text() -> None:
    """In SentencePiece's tokenizers a text begins with a space that the tokens within a text do not have."""
    tokenizer = mistral()
    by_ids = TokenTagger(Tagger(load_prm_format("math-shepherd"), tokenizer), tokenizer)
    ids = tokenizer(SOLUTION, add_special_tokens=False).input_ids
    texts = TokenTexts(tokenizer)
    steps = steps_in(texts.decode(ids))
    found = by_ids.encode(PROBLEM, steps, ids, texts.ends(ids, steps.text))
    assert found is None


@pytest.mark.parametrize("name", ["llama3", "qwen3", "mistral"])
def test_token_ends_are_exact_for_characters_of_several_tokens(name: str) -> None:
    tokenizer = TOKENIZERS[name]()
    text = "Löse 🦜𝔸 ∑ 答案.\nSo 5"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    texts = TokenTexts(tokenizer)
    decoded = texts.decode(ids)
    ends = texts.ends(ids, decoded)
    assert ends[-1] == len(decoded) and (np.diff(ends) >= 0).all()
    for count in range(1, len(ids)):
        prefix = texts.decode(ids[:count])
        if not prefix.endswith("\ufffd"):
            assert ends[count - 1] == len(prefix), count
