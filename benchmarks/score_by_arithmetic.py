"""Score the steps of ProcessBench rows by a rule: a step is good unless an equation in it is false.

    python benchmarks/score_by_arithmetic.py gsm8k.json | erprm processbench

A baseline without any model for what a reward model adds. It understands `a op b = c` alone, so of
`4 + 16 + 12 + 6 = 38` it reads the end and takes it for false.
"""

import json
import re
import sys
from pathlib import Path

NUMBER = r"([\d,.]*\d)"
EQUATION = re.compile(rf"(?<![\d.]){NUMBER} *([-+*/×]) *{NUMBER} *= *\$?{NUMBER}")
TOLERANCE = 0.01  # relative and absolute: results are often rounded


def holds(left: str, operator: str, right: str, result: str) -> bool:
    """Return whether an equation is true, up to rounding."""
    a, b, c = (float(text.replace(",", "")) for text in (left, right, result))
    if operator == "/" and b == 0:
        return False
    value = {"+": a + b, "-": a - b, "/": a / (b or 1.0)}.get(operator, a * b)
    return abs(value - c) < TOLERANCE * abs(c) + TOLERANCE


def main() -> None:
    path = Path(sys.argv[1])
    for row in json.loads(path.read_text(encoding="utf-8")):
        row["scores"] = [float(all(holds(*e) for e in EQUATION.findall(step))) for step in row["steps"]]
        print(json.dumps(row | {"split": path.stem, "prm": "arithmetic"}))


if __name__ == "__main__":
    main()
