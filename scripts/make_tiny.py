"""Make `tiny`: its problems, its tokenizer and its weights, seeded, on the CPU.

    python scripts/make_tiny.py                   # writes templates/tiny/ and says what it scores
    python scripts/make_tiny.py --only-evaluate   # says what the policy that is there scores

The corpus is endless: fresh problems of `tiny_domain` with one written solution each (misconceptions
included), and a share of checked sums. Shipped problems never enter it. Only solutions and sums are
learned, not the wording of problems.
"""

import argparse
import json
import re
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random

import numpy as np
import torch
from tiny_domain import LARGEST_COUNT, Problem, calculate, checked_sums, make_problem, write_solution
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from erprm_cli.answers.grader import Grader
from erprm_cli.data_formats.problems import as_problem
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.evaluation.candidates import answer_classes
from erprm_cli.evaluation.estimates import votes_at_n
from erprm_cli.io.reading import read_rows
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.templates import load_template
from erprm_cli.rows.row import Row

# The step tag, or a word, a digit or a mark, each with the blank before it; the end of a line is one token.
PIECE = r" ки|\.?\n| ?\p{L}+| ?[0-9]| ?[^\s\p{L}0-9]|\s"
PROMPT = "Question: {problem}\nAnswer:\n"  # as templates/policy/tiny.toml has it
PAD, BOS, EOS, UNK = "<pad>", "<s>", "</s>", "<unk>"
PRM_TOKENS = (" ки", " +", " -")
NUM_TRAIN, NUM_TEST = 2000, 500
WARMUP_STEPS = 200
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
        text += "".join(piece for piece, _ in checked_sums(random, 1))
        pieces.update(piece for piece, _ in split.pre_tokenize_str(text))
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


Document = tuple[list[int], list[bool]]  # token ids, and which of them are learned


def documents(tokenizer: PreTrainedTokenizerFast, shipped: set[str], random: Random) -> Iterator[Document]:
    """Yield solutions of fresh problems, of which the prompt is only read, and checked sums."""
    while True:
        if random.random() < DRILL_SHARE:
            yield _document(tokenizer, checked_sums(random))
            continue
        problem = make_problem(random)
        if problem.text not in shipped:
            prompt = PROMPT.replace("{problem}", problem.text)
            solution, _ = write_solution(problem, random)
            yield _document(tokenizer, [(prompt, False), (solution, True)])


def _document(tokenizer: PreTrainedTokenizerFast, pieces: list[tuple[str, bool]]) -> Document:
    ids, learned = [tokenizer.bos_token_id], [False]
    for text, is_learned in pieces:
        piece = tokenizer.encode(text, add_special_tokens=False)
        ids += piece
        learned += [is_learned] * len(piece)
    return [*ids, tokenizer.eos_token_id], [*learned, True]


def batches(stream: Iterator[Document], tokens: int, pad: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield input_ids and labels, each [B, T], of documents of similar length, padded on the right."""
    while True:
        pool = sorted((next(stream) for _ in range(1024)), key=lambda document: len(document[0]))
        groups: list[list[Document]] = [[]]
        for document in pool:
            if groups[-1] and (len(groups[-1]) + 1) * len(document[0]) > tokens:
                groups.append([])
            groups[-1].append(document)
        Random(len(groups)).shuffle(groups)
        for group in groups:
            shape = (len(group), max(len(ids) for ids, _ in group))
            input_ids = torch.full(shape, pad)
            labels = torch.full(shape, -100)
            for row, (ids, learned) in enumerate(group):
                input_ids[row, : len(ids)] = torch.tensor(ids)
                labels[row, : len(ids)] = torch.tensor(ids).masked_fill(~torch.tensor(learned), -100)
            yield input_ids, labels


def train(
    model: LlamaForCausalLM,
    stream: Iterator[tuple[Tensor, Tensor]],
    num_steps: int,
    peak_lr: float,
) -> int:
    """Train in place, the rate warmed up, then held, then falling to nothing; return the tokens read."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=peak_lr, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    model.train()
    begin = time.monotonic()
    tokens = 0
    for step in range(num_steps):
        input_ids, labels = next(stream)
        scale = min(1.0, (step + 1) / WARMUP_STEPS, 1.25 * (1 - step / num_steps))
        for group in optimizer.param_groups:
            group["lr"] = peak_lr * scale
        with torch.autocast("cpu", torch.bfloat16):  # padding is on the right, where no token looks
            loss = model(input_ids=input_ids, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        tokens += int(input_ids.count_nonzero())  # the padding is 0
        if (step + 1) % 50 == 0:
            minutes = (time.monotonic() - begin) / 60
            print(
                f"step {step + 1}  {minutes:.1f} min  tokens {tokens:,}  loss {loss.item():.4f}", flush=True
            )
    return tokens


def evaluate(folder: Path, n: int = 16) -> None:
    """Print how often the policy is right on the test problems: n solutions of each at temperature 1."""
    template = load_template("tiny")
    settings = SamplingSettings(str(folder), None, 1.0, 1.0, 160, 0, template.name)
    problems = list(read_rows(str(folder / "test.jsonl"), as_problem))
    solutions: dict[str, list[Row]] = {problem["id"]: [] for problem in problems}
    with closing(open_engine(EngineConfig(str(folder)))) as engine, Grader() as grader:
        for row in sample_solutions(problems, engine, template, settings, n, grader):
            solutions[row["id"]].append(row)
    correct = np.array([[row["reward"] > 0.5 for row in rows] for rows in solutions.values()])
    draws = np.random.default_rng(0)
    majority = [
        votes_at_n(
            np.ones((1, n)), right, answer_classes([row["prediction"] for row in rows]), [n], draws
        ).item()
        for right, rows in zip(correct, solutions.values(), strict=True)
    ]
    sums = [slip for rows in solutions.values() for row in rows for slip in slips(row["solution"])]
    print(
        f"{len(problems)} test problems, temperature 1: pass@1 {correct.mean():.1%}, majority@{n} "
        f"{np.mean(majority):.1%}, pass@{n} {correct.any(1).mean():.1%}; "
        f"{np.mean(sums):.1%} of the calculations are wrong"
    )


def slips(solution: str) -> Iterator[bool]:
    """Yield for each calculation in a solution whether its result is wrong."""
    for left, operator, right, result in re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", solution):
        yield (operator, right) == ("/", "0") or calculate(int(left), operator, int(right)) != int(result)


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
    parser.add_argument("--steps", type=int, default=5000, help="optimizer steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=2e-3, help="peak learning rate")
    parser.add_argument("--batch-tokens", type=int, default=4096)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "templates" / "tiny")
    parser.add_argument("--only-evaluate", action="store_true")
    options = parser.parse_args()
    if options.only_evaluate:
        evaluate(options.out)
        return

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
    tokens = train(model, stream, options.steps, options.lr)
    model.save_pretrained(options.out)
    (options.out / "model.safetensors").chmod(0o644)  # safetensors makes it for the owner alone
    print(f"{tokens:,} tokens")
    evaluate(options.out)


if __name__ == "__main__":
    main()
