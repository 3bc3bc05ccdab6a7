"""Training a process reward model on labelled solutions (arXiv 2412.11006, section 4.1).

At the tag after step l, with target v_l and g, b the logits of good and bad:

    loss = - v_l log softmax(g, b)_good - (1 - v_l) log softmax(g, b)_bad

in float32. `target` says what v_l is:

    labels   the label of the step, neither rounded nor cast, as in the paper
    counts   k_l / K_l, the share of correct completions among the row's K_l rollouts. The loss has weight
             K_l, which makes it the negative log likelihood of k_l successes in K_l trials. The model then
             predicts the success rate, and f_eta of the rate is the label at any eta (`erprm score --eta`).
             The last step has one trial, the outcome of the solution itself, and so 1/K of the weight of
             another step. Rollouts that stopped early do not bias this likelihood, as they bias k_l / K_l.

A step whose label or rollouts are null has no target and no loss.

`weighting` says how the losses of a batch are averaged:

    step       over all steps (counts: completions), as in the paper: longer solutions weigh more
    solution   first over the steps (counts: completions) of each solution: all solutions weigh the same

`kind` says what g and b are: `token`, the logits of two words of a language model; `head`, the two classes of
a token classification model, as TRL and Qwen train them. Class 1 is good.

L steps of a solution, N targets of a micro-batch
"""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from erprm_cli import hashing
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.evaluation import calibration_metrics
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.content import Content
from erprm_cli.io.hub import dataset_on_hub
from erprm_cli.io.reading import read_rows
from erprm_cli.labels.estimator import eta_of_row, rate_of_label
from erprm_cli.models import loading
from erprm_cli.models.cards import prm_model_card
from erprm_cli.prm.formats import PrmFormat, load_prm_format
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.rows.success_rates import OWN_RATES, has_success_rates, success_counts, success_rates
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PrmTrainingConfig, TrainingConfig
from erprm_cli.training.examples import Example, Examples
from erprm_cli.training.task import TrainingTask

SOFT: Row = {"eta": 0.0, "estimator": "soft"}  # the label at eta 0 is the success rate


class PrmTask(TrainingTask):
    """Labelled solutions as examples: the targets are at the tags of the steps."""

    config: PrmTrainingConfig
    SHAPING = ("kind", "target", "weighting", "outcome_only", "truncate", "eval_fraction")

    def __init__(self, config: PrmTrainingConfig) -> None:
        """As TrainingTask. Raises UserError if the tokenizer or --kind does not suit the format."""
        self.prm_format = prm_format = trained_format(config)
        super().__init__(config)
        self.tagger = Tagger(prm_format, self.tokenizer)
        self.output_rows = self.tagger.rows if prm_format.kind == "token" else (1, 0)  # good, bad
        self.stats.update(made_by=None, low=1.0, high=0.0, shared=0, datasets=[])
        self._begins = len(self.tokenizer("").input_ids)  # special tokens before (and after) any text
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}  # words may be unknown
        self._is_special = np.zeros(max(special, default=0) + 1, bool)  # by token id
        self._is_special[list(special)] = True
        self._seen: set[str] = set()  # hashes of the problems to train on

    @property
    def learned(self) -> str:
        """The field that holds the targets."""
        return "labels" if self.config.target == "labels" else "rollouts"

    @property
    def settings(self) -> Row:
        name = self.config.format
        content = Content(
            lambda: hashing.fields_hash(load_prm_format(name)), (Path(name),) if Path(name).exists() else ()
        )
        return super().settings | {"format_content": content}

    def add(self, row: Row) -> None:
        """Keep one labelled solution, or count it as too long. Raises RowError if it cannot be used."""
        # The split depends on the problem alone, so all its solutions are on one side.
        share = int(hashing.content_hash(str(row.get("problem"))), 16) / 2**64
        self._add(row, "eval" if share < self.config.eval_fraction else "train")

    def add_eval(self, row: Row) -> None:
        """Keep one solution to validate on."""
        self._add(row, "eval")
        self.stats["shared"] += hashing.content_hash(row["problem"]) in self._seen

    def add_rows(self, source: str, bad: BadRows | None, limit: int | None, reporter: Reporter) -> None:
        super().add_rows(source, bad, limit, reporter)
        self.stats["datasets"] = [*filter(None, [dataset_on_hub(source)])]
        self.read_eval(bad)

    def read_eval(self, bad: BadRows | None = None) -> None:
        """Keep the solutions of --eval, if it is given, to validate on."""
        if self.config.eval is not None:
            for _ in read_rows(self.config.eval, self.add_eval, bad, expand=ForeignRows(names=self.names)):
                pass

    def sources(self, source: str) -> list[str]:
        return [source] if self.config.eval is None else [source, self.config.eval]

    def tokenisation(self) -> Row:
        shaping = {name: getattr(self.config, name) for name in self.SHAPING}
        return super().tokenisation() | shaping | {"format": asdict(self.prm_format)}

    def _add(self, row: Row, split: str) -> None:
        values, weights, made_by = self._targets(row)
        before = self.stats["made_by"] or made_by
        if made_by != before:
            raise RowError(
                f"labelled with {made_by}, but the rows before with {before}; train on labels of one kind"
            )
        tagged = self.tagger.encode(row["problem"], row["steps"])
        assert len(tagged.tags) == len(values)  # every step has its tag and its target, the last included
        ids, tags, is_right = tagged.ids, tagged.tags, _is_right(row, float(values[-1]))
        self._check_known(~np.isnan(values))
        if len(ids) > self.max_tokens:
            fitting = int(np.searchsorted(tags, self.max_tokens))
            if not self.config.truncate or self.config.outcome_only or not fitting:
                self.stats["too_long"] += split == "train"
                return
            self.stats["truncated"] += split == "train"
            tags, values, weights = tags[:fitting], values[:fitting], weights[:fitting]
            ids = ids[: tags[-1] + 1]
        if self.config.outcome_only:
            tags, values, weights = tags[-1:], values[-1:], weights[-1:]
        known = ~np.isnan(values)
        if not known.any():  # truncated before the first label
            self.stats["too_long"] += split == "train"
            return
        tags, values, weights = tags[known], values[known], weights[known]
        if self.config.weighting == "solution":
            weights = weights / weights.sum()
        self.stats["made_by"] = made_by
        if self.prm_format.build == "text":
            self.stats["special"] += self._holds_special(ids, tagged.ids[tagged.tags])
        if split == "train":
            self._seen.add(hashing.content_hash(row["problem"]))
            self.stats["low"] = min(self.stats["low"], float(values.min()))
            self.stats["high"] = max(self.stats["high"], float(values.max()))
        names = (self.learned,) if row.get(self.learned) is not None else OWN_RATES
        hashed = ("id", "sample", "problem", "steps", *(name for name in names if name in row))
        self.store.keep(Example(ids, tags, values, weights, is_right), row, hashed, split)

    def _check_known(self, known: NDArray[np.bool_]) -> None:
        """Raise RowError if no step that is learned from has a target."""
        if not known.any():
            raise RowError(f"its '{self.learned}' are all null, so there is nothing to learn")
        if self.config.outcome_only and not known[-1]:
            raise RowError(f"the last of its '{self.learned}' is null; --outcome-only learns no other")

    def _holds_special(self, ids: NDArray[np.int32], tags: NDArray[np.int32]) -> bool:
        """Return whether special tokens are in the text itself, not only at its start or as its tags."""
        text = ids[self._begins :]
        found = text[text < len(self._is_special)]
        found = found[self._is_special[found]]
        return bool(np.setdiff1d(found, tags).size) if found.size else False

    def _targets(self, row: Row) -> tuple[NDArray[np.float32], NDArray[np.float32], Row]:
        """Return the targets [L] and weights [L] of the steps, and the eta and estimator of the labels.

        The target of a step without rollouts is NaN.
        """
        if self.config.target == "labels":
            if row.get("labels") is None and has_success_rates(row):
                values = np.array(success_rates(schema.check_solution(row)), np.float32)
                return values, np.ones_like(values), SOFT
            values = np.array(schema.check_labels(row)["labels"], np.float32)
            return values, np.ones_like(values), {name: row.get(name) for name in ("eta", "estimator")}
        schema.check_solution(row)
        if row.get("rollouts") is None and "successes" in row:
            wins, trials = (np.array(counts, np.float32) for counts in success_counts(row))
            return wins / trials, trials, SOFT
        lists = schema.check_rollouts(row)["rollouts"]
        if any(reward not in (0, 1) for rewards in schema.without_nulls(lists) for reward in rewards):
            raise RowError(
                "'rollouts' has rewards other than 0 and 1, which cannot be counted; train on labels instead"
            )
        trials = np.array([np.nan if rewards is None else len(rewards) for rewards in lists], np.float32)
        wins = np.array([np.nan if rewards is None else sum(rewards) for rewards in lists], np.float32)
        return wins / trials, trials, SOFT

    def check_examples(self, reporter: Reporter) -> None:
        """As TrainingTask; also warn if all labels are equal or the validation set is not new."""
        super().check_examples(reporter)
        if self.stats["low"] == self.stats["high"]:
            reporter.warn(
                f"all labels are {self.stats['low']:g}, so the model can only learn that number; train on "
                "both correct and wrong solutions"
            )
        if self.stats["shared"]:
            reporter.warn(
                f"{self.stats['shared']:,} solutions of {self.config.eval} are of problems also in the "
                "training data, so validation will look too good"
            )
        if (self.config.eval or self.config.eval_fraction) and self.store.examples("eval") is None:
            raise UserError("nothing to validate on; use a larger --eval-fraction or another --eval")

    def load_model(self, dtype: torch.dtype) -> Any:
        config = self.config
        code: Row = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        load_options = code | {
            "dtype": dtype,
            "allow_pickle": config.allow_pickle,
            "attn_implementation": config.attn_implementation,
        }
        if config.kind == "token":
            return loading.load_model(AutoModelForCausalLM, config.base, **load_options)
        settings = loading.load_config(config.base, **code)
        settings.id2label, settings.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
        settings.classifier_dropout = 0.0
        load_options["config"] = settings
        model = loading.load_model(AutoModelForTokenClassification, config.base, **load_options)
        model.score.float()
        return model

    def loss(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return two_way_loss(logits_NV, target_N)

    def evaluate(self, judge: Callable[[Examples], list[Tensor]]) -> Row:
        """Return the loss, the Brier score, the calibration error and the AUC of the outcome.

        Brier score and calibration error compare success rates: the inverse of f_eta is applied to scores
        and targets, so that a target is the Monte Carlo rate k/K. At an infinite eta labels do not determine
        the rate, and scores and labels are compared directly. The AUC is of the minimum score of a solution,
        by which best-of-n selects by default; only its labelled steps are scored.
        """
        examples = self.store.examples("eval")
        assert examples is not None
        judged = examples.take(range(len(examples)))
        logits = judge(examples)
        losses = [
            self.loss(part, torch.tensor(one.targets)) for part, one in zip(logits, judged, strict=True)
        ]
        scores = [(part[:, 0] - part[:, 1]).sigmoid().double().numpy() for part in logits]
        weights = np.concatenate([one.weights for one in judged])
        rates, truth = (
            self._rates(np.concatenate(part)) for part in (scores, [one.targets for one in judged])
        )
        return {
            "eval_loss": float(np.average(torch.cat(losses).numpy(), weights=weights)),
            "eval_brier": calibration_metrics.brier(rates, truth),
            "eval_ece": calibration_metrics.expected_calibration_error(rates, truth),
            "eval_auc": calibration_metrics.auc(
                [part.min() for part in scores], [bool(one.is_right) for one in judged]
            ),
        }

    def _rates(self, labels: NDArray[Any]) -> NDArray[np.float64]:
        """Return the success rates of labels (or scores) at the eta of the training labels."""
        made_by = self.stats["made_by"]
        eta = eta_of_row(made_by["eta"], made_by["estimator"]) if made_by["estimator"] else 0.0
        if not np.isfinite(eta):
            return labels.astype(np.float64)
        return np.array([rate_of_label(float(label), eta) for label in labels])

    def card(self, settings: Row, last: Row) -> tuple[Row, str]:
        card = {
            "kind": self.prm_format.kind,
            "format": asdict(self.prm_format),
            "token_ids": asdict(self.tagger.token_ids),
            **(self.stats["made_by"] or {}),
            "datasets": self.stats.get("datasets", []),  # runs of earlier versions do not have them
            "settings": settings,
            "result": last,
        }
        return card, prm_model_card(card)

    def job(self, config: TrainingConfig) -> Row:
        return {"command": "train", "config": config.to_json()}

    @classmethod
    def from_job(cls, job: Row) -> "PrmTask":
        return cls(PrmTrainingConfig.from_json(job["config"]))


def _is_right(row: Row, last: float) -> bool | None:
    """Return whether the outcome of a row is right: its last target, or if that is NaN its reward."""
    outcome = row.get("reward") if np.isnan(last) else last
    return schema.is_correct(outcome) if isinstance(outcome, int | float) else None


def trained_format(config: PrmTrainingConfig) -> PrmFormat:
    """Return the format to train with; UsageError if --prm-format and --kind do not suit each other."""
    prm_format = load_prm_format(config.format)
    if config.kind == "head" and prm_format.kind == "token":
        prm_format = replace(prm_format, kind="head", good="", bad="")
    if prm_format.kind != config.kind:
        raise UsageError(
            f"--prm-format {prm_format.name} does not suit --kind {config.kind}; "
            f"give --kind {prm_format.kind}"
        )
    if prm_format.kind == "head" and (prm_format.num_labels, prm_format.labels) != (2, (1,)):
        raise UsageError(
            f"--prm-format {prm_format.name} has other classes than bad and good; such a head cannot be "
            "trained"
        )
    return prm_format


def two_way_loss(logits_N2: Tensor, target_N: Tensor) -> Tensor:
    """Return the cross entropies [N] of softmax(good, bad) with the targets (v, 1 - v), in float32."""
    difference_N = logits_N2[:, 0].float() - logits_N2[:, 1].float()
    return -(target_N * logsigmoid(difference_N) + (1 - target_N) * logsigmoid(-difference_N))
