"""Supervised fine-tuning of a policy on selected solutions: the last phase of a RAFT iteration.

loss = the mean over the tokens of the solutions of - log p(token | problem, tokens before it). The prompt is
masked. The end of the solution is learned, unless the solution was cut off by its token limit.

A thinking model learns the whole completion: its reasoning, the marks around it and its answer.

The prompt has exactly the ids that sampling starts from; see policy.prompts. The end of the assistant's turn
is added to the end tokens of the trained model, so that every engine stops there.
"""

from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from erprm_cli.io.typed_fields import from_table
from erprm_cli.models import loading
from erprm_cli.models.cards import policy_model_card
from erprm_cli.models.end_tokens import add_end_token
from erprm_cli.policy.prompts import encode_solution, render_end, render_prompt, turn_end
from erprm_cli.policy.reasoning import continued, written
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row
from erprm_cli.training.config import PolicyTrainingConfig, TrainingConfig
from erprm_cli.training.examples import Example
from erprm_cli.training.task import TrainingTask

HASHED = ("problem", "solution")


class PolicyTask(TrainingTask):
    """Solutions as examples: the targets are their tokens, each predicted at the position before it."""

    def __init__(self, template: PolicyTemplate, config: TrainingConfig) -> None:
        """As TrainingTask. Raises UserError if the tokenizer does not suit the template."""
        self.template = template
        super().__init__(config)
        self.end = render_end(template, self.tokenizer)

    @property
    def settings(self) -> Row:
        template = {"template": self.template.name, "template_content": self.template.content()}
        return super().settings | template | self.template.options()

    def add(self, row: Row) -> None:
        """Keep one solution, or count it as too long."""
        text = written(row, self.template.marks)
        ids, begin = self.encode(row["problem"], text, row.get("finish_reason") != "length")
        if len(ids) > self.max_tokens:
            self.stats["too_long"] += 1
            return
        positions = np.arange(begin - 1, len(ids) - 1, dtype=np.int32)
        targets = np.array(ids[begin:], np.int32)
        weights = np.ones(len(targets), np.float32)
        names = HASHED if row.get("reasoning") is None else (*HASHED, "reasoning")
        self.store.keep(Example(np.array(ids, np.int32), positions, targets, weights), row, names)

    def encode(self, problem: str, solution: str, ended: bool = True) -> tuple[list[int], int]:
        """Return the ids of the prompt, the solution and its end, and the number of ids of the prompt.

        `solution` is all that the model wrote, the opening mark of the reasoning included.
        """
        prompt = render_prompt(self.template, self.tokenizer, problem)
        text = continued(prompt, solution, self.template.marks) + (self.end if ended else "")
        ids = encode_solution(self.template, self.tokenizer, prompt, text)
        return [*ids.prompt, *ids.solution], len(ids.prompt)

    def tokenisation(self) -> Row:
        return super().tokenisation() | {"template": asdict(self.template)}

    def load_model(self, dtype: torch.dtype) -> Any:
        config = self.config
        model = loading.load_model(
            AutoModelForCausalLM,
            config.base,
            dtype=dtype,
            allow_pickle=config.allow_pickle,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
            attn_implementation=config.attn_implementation,
        )
        end = turn_end(self.template, self.tokenizer)
        if isinstance(end, int):
            add_end_token(model, end)
        return model

    def loss(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return token_loss(logits_NV, target_N)

    def card(self, settings: Row, last: Row) -> tuple[Row, str]:
        card = {"kind": "policy", "settings": settings, "result": last}
        return card, policy_model_card(card)

    def job(self, config: TrainingConfig) -> Row:
        return {"command": "rlhf", "config": config.to_json(), "template": asdict(self.template)}

    @classmethod
    def from_job(cls, job: Row) -> "PolicyTask":
        template = from_table(PolicyTemplate, job["template"], "the job")
        return cls(template, PolicyTrainingConfig.from_json(job["config"]))


def token_loss(logits_NV: Tensor, target_N: Tensor) -> Tensor:
    """Return the cross entropies [N] of the tokens, in float32."""
    return cross_entropy(logits_NV.float(), target_N, reduction="none")
