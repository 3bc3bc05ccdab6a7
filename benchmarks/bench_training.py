"""Training tokens per second and memory of `erprm train`, against two other ways.

    python benchmarks/bench_training.py [--device cuda --width 1024 --layers 24]

released   what the released ER-PRM code does: pad to 512, float32 logits of the whole vocabulary
trl        what TRL 1.13's PRM trainer does: token classification, random batches padded to their longest
erprm      two rows of the output layer (against trl: a head) at the tags, micro-batches by length
packed     erprm with packed micro-batches: one solution after the other, without padding

All sides train the same random Llama on the same solutions with the same AdamW: 64 solutions per step (the
paper's batch), and on average equally many per forward pass. --micro-tokens is the size of a forward pass
without padding; the default is 8 solutions, which is the default of TRL, and of erprm on a CPU. Each side
runs in its own process, in turn; the best of --runs is shown. The cost of Trainer itself, equal for all, is
not included. First the losses and gradients of one batch are compared. Lengths are like MATH's: log-normal,
median 215 tokens, deviation 0.65, at most 512; a step has about 30 tokens. Tokens of padding do not count.
Added memory is the peak beyond weights, gradients and optimizer states.

On a GPU: bfloat16, and MFU = tokens/s (6 N + 6 L d T) / peak, with N the weights that every token passes
(no embedding; the output matrix only where it does), L layers of width d, T the mean length (causal
attention: half of 12 L d T), peak --peak-tflops.
"""

import argparse
import multiprocessing
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, LlamaConfig

from erprm_cli.models.outputs import output_at, pad
from erprm_cli.training.batches import BatchPlan, StepLoader, collate
from erprm_cli.training.examples import Example, Examples, ExampleWriter
from erprm_cli.training.prm_task import two_way_loss

BLOCK = 512  # what the released code pads to
TAG, GOOD, BAD = 5, 6, 7
BATCH = 64


@dataclass(frozen=True)
class Setting:
    side: str  # released, trl, or erprm against one of them
    kind: str  # token or head
    vocabulary: int
    width: int
    layers: int
    device: str
    micro_tokens: int
    packed: bool
    path: str


def make_examples(path: Path, count: int, vocabulary: int) -> None:
    """Write solutions of random tokens with MATH's lengths, labelled 0 or 1, as all sides can learn those."""
    random = np.random.default_rng(0)
    writer = ExampleWriter(path)
    for length in np.clip(random.lognormal(np.log(215), 0.65, count), 40, BLOCK).astype(int):
        ids = random.integers(10, vocabulary, length).astype(np.int32)
        tags = np.arange(length - 1, 30, -30, dtype=np.int32)[::-1].copy()
        ids[tags] = TAG
        labels = (random.random(len(tags)) < 0.6).astype(np.float32)
        writer.write(Example(ids, tags, labels, np.ones_like(labels)))
    writer.close()


def make_model(setting: Setting) -> Any:
    torch.manual_seed(0)
    config: Any = LlamaConfig(
        vocab_size=setting.vocabulary,
        hidden_size=setting.width,
        intermediate_size=setting.width * 4,
        num_hidden_layers=setting.layers,
        num_attention_heads=setting.width // 64,
        num_key_value_heads=setting.width // 64,
        max_position_embeddings=BLOCK,
    )
    config.num_labels, config.classifier_dropout = 2, 0.0
    kind: Any = AutoModelForCausalLM if setting.kind == "token" else AutoModelForTokenClassification
    attention = "flash_attention_2" if setting.packed and setting.device == "cuda" else None
    return kind.from_config(config, attn_implementation=attention).to(setting.device).train()


class Side:
    """One way to train: micro-batches of a step, and the sum of the losses of one."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.examples = Examples(Path(setting.path))
        self.model = make_model(setting)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-4, fused=True)

    def steps(self) -> Iterator[list[Any]]:
        """Yield the micro-batches of each optimizer step of one epoch."""
        if self.setting.side == "erprm":
            cut = BatchPlan(self.setting.micro_tokens, self.setting.packed)
            yield from StepLoader(self.examples, cut, BATCH, seed=0)
            return
        order = np.random.default_rng((0, 0)).permutation(len(self.examples)).tolist()
        size = max(1, round(self.setting.micro_tokens / float(self.examples.lengths.mean())))
        for begin in range(0, len(order), BATCH):
            batch = order[begin : begin + BATCH]
            yield [self.examples.take(batch[at : at + size]) for at in range(0, len(batch), size)]

    def loss(self, batch: Any) -> Tensor:
        """Return the sum of the losses of a micro-batch, as the side computes it."""
        device, model = self.setting.device, self.model
        if self.setting.side == "erprm":
            batch = collate(batch, self.setting.packed) if isinstance(batch, list) else batch
            batch = {name: value.to(device) for name, value in batch.items()}
            read = {name: batch[name] for name in ("input_ids", "position_ids") if name in batch}
            rows = (GOOD, BAD) if self.setting.kind == "token" else (1, 0)
            with output_at(model, batch["positions"], rows):
                logits_N2 = model(**read, use_cache=False).logits
            return two_way_loss(logits_N2, batch["targets"]).sum()
        ids_BT = pad([example.ids for example in batch])
        mask_BT = pad([np.ones(len(example.ids), np.int32) for example in batch])
        labels_BT = torch.full_like(ids_BT, -100)
        for row, example in enumerate(batch):
            labels_BT[row, example.positions] = torch.tensor(example.targets).long()
        if self.setting.side == "released":
            ids_BT, mask_BT = (
                torch.nn.functional.pad(part, (0, BLOCK - part.shape[1])) for part in (ids_BT, mask_BT)
            )
            labels_BT = torch.nn.functional.pad(labels_BT, (0, BLOCK - labels_BT.shape[1]), value=-100)
        ids_BT, mask_BT, labels_BT = (part.to(device) for part in (ids_BT, mask_BT, labels_BT))
        logits = model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).logits
        if self.setting.side == "released":
            logits = logits.float()[:, :, [BAD, GOOD]]
        return cross_entropy(logits.float().flatten(0, 1), labels_BT.flatten(), reduction="sum")

    def backward(self, batch: Any) -> float:
        with torch.autocast(self.setting.device, torch.bfloat16, enabled=self.setting.device == "cuda"):
            loss = self.loss(batch)
        loss.backward()
        return float(loss.detach())

    def check(self) -> tuple[float, float]:
        """Return the loss of one batch, and the norm of its gradients."""
        loss = self.backward(self.examples.take(range(2)))
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), float("inf"))
        self.optimizer.step()  # its states are made here, before memory is measured
        self.optimizer.zero_grad(set_to_none=False)
        return loss, float(norm)

    def epoch(self) -> float:
        """Train one epoch; return the time in seconds."""
        begin = time.perf_counter()
        for step in self.steps():
            for batch in step:
                self.backward(batch)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=False)
        if self.setting.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin


def memory(device: str, peak: bool) -> float:
    """Return the bytes in use, or their peak since `reset`."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() if peak else torch.cuda.memory_allocated()
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here


def work(setting: Setting, threads: int, pipe: Connection) -> None:
    """Answer "check", "epoch" and "parameters" until it is asked to "end"."""
    torch.set_num_threads(threads)
    side = Side(setting)
    while (asked := pipe.recv()) != "end":
        if asked == "check":
            pipe.send(side.check())
        elif asked == "parameters":
            passed = sum(p.numel() for p in side.model.parameters()) - setting.vocabulary * setting.width
            passed -= (
                setting.vocabulary * setting.width * (setting.side == "erprm" and setting.kind == "token")
            )
            pipe.send(passed)
        else:
            before = memory(setting.device, peak=False)
            reset(setting.device)
            seconds = side.epoch()
            pipe.send((seconds, memory(setting.device, peak=True) - before))


class Worker:
    """A side that runs in its own process."""

    def __init__(self, setting: Setting, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=work, args=(setting, threads, theirs), daemon=True)
        self.process.start()

    def ask(self, what: str) -> Any:
        self.pipe.send(what)
        return self.pipe.recv()

    def end(self) -> None:
        self.pipe.send("end")
        self.process.join()


def compare(name: str, ours: Setting, theirs: Setting, options: argparse.Namespace) -> None:
    examples = Examples(Path(ours.path))
    tokens, mean = int(examples.lengths.sum()), float(examples.lengths.mean())
    workers = [Worker(setting, options.threads) for setting in (ours, theirs)]
    (loss, norm), (other_loss, other_norm) = (worker.ask("check") for worker in workers)
    exact = 1e-4 if ours.device == "cpu" else 2e-2
    assert abs(loss / other_loss - 1) < exact and abs(norm / other_norm - 1) < 10 * exact, "not the same loss"
    best, added = [float("inf")] * 2, [0.0] * 2
    for _ in range(options.runs):
        for index, worker in enumerate(workers):
            seconds, more = worker.ask("epoch")
            best[index] = min(best[index], seconds)
            added[index] = max(added[index], more)
    rates = [tokens / seconds for seconds in best]
    line = (
        f"{name:34} {rates[0]:9,.0f} {rates[1]:9,.0f} {rates[0] / rates[1]:6.2f}   "
        f"{added[0] / 2**20:7,.0f} {added[1] / 2**20:7,.0f} {added[0] / added[1]:6.2f}   "
        f"{loss:.6f} {other_loss:.6f}"
    )
    if options.peak_tflops:
        for worker, rate in zip(workers, rates, strict=True):
            flops = 6 * worker.ask("parameters") + 6 * ours.layers * ours.width * mean
            line += f"   MFU {rate * flops / options.peak_tflops / 1e12:.3f}"
    print(line, flush=True)
    for worker in workers:
        worker.end()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--examples", type=int, default=32, help="four times as many but for released")
    parser.add_argument("--micro-tokens", type=int, default=2048)
    parser.add_argument("--vocabulary", type=int, nargs="*", default=[32_000, 128_256])
    parser.add_argument(
        "--packed", action="store_true", help="without padding; on a GPU with flash attention"
    )
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="of the GPU in bfloat16, for MFU")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    print(f"{options.device}, {options.threads} threads, width {options.width}, {options.layers} layers")
    print(f"{'':34} {'tokens/s':>19} {'ratio':>6}   {'added MB':>15} {'ratio':>6}   loss of one batch")
    with TemporaryDirectory() as folder:
        first = options.vocabulary[:1]
        for side, vocabularies in (("released", options.vocabulary), ("trl", first), ("packed", first)):
            for vocabulary in vocabularies:
                path = Path(folder) / f"{side}-{vocabulary}.arrow"
                make_examples(path, options.examples * (1 if side == "released" else 4), vocabulary)
                kind = "head" if side == "trl" else "token"
                common = (
                    kind,
                    vocabulary,
                    options.width,
                    options.layers,
                    options.device,
                    options.micro_tokens,
                )
                ours = Setting("erprm", *common, options.packed, str(path))
                theirs = Setting(side, *common, False, str(path))
                if side == "packed":
                    theirs = replace(ours, packed=not options.packed)
                compare(f"erprm and {side}, V = {vocabulary:,}", ours, theirs, options)


if __name__ == "__main__":
    main()
