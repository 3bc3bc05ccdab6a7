"""Compute the tables of docs/recipes/ with --dry-run: memory, tokens and hours for the published models.

    python -m scripts.recipe_figures             # prints the table of every page
    python -m scripts.recipe_figures --write     # renews the tables on the pages

The commands of a page run in a temporary folder. A model there is a folder of the same name, with what the
size depends on of its published config.json and with its tokenizer (.tokenizers/, which `make setup` fills),
without weights. A file of rows there is made of invented text of a given length, see `Recipe`. Commands after
`sample` read the solutions of PROBLEMS problems only, and their counts are scaled to all problems.
"""

import argparse
import json
import re
import shlex
import tomllib
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM
from typer.testing import CliRunner

from erprm_cli import shipped
from erprm_cli.app import make_app
from erprm_cli.models.loading import load_tokenizer
from erprm_cli.prm.formats import load_prm_format
from erprm_cli.prm.tagger import Tagger
from erprm_cli.rows.row import Row
from tests import real_tokenizers

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "docs" / "recipes"
FOREIGN = ROOT / "tests" / "data" / "formats"  # real rows of other projects
TABLE = re.compile(r"(?<=<!-- figures -->\n).*?(?=<!-- end of figures -->)", re.S)
SH_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.M | re.S)
DRY = ("sample", "rollout", "score", "search", "train", "rlhf")  # commands that have --dry-run
PROBLEMS = 20  # of the files of solutions

# Assumed for a model of 7 or 8 billion parameters on one GPU of the kind of an H100, in tokens per second.
GENERATED_PER_S, SCORED_PER_S, TRAINED_PER_S = 8_000, 20_000, 5_000

_7B = {
    "tie_word_embeddings": False,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
_8B = _7B | {"hidden_size": 4096, "intermediate_size": 14336}
_QWEN2 = _7B | {
    "model_type": "qwen2",
    "vocab_size": 152064,
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "max_position_embeddings": 4096,
}
WITH_HEAD = "Qwen/Qwen2.5-Math-PRM-7B"  # of two layers
CONFIGS: dict[str, Row] = {
    "meta-math/MetaMath-Mistral-7B": _8B
    | {
        "model_type": "mistral",
        "vocab_size": 32001,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
    },
    "meta-llama/Llama-3.1-8B": _8B
    | {"model_type": "llama", "vocab_size": 128256, "max_position_embeddings": 131072},
    "Qwen/Qwen2.5-Math-7B-Instruct": _QWEN2,
    WITH_HEAD: _QWEN2,
    "Qwen/Qwen3-8B": _8B
    | {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "intermediate_size": 12288,
        "num_hidden_layers": 36,
        "head_dim": 128,
        "max_position_embeddings": 40960,
    },
}
TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def _qwen_prm_tokenizer() -> Any:
    tokenizer = load_tokenizer(real_tokenizers.published("qwen2_5").name_or_path)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})
    return tokenizer


TOKENIZERS: dict[str, Callable[[], Any]] = {
    "meta-math/MetaMath-Mistral-7B": real_tokenizers.mistral,
    "meta-llama/Llama-3.1-8B": lambda: real_tokenizers.published("llama3_1"),
    "Qwen/Qwen2.5-Math-7B-Instruct": lambda: real_tokenizers.published("qwen2_5"),
    WITH_HEAD: _qwen_prm_tokenizer,
    "Qwen/Qwen3-8B": lambda: real_tokenizers.published("qwen3"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a page is assumed to run on: files with their numbers of rows, and the length of texts."""

    files: dict[str, int]
    steps: int = 6  # of each solution
    step: int = 100  # characters of a step
    problem: int = 200  # characters of a problem
    reasoning: int = 0  # characters of a thinking model's reasoning
    generated_per_s: int = GENERATED_PER_S
    tokenizer: str = "Qwen/Qwen2.5-Math-7B-Instruct"  # counts for a model that only a server has
    foreign: dict[str, str] = field(default_factory=dict)  # files of another format: their rows in FOREIGN


MATH = {"train.jsonl": 7_500, "math500.jsonl": 500}  # MATH's problems to train on, MATH-500
RECIPES = {
    "paper": Recipe({"train.jsonl": 7_473 + 7_500, "math500.jsonl": 500}),  # GSM8K and MATH
    "qwen-math": Recipe(MATH, steps=8, step=180),
    "qwen3": Recipe(MATH, steps=8, step=180, reasoning=15_000, generated_per_s=4_000),
    "no-rollouts": Recipe(
        {"math-shepherd.jsonl": 444_655, "phase2_train.jsonl": 97_782},
        foreign={"math-shepherd.jsonl": "math_shepherd.jsonl", "phase2_train.jsonl": "prm800k.jsonl"},
    ),
    "qwen-prm": Recipe({"math500.jsonl": 500}, steps=8, step=180),
    "provider": Recipe({"math500.jsonl": 500}, steps=8, step=180, generated_per_s=1_000),
    "machines": Recipe(MATH, steps=8, step=180),
}


@dataclass(frozen=True, slots=True)
class Figure:
    """One command of a page, the row of its dry run, and by what to multiply the counts of the row.

    Hours are not to be multiplied. They are expected if texts have the assumed lengths.
    """

    words: list[str]
    plan: Row
    scale: float
    expected_hours: float


def commands(page: str) -> Iterator[list[str]]:
    """Yield the words of the erprm commands with --config of a page, from the command's name on."""
    for block in SH_BLOCK.findall(page):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["erprm"] and "--config" in words:
                yield words[1:]


def dry_runs(name: str, folder: Path, *, problems: int = PROBLEMS, tiny: bool = False) -> Iterator[Figure]:
    """Run the commands of a recipe in an empty folder, with --dry-run where they have it.

    With `tiny`, models are small and random but have weights, and all files have rows of `problems` problems.
    """
    recipe = RECIPES[name]
    for model in CONFIGS:
        write_model(folder / model, model, tiny)
    made: dict[str, float] = {}  # files of solutions, and how many rows one row of them stands for
    for file, number in recipe.files.items():
        if file in recipe.foreign:
            rows = [json.loads(line) for line in (FOREIGN / recipe.foreign[file]).open(encoding="utf-8")]
            made[file] = number / len(rows)
        else:
            rows = [problem(recipe, index) for index in range(problems if tiny else number)]
        write_rows(folder / file, rows)
    for words in commands((PAGES / f"{name}.md").read_text(encoding="utf-8")):
        command, source = words[:2]
        output = _value(words, "-o")
        if command not in DRY:
            run(words, folder)
        else:
            limit = ["-L", str(problems)] if command in ("sample", "search") else []
            figure = _dry_run(name, [*words, *limit], made, folder)
            yield Figure(words, *figure)
            if command == "train":
                assert output is not None
                settings = _config(words)["train"]
                write_trained(folder / output, settings["base"], settings["prm-format"], tiny)
            elif command in ("sample", "search") and output is not None:
                n = figure[0]["completions"] // figure[0]["requests"]
                rows = [solution(recipe, i, sample) for i in range(problems) for sample in range(n)]
                write_rows(folder / output, rows)
                made[output] = figure[1]
        if command in ("rollout", "score") and output is not None:
            (folder / output).write_bytes((folder / source).read_bytes())  # whose rows have all fields
        if command in ("rollout", "score", "label") and output is not None:
            made[output] = made[source]


def _dry_run(name: str, words: list[str], made: dict[str, float], folder: Path) -> tuple[Row, float, float]:
    """Return what Figure has of a command, apart from its words."""
    recipe, (command, source) = RECIPES[name], words[:2]
    rate = {"score": SCORED_PER_S, "train": TRAINED_PER_S}.get(command, recipe.generated_per_s)
    rate *= int(_value(words, "--data-parallel-size", "--num-processes") or 1)
    dtype = ["--dtype", "bfloat16"] if command in ("sample", "rollout", "score", "search") else []
    limit = _value(words, "-L")
    scale = made.get(source, 1.0) if limit is None else recipe.files[source] / int(limit)
    # At this rate the rows that are read take as long as all would.
    words = [*words, *dtype, "--dry-run", "-q", "--tokens-per-s", str(rate / scale)]
    plan = json.loads(run(words, folder))
    if command in ("score", "train"):
        return plan, scale, plan["hours"]
    table = _config(words)[command]
    model = table["model"] if table["model"] in TOKENIZERS else recipe.tokenizer
    row = solution(recipe, 0, 0)
    text = row["solution"] + ("" if command == "rollout" else row.get("reasoning", ""))
    length = len(TOKENIZERS[model]()(text).input_ids)
    if command == "rollout":
        length //= 2  # the mean of what is missing after the steps before the last
    likely = json.loads(run([*words, "--max-tokens", str(length)], folder))
    return plan, scale, likely["max_hours"]


def run(words: list[str], folder: Path) -> str:
    """Return what a command of a page writes to stdout."""
    with chdir(folder):
        done = CliRunner().invoke(make_app(), words)
    if done.exit_code:
        raise RuntimeError(f"erprm {shlex.join(words)}: {done.stderr}{done.exception}") from done.exception
    return done.stdout


def _value(words: list[str], *flags: str) -> str | None:
    """Return the value of the first of `flags` that a command has, or None."""
    return next((words[words.index(flag) + 1] for flag in flags if flag in words), None)


def _config(words: list[str]) -> Row:
    """Return the tables of the recipe that a command names."""
    path = shipped.template_path("pipelines", _value(words, "--config") or "", "recipe")
    return tomllib.loads(path.read_text(encoding="utf-8"))


def write_model(folder: Path, name: str, tiny: bool = False) -> None:
    """Write a model that has the architecture and the tokenizer of a published one."""
    settings = CONFIGS[name] | (TINY | {"head_dim": 8} if tiny else {})
    config = AutoConfig.for_model(**settings)
    if tiny:
        model = AutoModelForCausalLM.from_config(config)
        if name == WITH_HEAD:
            width = config.hidden_size
            model.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))
        model.save_pretrained(folder)
    else:
        config.save_pretrained(folder)
    TOKENIZERS[name]().save_pretrained(folder)


def write_trained(folder: Path, base: str, prm_format_name: str, tiny: bool = False) -> None:
    """Write the PRM that `erprm train` would write."""
    write_model(folder, base, tiny)
    prm_format = load_prm_format(prm_format_name)
    token_ids = Tagger(prm_format, load_tokenizer(str(folder))).token_ids
    card = {"format": asdict(prm_format), "token_ids": asdict(token_ids)}
    (folder / "erprm.json").write_text(json.dumps(card), encoding="utf-8")


def write_rows(path: Path, rows: list[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def problem(recipe: Recipe, index: int) -> Row:
    return {"id": f"p{index}", "problem": _text(f"{index}", recipe.problem), "answer": "42"}


def solution(recipe: Recipe, index: int, sample: int) -> Row:
    """Return a solution with the fields of all later commands too. No two solutions share a prefix."""
    seed = f"{index} {sample}"
    steps = [_text(f"{seed} {number}", recipe.step) for number in range(recipe.steps)]
    rewards = [[1.0, 0.0]] * (recipe.steps - 1) + [[1.0]]
    row = problem(recipe, index) | {
        "sample": sample,
        "solution": "\n\n".join(steps),
        "steps": steps,
        "prediction": "42",
        "reward": 1.0,
        "finish_reason": "stop",
        "rollouts": rewards,
        "labels": [sum(some) / len(some) for some in rewards],
        "eta": 0.0,
        "estimator": "soft",
        "scores": [0.5] * recipe.steps,
        "prm": "prm",
    }
    return row | ({"reasoning": _text(seed, recipe.reasoning)} if recipe.reasoning else {})


def _text(seed: str, length: int) -> str:
    """Return `length` characters that read like a calculation."""
    random = Random(seed)
    words = "so the sum of these numbers is then we have x = y + 2 and each value gives that in total".split()
    text = f"{random.randrange(10_000)}"
    while len(text) < length:
        text += " " + (random.choice(words) if random.random() < 0.9 else str(random.randrange(100)))
    return text[: length - 1].strip() + "."


def table(name: str) -> str:
    """Return the table of a page, with what it assumes."""
    recipe = RECIPES[name]
    with TemporaryDirectory(prefix="recipe-") as folder:
        figures = list(dry_runs(name, Path(folder)))
    lines = [
        "| command | does | memory | reads | generates at most | hours at most | hours expected |",
        "|---|---|---|---|---|---|---|",
        *(_line(figure) for figure in figures if "--shard" not in figure.words),
    ]
    return "\n".join(lines) + "\n\n" + _assumed(recipe, figures) + "\n"


def _line(figure: Figure) -> str:
    plan, scale = figure.plan, figure.scale
    command = re.sub(r" (?:-o|--config) \S+", "", shlex.join(figure.words))
    count = "completions" if "completions" in plan else "solutions"
    memory = plan.get("training_gib", plan.get("weights_gib"))
    if figure.words[0] == "search":
        memory += plan["prm_weights_gib"]
    read = plan.get("tokens", plan.get("prompt_tokens"))
    cells = [
        f"`{command}`",
        f"{round(plan[count] * scale):,} {count}",
        _shown(memory) + " GiB" * (memory is not None),
        _shown(read, scale / 1e6) + " M" * (read is not None),
        _shown(plan.get("max_generated_tokens"), scale / 1e6) + " M" * ("max_generated_tokens" in plan),
        _shown(plan.get("max_hours")),
        _shown(figure.expected_hours),
    ]
    return f"| {' | '.join(cells)} |"


def _shown(number: float | None, scale: float = 1.0) -> str:
    if number is None:
        return "–"
    return f"{number * scale:,.{1 if number * scale < 100 else 0}f}"


def _assumed(recipe: Recipe, figures: list[Figure]) -> str:
    """Return what the table of a page assumes."""
    files = " and ".join(f"{number:,} rows in `{name}`" for name, number in recipe.files.items())
    rates = {"score": (SCORED_PER_S, "read by `score`"), "train": (TRAINED_PER_S, "trained")}
    generated = recipe.generated_per_s, "generated"
    used = dict.fromkeys(rates.get(figure.words[0], generated) for figure in figures)
    rate = ", ".join(f"{number:,} {what}" for number, what in used)
    texts = (
        f"A problem has {recipe.problem:,} characters, a solution {recipe.steps} steps of {recipe.step:,} "
        "characters" + (f" after {recipe.reasoning:,} characters of reasoning" if recipe.reasoning else "")
    )
    if recipe.foreign:
        texts = f"Rows are as long as the few in `{FOREIGN.relative_to(ROOT)}`"
    return (
        f"Assumed: {files}. {texts}. Tokens per second on one GPU, not measured: {rate}. "
        "Hours are those of one GPU, or of as many as the command names. "
        "[How these figures are made](index.md#figures)."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="RECIPE", help="default: all")
    parser.add_argument("--write", action="store_true", help="renew the tables on the pages")
    arguments = parser.parse_args()
    for name in arguments.names or RECIPES:
        found = table(name)
        if not arguments.write:
            print(f"{name}\n\n{found}")
            continue
        page = PAGES / f"{name}.md"
        text = page.read_text(encoding="utf-8")
        (shown,) = TABLE.findall(text)
        page.write_text(text.replace(shown, found), encoding="utf-8")


if __name__ == "__main__":
    main()
