"""The whole chain on the shipped policy, as a shell runs it, from sample to rlhf."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

Run = Callable[..., Any]


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the chain once; return the folder with what it wrote."""
    folder = tmp_path_factory.mktemp("chain")
    script = """
    set -euo pipefail
    sample="erprm sample --max-tokens 160"
    $sample tiny:train -L 20 -n 4 -o solutions.jsonl
    erprm rollout solutions.jsonl -k 4 --max-tokens 160 -o rollouts.jsonl
    erprm label --eta 2 rollouts.jsonl > labels.jsonl
    erprm train labels.jsonl -o prm --lr 1e-3 --epochs 2 --batch-size 16 > train.log.jsonl
    $sample tiny:test -L 8 -n 4 | erprm score --prm prm | tee scores.jsonl | erprm bon > chosen.jsonl
    erprm rlhf tiny:train -L 6 --prm prm -n 4 --iterations 1 --lr 1e-4 --batch-size 4 --max-tokens 160 \
        --eval evaluation.jsonl -o raft > raft.log.jsonl
    """
    script = script.replace("erprm ", f"{sys.executable} -m erprm_cli ")
    shipped = Path(__file__).parent.parent / "templates" / "tiny" / "test.jsonl"
    (folder / "evaluation.jsonl").write_text("".join(shipped.read_text().splitlines(keepends=True)[:10]))
    done = subprocess.run(["bash", "-c", script], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_solutions_are_complete_and_graded(chain: Path) -> None:
    solutions = rows(chain / "solutions.jsonl")
    assert {(row["id"], row["sample"]) for row in solutions} == {
        (f"tiny-train-{number:04}", sample) for number in range(20) for sample in range(4)
    }
    for row in solutions:
        assert row["reward"] == float(row["prediction"] == row["answer"])
        assert "\n".join(row["steps"]) == row["solution"]


def test_rollouts_and_labels_have_one_entry_per_step(chain: Path) -> None:
    labelled = rows(chain / "labels.jsonl")
    assert len(labelled) == 80
    for row in labelled:
        assert len(row["rollouts"]) == len(row["labels"]) == len(row["steps"])
        assert all(len(rewards) == 4 for rewards in row["rollouts"][:-1])
        assert row["rollouts"][-1] == [row["reward"]]
        assert row["labels"][-1] == row["reward"]


def test_equal_prefixes_have_equal_rollouts(chain: Path) -> None:
    seen: dict[tuple[str, str], list[float]] = {}
    for row in rows(chain / "rollouts.jsonl"):
        for count in range(1, len(row["steps"])):
            key = (row["id"], "\n".join(row["steps"][:count]))
            assert seen.setdefault(key, row["rollouts"][count - 1]) == row["rollouts"][count - 1]


def test_the_reward_model_learned(chain: Path) -> None:
    log = rows(chain / "train.log.jsonl")
    assert log[-1]["model"] == "prm"
    assert log[-1]["rows"] == 80
    card = json.loads((chain / "prm" / "erprm.json").read_text())
    assert card["eta"] == 2.0


def test_one_candidate_per_problem_is_chosen_by_its_worst_step(chain: Path) -> None:
    scored = rows(chain / "scores.jsonl")
    assert len(scored) == 32
    for chosen in rows(chain / "chosen.jsonl"):
        scores = [min(row["scores"]) for row in scored if row["id"] == chosen["id"]]
        assert chosen["score"] == max(scores)
        assert chosen["n"] == 4


def test_raft_leaves_a_policy_and_its_accuracy(chain: Path) -> None:
    log = rows(chain / "raft.log.jsonl")
    assert [row["iteration"] for row in log] == [0, 1]
    assert log[1]["selected"] == 6
    assert all(0.0 <= row["accuracy"] <= 1.0 for row in log)
    assert (chain / "raft" / "iteration-1" / "policy" / "model.safetensors").is_file()


def test_the_same_commands_again_make_nothing_again(chain: Path, shell: Run) -> None:
    for command in (
        ["sample", "tiny:train", "-L", 20, "-n", 4, "--max-tokens", 160, "-o", chain / "solutions.jsonl"],
        ["rollout", chain / "solutions.jsonl", "-k", 4, "--max-tokens", 160, "-o", chain / "rollouts.jsonl"],
    ):
        before = Path(str(command[-1])).read_bytes()
        done = shell(*command)
        assert (done.returncode, "nothing is missing" in done.stderr) == (0, True)
        assert Path(str(command[-1])).read_bytes() == before


def test_a_torn_file_is_completed_to_the_same_rows(chain: Path, shell: Run, tmp_path: Path) -> None:
    whole = (chain / "solutions.jsonl").read_bytes()
    torn = tmp_path / "solutions.jsonl"
    torn.write_bytes(whole[: len(whole) // 2])
    meta = chain / "solutions.jsonl.meta.json"
    (tmp_path / meta.name).write_bytes(meta.read_bytes())
    done = shell("sample", "tiny:train", "-L", 20, "-n", 4, "--max-tokens", 160, "-o", torn)
    assert done.returncode == 0, done.stderr
    assert sorted(torn.read_bytes().splitlines()) == sorted(whole.splitlines())


def test_other_settings_are_refused_by_name(chain: Path, shell: Run) -> None:
    other = ("--temperature", 0.9, "--max-tokens", 160)
    done = shell("sample", "tiny:train", *other, "-o", chain / "solutions.jsonl")
    assert done.returncode == 1
    assert "temperature 0.7, not 0.9" in done.stderr
    assert "--overwrite" in done.stderr


def test_every_later_command_reads_what_search_found(chain: Path, erprm: Run, tmp_path: Path) -> None:
    found, drawn, rolled = (tmp_path / f"{name}.jsonl" for name in ("found", "drawn", "rolled"))
    labelled, chosen = tmp_path / "labelled.jsonl", tmp_path / "chosen.jsonl"
    search = ("search", "tiny:train", "-L", 4, "--prm", chain / "prm", "-n", 2, "--max-tokens", 160)

    def run(*words: object) -> str:
        done = erprm(*words)
        assert done.exception is None, (words, done.stderr)
        return str(done.stdout)

    run(*search, "-o", found)
    own = ("method", "log_weight", "search", "scores", "prm")
    by_key = {(row["id"], row["sample"]): {name: row[name] for name in own} for row in rows(found)}
    run("bon", found, "-o", chosen)
    run("rollout", found, "-k", 2, "--max-tokens", 160, "-o", rolled)
    run("label", rolled, "-o", labelled)
    for path, count in ((chosen, 4), (rolled, 8), (labelled, 8)):
        assert len(rows(path)) == count
        assert all(row.items() >= by_key[row["id"], row["sample"]].items() for row in rows(path))
    assert rows(found)[0]["steps"][0] in run("show", found, "-L", 1)
    run("train", labelled, "-o", tmp_path / "prm", "--batch-size", 16)

    run(*search, "--verify", "--draws", 1, "--ess-threshold", 0, "-o", drawn)
    raft = ("--solutions", drawn, "--prm", chain / "prm", "--lr", "1e-3", "--batch-size", 4)
    log = run("rlhf", "tiny:train", "-L", 4, *raft, "--iterations", 1, "-o", tmp_path / "raft")
    assert [json.loads(line)["selected"] for line in log.splitlines()] == [0, 4]
    selected = rows(tmp_path / "raft" / "iteration-1" / "selected.jsonl")
    assert {row["id"]: row["solution"] for row in selected} == {
        row["id"]: row["solution"] for row in rows(drawn)
    }
    assert (tmp_path / "raft" / "iteration-1" / "policy" / "model.safetensors").is_file()
