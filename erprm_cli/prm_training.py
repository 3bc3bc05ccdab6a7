"""Training a process reward model on labelled solutions (arXiv 2412.11006, section 4.1).

At the tag after step l, with label v_l and g, b the logits of `good` and `bad`:

    loss = - v_l log softmax(g, b)_good - (1 - v_l) log softmax(g, b)_bad

in float32, averaged over all tags of the global batch (so that a solution counts by its number of steps),
the last step's included. Labels are neither rounded nor cast; a solution that is too long is left out whole.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
from torch import Tensor
from torch.nn.functional import logsigmoid

from erprm_cli import records
from erprm_cli.errors import RowError
from erprm_cli.jsonl import Row
from erprm_cli.prm import Tagger, TooLong
from erprm_cli.prm_formats import ER_PRM, prm_format
from erprm_cli.progress import News
from erprm_cli.training import Data, Example, Log, TrainingConfig, finished, fit, save

HASHED = ("id", "sample", "problem", "steps", "labels")


@dataclass(frozen=True, slots=True)
class PrmTrainingConfig(TrainingConfig):
    """How to train a PRM; defaults as in the paper."""

    format: str = ER_PRM
    outcome_only: bool = False  # the ORM baseline: only the last tag, whose label is the outcome, is learned


class PrmData(Data):
    """Labelled solutions as examples: the targets are the labels, at the tags."""

    def __init__(self, config: PrmTrainingConfig) -> None:
        """Load the tokenizer; UserError if it does not suit the format or the output folder is taken."""
        finished(config, config.settings())
        super().__init__(config)
        self.outcome_only = config.outcome_only
        self.tagger = Tagger(prm_format(config.format), self.tokenizer, self.max_tokens)
        self.made_by: Row | None = None  # eta and estimator of all rows

    def add(self, row: Row) -> None:
        """Keep one labelled solution, or count it as too long; RowError if it cannot be used."""
        records.labels(row)
        made_by = {name: row.get(name) for name in ("eta", "estimator")}
        self.made_by = self.made_by or made_by
        if made_by != self.made_by:
            raise RowError(
                f"labelled with {made_by}, but the rows before with {self.made_by}; train on one kind"
            )
        try:
            tagged = self.tagger.encode(row["problem"], row["steps"])
        except TooLong:
            self.too_long += 1
            return
        labels = np.array(row["labels"], np.float32)
        assert len(tagged.tags) == len(labels)  # every step has its tag and its label, the last included
        learned = slice(-1, None) if self.outcome_only else slice(None)
        self.keep(Example(tagged.ids, tagged.tags[learned], labels[learned]), row, HASHED)

    def check(self, news: News) -> None:
        """As Data, and warn if there is nothing to tell apart."""
        super().check(news)
        value = self.examples[0].targets[0]
        if all((example.targets == value).all() for example in self.examples):
            news.warn(f"all labels are {value:g}: the model can learn nothing but that number")


def two_way_loss(logits_N2: Tensor, target_N: Tensor) -> Tensor:
    """Return the sum of the cross entropies of softmax(good, bad) with the targets (v, 1 - v), in float32."""
    difference_N = logits_N2[:, 0].float() - logits_N2[:, 1].float()
    return -(target_N * logsigmoid(difference_N) + (1 - target_N) * logsigmoid(-difference_N)).sum()


def train_prm(rows: Iterable[Row], config: PrmTrainingConfig, log: Log, news: News | None = None) -> Row:
    """Train a PRM on labelled solutions and write it to config.output; return the last log row."""
    data = PrmData(config)
    for row in rows:
        data.add(row)
    return fit_prm(data, config, log, news or News("train"))


def fit_prm(data: PrmData, config: PrmTrainingConfig, log: Log, news: News) -> Row:
    """As `train_prm`, on rows that have been added to `data` one by one."""
    data.check(news)
    settings = config.settings() | {"data": data.hash}
    last = finished(config, settings)
    if last is not None:
        news.say(f"{config.output} is there already, made of the same rows with the same settings")
        log(last)
        return last
    model = data.load_model(news)
    token_ids = data.tagger.token_ids
    last = fit(model, data, data.tagger.rows, two_way_loss, log)
    last["model"] = str(config.output)
    card = {
        "kind": "token",
        "format": asdict(data.tagger.form),
        "token_ids": asdict(token_ids),
        **(data.made_by or {}),
        "settings": settings,
        "result": last,
    }
    save(model, data, card, model_card(card))
    log(last)
    return last


def model_card(card: Row) -> str:
    """Return README.md of a trained PRM."""
    settings, result, form, ids = (card[name] for name in ("settings", "result", "format", "token_ids"))
    what = "Outcome reward model" if settings["outcome_only"] else "Process reward model"
    text = form["prompt"] + form["between"].join(f"{{step {number}}}{form['tag']}" for number in (1, 2))
    return f"""---
library_name: transformers
tags: [process-reward-model, erprm]
---
# {what}

Trained by `erprm train` from `{settings["base"]}` on {result["rows"]:,} labelled solutions
(estimator {card.get("estimator")}, eta {card.get("eta")}; {result["left_out"]:,} too long and left out).

It reads `{text}` and so on.
The probability that the steps so far are good is the softmax, at each {form["tag"]!r} (token {ids["tag"]}),
over the logits of {form["good"]!r} (token {ids["good"]}) and {form["bad"]!r} (token {ids["bad"]}).

    erprm score --prm FOLDER solutions.jsonl

| setting | value |
|---|---|
{_table(settings)}

Last logged loss {result["loss"]:.4f} after {result["step"]:,} steps.
"""


def _table(settings: Row) -> str:
    return "\n".join(f"| {name} | {value} |" for name, value in settings.items())
