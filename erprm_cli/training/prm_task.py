"""Training a process reward model on labelled solutions (arXiv 2412.11006, section 4.1).

At the tag after step l, with target v_l and g, b the logits of good and bad:

    loss = - v_l log softmax(g, b)_good - (1 - v_l) log softmax(g, b)_bad

in float32. What v_l is (`target`):

    labels   the label of the step, neither rounded nor cast: the paper's
    counts   k_l / K_l, the share of right completions among the row's K_l rollouts; the loss counts K_l
             times, which makes it the negative log likelihood of k_l successes in K_l trials. The model then
             tells the rate, and f_eta of it is the label at any eta (`erprm score --eta`). The last step has
             one trial, the solution's own outcome, and so 1/K of the weight of another step.

How the losses of a batch become one (`weighting`):

    step       their mean (counts: per completion): a solution counts by its number of steps. The paper's
    solution   first the mean over each solution's steps (counts: completions): all solutions count alike

A kind of model: `token` reads the two words' rows of a language model's output layer, `head` the two classes
of a token classification model, as TRL and Qwen train them, whose class 1 is good.
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
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

from erprm_cli import hashing, shipped
from erprm_cli.errors import RowError, UsageError, UserError
from erprm_cli.evaluation import calibration_metrics
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.labels.estimator import eta_of_row, rate_of_label
from erprm_cli.models import loading
from erprm_cli.models.cards import prm_model_card
from erprm_cli.prm.formats import prm_format
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PrmTrainingConfig, TrainingConfig, config_to_job
from erprm_cli.training.examples import Example, Examples
from erprm_cli.training.task import TrainingTask


class PrmTask(TrainingTask):
    """Labelled solutions as examples: the targets stand at the tags."""

    config: PrmTrainingConfig
    SHAPING = ("kind", "format", "target", "weighting", "outcome_only", "truncate", "eval_fraction")

    def __init__(self, config: PrmTrainingConfig) -> None:
        """Load the tokenizer; UserError if it does not suit the format or the output folder is taken."""
        if config.eval is not None and config.eval_fraction:
            raise UsageError("--eval and --eval-fraction both say what to validate on; give one of them")
        super().__init__(config)
        form = prm_format(config.format)
        if config.kind == "head" and form.kind == "token":
            form = replace(form, kind="head", good="", bad="")
        if form.kind != config.kind:
            raise UsageError(f"the format {form.name} is read by a {form.kind}; give --kind {form.kind}")
        if form.kind == "head" and (form.num_labels, form.labels) != (2, (1,)):
            raise UsageError(
                f"the format {form.name} has other classes than bad and good; no head is trained so"
            )
        self.form = form
        self.tagger = Tagger(form, self.tokenizer)
        self.rows = self.tagger.rows if form.kind == "token" else (1, 0)  # good, bad
        self.facts |= {"made_by": None, "low": 1.0, "high": 0.0, "shared": 0}
        self._begins = len(self.tokenizer("").input_ids)  # special tokens before (and after) any text
        special = set(self.tokenizer.all_special_ids) - {self.tokenizer.unk_token_id}  # words may be unknown
        self._is_special = np.zeros(max(special, default=0) + 1, bool)  # by token id
        self._is_special[list(special)] = True
        self._seen: set[str] = set()  # problems that are trained on

    def add(self, row: Row) -> None:
        """Keep one labelled solution, or count it as too long; RowError if it cannot be used."""
        part = (
            int(hashing.content_hash(str(row.get("problem"))), 16) / 2**64
        )  # the same for all its solutions
        self._add(row, "eval" if part < self.config.eval_fraction else "train")

    def add_eval(self, row: Row) -> None:
        """Keep one solution to validate on."""
        self._add(row, "eval")
        self.facts["shared"] += hashing.content_hash(row["problem"]) in self._seen

    def _read(self, source: str, bad: BadRows | None, limit: int | None, reporter: Reporter) -> None:
        super()._read(source, bad, limit, reporter)
        self.read_eval(bad)

    def read_eval(self, bad: BadRows | None = None) -> None:
        """Keep the solutions of --eval, if there are any, to validate on."""
        if self.config.eval is not None:
            for _ in read_rows(self.config.eval, self.add_eval, bad):
                pass

    def _add(self, row: Row, split: str) -> None:
        values, weights, made_by = self._targets(row)
        before = self.facts["made_by"] or made_by
        if made_by != before:
            raise RowError(f"labelled with {made_by}, but the rows before with {before}; train on one kind")
        tagged = self.tagger.encode(row["problem"], row["steps"])
        assert len(tagged.tags) == len(values)  # every step has its tag and its target, the last included
        ids, tags, is_right = tagged.ids, tagged.tags, bool(values[-1] >= 0.5)
        if len(ids) > self.max_tokens:
            fitting = int(np.searchsorted(tags, self.max_tokens))
            if not self.config.truncate or self.config.outcome_only or not fitting:
                self.facts["too_long"] += split == "train"
                return
            self.facts["truncated"] += split == "train"
            tags, values, weights = tags[:fitting], values[:fitting], weights[:fitting]
            ids = ids[: tags[-1] + 1]
        if self.config.outcome_only:
            tags, values, weights = tags[-1:], values[-1:], weights[-1:]
        if self.config.weighting == "solution":
            weights = weights / weights.sum()
        self.facts["made_by"] = made_by
        if self.form.build == "text":
            self.facts["special"] += self._holds_special(ids, tagged.ids[tagged.tags])
        if split == "train":
            self._seen.add(hashing.content_hash(row["problem"]))
            self.facts["low"] = min(self.facts["low"], float(values.min()))
            self.facts["high"] = max(self.facts["high"], float(values.max()))
        hashed = (
            "id",
            "sample",
            "problem",
            "steps",
            "labels" if self.config.target == "labels" else "rollouts",
        )
        self.keep(Example(ids, tags, values, weights, is_right), row, hashed, split)

    def _holds_special(self, ids: NDArray[np.int32], tags: NDArray[np.int32]) -> bool:
        """Whether a text's own tokens, and not those that begin it or are its tags, are special ones."""
        text = ids[self._begins :]
        found = text[text < len(self._is_special)]
        found = found[self._is_special[found]]
        return bool(np.setdiff1d(found, tags).size) if found.size else False

    def _targets(self, row: Row) -> tuple[NDArray[np.float32], NDArray[np.float32], Row]:
        """Return the targets and weights [L] of the steps, and what made them: eta and estimator."""
        if self.config.target == "labels":
            values = np.array(schema.check_labels(row)["labels"], np.float32)
            return values, np.ones_like(values), {name: row.get(name) for name in ("eta", "estimator")}
        lists = schema.check_rollouts(schema.check_solution(row))["rollouts"]
        if any(reward not in (0, 1) for rewards in lists for reward in rewards):
            raise RowError(
                "'rollouts' holds rewards other than 0 and 1, which cannot be counted; train on labels"
            )
        trials = np.array([len(rewards) for rewards in lists], np.float32)
        wins = np.array([sum(rewards) for rewards in lists], np.float32)
        return wins / trials, trials, {"eta": 0.0, "estimator": "soft"}  # a rate is the label at eta 0

    def check(self, reporter: Reporter) -> None:
        """As TrainingTask, and warn if there is nothing to tell apart."""
        super().check(reporter)
        if self.facts["low"] == self.facts["high"]:
            reporter.warn(
                f"all labels are {self.facts['low']:g}: the model can learn nothing but that number; give it "
                "right and wrong solutions"
            )
        if self.facts["shared"]:
            reporter.warn(
                f"{self.facts['shared']:,} solutions of {self.config.eval} are of problems that are trained "
                "on, so that what they measure is memory"
            )
        if (self.config.eval or self.config.eval_fraction) and self.examples("eval") is None:
            raise UserError("nothing to validate on: a larger --eval-fraction or another --eval gives some")

    def load_model(self, dtype: torch.dtype) -> Any:
        config = self.config
        path = shipped.resolve(config.base)
        where: Row = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        how: Row = where | {
            "dtype": dtype,
            "use_safetensors": loading.only_safetensors(config.allow_pickle),
            "attn_implementation": config.attn_implementation,
        }
        with loading.explained(config.base):
            if config.kind == "token":
                return AutoModelForCausalLM.from_pretrained(path, **how)
            settings = AutoConfig.from_pretrained(path, **where)
            settings.id2label, settings.label2id = {0: "bad", 1: "good"}, {"bad": 0, "good": 1}
            settings.classifier_dropout = 0.0
            model = AutoModelForTokenClassification.from_pretrained(path, config=settings, **how)
        model.score.float()
        return model

    def loss(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        return two_way_loss(logits_NV, target_N)

    def evaluate(self, judge: Callable[[Examples], list[Tensor]]) -> Row:
        """Return loss, and Brier score, calibration error and AUC of the outcome.

        The first two compare rates of success: score and target go through the inverse of f_eta, so that a
        target is the Monte Carlo rate k/K; at an infinite eta, which does not tell the rate, they are
        compared as they are. AUC is that of the least score of a solution, by which best-of-n chooses.
        """
        examples = self.examples("eval")
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
        """Return the rates of success that labels at our eta stand for."""
        made_by = self.facts["made_by"]
        eta = eta_of_row(made_by["eta"], made_by["estimator"]) if made_by["estimator"] else 0.0
        if not np.isfinite(eta):
            return labels.astype(np.float64)
        return np.array([rate_of_label(float(label), eta) for label in labels])

    def card(self, settings: Row, last: Row) -> tuple[Row, str]:
        card = {
            "kind": self.form.kind,
            "format": asdict(self.form),
            "token_ids": asdict(self.tagger.token_ids),
            **(self.facts["made_by"] or {}),
            "settings": settings,
            "result": last,
        }
        return card, prm_model_card(card)

    def job(self, config: TrainingConfig) -> Row:
        """Return what another process needs to make an object like this."""
        return {"command": "train", "config": config_to_job(config)}

    @classmethod
    def of_job(cls, job: Row) -> "PrmTask":
        return cls(PrmTrainingConfig(**job["config"] | {"output": Path(job["config"]["output"])}))


def two_way_loss(logits_N2: Tensor, target_N: Tensor) -> Tensor:
    """Return the cross entropies [N] of softmax(good, bad) with the targets (v, 1 - v), in float32."""
    difference_N = logits_N2[:, 0].float() - logits_N2[:, 1].float()
    return -(target_N * logsigmoid(difference_N) + (1 - target_N) * logsigmoid(-difference_N))
