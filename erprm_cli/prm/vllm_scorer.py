"""Score with a process reward model of kind "token" in vLLM, by its pooling runner.

vLLM turns two rows of the output layer into a classifier with one number per token, sigmoid(logit of good -
logit of bad), which equals the softmax over the two. It returns the numbers of all tokens, and those of the
tags are selected here: vLLM's own STEP pooling indexes hidden dimensions by token ids (vLLM issue 16545).

Shapes: T tokens of a solution, L steps.
"""

import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from erprm_cli import shipped
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.vllm_stream import Job, VllmStream
from erprm_cli.errors import UsageError
from erprm_cli.models import loading
from erprm_cli.models.file_checks import adapter_settings
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.step_scorer import in_order
from erprm_cli.prm.tagger import Tagged, Tagger
from erprm_cli.rows.row import Row

# What some architectures do to logits after the output layer. vLLM's classifier does not do it.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")

NumberedSolution = tuple[int, Row, Tagged]


class VllmScorer(Scorer):
    """A Scorer whose model runs in vLLM: with continuous batching, and on several GPUs."""

    def __init__(self, config: EngineConfig, prm_format: str | None = None, eta: float | None = None) -> None:
        """Start vLLM; UsageError for a model that vLLM would not score correctly."""
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

        self.stream = VllmStream(
            self.config,
            runner="pooling",
            pooler_config=PoolerConfig(task="token_classify"),
            hf_overrides=classifier_settings(self.config, self.tagger),
        )
        self.tagger.max_tokens = self.stream.max_model_len

    def score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Row]:
        """Yield scored rows in the order given; see `in_order`."""
        return in_order(self._score_encoded(solutions))

    def _score_encoded(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[tuple[int, Row]]:
        for (number, row, tagged), output in self.stream.run(self._jobs(solutions)):
            good_T = output.outputs.data.flatten().float()
            good_L = good_T[tagged.tags.tolist()]
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

        params = PoolingParams(task="token_classify", skip_reading_prefix_cache=is_whole)
        jobs = ((number, tagged.ids.tolist(), params.clone()) for number, (_, tagged) in enumerate(solutions))
        found: dict[int, list[float | None]] = {}
        for number, output in self.stream.run(jobs):
            good, (_, tagged) = output.outputs.data.flatten().float(), solutions[number]
            self.num_tokens += len(good)
            tags = tagged.tags - (len(tagged.ids) - len(good))
            self.check_finite(good[tags[tags >= 0].tolist()])
            found[number] = [None if tag < 0 else float(good[tag]) for tag in tags]
        return [found[number] for number in range(len(solutions))]

    def close(self) -> None:
        """End vLLM's processes."""
        self.stream.close()

    def _jobs(self, solutions: Iterable[tuple[Row, Tagged]]) -> Iterator[Job[NumberedSolution]]:
        from vllm import PoolingParams

        for number, (row, tagged) in enumerate(solutions):
            self.num_tokens += len(tagged.ids)
            yield (number, row, tagged), tagged.ids.tolist(), PoolingParams(task="token_classify")


def start_command(config: EngineConfig, tagger: Tagger) -> str:
    """Return the command that serves a PRM so that `erprm score --base-url` can ask it."""
    name = shlex.quote(config.model)
    try:
        settings = json.dumps(classifier_settings(config, tagger))
    except UsageError:
        return f"`erprm serve --prm {name}`"
    task = """'{"task": "token_classify"}'"""
    return (
        f"`vllm serve {name} --runner pooling --pooler-config {task} --hf-overrides {shlex.quote(settings)}`"
    )


def classifier_settings(config: EngineConfig, tagger: Tagger) -> dict[str, Any]:
    """Return the changes to the configuration of the PRM `config.model` that make it a classifier in vLLM.

    Raises UsageError for a model that vLLM would not score correctly; the engine is not started.
    """
    name, prm_format = config.model, tagger.prm_format
    if prm_format.kind != "token":
        raise UsageError(
            f"--engine vllm supports token PRMs only; {prm_format.name} needs --engine transformers"
        )
    if adapter_settings(shipped.resolve(name), revision=config.revision) is not None:
        raise UsageError(
            f"{name} holds adapters: use --engine transformers, or merge them once with "
            "`erprm export --kind token`"
        )
    model = loading.load_config(name, revision=config.revision, trust_remote_code=config.trust_remote_code)
    architecture = (model.architectures or [""])[0]
    changed = [name for name in LOGIT_CHANGES if getattr(model.get_text_config(), name, None)]
    if changed or not architecture.endswith("ForCausalLM"):
        reason = f"ignores its {changed[0]}" if changed else "supports ...ForCausalLM only"
        raise UsageError(
            f"--engine vllm cannot score {name} ({architecture}): vLLM {reason}; use --engine transformers"
        )
    ids = tagger.token_ids
    return {
        "architectures": [architecture.replace("ForCausalLM", "ForSequenceClassification")],
        "classifier_from_token": tagger.tokenizer.convert_ids_to_tokens([ids.bad, ids.good]),
        "method": "from_2_way_softmax",
        "num_labels": 1,
    }
