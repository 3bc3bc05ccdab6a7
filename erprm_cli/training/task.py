"""What differs between trainings: how a row becomes an example, the model, the loss, the card.

PrmTask and PolicyTask are the two tasks; what all trainings share is in fit.py and trainer.py.

N targets, V rows of the output layer that the loss reads (all, or those in `output_rows`)
"""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor
from transformers import TrainingArguments

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.models import loading
from erprm_cli.models.content import hub_commit, model_content
from erprm_cli.models.outputs import max_positions
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.arguments import check_names, trainer_arguments
from erprm_cli.training.config import TrainingConfig
from erprm_cli.training.distributed import check_launch, ends_with_others, is_main, world_size
from erprm_cli.training.example_store import ExampleStore, cache_key
from erprm_cli.training.examples import Examples
from erprm_cli.training.run_folder import finished, run_folder

Log = Callable[[Row], object]  # takes a log row
READING = timedelta(days=7)  # longer than any input takes


class TrainingTask(ABC):
    """A tokenizer, a store of examples, and how to train on them."""

    output_rows: Sequence[int] | None = None  # of the output layer that the loss reads; None: all

    def __init__(self, config: TrainingConfig) -> None:
        """Load the tokenizer of the base model.

        Raises UserError if a package is missing or `config.output` holds something else, UsageError if a
        setting is unknown.
        """
        self.config = config
        check_launch(config)
        check_names(config)
        finished(config.output, self.settings, config.overwrite)
        load_options: Row = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        self.tokenizer = loading.load_tokenizer(config.base, **load_options)
        model_config = loading.load_config(config.base, **load_options)
        self.max_tokens = min(config.max_length, max_positions(model_config) or config.max_length)
        self.names = FieldNames()
        self.store = ExampleStore(run_folder(config.output) / "data")
        self.stats.update(too_long=0, truncated=0, special=0)

    @property
    def stats(self) -> Row:
        """Counts that are saved with the examples."""
        return self.store.stats

    @property
    def settings(self) -> Row:
        """What decides the result, apart from the rows. A base on the Hub is known by its commit."""
        base, revision = self.config.base, self.config.revision
        contents = {"base_content": model_content(base), "base_commit": hub_commit(base, revision)}
        return self.config.settings() | contents

    @cached_property
    def arguments(self) -> TrainingArguments:
        """The settings as transformers names them. The first access joins the processes of a launch."""
        return trainer_arguments(self.config)

    # What a task defines

    @abstractmethod
    def add(self, row: Row) -> None:
        """Make one row an example, or count why not. Raises RowError if it cannot be used."""

    @abstractmethod
    def load_model(self, dtype: torch.dtype) -> Any:
        """Load the base model on the CPU, its weights in `dtype`."""

    @abstractmethod
    def loss(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        """Return the loss of each target [N], in float32."""

    @abstractmethod
    def card(self, settings: Row, last: Row) -> tuple[Row, str]:
        """Return erprm.json and README.md of the trained model; `last` is the last log row."""

    @abstractmethod
    def job(self, config: TrainingConfig) -> Row:
        """Return the JSON of which `from_job` makes this task in another process, with `config`."""

    @classmethod
    @abstractmethod
    def from_job(cls, job: Row) -> Self:
        """Return the task that `job` describes."""

    def tokenisation(self) -> Row:
        """Return what decides the example that a row becomes, apart from the code: part of the cache key."""
        tokenizer = self.tokenizer.backend_tokenizer.to_str() if self.tokenizer.is_fast else ""
        chat_template = str(self.tokenizer.chat_template)
        return {"max_tokens": self.max_tokens, "tokenizer": tokenizer, "chat_template": chat_template}

    def evaluate(self, judge: Callable[[Examples], list[Tensor]]) -> Row:
        """Return the validation fields of a log row; `judge` gives the logits [n, V] of each example."""
        return {}

    # Reading

    def read(
        self,
        source: str,
        bad: BadRows | None = None,
        limit: int | None = None,
        reporter: Reporter | None = None,
        names: FieldNames | None = None,
    ) -> None:
        """Add the rows of a file or of stdin ("-"). A file that was tokenised before is not read again.

        `names` finds fields under other names.

        Of several processes that accelerate started, the first one reads and the others load the result.
        """
        reporter = reporter or Reporter("train", quiet=True)
        self.names = names or self.names
        if world_size() > 1:
            self._read_in_first_process(source, bad, limit, reporter)
            return
        shaping = self.tokenisation() | self.names.settings() | {"limit": limit}
        key = cache_key(self.sources(source), shaping)
        if key is not None and self.store.load_cached(key):
            reporter.info(f"{source} was tokenised before; its examples are in {self.store.folder}")
            return
        self.add_rows(source, bad, limit, reporter)
        if key is not None and not (bad and bad.count):
            self.store.save_cached(key)

    def sources(self, source: str) -> list[str]:
        """Return all files that the examples are made of, if the rows come from `source`."""
        return [source]

    def add_rows(self, source: str, bad: BadRows | None, limit: int | None, reporter: Reporter) -> None:
        """Tokenise and keep all rows; rows of other projects' formats are converted."""
        foreign = ForeignRows(names=self.names)
        for _ in read_rows(source, self.add, bad, limit, foreign, reporter):
            reporter.progress(self.store.count, "solutions read")
        foreign.report(reporter)

    def _read_in_first_process(
        self, source: str, bad: BadRows | None, limit: int | None, reporter: Reporter
    ) -> None:
        assert self.arguments.world_size > 1  # the processes are joined
        # A group of its own: reading may take longer than the half hour that processes wait for each other.
        waiting = torch.distributed.new_group(timeout=READING, backend="gloo")
        done = [False]
        try:
            if is_main():
                self.add_rows(source, bad, limit, reporter)
                self.store.save()
                done = [True]
        finally:
            with ends_with_others():
                torch.distributed.broadcast_object_list(done, group=waiting)
        if not done[0]:
            sys.exit(1)  # the first process reports the error
        if not is_main():
            self.store.load(self.store.folder)

    def check_examples(self, reporter: Reporter) -> None:
        """Warn about what was left out or looks wrong; UserError if there is nothing to train on."""
        too_long, truncated, special = (self.stats[name] for name in ("too_long", "truncated", "special"))
        if too_long:
            reporter.warn(
                f"{too_long:,} of {too_long + self.store.count:,} solutions have more than "
                f"{self.max_tokens} tokens and are left out; --max-length sets the limit, up to the context "
                "length of the base"
            )
        if truncated:
            reporter.warn(
                f"{truncated:,} solutions of more than {self.max_tokens} tokens lost their last steps"
            )
        if special:
            reporter.warn(
                f"{special:,} solutions contain special tokens of the tokenizer in their text, and the model "
                "reads them as such; remove them from problem and steps if that is not intended"
            )
        if not self.store.count:
            raise UserError(
                "nothing to train on: "
                + ("every solution is too long" if too_long else "the input has no usable row")
            )
