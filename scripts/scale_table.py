"""The table of docs/gpus.md: what 10^4, 10^6 and 10^8 solutions take, from stated assumptions.

python scripts/scale_table.py
"""

from collections.abc import Callable

# Assumed, of a 7B policy on one GPU: 8 steps of 30 tokens, 16 completions after each step but the last.
STEPS, STEP_TOKENS, K = 8, 30, 16
GENERATED_PER_S, TRAINED_PER_S, SCORED_PER_S = 8_000, 5_000, 20_000  # tokens; as docs/recipes, not measured
PROMPT_TOKENS = 100
ROW_BYTES = 3_300  # of a labelled solution with its rollouts; 4 characters per token, text and steps
PER_SHARD = 100_000  # solutions: two days of one GPU
MAX_SHARDS = 1_000
# Per million rows; bench_scale.py --rows 1000000 10000000 prints both.
JOIN_CPU_S = 5.3
ADDED_MB = {"sample": 174, "bon": 697, "calibrate": 820}
READ_PER_S = 2_568  # rows of `train`, by one core; bench_reading.py prints it
SIZES = (10**4, 10**6, 10**8)


def hours(tokens: float, per_s: float) -> str:
    return number(tokens / per_s / 3600, " h")


def number(value: float, unit: str = "") -> str:
    """Return two digits of a number, with a thousand, a million and so on as words.

    >>> number(1.34e9), number(46_667, " h"), number(0.35)
    ('1.3 billion', '47,000 h', '0.35')
    """
    value = float(f"{value:.2g}")
    for size, name in ((1e12, " trillion"), (1e9, " billion"), (1e6, " million")):
        if value >= size:
            return f"{value / size:g}{name}{unit}"
    return f"{value:,.0f}{unit}" if value >= 10 else f"{value:g}{unit}"


def volume(num_bytes: float) -> str:
    """Return a number of bytes with its unit.

    >>> volume(33e6), volume(3.3e11)
    ('33 MB', '330 GB')
    """
    for size, unit in ((1e12, "TB"), (1e9, "GB")):
        if num_bytes >= size:
            return f"{number(num_bytes / size)} {unit}"
    return f"{number(num_bytes / 1e6)} MB"


def duration(seconds: float) -> str:
    """Return a time with its unit.

    >>> duration(0.05), duration(500), duration(38_940)
    ('under 1 s', '8.3 min', '11 h')
    """
    if seconds < 1:
        return "under 1 s"
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds)} s"


def sampled(count: int) -> float:
    return float(count * STEPS * STEP_TOKENS)


def rolled(count: int) -> float:
    """Return the tokens of all completions: after step l of L there are L - l steps to go."""
    return float(count * K * STEP_TOKENS * sum(range(1, STEPS)))


def read(count: int) -> float:
    """Return the tokens that a PRM reads."""
    return float(count * (PROMPT_TOKENS + STEPS * STEP_TOKENS))


def shards(count: int) -> int:
    return min(MAX_SHARDS, max(1, count // PER_SHARD))


def memory(stage: str, count: int) -> str:
    return volume(ADDED_MB[stage] * count)


ROWS: tuple[tuple[str, Callable[[int], str]], ...] = (
    ("tokens sampled", lambda count: number(sampled(count))),
    ("tokens rolled out", lambda count: number(rolled(count))),
    ("GPU hours: `sample`", lambda count: hours(sampled(count), GENERATED_PER_S)),
    ("GPU hours: `rollout`", lambda count: hours(rolled(count), GENERATED_PER_S)),
    ("GPU hours: `train`, one epoch", lambda count: hours(read(count), TRAINED_PER_S)),
    ("GPU hours: `score`", lambda count: hours(read(count), SCORED_PER_S)),
    ("labels.jsonl", lambda count: volume(count * ROW_BYTES)),
    ("shards, each with 2 files", lambda count: number(shards(count))),
    ("GPU hours of a shard", lambda count: hours(rolled(count) / shards(count), GENERATED_PER_S)),
    ("CPU time of the join", lambda count: duration(JOIN_CPU_S * count / 1e6)),
    ("time to read the rows for `train`", lambda count: duration(count / READ_PER_S)),
    ("added memory: join, `label`", lambda _: "0 MB"),
    ("added memory: `sample`, `score`, each shard", lambda count: memory("sample", count // shards(count))),
    ("added memory: `bon`", lambda count: memory("bon", count)),
    ("added memory: `calibrate`", lambda count: memory("calibrate", count)),
)


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| solutions | " + " | ".join(f"{count:,}" for count in SIZES) + " |", "|---|---|---|---|"]
    lines += [f"| {name} | " + " | ".join(cell(count) for count in SIZES) + " |" for name, cell in ROWS]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
