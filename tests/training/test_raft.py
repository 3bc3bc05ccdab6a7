"""RAFT with the launch options of training; test_chain.py runs it as a shell does."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from typer.testing import Result

from erprm_cli import packages
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UserError
from erprm_cli.io.reading import read_rows
from erprm_cli.io.settings import as_written, difference
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.rows.row import Row, to_line
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig, RaftConfig
from erprm_cli.training.raft import Raft
from tests.tiny_models import solution_rows

CHAT = PolicyTemplate("chat", "{problem}", chat=True, system="So")


@pytest.mark.distributed
def test_adapters_trained_by_two_processes_sample_in_the_next_iteration(
    base: str, tmp_path: Path, fsdp2_on_cpu: str
) -> None:
    pytest.importorskip("peft")
    (tmp_path / "eval.jsonl").write_bytes(b'{"id": "e", "problem": "Tom has 3?", "answer": "3"}\n')
    raft = Raft(
        RaftConfig(base, "er-prm", iterations=1, n=2, max_tokens=24, eval=str(tmp_path / "eval.jsonl")),
        PolicyTrainingConfig(
            epochs=1.0,
            lr=1e-2,
            batch_size=2,
            lora_rank=4,
            accelerate_config=fsdp2_on_cpu,
            num_processes=2,
        ),
        EngineConfig(base),
        CHAT,
        tmp_path / "raft",
        Reporter("rlhf", quiet=True),
    )
    problems = [{"id": f"p{number}", "problem": f"Tom has {number}?", "answer": "1"} for number in range(4)]
    log = list(raft.run(problems))
    policy = tmp_path / "raft" / "iteration-1" / "policy"
    assert [row["policy"] for row in log] == [base, str(policy)] and log[1]["selected"] == 4
    assert (policy / "model.safetensors").is_file() and (policy / "chat_template.jinja").is_file()
    sampled = [
        next(read_rows(str(tmp_path / "raft" / f"iteration-{number}" / "eval.jsonl"), dict))
        for number in range(2)
    ]
    assert sampled[1]["sampling"]["model"] == str(policy)
    assert sampled[0]["solution"] != sampled[1]["solution"]  # it has learned something


def test_problems_without_a_correct_solution_are_counted_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raft = Raft(
        RaftConfig("prm", "er-prm", require_correct=True),
        PolicyTrainingConfig(),
        EngineConfig("tiny"),
        CHAT,
        tmp_path,
        Reporter("rlhf"),
    )
    scored = [
        row | {"scores": [0.5] * len(row["steps"]), "reward": float(row["id"] != "p0")}
        for row in solution_rows(4)
    ]
    (tmp_path / "scored.jsonl").write_bytes(b"".join(map(to_line, scored)))
    raft._select(tmp_path / "scored.jsonl", tmp_path / "selected.jsonl")
    chosen = [row["id"] for row in read_rows(str(tmp_path / "selected.jsonl"), dict)]
    assert chosen == ["p1"]
    told = "erprm rlhf: 1 of 2 problems have no correct solution and are left out (--require-correct)\n"
    assert capsys.readouterr().err == told


def scored_rows(count: int) -> list[Row]:
    """Return scored solutions, three of each problem."""
    return [row | {"scores": [0.5] * len(row["steps"])} for row in solution_rows(count)]


def raft_from(given: list[Row], folder: Path) -> Raft:
    """Return a run whose first round selects from these solutions."""
    (folder / "given.jsonl").write_bytes(b"".join(map(to_line, given)))
    config = RaftConfig("prm", "er-prm", solutions=str(folder / "given.jsonl"))
    return Raft(config, PolicyTrainingConfig(), EngineConfig("tiny"), CHAT, folder, Reporter("rlhf"))


def test_the_first_round_selects_from_given_solutions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = scored_rows(9)  # of p0, p1 and p2
    given[1]["scores"] = [0.9] * len(given[1]["steps"])
    raft = raft_from(given, tmp_path)
    names = ("id", "problem", "answer")
    problems = [{name: row[name] for name in names} for row in given[:6:3]]
    problems.append({"id": "new", "problem": "Why?", "answer": None})
    raft.check_problems(problems)
    selected = list(read_rows(str(raft._choose(1, "tiny", problems)), dict))
    assert [(row["id"], row["sample"]) for row in selected] == [
        (given[1]["id"], given[1]["sample"]),
        (given[3]["id"], given[3]["sample"]),
    ]
    assert "1 of 3 problems have no solution and are left out\n" in capsys.readouterr().err
    settings = as_written(raft.settings("tiny:train", problems))
    given[0]["reward"] = 0.5
    changed = raft_from(given, tmp_path).settings("tiny:train", problems)
    assert "another version of solutions" in str(difference(settings, changed))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "unknown"}, "given.jsonl: no solution of a problem of the first round"),
        ({"answer": "1000"}, "id 'p0': another problem or answer than in INPUT"),
        ({"scores": None}, "`erprm score` writes it). --solutions needs scored solutions"),
    ],
)
def test_given_solutions_that_do_not_fit_are_refused_before_a_run(
    change: Row, reason: str, tmp_path: Path
) -> None:
    (row, *_) = scored_rows(1)
    with pytest.raises(UserError) as error:
        raft_from([row | change], tmp_path).check_problems([row])
    assert reason in str(error.value)


def test_the_settings_of_a_run_directory_keep_their_names_and_values(tmp_path: Path) -> None:
    """Those of directories that earlier versions made are compared with them."""
    raft = Raft(
        RaftConfig("prm", "er-prm", eval="tiny:test"),
        PolicyTrainingConfig(),
        EngineConfig("tiny"),
        CHAT,
        tmp_path,
        Reporter("rlhf", quiet=True),
    )
    earlier = {
        "command": "rlhf",
        "policy": "tiny",
        "prm": "prm",
        "prm_format": "er-prm",
        "iterations": 3,
        "slice_size": 20_000,
        "n": 16,
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 512,
        "aggregate": "min",
        "require_correct": False,
        "seed": 0,
        "eval": "tiny:test",
        "epochs": 2.0,
        "lr": 5e-7,
        "batch_size": 128,
        "lora_rank": 0,
        "template": "chat",
    }
    settings = as_written(raft.settings("tiny:train", []))
    assert settings.items() >= earlier.items()
    assert difference(earlier, raft.settings("tiny:train", [])) is None


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--prm", "./nosuch"], "./nosuch: no such folder"),
        (["--prm-format", "nosuch"], "unknown PRM format 'nosuch'"),
        (["--prm-format", "trl.toml"], "trl.toml: No such file or directory"),
        (["--prm-format", "qwen"], "is not a single token of "),
        (["-m", "./nosuch"], "./nosuch: no such folder"),
        (["-t", "nosuch"], "unknown template 'nosuch'"),
        (["-t", "math-chat"], "the template math-chat is for chat models, but "),
        (["--eval", "nosuch.jsonl"], "nosuch.jsonl: No such file or directory"),
        (["--eval", "empty.jsonl"], "--eval empty.jsonl: no problem to evaluate on"),
        (["--eval", "bad.jsonl"], "bad.jsonl:1: no 'problem' (the question)"),
        (["--accelerate-config", "nosuch"], "unknown accelerate configuration 'nosuch'"),
        (["--accelerate-config", "nosuch.yaml"], "--accelerate-config nosuch.yaml: no such file"),
        (["--accelerate-config", "zero2"], "deepspeed is not installed; --accelerate-config zero2 needs: "),
        (["--lora-rank", "4"], "peft is not installed; --lora-rank needs: "),
        (["--attn-implementation", "nosuch"], "no attention 'nosuch'; there are "),
        (["--engine", "vllm"], "vllm is not installed; --engine vllm needs: "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_a_later_stage_needs_is_looked_for_first(
    flags: list[str],
    reason: str,
    erprm: Callable[..., Result],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No model is loaded, no folder made and no row written before."""
    absent = {"peft", "deepspeed", "vllm"}
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in absent else find_spec(name))
    for library in ("AutoModelForCausalLM", "AutoModelForTokenClassification"):
        monkeypatch.setattr(f"transformers.{library}.from_pretrained", None)
    monkeypatch.chdir(tmp_path)
    Path("empty.jsonl").write_text("")
    Path("bad.jsonl").write_text('{"answer": "1"}\n')
    good = ["--prm", "tiny", "--prm-format", "er-prm", "-o", "made"]
    done = erprm("rlhf", "tiny:train", *good, *flags)
    assert reason in str(done.exception), done.exception
    assert (done.stdout, Path("made").exists()) == ("", False)
