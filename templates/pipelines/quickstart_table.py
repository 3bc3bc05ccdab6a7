"""Print one table of all that quickstart.sh made, with 95 % intervals, and say what it shows.

    python quickstart_table.py REPORT.jsonl RAFT_DIR

REPORT is what `erprm bon --report` wrote; RAFT_DIR is the run directory of `erprm rlhf`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from erprm_cli.selection import mean_over_problems, paired_difference

Row = dict[str, Any]

METHODS = ("pass@1", "majority vote", "weighted vote", "best of n", "pass@n")


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def line(name: str, value: float, low: float, high: float, more: str = "") -> str:
    return f"{name:44} {100 * value:5.1f}   [{100 * low:5.1f}, {100 * high:5.1f}]{more}"


def rewards(path: Path) -> dict[str, float]:
    """Return the reward of the greedy solution of each evaluation problem."""
    return {row["id"]: row["reward"] for row in read(path)}


def main() -> None:
    report, raft = Path(sys.argv[1]), Path(sys.argv[2])
    figures = read(report)
    largest = max(row["n"] for row in figures)
    values = [row for row in figures if row["minus"] is None and shown(row, largest)]
    differences = [row for row in figures if row["minus"] is not None]

    print(f"\n{'accuracy on test problems':44} {'%':>5}   {'95 % interval':16}")
    for row in sorted(values, key=lambda row: (METHODS.index(row["method"]), row["prm"] or "", row["n"])):
        name = " ".join(str(part) for part in (row["method"], f"n={row['n']}", row["prm"] or "") if part)
        print(line(name, row["value"], row["low"], row["high"]))
    rounds = [rewards(folder / "eval.jsonl") for folder in sorted(raft.glob("iteration-*"))]
    for number, solved in enumerate(rounds):
        estimate = mean_over_problems(list(solved.values()))
        name = "greedy, the policy given" if number == 0 else f"greedy, after RAFT round {number}"
        print(line(name, estimate.value, estimate.low, estimate.high))

    print(f"\n{'paired differences':44} {'%':>5}   {'95 % interval':16}      p")
    for row in differences:
        name = f"{row['method']} n={row['n']}: {row['prm']} minus {row['minus']}"
        print(line(name, row["value"], row["low"], row["high"], f"  {row['p']:.3f}"))
    before, after = rounds[0], rounds[-1]
    gain = paired_difference([after[problem] for problem in before], list(before.values()))
    print(line("greedy: after RAFT minus before", gain.value, gain.low, gain.high, f"  {gain.p:.3f}"))

    print("\n" + verdict(differences, largest))


def shown(figure: Row, largest: int) -> bool:
    """Whether a figure is in the table: pass@1 once, all else at some n."""
    return figure["method"] == "pass@1" or figure["n"] in (4, 16, largest)


def verdict(differences: list[Row], n: int) -> str:
    """Say in one line whether the entropy-regularized model is better, and what that rests on."""
    told = []
    for row in differences:
        if row["method"].startswith("best of n"):
            word = "above" if row["low"] > 0 else "below" if row["high"] < 0 else "not told apart from"
            told.append(f"{word} {row['minus']}")
    return (
        f"Best of {n}: the entropy-regularized model is {', '.join(told)} here at the 5 % level. "
        "One policy, one seed, one small domain: this shows that the chain works, not which label is better "
        "in general."
    )


if __name__ == "__main__":
    main()
