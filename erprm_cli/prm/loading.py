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

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification
from transformers.utils import logging

from erprm_cli import shipped
from erprm_cli.errors import UserError
from erprm_cli.models import loading
from erprm_cli.models.adapters import adapter_settings, merge_adapters, weight_names
from erprm_cli.prm.formats import PrmFormat

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
    path = shipped.resolve(name)
    with loading.explained(name):
        adapters = adapter_settings(path, revision)
    base, base_revision = path, revision
    if adapters is not None:
        base, base_revision = adapters["base_model_name_or_path"], adapters.get("revision")
    where: dict[str, Any] = {
        "revision": base_revision,
        "use_safetensors": loading.only_safetensors(allow_pickle),
        "dtype": dtype,
        "output_loading_info": True,
        "ignore_mismatched_sizes": True,  # told below
    }
    with loading.explained(base if adapters else name), _quiet():
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
