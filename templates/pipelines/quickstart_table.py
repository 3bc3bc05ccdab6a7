"""Print what RAFT did to the policy of quickstart.sh, and say in a line what the demo shows.

    python quickstart_table.py REPORT.jsonl RAFT_DIR

REPORT is what `erprm bon --report` wrote; RAFT_DIR is the run directory of `erprm rlhf`.
"""

import json
import sys
from pathlib import Path
from typing import Any

from erprm_cli.evaluation.intervals import Estimate, mean_over_problems, paired_difference

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def line(name: str, estimate: Estimate) -> str:
    p = "" if estimate.p is None else f"   p {estimate.p:.2g}"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{name:34} {100 * estimate.value:5.1f}   95 % interval {low:.1f} to {high:.1f}{p}"


def rewards(path: Path) -> dict[str, float]:
    """Return the reward of the greedy solution of each evaluation problem."""
    return {row["id"]: row["reward"] for row in read(path)}


def main() -> None:
    report, raft = Path(sys.argv[1]), Path(sys.argv[2])
    rounds = [rewards(folder / "eval.jsonl") for folder in sorted(raft.glob("iteration-*"))]
    for number, solved in enumerate(rounds):
        name = f"after RAFT round {number}" if number else "the policy given"
        print(line(f"greedy, {name}, % correct", mean_over_problems(list(solved.values()))))
    before, after = rounds[0], rounds[-1]
    gain = paired_difference([after[problem] for problem in before], list(before.values()))
    print(line("difference, points", gain))
    print("\n" + verdict([row for row in read(report) if row["minus"] and row["method"] == "best of n"]))


def verdict(differences: list[Row]) -> str:
    """Say in one line whether the entropy-regularized model is better, and what that rests on."""
    told = []
    for row in differences:
        word = "not told apart from" if row["p"] > 0.05 else "above" if row["value"] > 0 else "below"
        told.append(f"{word} {row['minus']}")
    return (
        f"Best of {differences[0]['n']}: the entropy-regularized model is {', '.join(told)} here at the 5 % "
        "level. One policy, one seed, one small domain: this shows that the chain works, not which label is "
        "better in general."
    )


if __name__ == "__main__":
    main()
