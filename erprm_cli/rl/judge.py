"""What completions are worth: their outcome, the scores of their steps, and the step of each token.

A step earns its score only in a solution that has an answer: a PRM likes some empty, unfinished or endless
solutions. There, and for a step that repeats an earlier one, the score counts as 0.

B completions, L steps, T tokens (both padded), N steps of a batch of the PRM
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Completion
from erprm_cli.errors import RowError
from erprm_cli.policy.prompts import opens_reasoning
from erprm_cli.policy.reasoning import read
from erprm_cli.policy.sampling import SamplingSettings, solution_row
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.prm.scorer import Scorer, batches_by_length
from erprm_cli.prm.tagger import Tagged
from erprm_cli.rl.advantages import token_advantages
from erprm_cli.rl.alignment import Steps, TokenTagger, TokenTexts, step_of_tokens
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import step_starts, stepped_text


@dataclass(frozen=True, slots=True)
class Judged:
    """The worth of B completions; all tensors are on the device of the PRM."""

    outcome_B: Tensor  # 1: correct, 0: wrong
    score_BL: Tensor  # in [0, 1], as the PRM gives them; 0 at padding
    is_step_BL: Tensor  # 1 at steps, 0 at padding
    counts_BL: Tensor  # 1 at the steps that earn their score
    step_BT: Tensor  # the step of each token, from 0
    has_answer_B: Tensor  # 1 for a finished solution with an answer
    is_truncated_B: Tensor  # 1 for a completion that the token limit cut off

    @property
    def earned_BL(self) -> Tensor:
        """The scores that steps earn."""
        return self.score_BL * self.counts_BL

    @property
    def lowest_B(self) -> Tensor:
        """The PRM's score of each solution: that of its worst step."""
        return self.score_BL.masked_fill(self.is_step_BL == 0, torch.inf).amin(1)

    def advantages(
        self, advantage: str, n: int, *, outcome_weight: float, scaled: bool, max_tokens: int
    ) -> Tensor:
        """Return the advantage of every token [B, T]; see `token_advantages`."""
        return token_advantages(
            advantage,
            self.earned_BL,
            self.is_step_BL,
            self.outcome_B,
            self.step_BT,
            n,
            outcome_weight=outcome_weight,
            scaled=scaled,
            max_tokens=max_tokens,
        )


class Judge:
    """Reads, grades and scores completions of a policy."""

    def __init__(
        self,
        template: PolicyTemplate,
        tokenizer: Any,
        end_ids: Sequence[int],
        scorer: Scorer,
        grader: Grader,
        settings: SamplingSettings,
    ) -> None:
        """`tokenizer` is the policy's; a completion ends with one of `end_ids`, or before a stop text."""
        self.template, self.grader, self.settings = template, grader, settings
        self.end_ids = frozenset(end_ids)
        self.stop = settings.params(template, tokenizer).stop
        self.is_open = opens_reasoning(template, tokenizer)
        self.scorer = scorer
        self.texts = TokenTexts(tokenizer)
        self.tagger = TokenTagger(scorer.tagger, tokenizer)
        self.from_ids = self.from_text = 0  # inputs of the PRM, by how they were made

    def cut(self, ids: Sequence[int]) -> list[int]:
        """Return the tokens up to the one that completes a stop text."""
        if not self.stop:
            return list(ids)
        text = self.texts.decode(ids)
        found = [text.find(stop) + len(stop) for stop in self.stop if stop in text]
        if not found:
            return list(ids)
        return list(ids[: int(np.searchsorted(self.texts.ends(ids, text), min(found))) + 1])

    def judge(self, problems: Sequence[Row], completions: Sequence[Sequence[int]]) -> Judged:
        """Return the worth of the completions [B], token ids, of the problems at the same places."""
        read_B = [self._read(problem, ids) for problem, ids in zip(problems, completions, strict=True)]
        score_BL = self._scores([tagged for *_, tagged in read_B], [len(row["steps"]) for row, *_ in read_B])
        device, widest = score_BL.device, max(map(len, completions))
        # The answers are compared while the PRM runs.
        outcomes = [0.0 if verdict is None else verdict.reward() for _, verdict, *_ in read_B]
        is_step, counts = (np.zeros(score_BL.shape, np.float32) for _ in range(2))
        step_BT = np.zeros((len(read_B), widest), np.int64)
        for number, (row, _, steps_T, _) in enumerate(read_B):
            is_step[number, : len(row["steps"])] = 1
            counts[number, : len(row["steps"])] = earning(row)
            step_BT[number, : len(steps_T)] = steps_T
            step_BT[number, len(steps_T) :] = steps_T[-1]
        return Judged(
            torch.tensor(outcomes, device=device),
            score_BL,
            torch.from_numpy(is_step).to(device),
            torch.from_numpy(counts).to(device),
            torch.from_numpy(step_BT).to(device),
            torch.tensor([float(has_answer(row)) for row, *_ in read_B], device=device),
            torch.tensor([float(row["finish_reason"] == "length") for row, *_ in read_B], device=device),
        )

    def solution(self, problem: Row, ids: Sequence[int]) -> tuple[Row, Any, Steps]:
        """Return the solution row of a completion, the verdict on it and its steps in the text."""
        is_ended = bool(ids) and ids[-1] in self.end_ids
        text = self.texts.decode(ids[:-1] if is_ended else ids)
        stops = [place for stop in self.stop if (place := text.find(stop)) >= 0]
        text = text[: min(stops, default=None)]
        finish = "stop" if is_ended or stops else "length"
        completion = Completion(problem["id"], 0, text, len(ids), finish)
        parts = read(completion, self.template.marks, self.is_open)
        row, verdict = solution_row(problem, completion, parts, self.template, self.settings, self.grader)
        stepped = stepped_text(row)
        before = text.find(stepped) if row.get("steps_of") == "reasoning" else text.rfind(stepped)
        begins = [before + begin for begin in step_starts(stepped, row["steps"])]
        ends = [begin + len(step) for begin, step in zip(begins, row["steps"], strict=True)]
        return row, verdict, Steps(text, tuple(begins), tuple(ends))

    def _read(self, problem: Row, ids: Sequence[int]) -> tuple[Row, Any, NDArray[np.int64], Tagged | None]:
        """Return a completion as row, verdict, step of each token [T] and input of the PRM."""
        row, verdict, steps = self.solution(problem, ids)
        token_ends = self.texts.ends(ids, steps.text)
        return row, verdict, step_of_tokens(token_ends, steps.ends), self._tagged(row, steps, ids, token_ends)

    def _tagged(
        self, row: Row, steps: Steps, ids: Sequence[int], token_ends: NDArray[np.int64]
    ) -> Tagged | None:
        """Return the input of the PRM; None if the PRM cannot read the solution, whose steps score 0 then."""
        found = self.tagger.encode(row["problem"], steps, ids, token_ends)
        if found is not None:
            limit = self.scorer.tagger.max_tokens
            self.from_ids += 1
            return found if limit is None or len(found.ids) <= limit else None
        self.from_text += 1
        try:
            return self.scorer.encode(row)
        except RowError:
            return None

    def _scores(self, inputs: Sequence[Tagged | None], num_steps: Sequence[int]) -> Tensor:
        """Return the scores of the steps [B, L], computed and kept on the device of the PRM."""
        score_BL = torch.zeros(len(inputs), max(num_steps), device=self.scorer.model.device)
        usable = [(number, tagged) for number, tagged in enumerate(inputs) if tagged is not None]
        lengths = [len(tagged.ids) for _, tagged in usable]
        for batch in batches_by_length(lengths, self.scorer.batch_tokens):
            chosen = [usable[index] for index in batch]
            good_N = self.scorer.probabilities_on_device([tagged for _, tagged in chosen])
            rows = np.concatenate([np.full(len(tagged.tags), number) for number, tagged in chosen])
            columns = np.concatenate([np.arange(len(tagged.tags)) for _, tagged in chosen])
            place = torch.from_numpy(rows), torch.from_numpy(columns)
            score_BL.index_put_(tuple(index.to(score_BL.device) for index in place), good_N)
        self.scorer.check_finite(score_BL)
        return score_BL


def has_answer(row: Row) -> bool:
    """Return whether a solution is finished and has an answer."""
    return row["finish_reason"] == "stop" and row["prediction"] is not None


def earning(row: Row) -> list[bool]:
    """Return for each step whether it earns its score.

    >>> row = {"finish_reason": "stop", "prediction": "5", "steps": ["2 + 3 = 5", "2 + 3 = 5", "It is 5"]}
    >>> earning(row)
    [True, False, True]
    >>> earning(row | {"prediction": None})
    [False, False, False]
    """
    steps = row["steps"]
    return [has_answer(row) and step not in steps[:number] for number, step in enumerate(steps)]
