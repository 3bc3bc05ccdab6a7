"""What the training of a PRM and of a policy share: transformers' Trainer, batches, the output folder.

A step's batch is a plain random one. Within it the examples are sorted by length and cut into the
micro-batches of one forward pass each, so that little is padding and the gradient is not biased by length.
The loss is the sum over all targets of the batch divided by their number: a mean per target, the same
however the batch is cut or spread over processes.

B examples, T tokens (padded), N targets of a micro-batch, V rows of the output layer that count
"""

import hashlib
import math
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import orjson
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Sampler
from transformers import AutoConfig, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from erprm_cli import __version__, models
from erprm_cli.errors import UserError
from erprm_cli.jsonl import Row, to_line
from erprm_cli.prm import CARD, flat_positions, max_positions, output_at, pad
from erprm_cli.progress import News

Log = Callable[[Row], object]
Loss = Callable[[Tensor, Tensor], Tensor]  # (logits [N, V], targets [N]) -> sum over N, float32

SMALL_BASE = 1_000_000_000  # parameters; the paper's learning rate was found at 8 billion
SMALL_LR = 1e-5


@dataclass(frozen=True, slots=True)
class Example:
    """One sequence: token ids [T], the positions [n] whose logits are judged, and their targets [n]."""

    ids: NDArray[np.int32]
    positions: NDArray[np.int32]
    targets: NDArray[Any]


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to train; the defaults are the paper's for a PRM (arXiv 2412.11006, section 4.1)."""

    base: str
    output: Path
    epochs: float = 1.0
    lr: float = 5e-7  # at its peak; cosine decay to 0
    batch_size: int = 64  # examples per optimizer step, over all devices
    micro_batch_size: int = 8  # examples per forward pass of a device
    max_length: int = 512  # tokens; longer examples are left out, never cut
    warmup_ratio: float = 0.0  # of the steps
    weight_decay: float = 0.0
    seed: int = 0
    bf16: bool | None = None  # compute in bfloat16, weights in float32; None: on a GPU that can
    gradient_checkpointing: bool = False
    revision: str | None = None
    trust_remote_code: bool = False
    overwrite: bool = False
    log_every: int = 10  # steps

    def settings(self) -> Row:
        """Return what decides the result, for the folder's card and to tell a repeated run from another."""
        left_out = ("output", "overwrite", "log_every", "trust_remote_code")
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in left_out}


class Data:
    """The examples of a training, kept as token ids alone, with a hash of the rows they were made of."""

    def __init__(self, config: TrainingConfig) -> None:
        """Load the tokenizer of the base and find the longest sequence to train on."""
        where: Row = {"revision": config.revision, "trust_remote_code": config.trust_remote_code}
        self.config = config
        self.tokenizer = models.load_tokenizer(config.base, **where)
        can_read = max_positions(AutoConfig.from_pretrained(models.resolve(config.base), **where))
        self.max_tokens = min(config.max_length, can_read or config.max_length)
        self.examples: list[Example] = []
        self.too_long = 0
        self._hash = hashlib.sha256()

    def keep(self, example: Example, row: Row, names: Sequence[str]) -> None:
        """Keep an example made of the fields `names` of `row`."""
        self.examples.append(example)
        self._hash.update(to_line({name: row[name] for name in names}))

    @property
    def hash(self) -> str:
        """sha256 over what the examples were made of, in order."""
        return self._hash.hexdigest()

    @property
    def num_tokens(self) -> int:
        return sum(len(example.ids) for example in self.examples)

    def check(self, news: News) -> None:
        """Tell what was left out; UserError if nothing is left."""
        if self.too_long:
            news.warn(
                f"{self.too_long:,} of {self.too_long + len(self.examples):,} solutions have more than "
                f"{self.max_tokens} tokens and are left out; --max-length sets the limit, up to what the "
                "base can read"
            )
        if not self.examples:
            raise UserError(
                "nothing to train on: "
                + ("every solution is too long" if self.too_long else "the input holds no usable row")
            )

    def load_model(self, news: News) -> Any:
        """Load the base with float32 weights, whatever it computes in; warn of a hopeless learning rate."""
        config = self.config
        model = models.load_causal_lm(
            config.base,
            dtype=torch.float32,
            revision=config.revision,
            trust_remote_code=config.trust_remote_code,
        )
        if model.num_parameters() < SMALL_BASE and config.lr < SMALL_LR:
            news.warn(
                f"--lr {config.lr:g} suits a base of billions of parameters; {config.base} has "
                f"{model.num_parameters():,} and will hardly move (for tiny, try --lr 1e-3)"
            )
        return model


def fit(model: Any, data: Data, rows: Sequence[int] | None, loss: Loss, log: Log) -> Row:
    """Train `model` in place; call `log` with a row every `log_every` steps and return the last one.

    `rows` are the rows of the output layer that `loss` reads, None for all of them.
    """
    config = data.config
    model.config.use_cache = False
    model.train()
    begin = time.monotonic()
    with TemporaryDirectory() as scratch:
        trainer = _Trainer(model, trainer_arguments(config, scratch), data.examples, rows, loss, log)
        trainer.train()
    seconds = time.monotonic() - begin
    model.config.use_cache = True
    return trainer.last | {
        "rows": len(data.examples),
        "left_out": data.too_long,
        "seconds": seconds,
        "tokens_per_s": data.num_tokens * config.epochs / seconds,
    }


def trainer_arguments(config: TrainingConfig, scratch: str) -> TrainingArguments:
    """Return what Trainer calls our settings; it writes no file but in `scratch`."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))  # set by accelerate and torchrun
    share, rest = divmod(config.batch_size, world_size)
    if rest or not share:
        raise UserError(f"--batch-size {config.batch_size} is no multiple of the {world_size} processes")
    micro = next(size for size in range(min(config.micro_batch_size, share), 0, -1) if share % size == 0)
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=scratch,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=share // micro,
        learning_rate=config.lr,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,  # below 1 it is a share of the steps
        weight_decay=config.weight_decay,
        seed=config.seed,
        bf16=on_gpu and torch.cuda.is_bf16_supported() if config.bf16 is None else config.bf16,
        use_cpu=not on_gpu,
        gradient_checkpointing=config.gradient_checkpointing,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,  # a loss that is no number must show
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=on_gpu,
    )
    # One process drives one device. For several, Trainer would take nn.DataParallel, which cannot split
    # our batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


class _Trainer(Trainer):
    """Trainer with batches as the module describes them, and a loss over chosen positions and rows."""

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        arguments: TrainingArguments,
        examples: Sequence[Example],
        rows: Sequence[int] | None,
        loss: Loss,
        log: Log,
    ) -> None:
        self.examples, self.rows, self.loss, self.log_row = examples, rows, loss, log
        super().__init__(model, arguments, train_dataset=examples, data_collator=collate)
        self.remove_callback(PrinterCallback)
        self.add_callback(_LogTheEnd)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        lengths = [len(example.ids) for example in self.examples]
        world = self.args.world_size * self.args.gradient_accumulation_steps
        return SortedWithinBatches(lengths, world * self.args.per_device_train_batch_size, self.args.seed)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Return the micro-batches of one step and the number of targets in them, over all processes."""
        batches = list(islice(epoch_iterator, num_batches))
        count = torch.tensor(sum(len(batch["positions"]) for batch in batches), device=device)
        return batches, self.accelerator.gather(count).sum()

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        bare = self.accelerator.unwrap_model(model)
        with output_at(bare, inputs["positions"], self.rows):
            logits_NV = model(input_ids=inputs["input_ids"], use_cache=False).logits
        total = self.loss(logits_NV, inputs["targets"])
        # DDP and FSDP take the mean of the processes' gradients, the loss is a mean over their sum.
        return total * self.accelerator.num_processes / num_items_in_batch

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # counted for nobody, at the price of a walk over all parameters per micro-batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise UserError(
                f"the loss is {logs['loss']} at step {self.state.global_step}; "
                "try a smaller --lr, or --no-bf16"
            )
        self.last = {
            "step": self.state.global_step,
            "epoch": float(self.state.epoch or 0.0),
            "loss": logs["loss"],
            "lr": float(logs["learning_rate"]),
            "grad_norm": float(logs["grad_norm"]),
        }
        self.log_row(self.last)


class _LogTheEnd(TrainerCallback):
    """Also log the last step, whatever its number."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step >= state.max_steps:
            control.should_log = True
        return control


class SortedWithinBatches(Sampler[int]):
    """Indices shuffled anew each epoch, but within each batch of `size` by length, longest first."""

    def __init__(self, lengths: Sequence[int], size: int, seed: int) -> None:
        self.lengths, self.size, self.seed, self.epoch = lengths, size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; accelerate calls it before each."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        order = iter(np.random.default_rng((self.seed, self.epoch)).permutation(len(self.lengths)).tolist())
        while batch := list(islice(order, self.size)):
            yield from sorted(batch, key=lambda index: -self.lengths[index])


def collate(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Return input_ids [B, T] padded on the right, and positions [N] in the flattened ids and targets [N]."""
    ids_BT = pad([example.ids for example in examples])
    return {
        "input_ids": ids_BT,
        "positions": flat_positions([example.positions for example in examples], ids_BT.shape[1]),
        "targets": torch.from_numpy(np.concatenate([example.targets for example in examples])),
    }


def finished(config: TrainingConfig, settings: Row) -> Row | None:
    """Return the log row of an earlier run with equal `settings` whose model is in the output folder.

    None if the folder is free, or to be overwritten; UserError if something else is in it.
    """
    path = config.output
    if config.overwrite or not path.exists():
        return None
    remedy = "--overwrite replaces it, another -o keeps both"
    if not path.is_dir():
        raise UserError(f"{path} is a file, and a model is a folder; give -o another name")
    if not any(path.iterdir()):
        return None
    try:
        card = orjson.loads((path / CARD).read_bytes())
        made_with, result = card["settings"], card["result"]
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{path} is not empty and not a model made by erprm; {remedy}") from None
    for name, asked in settings.items():
        if made_with.get(name) != asked:
            raise UserError(f"{path} was made with {name} {made_with.get(name)}, not {asked}; {remedy}")
    return dict(result)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside `path` that takes its place, and its name, when all went well."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.mkdir()
        yield draft
        if path.exists():
            old = path.with_name(f".{path.name}.{os.getpid()}.old")
            path.rename(old)
            draft.rename(path)
            shutil.rmtree(old)
        else:
            draft.rename(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def save(model: Any, data: Data, card: Row, readme: str) -> None:
    """Write the model (safetensors), its tokenizer, erprm.json and a model card, all or nothing."""
    with new_folder(data.config.output) as draft:
        model.save_pretrained(draft)
        data.tokenizer.save_pretrained(draft)
        card = {"erprm": __version__, **card}
        (draft / CARD).write_bytes(orjson.dumps(card, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        (draft / "README.md").write_text(readme, encoding="utf-8")
        for path in draft.iterdir():
            path.chmod(0o644)  # safetensors makes files that only their owner may read
