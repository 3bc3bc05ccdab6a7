"""What a training has to know: its examples, model, loss and card. A PRM and a policy are two tasks."""

import hashlib
import shutil
import sys
import weakref
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import orjson
import torch
from torch import Tensor
from transformers import AutoConfig, TrainingArguments

from erprm_cli import __version__, shipped
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import UsageError, UserError
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.files import file_hash, new_folder
from erprm_cli.io.reading import read_rows
from erprm_cli.models import loading
from erprm_cli.models.adapters import add_lora
from erprm_cli.models.outputs import max_positions
from erprm_cli.rows.row import Row, to_line
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.arguments import trainer_arguments
from erprm_cli.training.config import TrainingConfig
from erprm_cli.training.distributed import check_packages, is_main, world_size
from erprm_cli.training.examples import Example, Examples, ExampleWriter
from erprm_cli.training.run_folder import finished, forget, run_folder

Log = Callable[[Row], object]

SMALL_BASE = 1_000_000_000  # parameters; the paper's learning rate was found at 8 billion
SMALL_LR = 1e-5


class TrainingTask:
    """The examples of a training, and what is particular about it: model, loss, card.

    `add` tokenises one row; examples go to disk at once. A subclass says what a row means.
    """

    SHAPING: ClassVar[tuple[str, ...]] = ()  # the settings that decide what becomes of a row

    def __init__(self, config: TrainingConfig) -> None:
        """Load the tokenizer of the base, find the longest sequence; UserError if the output is taken."""
        where: Row = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        self.config = config
        check_packages(config.accelerate_config, config.lora_rank, config.report_to)
        if config.optim not in optimizers():
            raise UsageError(f"no optimizer {config.optim!r}; there are {', '.join(optimizers())}")
        finished(config.output, self.settings, config.overwrite)
        self.tokenizer = loading.load_tokenizer(config.base, **where)
        with loading.explained(config.base):
            model_config = AutoConfig.from_pretrained(shipped.resolve(config.base), **where)
        can_read = max_positions(model_config)
        self.max_tokens = min(config.max_length, can_read or config.max_length)
        # What goes with the examples wherever they go, JSON all of it.
        self.facts: Row = {"too_long": 0, "truncated": 0, "tokens": 0, "hash": "", "special": 0}
        self._folder: Path | None = None
        self._writers: dict[str, ExampleWriter] = {}
        self._sets: dict[str, Examples] = {}

    @property
    def settings(self) -> Row:
        """What decides the result, apart from the rows."""
        return self.config.settings()

    @cached_property
    def arguments(self) -> TrainingArguments:
        """The settings as Trainer calls them; making them joins the processes of a launch."""
        return trainer_arguments(self.config)

    def add(self, row: Row) -> None:
        """Keep one row as an example, or count why not; RowError if it cannot be used."""
        raise NotImplementedError

    def load_model(self, dtype: torch.dtype) -> Any:
        raise NotImplementedError

    rows: Sequence[int] | None = None  # of the output layer that the loss reads; None for all

    def loss(self, logits_NV: Tensor, target_N: Tensor) -> Tensor:
        """Return the loss of each target [N], in float32."""
        raise NotImplementedError

    def card(self, settings: Row, last: Row) -> tuple[Row, str]:
        """Return erprm.json and README.md of what was trained."""
        raise NotImplementedError

    def job(self, config: TrainingConfig) -> Row:
        """Return what another process needs to make an object like this; `launch` says how."""
        raise NotImplementedError

    def evaluate(self, judge: Callable[[Examples], list[Tensor]]) -> Row:
        """Return what the log says of validation; `judge` gives the logits [n, V] of each example."""
        return {}

    # The examples on their way to the disk and back

    def keep(self, example: Example, row: Row, names: Sequence[str], split: str = "train") -> None:
        """Keep an example made of the fields `names` of `row`."""
        if self._folder is None:
            self._folder = self._new_folder()
        if split not in self._writers:
            self._writers[split] = ExampleWriter(self._folder / f"{split}.arrow")
        self._writers[split].write(example)
        if split == "train":
            # A chain of hashes, not a running one: it can be kept as text.
            line = to_line({name: row[name] for name in names})
            self.facts["hash"] = hashlib.sha256(self.facts["hash"].encode() + line).hexdigest()
            self.facts["tokens"] += len(example.ids)

    def _new_folder(self) -> Path:
        folder = run_folder(self.config.output) / "data"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise UserError(f"{folder}: {error.strerror}") from None
        weakref.finalize(self, forget, folder)
        return folder

    @property
    def count(self) -> int:
        """Examples to train on, so far."""
        if "train" in self._writers:
            return self._writers["train"].count
        return len(self.examples() or ())

    def examples(self, split: str = "train") -> Examples | None:
        """Return what was kept, mapped into memory; None if nothing was."""
        if split not in self._sets and self._folder is not None:
            if split in self._writers:
                self._writers.pop(split).close()
            path = self._folder / f"{split}.arrow"
            if path.exists():
                self._sets[split] = Examples(path)
        return self._sets.get(split)

    def store(self) -> Path:
        """Close what was kept and return its folder, for `load`."""
        for split in list(self._writers):
            self.examples(split)
        if self._folder is None:
            self._folder = self._new_folder()
        (self._folder / "facts.json").write_bytes(orjson.dumps(self.facts))
        return self._folder

    def load(self, folder: Path) -> None:
        """Take the examples that another process stored in `folder`."""
        self._folder = folder
        self.facts = orjson.loads((folder / "facts.json").read_bytes())

    def read(
        self,
        source: str,
        bad: BadRows | None = None,
        limit: int | None = None,
        reporter: Reporter | None = None,
    ) -> None:
        """Add the rows of a file or stdin; what was tokenised from a file is kept and found again.

        In a launch of several processes the first one reads, and the others take what it stored.
        """
        reporter = reporter or Reporter("train", quiet=True)
        if world_size() > 1:
            assert self.arguments.world_size > 1  # the processes are joined
            done = [False]
            try:
                if is_main():
                    self._read(source, bad, limit, reporter)
                    self.store()
                    done = [True]
            finally:
                torch.distributed.broadcast_object_list(done)
            if not done[0]:
                sys.exit(1)  # the first process tells why
            if not is_main():
                self.load(run_folder(self.config.output) / "data")
            return
        kept = self._cache_folder(source, limit)
        if kept is not None and (kept / "facts.json").exists():
            self.load(kept)
            reporter.info(f"{source} has been tokenised before, in {kept}")
            return
        self._read(source, bad, limit, reporter)
        if kept is not None and not (bad and bad.count):
            with new_folder(kept) as draft:
                shutil.copytree(self.store(), draft, dirs_exist_ok=True)  # copied: -o may be on another disk

    def _read(self, source: str, bad: BadRows | None, limit: int | None, reporter: Reporter) -> None:
        foreign = ForeignRows()
        for _ in read_rows(source, self.add, bad, limit, foreign):
            reporter.progress(self.count, "solutions read")
        foreign.report(reporter)

    def _cache_folder(self, source: str, limit: int | None) -> Path | None:
        """Return where the examples of a file are kept; None for a stream."""
        path = Path(source)
        if source == "-" or not path.is_file():
            return None
        from datasets import config as datasets_config

        made_of = {name: getattr(self.config, name) for name in self.SHAPING}
        made_of |= {"limit": limit, "erprm": __version__, "max_tokens": self.max_tokens}
        tokenizer = self.tokenizer.backend_tokenizer.to_str() if self.tokenizer.is_fast else ""
        more = orjson.dumps(made_of, option=orjson.OPT_SORT_KEYS).decode()
        evaluation = getattr(self.config, "eval", None)
        if evaluation is not None and Path(evaluation).is_file():
            more += file_hash(Path(evaluation))
        # Code is part of it: what another version of these modules would tokenise is not found.
        more += "".join(file_hash(Path(str(module.__file__))) for module in self.code())
        key = file_hash(path, tokenizer, str(self.tokenizer.chat_template), more)
        return Path(datasets_config.HF_DATASETS_CACHE) / "erprm" / key[:32]

    def code(self) -> list[Any]:
        """Return the modules that decide what becomes of a row."""
        names = (
            "training.examples",
            "prm.tagger",
            "prm.formats",
            "data_formats.registry",
            "data_formats.readers",
        )
        return [
            sys.modules[name] for name in (type(self).__module__, *(f"erprm_cli.{name}" for name in names))
        ]

    # Before the training

    def check(self, reporter: Reporter) -> None:
        """Tell what was left out; UserError if nothing is left."""
        too_long, truncated = self.facts["too_long"], self.facts["truncated"]
        if too_long:
            reporter.warn(
                f"{too_long:,} of {too_long + self.count:,} solutions have more than {self.max_tokens} "
                "tokens and are left out; --max-length sets the limit, up to what the base can read"
            )
        if truncated:
            reporter.warn(
                f"{truncated:,} solutions of more than {self.max_tokens} tokens lost their last steps"
            )
        if self.facts["special"]:
            reporter.warn(
                f"{self.facts['special']:,} solutions hold special tokens of the tokenizer in their text, "
                "which the model reads as such; take them out of problem and steps if that is not meant"
            )
        if not self.count:
            raise UserError(
                "nothing to train on: "
                + ("every solution is too long" if too_long else "the input holds no usable row")
            )

    def prepare_model(self, reporter: Reporter) -> Any:
        """Load the base, add LoRA if asked to, warn of what looks wrong.

        Weights that are trained are float32, whatever the model computes in.
        """
        config = self.config
        frozen_type = torch.bfloat16 if config.lora_rank and self.arguments.bf16 else torch.float32
        model = self.load_model(frozen_type)
        if model.num_parameters() < SMALL_BASE and config.lr < SMALL_LR:
            reporter.warn(
                f"--lr {config.lr:g} suits a base of billions of parameters; {config.base} has "
                f"{model.num_parameters():,} and will hardly move (for tiny, try --lr 1e-3)"
            )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
            model.config.pad_token_id = self.tokenizer.pad_token_id
            reporter.warn(
                f"{config.base} has no padding token; the saved tokenizer pads with "
                f"{self.tokenizer.pad_token!r} (nothing is padded with it here)"
            )
        if not config.lora_rank:
            return model
        adapted = add_lora(model, config.base, config.lora_rank, revision=config.revision)
        if config.gradient_checkpointing:
            adapted.enable_input_require_grads()
        return adapted


def optimizers() -> list[str]:
    """Return what --optim may name."""
    from transformers.training_args import OptimizerNames

    return [str(name.value) for name in OptimizerNames]
