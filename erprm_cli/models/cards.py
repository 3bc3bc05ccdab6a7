"""The model card (README.md) of a trained model, with the metadata that the Hugging Face Hub reads."""

import json
from pathlib import Path

from erprm_cli.models.names import HUB_NAME
from erprm_cli.rows.row import Row

PIPELINES = {"head": "token-classification"}  # of kinds of model; others generate text


def metadata(kind: str, tags: list[str], settings: Row, datasets: list[str] | None = None) -> str:
    """Return the YAML block of a card, whose values are written as JSON, which is YAML.

    The base model is named if it is one of the Hub. The licence is for the user to add.
    """
    is_adapter = bool(settings.get("lora_rank")) and not settings.get("merge_lora")
    base = str(settings.get("base"))
    on_hub = "/" in base and HUB_NAME.fullmatch(base) and not Path(base).exists()
    fields: Row = {
        "library_name": "peft" if is_adapter else "transformers",
        "pipeline_tag": PIPELINES.get(kind, "text-generation"),
        "base_model": base if on_hub else None,
        "base_model_relation": ("adapter" if is_adapter else "finetune") if on_hub else None,
        "datasets": datasets or None,
        "tags": tags,
    }
    lines = [f"{name}: {json.dumps(value)}\n" for name, value in fields.items() if value is not None]
    return "".join(["---\n", *lines, "---\n"])


def settings_table(settings: Row) -> str:
    """Return the rows of a Markdown table of settings."""
    return "\n".join(f"| {name} | {value} |" for name, value in settings.items())


def prm_model_card(card: Row) -> str:
    """Return README.md of a trained PRM."""
    settings, result, prm_format, ids = (card[name] for name in ("settings", "result", "format", "token_ids"))
    what = "Outcome reward model" if settings["outcome_only"] else "Process reward model"
    tag, good, bad = (prm_format[name] for name in ("tag", "good", "bad"))
    text = prm_format["prompt"] + prm_format["between"].join(f"{{step {number}}}{tag}" for number in (1, 2))
    if card["kind"] == "token":
        over = f"logits of {good!r} (token {ids['good']}) and {bad!r} (token {ids['bad']})"
    else:
        over = "two classes of the head, of which class 1 is good"
    merged = settings | {"merge_lora": True} if "exported_from" in card else settings
    block = metadata(card["kind"], ["process-reward-model", "erprm"], merged, card.get("datasets"))
    return f"""{block}# {what}

Trained by `erprm train` from `{settings["base"]}` on {result["rows"]:,} labelled solutions
(estimator {card.get("estimator")}, eta {card.get("eta")}; {result["left_out"]:,} too long and left out).

It reads `{text}` and so on.
The probability that the steps so far are good is the softmax, at each {tag!r} (token {ids["tag"]}),
over the {over}.

    erprm score --prm FOLDER solutions.jsonl

| setting | value |
|---|---|
{settings_table(settings)}

Last logged loss {result["loss"]:.4f} after {result["step"]:,} steps.
"""


def policy_model_card(card: Row) -> str:
    """Return README.md of a fine-tuned policy."""
    settings, result = card["settings"], card["result"]
    if settings.get("algorithm") == "grpo":
        how = (
            f"trained by GRPO in erprm on {result['rows']:,} problems, with scores of `{settings['prm']}`\n"
            f"(advantage {settings['advantage']})."
        )
    else:
        how = (
            f"fine-tuned by erprm on {result['rows']:,} solutions\n"
            f"({result['left_out']:,} too long and left out)."
        )
    return f"""{metadata("policy", ["erprm"], settings)}# Policy

`{settings["base"]}`, {how}

| setting | value |
|---|---|
{settings_table(settings)}

Last logged loss {result["loss"]:.4f} after {result["step"]:,} steps.
"""
