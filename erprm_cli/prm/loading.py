"""Loading a process reward model of any project, from a folder or the Hub, without running its code.

The output layer of a reward model has one of these names in a checkpoint:

    lm_head.*                        a causal language model (kind "token")
    score.*                          a token classification model of transformers, as TRL saves it
    score.0.*, score.2.*             Qwen2.5-Math-PRM: Linear, ReLU, Linear
    v_head.summary.*                 Skywork-o1-Open-PRM: one number
    score_head.*                     ReasonEval: three classes
    adapter_model.safetensors        adapters of peft, and the `score` trained with them; their base model is
                                     loaded too and the adapters are added to its weights

All but the first become `score` of the architecture's own token classification model. The layouts are taken
from the owners' model code and tested on small random models, not on the published weights.
"""

import re
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification
from transformers.utils import logging

from erprm_cli import shipped
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UserError
from erprm_cli.models import loading
from erprm_cli.models.adapters import merge_adapters
from erprm_cli.models.file_checks import (
    ADAPTER_CONFIG,
    adapter_base,
    check_model,
    weight_shapes,
)
from erprm_cli.models.folder import CARD
from erprm_cli.models.names import Place, find_model
from erprm_cli.prm.card import prm_format_of, read_card
from erprm_cli.prm.formats import PrmFormat
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rows.row import Row

RENAMED = {r"^v_head\.summary\.": "score.", r"^score_head\.": "score."}
HEAD = re.compile("|".join([r"score\.", *RENAMED]))
NO_WEIGHT = "{} has no {} of the right size, which the format {} (kind {}) needs; choose another --prm-format"


def load_tagger(
    name: str,
    prm_format: str | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[Row | None, Tagger]:
    """Return the card of the PRM `name` (None: not trained by erprm) and how it is read, without weights.

    `prm_format` names its format; default: its own, from its card or its name. Raises UserError if there is
    no such model, if its format is unknown, or if its tokenizer does not suit the format or the card.
    """
    find_model(name, revision)
    card = read_card(name)
    chosen = prm_format_of(name, card, prm_format)
    tokenizer = loading.load_tokenizer(name, revision=revision, trust_remote_code=trust_remote_code)
    tagger = Tagger(chosen, tokenizer)
    token_ids = asdict(tagger.token_ids)
    if card is not None and prm_format is None and card["token_ids"] != token_ids:
        raise UserError(
            f"{CARD} says {reprlib.repr(card['token_ids'])}, but the tokenizer in the same folder gives "
            f"{token_ids}; the folder mixes files of two models",
            where=name,
        )
    return card, tagger


def check_prm(config: EngineConfig, prm_format: str | None = None) -> None:
    """Raise UserError for a PRM that could not be loaded, as far as its files tell; no weights are read.

    As `load_tagger`, for the PRM of `config`; also the weights of a folder: that they are complete and have a
    head if the format needs one. Those of a model on the Hub may have to be downloaded first.
    """
    name = config.model
    code: dict[str, Any] = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
    _, tagger = load_tagger(name, prm_format, **code)
    if find_model(name, config.revision) is not Place.FOLDER:
        return
    path, chosen = shipped.resolve(name), tagger.prm_format
    with loading.explained(name):
        check_model(path, allow_pickle=config.allow_pickle)
        own = weight_shapes(path, allow_pickle=config.allow_pickle)
    if chosen.kind != "token" and own and not any(HEAD.match(weight) for weight in own):
        raise UserError(NO_WEIGHT.format(name, "score.weight", chosen.name, chosen.kind))


def load_prm(
    name: str,
    prm_format: PrmFormat,
    *,
    dtype: torch.dtype | str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Any:
    """Return the model of `prm_format` on the CPU, in `dtype` ("auto": as saved) with a head in float32.

    Adapters are merged. `trust_remote_code` applies to language models only: heads are loaded into
    transformers' own classes. Raises UserError if a weight that scores depend on is missing from the
    checkpoint, because transformers would fill it with random numbers.
    """
    with loading.explained(name, ADAPTER_CONFIG):
        adapted = adapter_base(shipped.resolve(name), revision=revision)
    base, base_revision = adapted or (name, revision)
    load_options: dict[str, Any] = {
        "revision": base_revision,
        "allow_pickle": allow_pickle,
        "dtype": dtype,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # reported below
    }
    cls: Any = AutoModelForCausalLM
    if prm_format.kind == "token":
        load_options["trust_remote_code"] = trust_remote_code
    else:
        cls = _head_class(name, base, prm_format, base_revision)
        num_labels = 1 if prm_format.kind == "value" else prm_format.num_labels
        load_options |= {"num_labels": num_labels, "key_mapping": RENAMED}
    with _quiet():
        model, info = loading.load_model(cls, base, **load_options)
    missing = sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"])
    if adapted is not None:
        if prm_format.kind != "token":
            model.score.float()  # the base has no `score`, so it was created in `dtype`
        model, own = merge_adapters(model, name, revision)
        missing = [key for key in missing if f"base_model.model.{key}" not in own]
    if missing:
        raise UserError(NO_WEIGHT.format(name, missing[0], prm_format.name, prm_format.kind))
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing a table of weights that are not needed, such as lm_head."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def native_head(name: str, config: Any, prm_format: PrmFormat) -> Any:
    """Return transformers' token classification class for the architecture `config` of the PRM `name`."""
    try:
        native = AutoModelForTokenClassification._model_mapping[type(config)]
    except KeyError:
        native = None
    if native is None or not hasattr(native, "forward"):
        raise UserError(
            f"transformers has no token classification model for {config.model_type}, the architecture of "
            f"{name}, but the format {prm_format.name} (kind {prm_format.kind}) needs one"
        )
    return native


def _head_class(name: str, base: str, prm_format: PrmFormat, revision: str | None) -> Any:
    """Return the class of token classification models to load the checkpoint `base` of `name` into."""
    native = native_head(name, loading.load_config(base, revision=revision), prm_format)
    with loading.explained(base):
        two_layers = "score.0.weight" in weight_shapes(shipped.resolve(base), revision=revision)

    class WithHead(native):  # type: ignore[misc, valid-type]
        """The architecture's own class, with a float32 head of one or two layers as in the checkpoint."""

        _keep_in_fp32_modules_strict = {"score"}

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            if two_layers:
                width = config.get_text_config().hidden_size
                last = nn.Linear(width, config.num_labels)
                self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), last)
                self.post_init()

    return WithHead
