"""A process reward model in another shape: adapters merged, or a language model as a token classifier.

The logits of `good` and `bad` at a tag are two rows of the output matrix times the hidden state there. A
token classification model whose head is these two rows (class 0 bad, class 1 good) gives the same two
logits, and so the same scores, without the rest of the matrix. Libraries that know no PRM load it as it is.
"""

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification

from erprm_cli.errors import UserError
from erprm_cli.models import loading
from erprm_cli.models.cards import prm_model_card
from erprm_cli.models.folder import write_folder
from erprm_cli.prm.card import format_of, read_card
from erprm_cli.prm.loading import load_prm
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rows.row import Row

TOLERANCE = 1e-4  # of probabilities on the trial text; rounding stays below 1e-6 in float32


def export_prm(
    name: str,
    output: Path,
    kind: str,
    *,
    dtype: str = "auto",
    prm_format: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    allow_pickle: bool = False,
) -> Row:
    """Write the token PRM `name` to the folder `output` as a `kind`, adapters merged; return its card."""
    if output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise UserError(f"{output} is there already; give -o the name of a new folder")
    card = read_card(name)
    form = format_of(name, card, prm_format)
    if form.kind != "token":
        raise UserError(f"{name} is read by a {form.kind} already; only a token PRM can be exported")
    where: Row = {"revision": revision, "trust_remote_code": trust_remote_code}
    tokenizer = loading.load_tokenizer(name, **where)
    token_ids = Tagger(form, tokenizer).token_ids
    number_type = dtype if dtype == "auto" else getattr(torch, dtype)
    model = load_prm(name, form, dtype=number_type, allow_pickle=allow_pickle, **where).eval()
    if kind == "head":
        assert token_ids.good is not None and token_ids.bad is not None
        model = as_head(model, token_ids.good, token_ids.bad)
        form = replace(form, kind="head", good="", bad="", num_labels=2, labels=(1,))
    known = {} if card is None else {key: card[key] for key in ("eta", "estimator") if key in card}
    made = {"kind": kind, "format": asdict(form), "token_ids": asdict(Tagger(form, tokenizer).token_ids)}
    made |= known | {"exported_from": name}
    if card is not None and "settings" in card:
        made |= {"settings": card["settings"], "result": card["result"] | {"model": str(output)}}
        readme = prm_model_card(made)
    else:
        readme = f"# Process reward model\n\nMade of `{name}` by `erprm export --kind {kind}`.\n"
    write_folder(output, model, tokenizer, made, readme)
    return made


def as_head(model: Any, good: int, bad: int) -> Any:
    """Return a token classification model (0 bad, 1 good) with the logits that `model` gives two tokens.

    Both are tried on a text; UserError if they differ, as where an architecture bends its logits. A cap, as
    of Gemma 2, bends each logit by itself, so that no head of two rows has their difference.
    """
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if cap:
        raise UserError(
            f"{model.config.model_type} caps its logits (final_logit_softcapping {cap:g}), which no token "
            "classification model does, so that a head of two rows scores otherwise; keep it as --kind token"
        )
    settings = copy.deepcopy(model.config)
    settings.architectures = None
    settings.id2label, settings.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    settings.classifier_dropout = 0.0
    try:
        head = AutoModelForTokenClassification.from_config(settings, dtype=model.dtype).eval()
    except ValueError as error:
        raise UserError(f"{model.config.model_type}: {error}") from None
    getattr(head, head.base_model_prefix).load_state_dict(model.base_model.state_dict())
    output = model.get_output_embeddings()
    scale = (
        getattr(model, "logit_scale", None) or getattr(model.config, "logit_scale", None) or 1.0
    )  # Cohere's
    with torch.no_grad():
        head.score.weight.copy_(output.weight[[bad, good]] * scale)
        head.score.bias.zero_()
        if getattr(output, "bias", None) is not None:
            head.score.bias.copy_(output.bias[[bad, good]] * scale)
        generator = torch.Generator().manual_seed(0)
        trial_1T = torch.randint(0, model.config.get_text_config().vocab_size, (1, 48), generator=generator)
        ours = head(input_ids=trial_1T).logits[0].float().softmax(-1)[:, 1]
        theirs = model(input_ids=trial_1T).logits[0][:, [bad, good]].float().softmax(-1)[:, 1]
    bound = TOLERANCE if model.dtype == torch.float32 else 0.05
    if not bool((ours - theirs).abs().max() < bound):
        raise UserError(
            f"{model.config.model_type} does more to its logits than its output layer, so that a head of two "
            "rows scores otherwise; keep it as --kind token"
        )
    return head
