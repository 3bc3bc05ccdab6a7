"""Score with a process reward model in vLLM, by its pooling runner.

vLLM loads the model as a classifier of tokens (vllm_classifier.py) and returns the logits of all tokens;
those of the tags are selected here. Its own STEP pooling is not used. In vLLM 0.32, STEP selects
`returned_token_ids` among the columns of what the model returns before its head. For a language model these
are hidden dimensions, not logits, so the documented recipe for Math-Shepherd gives wrong scores (vLLM issue
16545). For Qwen2.5-Math-PRM, whose head is part of the model, they are the classes and the scores are right;
but STEP also returns a score for a tag in the problem.

Shapes: T tokens of a solution, C logits per token, L steps.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor

from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.vllm_stream import Job, VllmStream
from erprm_cli.prm.scorer import Scorer, good_probability
from erprm_cli.prm.step_scorer import in_order
from erprm_cli.prm.tagger import Tagged
from erprm_cli.prm.vllm_classifier import POOLER, TASK, classifier_settings, loadable
from erprm_cli.rows.row import Row

NumberedSolution = tuple[int, Row, Tagged]


class VllmScorer(Scorer):
    """A Scorer whose model runs in vLLM: with continuous batching, and on several GPUs."""

    def __init__(self, config: EngineConfig, prm_format: str | None = None, eta: float | None = None) -> None:
        """Start vLLM; Unsuitable for a model that vLLM would not score correctly."""
        self.config = config
        super().__init__(
            config.model,
            prm_format=prm_format,
            eta=eta,
            dtype=config.dtype,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )

    def load(self, *_: Any) -> None:
        """Start the engine instead of loading a model."""
        from vllm.config import PoolerConfig

        settings = classifier_settings(self.config, self.tagger)
        with loadable(self.config, self.tagger) as config:
            self.stream = VllmStream(
                config, runner="pooling", pooler_config=PoolerConfig(**POOLER), hf_overrides=settings
            )
        self.tagger.max_tokens = self.stream.max_model_len

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        """Yield scored rows in the order given; see `in_order`."""
        return in_order(self._score_encoded(solutions))

    def _score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[tuple[int, Row]]:
        for (number, row, tagged), output in self.stream.run(self._jobs(solutions)):
            good_L = self.good(output)[tagged.tags.tolist()]
            self.check_finite(good_L)
            yield number, self.scored(row, good_L.tolist())

    def read(
        self, solutions: Sequence[tuple[Row, Tagged]], *, is_whole: bool = True
    ) -> list[Sequence[float | None]]:
        """Return P(good) of the steps of each solution; None for a step that vLLM's prefix cache has.

        By default vLLM does not use its prefix cache for scores of tokens; if it is told to, it returns those
        of the tokens that follow the cached ones.
        """
        from vllm import PoolingParams

        params = PoolingParams(task=TASK, use_activation=False, skip_reading_prefix_cache=is_whole)
        jobs = ((number, tagged.ids.tolist(), params) for number, (_, tagged) in enumerate(solutions))
        found: dict[int, list[float | None]] = {}
        for number, output in self.stream.run(jobs):
            _, tagged = solutions[number]
            good_T = self.good(output)
            num_cached = len(tagged.ids) - len(good_T)
            self.num_tokens += len(good_T)
            places = [tag - num_cached for tag in tagged.tags.tolist() if tag >= num_cached]
            good_N = good_T[places]
            self.check_finite(good_N)
            found[number] = [*[None] * (len(tagged.tags) - len(places)), *good_N.tolist()]
        return [found[number] for number in range(len(solutions))]

    def good(self, output: Any) -> Tensor:
        """Return P(good) [T] from the logits of vLLM's output: one per token, or one per class of a head."""
        logits_TC: Tensor = output.outputs.data.float()
        if self.prm_format.kind == "head":
            return good_probability(self.prm_format, logits_TC)
        return logits_TC.flatten().sigmoid()

    def close(self) -> None:
        """End vLLM's processes."""
        self.stream.close()

    def _jobs(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Job[NumberedSolution]]:
        from vllm import PoolingParams

        for number, (row, tagged) in enumerate(solutions):
            self.num_tokens += len(tagged.ids)
            yield (number, row, tagged), tagged.ids.tolist(), PoolingParams(task=TASK, use_activation=False)
