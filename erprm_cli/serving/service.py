"""What the service answers, without HTTP: scores of solutions, rewards of responses, scores of tokens."""

import time
import uuid
from collections.abc import Sequence

import numpy as np

from erprm_cli.errors import RowError
from erprm_cli.evaluation.aggregation import aggregate
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.prm.tagger import Tagged, Tagger, TooLong
from erprm_cli.serving import schema
from erprm_cli.serving.batching import Batcher, Scores
from erprm_cli.serving.errors import ApiError
from erprm_cli.serving.solutions import solution_of, steps_of


class Service:
    """A loaded PRM that answers requests. All methods raise ApiError for what cannot be answered."""

    def __init__(
        self, batcher: Batcher, prm: schema.Prm, template: PolicyTemplate, aggregator: str = "min"
    ) -> None:
        """Serve the PRM of `batcher`, described by `prm`.

        `template` splits solutions that come as text, and finds the problem in the prompts of trainers.
        `aggregator` (see `evaluation.aggregation`) makes one reward of the scores of the steps.
        """
        self.batcher, self.prm, self.template, self.aggregator = batcher, prm, template, aggregator
        self._scorer = batcher.scorer

    async def score(self, request: schema.ScoreRequest) -> schema.ScoreAnswer:
        """Score the steps of solutions."""

        def encode(row: schema.Solution) -> Tagged:
            steps = row.steps or steps_of(row.solution or "", self.template)
            return self._scorer.encode({"problem": row.problem, "steps": steps})

        found = await self.batcher.score(request.rows, encode)
        if not request.partial:
            all_scored(found, "rows")
        return schema.ScoreAnswer(
            scores=[None if isinstance(one, RowError) else one for one in found],
            prm=self.prm,
            errors=[
                schema.Unscored(row=index, message=str(one))
                for index, one in enumerate(found)
                if isinstance(one, RowError)
            ],
        )

    async def reward(self, request: schema.RewardRequest) -> schema.RewardAnswer:
        """Reward responses, as OpenRLHF's remote reward model."""

        def encode(pair: tuple[str, str]) -> Tagged:
            problem, steps = solution_of(*pair, self.template)
            return self._scorer.encode({"problem": problem, "steps": steps})

        pairs = list(zip(request.query, request.prompts, strict=True))
        step_scores = all_scored(await self.batcher.score(pairs, encode), "query")
        rewards = [aggregate(scores, self.aggregator) for scores in step_scores]
        return schema.RewardAnswer(
            rewards=rewards,
            scores=rewards,
            extra_logs={"num_steps": [float(len(scores)) for scores in step_scores]},
            step_scores=step_scores,
        )

    async def pool(self, request: schema.PoolingRequest) -> schema.PoolingAnswer:
        """Score every token of the inputs, as vLLM does for the task token_classify."""
        if request.model not in (None, self.prm.model):
            message = f"there is no model {request.model!r}; this server has {self.prm.model!r}"
            raise ApiError(404, message, "model")
        if self.prm.outcome_only:
            raise ApiError(422, "this PRM scores whole solutions only (--outcome-only); use /v1/score")

        def encode(text: str | list[int]) -> Tagged:
            return all_tokens(self._scorer.tagger, text, request.add_special_tokens)

        found = all_scored(await self.batcher.score(request.inputs, encode), "input")
        num_tokens = sum(map(len, found))
        return schema.PoolingAnswer(
            id=f"pool-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=self.prm.model,
            data=[
                schema.PoolingData(index=index, data=[[score] for score in scores])
                for index, scores in enumerate(found)
            ],
            usage=schema.Usage(prompt_tokens=num_tokens, total_tokens=num_tokens),
        )

    def models(self) -> schema.Models:
        """List the one model."""
        return schema.Models(data=[schema.Model(id=self.prm.model, max_model_len=self.prm.max_tokens)])


def all_scored(found: Sequence[Scores | RowError], name: str) -> list[Scores]:
    """Return the scores; ApiError if an input could not be scored. `name` is the field with the inputs."""
    for index, one in enumerate(found):
        if isinstance(one, RowError):
            raise ApiError(422, f"{name}[{index}]: {one}", f"{name}[{index}]")
    return [one for one in found if not isinstance(one, RowError)]


def all_tokens(tagger: Tagger, text: str | list[int], add_special_tokens: bool) -> Tagged:
    """Return a text, or token ids, with every token to be scored; RowError if the PRM cannot read it."""
    ids: list[int]
    if isinstance(text, str):
        ids = tagger.tokenizer(text, add_special_tokens=add_special_tokens, verbose=False).input_ids
    else:
        ids = text
    if not ids:
        raise RowError("empty; it must have at least one token")
    if max(ids) >= len(tagger.tokenizer):
        raise RowError(f"there is no token {max(ids):,}; the PRM's tokenizer has {len(tagger.tokenizer):,}")
    if tagger.max_tokens is not None and len(ids) > tagger.max_tokens:
        raise TooLong(len(ids), tagger.max_tokens)
    return Tagged(np.array(ids, np.int32), np.arange(len(ids), dtype=np.int32))
