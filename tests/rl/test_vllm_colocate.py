"""GRPO generates with vLLM in its own process; here on a CPU."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import write_rows

pytest.importorskip("trl")
pytest.importorskip("vllm")
pytestmark = [pytest.mark.vllm, pytest.mark.thorough, pytest.mark.timeout(1800)]

PROBLEMS = 12


def run(*words: object) -> list[dict[str, Any]]:
    """Run a command in a process of its own, which vLLM needs; return the rows on stdout."""
    done = subprocess.run([sys.executable, "-m", "erprm_cli", *map(str, words)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return [orjson.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("adapters", [False, True], ids=["whole weights", "adapters"])
def test_vllm_generates_with_the_weights_of_each_step(tmp_path: Path, adapters: bool) -> None:
    """The last greedy solutions by vLLM are those of the saved policy by transformers, not the first ones."""
    held_out, folder = tmp_path / "eval.jsonl", tmp_path / "run"
    write_rows(held_out, read_rows("tiny:test", dict, limit=PROBLEMS))
    words = ["rlhf", "tiny:train", "--prm", "tiny", "--eval", held_out, "-o", folder]
    words += "--prm-format er-prm --algorithm grpo -n 4 --batch-size 16 --max-tokens 160".split()
    words += "--max-steps 2 --log-every 1".split()
    words += ["--engine", "vllm", "--max-model-len", 512]
    # Adapters begin at zero, so two small steps would change no solution.
    words += ["--lora-rank", 4, "--lr", "5e-2"] if adapters else ["--lr", "2e-3"]
    rows = run(*words)
    assert [row["step"] for row in rows] == [0, 1, 2, 2]
    assert abs(rows[1]["kl"]) < 1e-6 < rows[2]["kl"] and rows[-1]["policy"] == str(folder / "policy")
    first, last = (solutions(folder / f"step-{step}" / "eval.jsonl") for step in (0, 2))
    greedy = ["--temperature", 0, "--max-tokens", 160, "--engine", "transformers", "-t", "tiny"]
    run("sample", held_out, "-m", folder / "policy", "-n", 1, *greedy, "-o", tmp_path / "sampled.jsonl")
    sampled = solutions(tmp_path / "sampled.jsonl")
    equal = sum(one == other for one, other in zip(last, sampled, strict=True))
    assert equal >= PROBLEMS - 1 and first != last  # two equal probabilities may be rounded differently


def solutions(path: Path) -> list[str]:
    rows = {row["id"]: row["solution"] for row in read_rows(str(path), dict)}
    return [rows[id_] for id_ in sorted(rows)]
