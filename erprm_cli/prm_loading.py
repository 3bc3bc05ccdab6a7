"""Loading a process reward model from a folder or the Hub, whoever made it, without running its code.

What a reward model is read by may stand under one of these names in a checkpoint:

    lm_head.*                        a causal language model (kind "token")
    score.*                          a token classification model of transformers, as TRL saves it
    score.0.*, score.2.*             Qwen2.5-Math-PRM: Linear, ReLU, Linear
    v_head.summary.*                 Skywork-o1-Open-PRM: one number
    score_head.*                     ReasonEval: three classes
    adapter_model.safetensors        adapters of peft, and the `score` trained beside them; the base they were
                                     trained on is loaded too and they are added to its weights

All but the first become `score` of the architecture's own token classification model. No published weights
were at hand: the layouts are those of the owners' model code, tried on small random models.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import torch
from safetensors import safe_open
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification
from transformers.utils import logging
from transformers.utils.hub import cached_file

from erprm_cli import models
from erprm_cli.errors import UserError
from erprm_cli.prm_formats import PrmFormat

RENAMED = {r"^v_head\.summary\.": "score.", r"^score_head\.": "score."}


def load_prm(
    name: str,
    form: PrmFormat,
    *,
    dtype: torch.dtype | str,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Any:
    """Load the model that `form` reads, in `dtype` ("auto": as it is saved) but for a head, which is float32.

    It is on the CPU. Adapters are merged. `trust_remote_code` concerns language models alone: heads are
    loaded into transformers' own classes.
    UserError if a weight that is read is not in the checkpoint: it would be a random one.
    """
    path = models.resolve(name)
    with models.explained(name):
        adapters = adapter_settings(path, revision)
    base, base_revision = path, revision
    if adapters is not None:
        base, base_revision = adapters["base_model_name_or_path"], adapters.get("revision")
    where: dict[str, Any] = {
        "revision": base_revision,
        "use_safetensors": models.only_safetensors(allow_pickle),
        "dtype": dtype,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # told below
    }
    with models.explained(base if adapters else name), _quiet():
        if form.kind == "token":
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                base, trust_remote_code=trust_remote_code, **where
            )
        else:
            loaded = _head_class(name, base, form, base_revision).from_pretrained(
                base,
                num_labels=1 if form.kind == "value" else form.num_labels,
                key_mapping=RENAMED,
                **where,
            )
    model, info = loaded
    lacking = sorted(info["missing_keys"]) + sorted(key for key, *_ in info["mismatched_keys"])
    if adapters is not None:
        if form.kind != "token":
            model.score.float()  # it was not in the base and so made in `dtype`
        model, own = merge_adapters(model, name, revision)
        lacking = [key for key in lacking if f"base_model.model.{key}" not in own]
    if lacking:
        raise UserError(
            f"{name} has no {lacking[0]} of the right size, which the format {form.name} (kind {form.kind}) "
            "reads; take another --prm-format"
        )
    return model


def adapter_settings(path: str, revision: str | None) -> dict[str, Any] | None:
    """Return adapter_config.json of a folder or Hub name; None if it holds no adapters but a whole model."""
    where: dict[str, Any] = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    file = cached_file(path, "adapter_config.json", **where)
    if file is None or not os.path.exists(file):
        return None
    with open(file, "rb") as opened:
        return dict(orjson.loads(opened.read()))


def merge_adapters(model: Any, name: str, revision: str | None) -> tuple[Any, set[str]]:
    """Return the base `model` with the adapters `name` added to its weights, and the names of their weights.

    UserError if a weight of the adapters is lacking: it would change nothing, or be a random one.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ModuleNotFoundError:
        raise UserError(f"{name} holds adapters; peft merges them: pip install 'erprm[lora]'") from None
    path = models.resolve(name)
    own = weight_names(path, revision, "adapter_model.safetensors")
    if not own:  # peft would read a pickle in its place
        raise UserError(f"{name} has no adapter_model.safetensors; adapters that are pickled are not read")
    try:
        with models.explained(name):
            adapted = PeftModel.from_pretrained(model, path, revision=revision)
        lacking = sorted(get_peft_model_state_dict(adapted).keys() - own)
    except KeyError as error:  # of a layer that was trained whole
        lacking = [str(error.args[0])]
    if lacking:
        raise UserError(f"{name}: adapter_model.safetensors has no {lacking[0]}; save the adapters again")
    return adapted.merge_and_unload(), own


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing a table of the weights that are not needed, as a lm_head."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)


def _head_class(name: str, path: str, form: PrmFormat, revision: str | None) -> Any:
    """Return the class of token classification models to load the checkpoint into."""
    config = AutoConfig.from_pretrained(path, revision=revision, trust_remote_code=False)
    try:
        native = AutoModelForTokenClassification._model_mapping[type(config)]
    except KeyError:
        native = None
    if native is None or not hasattr(native, "forward"):
        raise UserError(
            f"{name} is a {config.model_type}, of which transformers has no token classification model, as "
            f"the format {form.name} (kind {form.kind}) needs"
        )
    two_layers = "score.0.weight" in weight_names(path, revision)

    class WithHead(native):  # type: ignore[misc, valid-type]
        """The architecture's own, its head in float32, and of two layers where the checkpoint has two."""

        _keep_in_fp32_modules_strict = {"score"}

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            if two_layers:
                width = config.get_text_config().hidden_size
                last = nn.Linear(width, config.num_labels)
                self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), last)
                self.post_init()

    return WithHead


def weight_names(path: str, revision: str | None, file_name: str = "model.safetensors") -> set[str]:
    """Return the names of the weights of a checkpoint in safetensors, of one file or of several."""
    where: dict[str, Any] = {"revision": revision, "_raise_exceptions_for_missing_entries": False}
    index = cached_file(path, f"{file_name}.index.json", **where)
    if index is not None:
        with open(index, "rb") as file:
            return set(orjson.loads(file.read())["weight_map"])
    whole = cached_file(path, file_name, **where)
    if whole is None or not os.path.exists(whole):
        return set()
    with safe_open(whole, framework="pt") as weights:
        return set(weights.keys())
