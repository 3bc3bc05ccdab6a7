"""The model card (README.md) of a trained model."""

from erprm_cli.rows.row import Row


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
    return f"""---
library_name: transformers
tags: [process-reward-model, erprm]
---
# {what}

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
    return f"""---
library_name: transformers
tags: [erprm]
---
# Policy

`{settings["base"]}`, fine-tuned by erprm on {result["rows"]:,} solutions
({result["left_out"]:,} too long and left out).

| setting | value |
|---|---|
{settings_table(settings)}

Last logged loss {result["loss"]:.4f} after {result["step"]:,} steps.
"""
