"""Exporting a process reward model: with adapters merged, or as a token classification model.

The logits of `good` and `bad` at a tag are two rows of the output matrix times the hidden state there. A
token classification model whose head is these two rows (class 0 bad, class 1 good) gives the same two
logits, so the same scores, without the rest of the matrix. Libraries without PRM support can load it.
"""

import copy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForTokenClassification

from erprm_cli.errors import UserError
from erprm_cli.models.cards import metadata, prm_model_card
from erprm_cli.models.folder import write_folder
from erprm_cli.prm.loading import load_prm, load_tagger
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rows.row import Row

TOLERANCE = 1e-4  # largest difference of probabilities on the test text; rounding in float32 stays below 1e-6


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
    """Write the token PRM `name` as a PRM of `kind` to the new folder `output`; return its card.

    `kind` is "head" (a token classification model) or "token"; adapters are merged in both. The other
    arguments are those of `Scorer`. Raises UserError if the folder is not empty or the model is unsuitable.
    """
    if output.exists() and any(output.iterdir() if output.is_dir() else [output]):
        raise UserError(f"{output} already exists; give -o the name of a new folder")
    code: Row = {"revision": revision, "trust_remote_code": trust_remote_code}
    card, tagger = load_tagger(name, prm_format, **code)
    source_format, tokenizer, token_ids = tagger.prm_format, tagger.tokenizer, tagger.token_ids
    if source_format.kind != "token":
        raise UserError(f"{name} is of kind {source_format.kind}; only a PRM of kind token can be exported")
    number_type = dtype if dtype == "auto" else getattr(torch, dtype)
    model = load_prm(name, source_format, dtype=number_type, allow_pickle=allow_pickle, **code).eval()
    target_format = source_format
    if kind == "head":
        assert token_ids.good is not None and token_ids.bad is not None
        model = as_head(model, token_ids.good, token_ids.bad)
        target_format = replace(source_format, kind="head", good="", bad="", num_labels=2, labels=(1,))
    known = {} if card is None else {key: card[key] for key in ("eta", "estimator") if key in card}
    token_ids = Tagger(target_format, tokenizer).token_ids
    made = {"kind": kind, "format": asdict(target_format), "token_ids": asdict(token_ids)}
    made |= known | {"exported_from": name}
    if card is not None and "settings" in card:
        made |= {"settings": card["settings"], "result": card["result"] | {"model": str(output)}}
        readme = prm_model_card(made)
    else:
        block = metadata(kind, ["process-reward-model", "erprm"], {"base": name})
        readme = f"{block}# Process reward model\n\nMade from `{name}` by `erprm export --kind {kind}`.\n"
    write_folder(output, model, tokenizer, made, readme)
    return made


def as_head(model: Any, good: int, bad: int) -> Any:
    """Return a token classification model (0 bad, 1 good) with the logits that `model` gives two tokens.

    Raises UserError if the two differ on a test text because the architecture changes its logits after the
    output layer. Gemma 2, for example, caps each logit separately, which a head of two rows cannot do.
    """
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)
    if cap:
        raise UserError(
            f"{model.config.model_type} caps its logits (final_logit_softcapping {cap:g}), which a token "
            "classification model cannot do, so the scores would differ; use --kind token"
        )
    config = copy.deepcopy(model.config)
    config.architectures = None
    config.id2label, config.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
    config.classifier_dropout = 0.0
    try:
        head = AutoModelForTokenClassification.from_config(config, dtype=model.dtype).eval()
    except ValueError:
        raise UserError(
            f"transformers has no token classification model for {model.config.model_type}; use --kind token"
        ) from None
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
        test_1T = torch.randint(0, model.config.get_text_config().vocab_size, (1, 48), generator=generator)
        ours = head(input_ids=test_1T).logits[0].float().softmax(-1)[:, 1]
        theirs = model(input_ids=test_1T).logits[0][:, [bad, good]].float().softmax(-1)[:, 1]
    bound = TOLERANCE if model.dtype == torch.float32 else 0.05
    if not bool((ours - theirs).abs().max() < bound):
        raise UserError(
            f"{model.config.model_type} changes its logits after the output layer, so a head of two rows "
            "would give other scores; use --kind token"
        )
    return head
