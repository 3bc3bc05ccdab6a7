"""Extends prefixes by the policy: requests for its engine, and prefixes from the completions.

The policy writes one step by stopping at the plainest text that breaks steps. What it wrote is kept as token
ids, the break included, so that it goes on exactly where it stopped, and an engine's prefix cache has all
but the new step.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from erprm_cli.answers.grader import Grader
from erprm_cli.engines.base import Completion, Engine, Request, encode
from erprm_cli.errors import UsageError, UserError
from erprm_cli.hashing import derive_seed
from erprm_cli.policy.grading import grade
from erprm_cli.policy.prompts import CONTEXT_TOKENS, make_prompt
from erprm_cli.policy.sampling import SamplingSettings
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import split_steps
from erprm_cli.search.prefix import Prefix, Reach
from erprm_cli.search.running import Running

BREAKS = ("\n", "\n\n")  # texts at which a step may end, the plainest first


class Extender:
    """A policy that extends the prefixes of searches, all by steps or all to the end."""

    def __init__(
        self,
        engine: Engine,
        template: PolicyTemplate,
        sampling: SamplingSettings,
        *,
        by_steps: bool,
        verifier: Grader | None = None,
    ) -> None:
        """Sample with `sampling`; its max_tokens bounds a whole solution.

        With `verifier`, finished solutions of problems with an answer get an `outcome`.
        """
        self.engine, self.template, self.sampling, self.verifier = engine, template, sampling, verifier
        self.params = sampling.params(template, engine.tokenizer)
        self._ends = self.params.stop  # texts that end a solution
        if by_steps:
            self.params = replace(self.params, stop=(*self._ends, step_stop(template)))

    def prompt(self, problem: Row) -> Any:
        """Return the prompt of a problem."""
        return make_prompt(self.template, self.engine.tokenizer, problem["problem"])

    def requests(self, search: Running) -> Iterator[Request]:
        """Yield the requests of the round that a search has begun: one for all extensions of a prefix."""
        slots: dict[tuple[Prefix, Reach], list[int]] = {}
        for prefix, slot, reach in search.asked:
            slots.setdefault((prefix, reach), []).append(slot)
        # In the first round as in `sample`, so that best-of-n has the same solutions.
        seed = derive_seed(self.sampling.seed, search.problem["id"], *[search.round] * bool(search.round))
        for (prefix, reach), indices in slots.items():
            prompt = search.prompt
            if isinstance(prompt, tuple):
                ids = encode(self.engine.tokenizer, prompt)
                search.tokens.prompt_new = len(ids)
                prompt = (*ids, *prefix.token_ids)
                search.tokens.prompt += len(prompt)
            yield Request(
                search,
                prompt,
                tuple(sorted(indices)),
                seed,
                self.sampling.max_tokens - prefix.num_tokens,
                greedy=reach == "greedy step",
                keep=reach != "end",
            )

    def extend(self, search: Running, completion: Completion) -> None:
        """Add the prefix that a completion makes to what its search has; it has no scores yet."""
        prefix, _, reach = next(asked for asked in search.asked if asked.slot == completion.index)
        search.tokens.generated += completion.num_tokens
        search.extended[completion.index] = self._extended(search, prefix, completion, reach)

    def _extended(self, search: Running, prefix: Prefix, completion: Completion, reach: Reach) -> Prefix:
        ids, reason = completion.token_ids or (), completion.finish_reason
        whole = prefix.token_ids + ids
        text = prefix.text + completion.text
        if reach != "end":
            if completion.token_ids is None:
                raise UserError(
                    "the server does not send token ids, which a search by steps needs; vLLM does, and "
                    "--method best-of-n works without them"
                )
            so_far = self._text(search.prompt, whole)
            if so_far.startswith(text + step_stop(self.template)):
                text = so_far
                reason = "" if len(whole) < self.sampling.max_tokens else "length"
            # A stop text that begins with the break was begun in an earlier step.
            ends = [end for stop in self._ends if (end := text.find(stop)) >= 0]
            if ends:
                text, reason = text[: min(ends)], "stop"
        steps = tuple(split_steps(text, self.template.step_break))
        outcome = None
        if reason and self.verifier is not None and search.problem["answer"] is not None:
            gold = search.problem["answer"]
            outcome = grade(text, reason == "stop", gold, self.template, self.verifier)[1].reward()
        num_tokens = prefix.num_tokens + completion.num_tokens
        return Prefix(text, whole, num_tokens, steps, (), reason or None, outcome)

    def _text(self, prompt: tuple[int, ...], ids: tuple[int, ...]) -> str:
        """Return the text of `ids` after the prompt; decoded alone it might lose a leading space."""

        def decode(part: tuple[int, ...]) -> str:
            text: str = self.engine.tokenizer.decode(
                part, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
            return text

        context = prompt[-CONTEXT_TOKENS:]
        return decode(context + ids).removeprefix(decode(context))


def step_stop(template: PolicyTemplate) -> str:
    """Return the text at which generation stops after a step: the plainest that breaks steps.

    A break of another form, such as an empty line with a space, does not stop it; the extension has two steps
    then. Raises UsageError if steps do not end with a line.
    """
    for text in BREAKS:
        if re.fullmatch(template.step_break, text):
            return text
    raise UsageError(
        f"the template {template.name} breaks steps at {template.step_break!r}, which matches neither a line "
        "break nor an empty line, so the policy cannot be stopped after a step; use --method best-of-n"
    )


def check_template(template: PolicyTemplate, by_steps: bool) -> None:
    """Raise UsageError for a template with which no search is possible.

    `by_steps` says whether the method extends prefixes by single steps.
    """
    if template.marks is not None:
        raise UsageError(
            f"search does not support the templates of thinking models, such as {template.name}; "
            "`erprm sample` and `erprm score` do"
        )
    if by_steps:
        step_stop(template)


def check_tokenizer(tokenizer: Any) -> None:
    """Raise UsageError if only the server has the tokenizer."""
    if tokenizer is None:
        raise UsageError(
            "a search by steps continues token ids, so it needs the model's tokenizer here (--model); "
            "--method best-of-n does not"
        )
