"""How vLLM loads a process reward model: as a classifier that gives numbers at every token.

    kind "token"    <Architecture>ForSequenceClassification with one number, made by vLLM of two rows of the
                    output layer: logit of good - logit of bad
    kind "head"     the same class with the checkpoint's `score`; Qwen2.5-Math-PRM's two layers are
                    Qwen2ForProcessRewardModel, an architecture of vLLM
    kind "value"    the same class with one number

vLLM loads a checkpoint as it is. One whose head has another name (Skywork's v_head, ReasonEval's score_head),
or that consists of adapters or pickles, is loaded with transformers first, and vLLM gets a temporary copy.
"""

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import Final

from erprm_cli import shipped
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError, UserError
from erprm_cli.models import loading
from erprm_cli.models.file_checks import Shapes, adapter_base, weight_shapes
from erprm_cli.prm.loading import load_prm, native_head
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rows.row import Row

# What some architectures do to logits after the output layer. vLLM's classifier does not do it.
LOGIT_CHANGES = ("final_logit_softcapping", "logit_scale", "logits_scaling")
TASK: Final = "token_classify"
POOLER: Row = {"task": TASK, "tok_pooling_type": "ALL"}  # vLLM's PoolerConfig; see vllm_scorer.py
TWO_LAYERS, TWO_LAYERS_WEIGHT = "Qwen2ForProcessRewardModel", "score.0.weight"


class Unsuitable(UsageError):
    """A model that vLLM would not score correctly, or not at all; transformers may."""


def classifier_settings(config: EngineConfig, tagger: Tagger) -> Row:
    """Return the changes to the configuration of the PRM `config.model` that make it a classifier in vLLM.

    Raises Unsuitable for a model that vLLM would not score correctly; the engine is not started.
    """
    base, revision = _base(config)
    if tagger.prm_format.kind != "token":
        return _head_settings(config, tagger, base, revision)
    model = loading.load_config(base, revision=revision, trust_remote_code=config.trust_remote_code)
    architecture = (model.architectures or [""])[0]
    changed = [name for name in LOGIT_CHANGES if getattr(model.get_text_config(), name, None)]
    if changed:
        raise _unsuitable(config, architecture, f"ignores its {changed[0]}")
    if not architecture.endswith("ForCausalLM"):
        raise _unsuitable(config, architecture, "supports ...ForCausalLM only")
    ids = tagger.token_ids
    return {
        "architectures": [architecture.replace("ForCausalLM", "ForSequenceClassification")],
        "classifier_from_token": tagger.tokenizer.convert_ids_to_tokens([ids.bad, ids.good]),
        "method": "from_2_way_softmax",
        "num_labels": 1,
    }


def _head_settings(config: EngineConfig, tagger: Tagger, base: str, revision: str | None) -> Row:
    native = native_head(config.model, loading.load_config(base, revision=revision), tagger.prm_format)
    architecture = native.__name__.replace("ForTokenClassification", "ForSequenceClassification")
    if TWO_LAYERS_WEIGHT in _shapes(base, revision):
        if not architecture.startswith("Qwen2For") or len(tagger.rows) != 2:
            reason = "supports a head of two layers for Qwen2 with 2 classes only"
            raise _unsuitable(config, architecture, reason)
        architecture = TWO_LAYERS
    return {
        "architectures": [architecture],
        "num_labels": len(tagger.rows),
        # The scores are softmax or sigmoid; a checkpoint may name another activation, for other uses.
        "problem_type": "single_label_classification",
    }


def needs_copy(config: EngineConfig, tagger: Tagger) -> bool:
    """Return whether vLLM can load the PRM only as transformers saves it, if at all."""
    base, revision = _base(config)
    if base != config.model or tagger.prm_format.kind == "token":
        return base != config.model
    shapes = _shapes(base, revision)
    head = "score.2" if TWO_LAYERS_WEIGHT in shapes else "score"
    # A head of another size has a copy made, because transformers explains what is wrong.
    return shapes.get(f"{head}.weight", ())[:1] != (len(tagger.rows),) or f"{head}.bias" not in shapes


@contextmanager
def loadable(config: EngineConfig, tagger: Tagger) -> Iterator[EngineConfig]:
    """Yield `config` for a folder that vLLM can load: the PRM's own, or a copy that is deleted afterwards.

    Raises UserError if the disk has no room for the copy.
    """
    if not needs_copy(config, tagger):
        yield config
        return
    dtype = loading.pick_dtype(config.dtype, loading.pick_device())
    model = load_prm(
        config.model,
        tagger.prm_format,
        dtype=dtype,
        revision=config.revision,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )
    with TemporaryDirectory(prefix="erprm-") as folder:
        try:
            model.save_pretrained(folder, save_original_format=False)
            tagger.tokenizer.save_pretrained(folder)
        except OSError as error:
            raise UserError(
                f"vLLM needs a copy of {config.model} that it can load, but {folder} cannot hold it "
                f"({error.strerror}); set TMPDIR to a larger disk, or use --engine transformers"
            ) from None
        del model  # before the engine needs the memory
        yield replace(config, model=folder, revision=None)


def start_command(config: EngineConfig, tagger: Tagger) -> str:
    """Return the command that serves a PRM so that `erprm score --base-url` can ask it."""
    name = shlex.quote(config.model)
    try:
        settings = classifier_settings(config, tagger)
    except Unsuitable:
        settings = {}
    if not settings or needs_copy(config, tagger):
        return f"`erprm serve --prm {name}`"
    pooler, overrides = (shlex.quote(json.dumps(value)) for value in (POOLER, settings))
    return f"`vllm serve {name} --runner pooling --pooler-config {pooler} --hf-overrides {overrides}`"


def _base(config: EngineConfig) -> tuple[str, str | None]:
    """Return the name and the revision of the whole model: the PRM itself, or the base of its adapters."""
    with loading.explained(config.model):
        adapted = adapter_base(shipped.resolve(config.model), revision=config.revision)
    return adapted or (config.model, config.revision)


def _shapes(base: str, revision: str | None) -> Shapes:
    with loading.explained(base):
        return weight_shapes(shipped.resolve(base), revision=revision)


def _unsuitable(config: EngineConfig, architecture: str, reason: str) -> Unsuitable:
    what = f"--engine vllm cannot score {config.model} ({architecture})"
    return Unsuitable(f"{what}: vLLM {reason}; use --engine transformers")
