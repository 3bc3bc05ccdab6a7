"""What the training of a PRM and of a policy share: transformers' Trainer, checkpoints, the output folder.

The loss is a mean over all targets of the global batch by their weights, the same however the batch is cut
into forward passes or spread over processes (training_data.py says how it is cut). One item of the
DataLoader is one optimizer step; gradients are accumulated over the passes that a step needs.

N targets of a micro-batch, V rows of the output layer that count
"""

import hashlib
import math
import shutil
import sys
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import orjson
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, PrinterCallback, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations.integration_utils import TensorBoardCallback

from erprm_cli import __version__, models
from erprm_cli.atomic import new_folder
from erprm_cli.data_formats import ForeignRows
from erprm_cli.errors import UsageError, UserError
from erprm_cli.jsonl import BadRows, Row, read_rows, to_line
from erprm_cli.launching import Silence, check_packages, is_main, world_size
from erprm_cli.prm import max_positions, output_at
from erprm_cli.progress import News
from erprm_cli.training_data import Cut, Example, Examples, ExampleWriter, StepLoader, file_hash
from erprm_cli.training_folders import (
    begin_run,
    checkpoints,
    finished,
    forget,
    last_checkpoint,
    run_folder,
    sync,
    write_folder,
)

Log = Callable[[Row], object]

SMALL_BASE = 1_000_000_000  # parameters; the paper's learning rate was found at 8 billion
SMALL_LR = 1e-5
EVENTS = "runs"  # TensorBoard's files, as Trainer calls them: in the run folder, at last in the model's
PASS_TOKENS = {"cpu": 2_048, "cuda": 16_384}  # of one forward pass, if --micro-batch-tokens does not say


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    """How to train; the defaults are the paper's for a PRM (arXiv 2412.11006, section 4.1)."""

    # What does not decide the result, but for rounding: a run may be continued with other values.
    FREE: ClassVar[frozenset[str]] = frozenset(
        "output overwrite log_every save_steps report_to trust_remote_code allow_pickle micro_batch_tokens "
        "packing attn_implementation gradient_checkpointing accelerate_config num_processes".split()
    )

    base: str
    output: Path
    epochs: float = 1.0
    lr: float = 5e-7  # at its peak; cosine decay to 0
    batch_size: int = 64  # examples per optimizer step, over all devices
    micro_batch_tokens: int = 0  # of a forward pass of a device, padding included; 0: PASS_TOKENS
    packing: bool | None = None  # examples one after the other without padding; None: with flash attention
    max_length: int = 512  # tokens; longer examples are left out, never cut in a step's middle
    warmup_ratio: float = 0.0  # of the steps
    weight_decay: float = 0.0
    optim: str = "adamw_torch_fused"  # as TrainingArguments calls it
    seed: int = 0
    bf16: bool | None = None  # compute in bfloat16, weights in float32; None: on a GPU that can
    gradient_checkpointing: bool = False
    attn_implementation: str | None = None  # as transformers calls it; None: its choice
    lora_rank: int = 0  # 0: all weights are trained
    merge_lora: bool = False
    save_steps: int = 500  # between checkpoints; 0: none
    report_to: str = "none"
    revision: str | None = None
    trust_remote_code: bool = False
    allow_pickle: bool = False
    accelerate_config: str | None = None
    num_processes: int | None = None
    overwrite: bool = False
    log_every: int = 10  # steps

    def settings(self) -> Row:
        """Return what decides the result, for the folder's card and to tell a repeated run from another."""
        return {
            field.name: getattr(self, field.name) for field in fields(self) if field.name not in self.FREE
        }


class Data:
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
        self.tokenizer = models.load_tokenizer(config.base, **where)
        with models.explained(config.base):
            model_config = AutoConfig.from_pretrained(models.resolve(config.base), **where)
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
        """Return what another process needs to make an object like this; `launching` says how."""
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
        self, source: str, bad: BadRows | None = None, limit: int | None = None, news: News | None = None
    ) -> None:
        """Add the rows of a file or stdin; what was tokenised from a file is kept and found again.

        In a launch of several processes the first one reads, and the others take what it stored.
        """
        news = news or News("train", quiet=True)
        if world_size() > 1:
            assert self.arguments.world_size > 1  # the processes are joined
            done = [False]
            try:
                if is_main():
                    self._read(source, bad, limit, news)
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
            news.say(f"{source} has been tokenised before, in {kept}")
            return
        self._read(source, bad, limit, news)
        if kept is not None and not (bad and bad.count):
            with new_folder(kept) as draft:
                shutil.copytree(self.store(), draft, dirs_exist_ok=True)  # copied: -o may be on another disk

    def _read(self, source: str, bad: BadRows | None, limit: int | None, news: News) -> None:
        foreign = ForeignRows()
        for _ in read_rows(source, self.add, bad, limit, foreign):
            news.progress(self.count, "solutions read")
        foreign.tell(news)

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
        names = ("training_data", "prm", "prm_formats", "data_formats", "data_formats.readers")
        return [
            sys.modules[name] for name in (type(self).__module__, *(f"erprm_cli.{name}" for name in names))
        ]

    # Before the training

    def check(self, news: News) -> None:
        """Tell what was left out; UserError if nothing is left."""
        too_long, truncated = self.facts["too_long"], self.facts["truncated"]
        if too_long:
            news.warn(
                f"{too_long:,} of {too_long + self.count:,} solutions have more than {self.max_tokens} "
                "tokens and are left out; --max-length sets the limit, up to what the base can read"
            )
        if truncated:
            news.warn(f"{truncated:,} solutions of more than {self.max_tokens} tokens lost their last steps")
        if self.facts["special"]:
            news.warn(
                f"{self.facts['special']:,} solutions hold special tokens of the tokenizer in their text, "
                "which the model reads as such; take them out of problem and steps if that is not meant"
            )
        if not self.count:
            raise UserError(
                "nothing to train on: "
                + ("every solution is too long" if too_long else "the input holds no usable row")
            )

    def prepare_model(self, news: News) -> Any:
        """Load the base, add LoRA if asked to, warn of what looks wrong.

        Weights that are trained are float32, whatever the model computes in.
        """
        config = self.config
        frozen_type = torch.bfloat16 if config.lora_rank and self.arguments.bf16 else torch.float32
        model = self.load_model(frozen_type)
        if model.num_parameters() < SMALL_BASE and config.lr < SMALL_LR:
            news.warn(
                f"--lr {config.lr:g} suits a base of billions of parameters; {config.base} has "
                f"{model.num_parameters():,} and will hardly move (for tiny, try --lr 1e-3)"
            )
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token or self.tokenizer.unk_token
            model.config.pad_token_id = self.tokenizer.pad_token_id
            news.warn(
                f"{config.base} has no padding token; the saved tokenizer pads with "
                f"{self.tokenizer.pad_token!r} (nothing is padded with it here)"
            )
        return add_lora(model, config) if config.lora_rank else model


def add_lora(model: Any, config: TrainingConfig) -> Any:
    """Return the model with low-rank adapters on all linear layers but the output layer (peft)."""
    from peft import LoraConfig, TaskType, get_peft_model

    is_head = model.get_output_embeddings() is None
    adapters = LoraConfig(
        r=config.lora_rank,
        lora_alpha=2 * config.lora_rank,
        target_modules="all-linear",
        task_type=TaskType.TOKEN_CLS if is_head else TaskType.CAUSAL_LM,
        exclude_modules=["score"] if is_head else None,
        modules_to_save=["score"] if is_head else None,
        revision=config.revision,
    )
    adapted = get_peft_model(model, adapters)
    base = Path(models.resolve(config.base))
    if base.is_dir():  # the adapters may be read from another directory
        adapters.base_model_name_or_path = str(base.absolute())
    if config.gradient_checkpointing:
        adapted.enable_input_require_grads()
    return adapted


def train(data: Data, log: Log, news: News) -> Row:
    """Train on what was added to `data`, write config.output, return the last log row.

    A finished run with the same rows and settings is not repeated, a stopped one is continued.
    """
    config = data.config
    news = news if is_main() else Silence()
    log = log if is_main() else _say_nothing
    data.check(news)
    settings = data.settings | {"data": data.facts["hash"]}
    last = finished(config.output, settings, config.overwrite)
    if last is not None:
        news.say(f"{config.output} is there already, made of the same rows with the same settings")
        log(last)
        return last
    run = run_folder(config.output)
    if is_main():
        begin_run(run, settings, config.overwrite)
    if (config.accelerate_config or config.num_processes) and world_size() == 1:
        from erprm_cli.launching import launch

        return launch(data, log, news)
    try:
        last = fit(data, settings, run, log, news)
    except BaseException:
        if is_main() and not checkpoints(run):
            forget(run)  # there is nothing to continue from
        raise
    log(last)
    return last


def optimizers() -> list[str]:
    """Return what --optim may name."""
    from transformers.training_args import OptimizerNames

    return [str(name.value) for name in OptimizerNames]


def fit(data: Data, settings: Row, run: Path, log: Log, news: News) -> Row:
    """Train, from the last checkpoint in `run` if there is one, save the model and remove `run`."""
    config = data.config
    arguments = data.arguments  # before the model: it tells transformers how weights are spread
    set_seed(config.seed)  # of adapters and heads, which begin at random
    model = data.prepare_model(news)
    model.config.use_cache = False
    checkpoint = last_checkpoint(run, news)
    if checkpoint is None and is_main():
        shutil.rmtree(run / EVENTS, ignore_errors=True)
    if config.report_to == "tensorboard":
        news.say(f"tensorboard --logdir {run / EVENTS} shows the run, {config.output / EVENTS} keeps it")
    if arguments.world_size > 1:
        torch.distributed.barrier()  # all have looked before the draft of a checkpoint is begun
    begin = time.monotonic()
    trainer = _Trainer(model, arguments, data, run, log)
    trainer.train(resume_from_checkpoint=checkpoint)
    seconds = time.monotonic() - begin
    examples = data.examples()
    assert examples is not None
    tokens = data.facts["tokens"] * trainer.steps_here / max(1, len(trainer.get_train_dataloader()))
    last = trainer.last | {
        "rows": len(examples),
        "left_out": data.facts["too_long"],
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "model": str(config.output),
    }
    card, readme = data.card(settings, last)
    save(trainer, data, card, readme)
    if is_main():
        if (run / EVENTS).exists():
            shutil.move(run / EVENTS, config.output / EVENTS)
        forget(run)
    trainer.accelerator.wait_for_everyone()
    return last


def trainer_arguments(config: TrainingConfig) -> TrainingArguments:
    """Return our settings as Trainer calls them; it writes no file but in the run folder."""
    on_gpu = torch.cuda.is_available()
    arguments = TrainingArguments(
        output_dir=str(run_folder(config.output) / "draft"),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=1,  # StepLoader cuts the batches
        learning_rate=config.lr,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_ratio,  # below 1 it is a share of the steps
        weight_decay=config.weight_decay,
        optim=config.optim,
        seed=config.seed,
        bf16=on_gpu and torch.cuda.is_bf16_supported() if config.bf16 is None else config.bf16,
        use_cpu=not on_gpu,
        ddp_backend="gloo" if world_size() > 1 and not on_gpu else None,
        ddp_find_unused_parameters=False,
        gradient_checkpointing=config.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if config.gradient_checkpointing else None,
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,  # a loss that is no number must show
        save_strategy="steps" if config.save_steps else "no",
        save_steps=config.save_steps or 500,
        report_to=config.report_to,
        run_name=config.output.name,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    # One process drives one device. For several, Trainer would take nn.DataParallel, which cannot split
    # our batches.
    arguments._n_gpu = min(1, arguments.n_gpu)
    return arguments


class _Trainer(Trainer):
    """Trainer with steps as training_data cuts them, a loss over chosen positions and whole checkpoints."""

    def __init__(self, model: Any, arguments: TrainingArguments, data: Data, run: Path, log: Log) -> None:
        self.data, self.run_folder, self.log_row = data, run, log
        self.last: Row = {}
        self.steps_here = 0  # steps of this process, not of the run before a kill
        examples = data.examples()
        assert examples is not None
        super().__init__(model, arguments, train_dataset=examples)
        self.remove_callback(PrinterCallback)
        self.add_callback(_Schedule)
        for callback in self.callback_handler.callbacks:
            # Trainer's own folder is that of the draft, unless TENSORBOARD_LOGGING_DIR says another.
            if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
                callback.logging_dir = str(run / EVENTS)
        config = data.config
        attention = getattr(model.config, "_attn_implementation", None) or ""
        self.cut = Cut(
            config.micro_batch_tokens or PASS_TOKENS[arguments.device.type],
            "flash" in attention if config.packing is None else config.packing,
            arguments.process_index,
            arguments.world_size,
        )

    def get_train_dataloader(self) -> StepLoader:
        return StepLoader(self.data.examples(), self.cut, self.data.config.batch_size, self.args.seed)  # type: ignore[arg-type]

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> tuple[list[Any], Any]:
        """Return one step: its micro-batches. Their weights are shares of the whole batch already."""
        return [next(epoch_iterator) for _ in range(num_batches)], None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Add up the gradients of a step's micro-batches; return this process's part of the loss."""
        model.train()
        self.steps_here += 1
        shards = self.is_fsdp_enabled or self.is_deepspeed_enabled
        more = {"scale_wrt_gas": False} if self.is_deepspeed_enabled else {}
        total = torch.zeros((), device=self.args.device)
        for number, batch in enumerate(inputs, start=1):
            is_last = number == len(inputs)
            self.accelerator.gradient_state._set_sync_gradients(is_last)
            # Gradients meet in the last pass; but where they are sharded, keeping whole ones that long would
            # cost the memory that sharding saves.
            apart = not is_last and not shards
            with self.accelerator.no_sync(model) if apart else nullcontext():
                with self.compute_loss_context_manager():
                    loss = self.compute_loss(model, self._prepare_inputs(batch))
                self.accelerator.backward(loss, **more)
            total += loss.detach()
        return total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss_N = self.data.loss(self.logits(model, inputs), inputs["targets"])
        # DDP and FSDP take the mean of the processes' gradients, the loss is a mean over their sum.
        return (loss_N * inputs["weights"]).sum() * self.accelerator.num_processes

    def logits(self, model: Any, inputs: Any) -> Tensor:
        """Return the logits [N, V] at the positions of a micro-batch."""
        read = {name: inputs[name] for name in ("input_ids", "position_ids") if name in inputs}
        with output_at(self.accelerator.unwrap_model(model), inputs["positions"], self.data.rows):
            logits_NV: Tensor = model(**read, use_cache=False).logits
        return logits_NV

    @torch.no_grad()
    def judge(self, examples: Examples) -> list[Tensor]:
        """Return the logits [n, V] of each example, gathered from all processes."""
        from accelerate.utils import gather_object

        from erprm_cli.training_data import collate

        self.model_wrapped.eval()
        found: list[tuple[int, Tensor]] = []
        for part in self.cut.parts(examples.lengths.tolist()):
            chosen = examples.take(part or [0])
            inputs = self._prepare_inputs(collate(chosen, self.cut.packed))
            with self.compute_loss_context_manager():
                logits_NV = self.logits(self.model_wrapped, inputs).float().cpu()
            split = logits_NV.split([len(example.positions) for example in chosen])
            found += zip(part, split, strict=False)
        self.model_wrapped.train()
        if self.accelerator.num_processes > 1:
            found = gather_object(found)
        return [logits for _, logits in sorted(found, key=lambda pair: pair[0])]

    def floating_point_ops(self, inputs: Any) -> int:
        return 0  # counted for nobody, at the price of a walk over all parameters per micro-batch

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" not in logs:
            return
        step = self.state.global_step
        if not math.isfinite(logs["loss"]):
            raise UserError(f"the loss is {logs['loss']} at step {step}; try a smaller --lr, or --no-bf16")
        self.last = {
            "step": step,
            "epoch": float(self.state.epoch or 0.0),
            "loss": logs["loss"],
            "lr": float(logs["learning_rate"]),
            "grad_norm": float(logs["grad_norm"]),
        }
        if self.data.examples("eval") is not None:
            self.last |= {name: None for name in EVAL_NAMES}
            if self.ends_epoch() or step >= self.state.max_steps:
                self.last |= self.data.evaluate(self.judge)
        told = {
            name: value
            for name, value in self.last.items()
            if value is not None and name not in ("step", "lr")
        }
        super().log(logs | told)
        self.log_row(self.last)

    def ends_epoch(self) -> bool:
        """Whether this step is the last of an epoch."""
        return self.state.global_step % len(self.get_train_dataloader()) == 0

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Write a checkpoint in draft/, and give it its name when all processes have written their part."""
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:  # what torch and safetensors make of a disk
            raise UserError(f"{self.run_folder}: no checkpoint can be written: {error}") from error
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            draft = self.run_folder / "draft" / f"checkpoint-{self.state.global_step}"
            for path in draft.rglob("*"):
                if path.is_file():
                    sync(path)
            older = checkpoints(self.run_folder)
            draft.rename(self.run_folder / draft.name)
            sync(self.run_folder)
            for path in older:
                shutil.rmtree(path, ignore_errors=True)
        self.accelerator.wait_for_everyone()


EVAL_NAMES = ("eval_loss", "eval_brier", "eval_ece", "eval_auc")


class _Schedule(TrainerCallback):
    """Log the last step too, and each that saves or evaluates; save none at the end, where the model is."""

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        if state.global_step >= state.max_steps:
            control.should_save = False
            control.should_log = True
        if control.should_save or float(state.epoch).is_integer():
            control.should_log = True
        return control


def save(trainer: Trainer, data: Data, card: Row, readme: str) -> None:
    """Gather the weights from wherever they are spread, and let the first process write the folder."""
    accelerator = trainer.accelerator
    spread = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    state = accelerator.get_state_dict(trainer.model_wrapped) if spread else None
    if is_main():
        model = accelerator.unwrap_model(trainer.model_wrapped)
        model.config.use_cache = True
        if data.config.merge_lora:
            if state is None:
                model = model.merge_and_unload()
            else:
                model, state = model.get_base_model(), merged_state(model, state)
        write_folder(data.config.output, model, data.tokenizer, card, readme, state)
    accelerator.wait_for_everyone()


def merged_state(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the base's weights with the adapters added, from the gathered weights of a peft model.

    `model` itself, whose weights are spread, tells the adapters' scale only.
    """
    merged = {}
    for name, weight in state.items():
        name = name.removeprefix("base_model.model.")
        owner, found, rest = name.partition(".base_layer.")
        if found and rest == "weight":
            low, high = (
                state[f"base_model.model.{owner}.lora_{part}.default.weight"].float() for part in "AB"
            )
            layer = model.get_base_model().get_submodule(owner)
            delta = layer.scaling["default"] * (high @ low)
            weight = (weight.float() + (delta.T if layer.fan_in_fan_out else delta)).to(weight.dtype)
        if ".lora_" not in name and ".original_module." not in name:
            merged[name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")] = weight
    return merged


def settings_table(settings: Row) -> str:
    """Return the lines of a table of settings in Markdown."""
    return "\n".join(f"| {name} | {value} |" for name, value in settings.items())


def _say_nothing(_: Row) -> None: ...
