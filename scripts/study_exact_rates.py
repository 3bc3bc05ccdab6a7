"""Give the solutions of a file of rollouts their exact success rates, for labels without noise.

    python scripts/study_exact_rates.py ROLLOUTS.jsonl TREES.jsonl > EXACT.jsonl

TREES are of tiny_trees.py. A row gets `rates`, from which `erprm label` makes labels, in place of `rollouts`.
Prefixes that begin no listed solution keep the rate of their rollouts. With KS="16 exact", study.sh trains
reward models on both: what is left of a difference without noise is due to the shape of the labels.
"""

import json
import sys
from pathlib import Path
from typing import Any

from tiny_trees import read_trees

from erprm_cli.io.reading import read_rows
from erprm_cli.rows.schema import check_rollouts

TEMPERATURE = 1.0  # of the completions


def with_rates(row: dict[str, Any], exact: dict[tuple[str, ...], float]) -> dict[str, Any]:
    """Return a row of rollouts with `rates`; `exact` are those of the prefixes of its problem."""
    steps, rollouts = row["steps"], row["rollouts"]
    rates = [
        exact.get(tuple(steps[: number + 1]), sum(rewards) / len(rewards))
        for number, rewards in enumerate(rollouts[:-1])
    ]
    fields = {name: value for name, value in row.items() if name != "rollouts"}
    return fields | {"rates": [*rates, rollouts[-1][0]]}  # the last rate is the outcome


def main() -> None:
    rollouts, trees = sys.argv[1:]
    exact = {
        tree.id: {node.steps: min(node.rate, 1.0) for node in tree.nodes if node.children}
        for tree in read_trees(Path(trees), TEMPERATURE)
    }
    for row in read_rows(rollouts, check_rollouts):
        print(json.dumps(with_rates(row, exact[row["id"]])))


if __name__ == "__main__":
    main()
