"""What a later stage needs is checked first: a wrong PRM, format, field or file stops no run after hours."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.tiny_models import save_model
from tests.torture import rows

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no model be loaded."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("erprm_cli.engines.open.open_engine", fail)
    monkeypatch.setattr("erprm_cli.prm.scoring.open_scorer", fail)
    monkeypatch.setattr("erprm_cli.models.loading.load_model", fail)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model")


def no_file(folder: Path) -> None:
    shutil.rmtree(folder)


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])


def damaged_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def no_tag(folder: Path) -> None:
    path = folder / "tokenizer.json"
    path.write_text(path.read_text().replace("\\u043a\\u0438", "x").replace("ки", "x"))


def card_of_another_tokenizer(folder: Path) -> None:
    form = {"name": "er-prm", "prompt": "{problem} ", "tag": " ки", "good": " +", "bad": " -"}
    card = {"format": form, "token_ids": {"tag": 1, "good": 2, "bad": 3}, "files": []}
    (folder / "erprm.json").write_text(json.dumps(card))


def head_that_is_not_there(folder: Path) -> None:
    (folder.parent / "head.toml").write_text('prompt = "{problem} "\ntag = " ки"\nkind = "head"\n')


def huge_head(folder: Path) -> None:
    head_that_is_not_there(folder)
    with (folder.parent / "head.toml").open("a") as file:
        file.write("num_labels = 1_000_000_000\n")


DAMAGE: dict[Callable[[Path], None], str] = {
    no_file: "no such folder",
    cut_weights: "model.safetensors is damaged or incomplete",
    damaged_config: "config.json is damaged",
    no_tag: "ки",
    card_of_another_tokenizer: "the folder mixes files of two models",
    head_that_is_not_there: "no score.weight of the right size, which the format head (kind head) needs",
    huge_head: "'num_labels' is 1,000,000,000, not in 1 .. 1,000",
}


@pytest.mark.parametrize(
    ("damage", "command"),
    [*((damage, "search") for damage in DAMAGE), (cut_weights, "rlhf"), (no_tag, "grpo")],
)
def test_a_wrong_prm_is_found_before_the_policy_is_loaded(
    damage: Callable[[Path], None], command: str, erprm: Run, model: Path, tmp_path: Path
) -> None:
    prm = tmp_path / "prm"
    shutil.copytree(model, prm)
    damage(prm)
    head = tmp_path / "head.toml"
    form: list[object] = ["--prm-format", head if head.exists() else "er-prm"]
    source = rows.write(tmp_path / "in.jsonl", [rows.problem(number) for number in range(8)])
    words: list[object] = ["search"] if command == "search" else ["rlhf", "-o", tmp_path / "out"]
    words += ["--algorithm", "grpo"] * (command == "grpo")
    words += [] if damage is card_of_another_tokenizer else form
    done = erprm(*words, source, "-m", model, "-t", "tiny", "--prm", prm, "-n", 4)
    assert done.exit_code and type(done.exception).__name__ in ("UserError", "UsageError"), done.exception
    assert DAMAGE[damage] in str(done.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["bon", "bon --x tokens", "processbench"])
@pytest.mark.parametrize("content", ["", "{}\n", "no rows\n", "\0\n", "wrong stage", "wrong end"])
def test_a_wrong_file_to_compare_with_is_found_before_the_prm_is_loaded(
    content: str, command: str, erprm: Run, model: Path, tmp_path: Path
) -> None:
    row = rows.solution(1) | {"label": 0}
    source = rows.write(tmp_path / "in.jsonl", [row])
    other = tmp_path / "other.jsonl"
    if content == "wrong stage":
        rows.write(other, [row])  # without scores
    elif content == "wrong end":
        rows.write(other, [row | {"scores": [0.5] * len(row["steps"]), "prm": "other"}, row | {"sample": 1}])
    else:
        other.write_text(content)
    flags = ["--prm", model, "--prm-format", "er-prm", "--compare", other]
    done = erprm(*command.split(), source, *flags)
    if content:
        line = 2 if content == "wrong end" else 1
        assert f"{other}:{line}: " in str(done.exception) and "a comparison needs every row" in str(
            done.exception
        )
    else:  # it has no first row
        assert isinstance(done.exception, AssertionError)


def test_correct_solutions_are_not_required_of_problems_without_answers(
    erprm: Run, model: Path, tmp_path: Path
) -> None:
    source = rows.write(
        tmp_path / "in.jsonl", [rows.problem(number) | {"answer": None} for number in range(2)]
    )
    words = ["rlhf", source, "-m", model, "-t", "tiny", "--prm", model, "--prm-format", "er-prm"]
    done = erprm(*words, "-o", tmp_path / "out", "--require-correct")
    assert "no problem has an answer, which --require-correct needs; --field" in str(done.exception)


def test_a_search_that_verifies_needs_the_answer_of_every_problem(
    erprm: Run, model: Path, tmp_path: Path
) -> None:
    source = rows.write(tmp_path / "in.jsonl", [rows.problem(1) | {"answer": None}])
    words = ["search", source, "-m", model, "-t", "tiny", "--prm", model, "--prm-format", "er-prm"]
    done = erprm(*words, "--verify")
    assert "in.jsonl:1: no 'answer', which --verify needs; its fields are " in str(done.exception)
