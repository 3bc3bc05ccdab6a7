"""Scoring solutions, against search-and-learn's batched function: the same model, the same rows, one process.

    python benchmarks/bench_score.py [--problems 6] [--candidates 16] [--vocab 32000]

The other side is what search-and-learn's Math-Shepherd PRM does: batches in input order, padded to their
longest, an attention mask, the logits of the whole vocabulary at every token, softmax over two of them, the
tags found by their id. Both sides take turns, the median of --runs counts, in CPU seconds of the process;
tokenising is in the time of both. Rows are of the lengths of real solutions (tests/data/), the model is a
small random Llama with a vocabulary of real size; its tokenizer is made here, of the words of the rows.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from erprm_cli.io.reading import read_rows
from erprm_cli.prm.scorer import Scorer
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row

REAL = Path(__file__).parents[1] / "tests" / "data" / "processbench_rows.jsonl"
BATCH = 4  # search-and-learn's prm_batch_size


def make_rows(problems: int, candidates: int) -> list[Row]:
    """Return solutions in the order in which they are sampled, steps drawn from real solutions."""
    real = list(read_rows(str(REAL), dict))
    draw = random.Random(0)
    rows = []
    for number in range(problems):
        row = real[number % len(real)]
        for sample in range(candidates):
            other = draw.choice(real)["steps"]
            steps = [step.strip() for step in other[: draw.randint(1, len(other))]]
            rows.append(
                schema.check_solution(
                    {
                        "id": str(number),
                        "problem": row["problem"],
                        "sample": sample,
                        "solution": "\n\n".join(steps),
                        "steps": steps,
                    }
                )
            )
    return rows


def make_tokenizer(rows: list[Row]) -> Any:
    """Return a tokenizer of the rows' words; it splits them about as finely as those of real models."""
    pattern = Regex(r" ки| ?\p{L}{1,5}|\p{N}| ?[^\s\p{L}\p{N}]|\s+")
    split = pre_tokenizers.Split(pattern, behavior="isolated")
    words = [word for row in rows for text in (row["problem"], *row["steps"]) for word in _words(split, text)]
    names = dict.fromkeys(("<pad>", "<s>", "<unk>", " ", " ки", " +", " -", *words))
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = split
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", unk_token="<unk>"
    )


def _words(split: Any, text: str) -> list[str]:
    return [word for word, _ in split.pre_tokenize_str(text)]


def make_prm(folder: str, rows: list[Row], options: argparse.Namespace) -> None:
    """Save a random PRM of the format er-prm with --vocab, --width and --layers, which can read the rows."""
    tokenizer = make_tokenizer(rows)
    assert len(tokenizer) <= options.vocab
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=options.vocab,
        hidden_size=options.width,
        intermediate_size=options.width * 11 // 4,
        num_hidden_layers=options.layers,
        num_attention_heads=options.width // 64,
        num_key_value_heads=options.width // 64,
        max_position_embeddings=8_192,
        initializer_range=0.1,
        pad_token_id=0,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@torch.no_grad()
def by_batches(model: Any, tokenizer: Any, rows: list[Row]) -> tuple[list[list[float]], int]:
    """Return the scores as search-and-learn's function gives them, and how many tokens it reads, padded."""
    tag, good, bad = (tokenizer.encode(word)[-1] for word in (" ки", " +", " -"))
    scores, padded = [], 0
    for begin in range(0, len(rows), BATCH):
        texts = [
            f"{row['problem']} " + "".join(f"{step} ки" for step in row["steps"])
            for row in rows[begin : begin + BATCH]
        ]
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        padded += batch.input_ids.numel()
        logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits[:, :, [good, bad]]
        probability = logits.softmax(dim=-1)[:, :, 0]
        for row in range(len(texts)):
            scores.append(probability[row][batch.input_ids[row] == tag].tolist())
    return scores, padded


def cpu_seconds(run: Callable[[], object]) -> float:
    begin = time.process_time()
    run()
    return time.process_time() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=int, default=6)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=32_000)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    rows = make_rows(options.problems, options.candidates)
    with tempfile.TemporaryDirectory() as folder:
        make_prm(folder, rows, options)
        scorer = Scorer(folder, prm_format="er-prm", dtype="float32")
    model = scorer.model
    ours = [row["scores"] for row in scorer.score(rows)]
    padding = scorer.num_padded / scorer.num_tokens
    theirs, padded = by_batches(model, scorer.tagger.tokenizer, rows)
    pairs = [pair for left, right in zip(ours, theirs, strict=True) for pair in zip(left, right, strict=True)]
    difference = max(abs(left - right) for left, right in pairs)
    times: tuple[list[float], list[float]] = [], []
    for _ in range(options.runs):
        times[0].append(cpu_seconds(lambda: list(scorer.score(rows))))
        times[1].append(cpu_seconds(lambda: by_batches(model, scorer.tagger.tokenizer, rows)))
    fast, slow = median(times[0]), median(times[1])
    tokens = sum(len(scorer.encode(row).ids) for row in rows)
    print(f"{len(rows)} solutions, {len(pairs):,} steps, {tokens:,} tokens; vocabulary {options.vocab:,}")
    print(f"largest difference of a score        {difference:.1e}")
    print(f"padded / real tokens                 {padding:.2f} erprm, {padded / tokens:.2f} search-and-learn")
    print(f"CPU seconds, median of {options.runs}             {fast:.2f} erprm, {slow:.2f} search-and-learn")
    print(f"erprm is                             {slow / fast:.1f} x as fast")


if __name__ == "__main__":
    main()
