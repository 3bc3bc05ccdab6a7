"""The settings of the study (docs/study.md) that are chosen before any comparison, on other problems.

    python scripts/study_choices.py [DIR]     # runs/study_choices; a stopped run continues

It runs the design (templates/pipelines/study.sh) at one size and K, with a seed of its own, and validates on
problems of tiny:train that no reward model learns from. The temperature is chosen by soft labels alone: with
them best-of-64 should be between 60 and 90 %. The learning rate is the one with the highest accuracy by min,
the mean over labels, best-of-16 and best-of-64. DIR/choices.jsonl has both tables.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.io.bad_rows import BadRows
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import write_rows

SCRIPTS = Path(__file__).resolve().parent
STUDY = SCRIPTS.parent / "templates" / "pipelines" / "study.sh"
VALIDATION = range(500, 600)  # lines of tiny:train; the study trains on the first 400
DESIGN = {"SIZES": "100", "KS": "4", "LABELS": "er1 soft hard", "SEEDS": "100"}
# What differs: exact figures need no more candidates, but more of the trees.
BESIDE = {"PROBLEMS": "100", "CANDIDATES": "16", "REFERENCE": "4", "RAFT": "", "LEAST": "3e-4"}
RATES = ("5e-4", "1e-3", "2e-3", "4e-3")
SHARED = ("candidates", "reference", "rollouts", "solutions", "trees")  # beginnings of files without labels


def run_study(run: Path, rates: tuple[str, ...] = RATES, **design: str) -> None:
    """Run the design for each learning rate; all have the solutions and rollouts of the first one."""
    validation = run / "validation.jsonl"
    if not validation.exists():
        problems = read_rows("tiny:train", as_problem, BadRows(), VALIDATION.stop)
        write_rows(validation, list(problems)[VALIDATION.start :])
    for rate in rates:
        folder = run / f"lr-{rate}"
        if rate != rates[0] and not folder.exists():
            folder.mkdir()
            for name in SHARED:
                for path in (run / f"lr-{rates[0]}").glob(f"{name}*"):
                    shutil.copy(path, folder)
        settings = DESIGN | BESIDE | design | {"LR": rate, "TEST": str(validation), "SCRIPTS": str(SCRIPTS)}
        command = ["bash", str(STUDY), str(folder)]
        subprocess.run(command, check=True, env=os.environ | settings, stdout=subprocess.DEVNULL)


def choices(run: Path, rates: tuple[str, ...] = RATES) -> list[dict[str, Any]]:
    """Return the accuracies in % with each learning rate: the mean over labels, and those of soft labels."""
    rows = []
    for rate in rates:
        lines = (run / f"lr-{rate}" / "results.jsonl").read_text(encoding="utf-8").splitlines()
        policy, *models = map(json.loads, lines)
        at = f"exact {policy['temperature']:g}"

        def mean(name: str, labels: list[dict[str, Any]] = models) -> float:
            return round(100 * float(np.mean([row["accuracy"][name] for row in labels])), 2)

        soft = [row for row in models if row["label"] == "soft"]
        names = [name for name in models[0]["accuracy"] if name.startswith("exact") and " min@" in name]
        rows.append(
            {
                "lr": float(rate),
                "labels": [row["label"] for row in models],
                "mean": round((mean(f"{at} min@16") + mean(f"{at} min@64")) / 2, 2),
                "soft": {name.removeprefix("exact "): mean(name, soft) for name in names},
            }
        )
    return rows


def main() -> None:
    run = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/study_choices").resolve()
    run.mkdir(parents=True, exist_ok=True)
    run_study(run)
    rows = choices(run)
    for row in rows:
        print(json.dumps(row))
    best = max(rows, key=lambda row: row["mean"])
    print(f"learning rate: {best['lr']:g}")
    (run / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
