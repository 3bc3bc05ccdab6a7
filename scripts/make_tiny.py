"""Make `tiny`: its problems, its tokenizer and its weights, seeded, on the CPU.

    python scripts/make_tiny.py --minutes 40     # writes templates/tiny/

The corpus is endless: fresh problems of `tiny_domain` with one written solution each (misconceptions
included), and a share of checked sums. Shipped problems never enter it. Only solutions and sums are
learned, not the wording of problems.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import torch
from tiny_domain import LARGEST_COUNT, Problem, checked_sums, make_problem, write_solution
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

# The step tag, or a word, a digit or a mark, each with the blank before it; the end of a line is one token.
PIECE = r" ки|\.?\n| ?\p{L}+| ?[0-9]| ?[^\s\p{L}0-9]|\s"
PROMPT = "Question: {problem}\nAnswer:\n"  # as templates/policy/tiny.toml has it
PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
PRM_TOKENS = (" ки", " +", " -")
NUM_TRAIN, NUM_TEST = 2000, 500
DRILL_SHARE = 0.25  # of the documents


def make_problems(random: Random) -> tuple[list[Problem], list[Problem]]:
    """Return the shipped training and test problems, all different."""
    problems: dict[str, Problem] = {}
    while len(problems) < NUM_TRAIN + NUM_TEST:
        problem = make_problem(random)
        problems.setdefault(problem.text, problem)
    drawn = list(problems.values())
    return drawn[:NUM_TRAIN], drawn[NUM_TRAIN:]


def make_tokenizer(random: Random) -> PreTrainedTokenizerFast:
    """Return a word- and digit-level tokenizer that decodes to exactly what it read."""
    pieces: set[str] = {f"{blank}{digit}" for digit in range(10) for blank in ("", " ")}
    pieces |= {*PRM_TOKENS, " ", "\n", ".\n"}
    split = pre_tokenizers.Split(Regex(PIECE), behavior="isolated")
    for _ in range(3000):
        problem = make_problem(random)
        text = PROMPT.replace("{problem}", problem.text) + write_solution(problem, random)[0]
        pieces.update(piece for piece, _ in split.pre_tokenize_str(text + checked_sums(random, 1)))
    vocabulary = {token: index for index, token in enumerate((PAD, BOS, EOS, UNK, *sorted(pieces)))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNK))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Fuse()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B", special_tokens=[(BOS, vocabulary[BOS])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
    )


def make_model(vocab_size: int, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def documents(
    tokenizer: PreTrainedTokenizerFast, shipped: set[str], random: Random
) -> Iterator[tuple[list[int], int]]:
    """Yield token ids and how many of them, from the start, are only read and not learned."""
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    while True:
        if random.random() < DRILL_SHARE:
            yield [bos, *tokenizer.encode(checked_sums(random), add_special_tokens=False), eos], 1
            continue
        problem = make_problem(random)
        if problem.text in shipped:
            continue
        prompt = PROMPT.replace("{problem}", problem.text)
        prompt_ids = tokenizer.encode(prompt, add_special_tokens=False)
        solution, _ = write_solution(problem, random)
        solution_ids = tokenizer.encode(solution, add_special_tokens=False)
        yield [bos, *prompt_ids, *solution_ids, eos], 1 + len(prompt_ids)


def batches(
    stream: Iterator[tuple[list[int], int]], tokens: int, pad: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield input_ids, attention_mask and labels, each [B, T], of documents of similar length."""
    while True:
        pool = sorted((next(stream) for _ in range(1024)), key=lambda document: len(document[0]))
        groups, group = [], []
        for document in pool:
            if (len(group) + 1) * len(document[0]) > tokens and group:
                groups.append(group)
                group = []
            group.append(document)
        groups.append(group)
        Random(len(groups)).shuffle(groups)
        for group in groups:
            width = max(len(ids) for ids, _ in group)
            shape = (len(group), width)
            input_ids = torch.full(shape, pad)
            mask = torch.zeros(shape, dtype=torch.long)
            labels = torch.full(shape, -100)
            for row, (ids, read) in enumerate(group):
                input_ids[row, : len(ids)] = torch.tensor(ids)
                mask[row, : len(ids)] = 1
                labels[row, read : len(ids)] = torch.tensor(ids[read:])
            yield input_ids, mask, labels


def train(
    model: LlamaForCausalLM,
    stream: Iterator[tuple[Tensor, Tensor, Tensor]],
    minutes: float,
    peak_lr: float,
    out: Path,
) -> int:
    """Train for `minutes` of wall time, warmed up and then decaying to nothing; return the tokens."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    model.train()
    begin = shown = time.monotonic()
    tokens = step = 0
    while (done := (time.monotonic() - begin) / (60 * minutes)) < 1:
        input_ids, mask, labels = next(stream)
        scale = min(1.0, (step + 1) / 200) * min(1.0, 1.25 * (1 - done) + 1e-3)
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * scale
        with torch.autocast("cpu", torch.bfloat16):  # padding is on the right, where no token looks
            loss = model(input_ids=input_ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += int(mask.sum())
        step += 1
        if time.monotonic() - shown > 20:
            shown = time.monotonic()
            print(f"{done:6.1%}  step {step}  tokens {tokens:,}  loss {loss.item():.4f}", flush=True)
    return tokens


def write_problems(problems: list[Problem], path: Path, split: str) -> None:
    with path.open("w", encoding="utf-8") as lines:
        for number, problem in enumerate(problems):
            row = {
                "id": f"tiny-{split}-{number:04}",
                "problem": problem.text,
                "answer": str(problem.answer),
            }
            lines.write(json.dumps(row) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=40.0, help="wall time of training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "templates" / "tiny")
    options = parser.parse_args()

    random = Random(options.seed)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    train_problems, test_problems = make_problems(random)
    write_problems(train_problems, options.out / "train.jsonl", "train")
    write_problems(test_problems, options.out / "test.jsonl", "test")
    tokenizer = make_tokenizer(random)
    tokenizer.save_pretrained(options.out)
    model = make_model(len(tokenizer), tokenizer)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer)} tokens, counts up to {LARGEST_COUNT}")
    shipped = {problem.text for problem in train_problems + test_problems}
    stream = batches(documents(tokenizer, shipped, random), options.batch_tokens, tokenizer.pad_token_id)
    tokens = train(model, stream, options.minutes, options.lr, options.out)
    model.save_pretrained(options.out)
    print(f"{tokens:,} tokens in {options.minutes:g} minutes")


if __name__ == "__main__":
    main()
