"""erprm convert, and foreign rows in the commands that read solutions."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from erprm_cli.data_formats import registry
from erprm_cli.errors import UserError
from erprm_cli.io.json_layouts import value_lines

Run = Callable[..., Any]

DATA = Path(__file__).parents[1] / "data" / "formats"
SHEPHERD, APS, BENCH = (
    DATA / name for name in ("math_shepherd.jsonl", "math_aps.jsonl", "processbench.json")
)
DIRTY = {"input": "A ки b? Step 1: c ки", "label": "A + b? Step 1: c +", "task": "GSM8K"}
DUMP = {"prompt": "2+2?", "responses": ["It is 5.", "It is 4."], "rewards": [-1.5, 3.25]}


def rows(result: Any) -> list[dict[str, Any]]:
    assert result.exception is None, result.exception
    return [orjson.loads(line) for line in result.stdout.splitlines()]


def test_math_shepherd_goes_to_every_format_and_comes_back(erprm: Run) -> None:
    given = [json.loads(line) for line in SHEPHERD.read_text().splitlines()]
    text = erprm("convert", SHEPHERD).stdout
    for name in registry.WRITTEN:
        there = erprm("convert", "--to", name, stdin=text).stdout
        again = erprm("convert", "--from", name, "--to", "math-shepherd", stdin=there)
        assert rows(again) == given


def test_the_report_says_what_was_read_and_what_is_lost(erprm: Run) -> None:
    text = erprm("convert", APS, "-q").stdout
    result = erprm("convert", "--to", "trl", "--threshold", 0.5, stdin=text)
    assert {type(label) for row in rows(result) for label in row["labels"]} == {bool}
    assert "7 rows of trl" in result.stderr
    assert "labels in" in result.stderr and "rounded at 0.5" in result.stderr
    assert "has no place for 'id'" not in result.stderr  # it is the problem's own hash
    assert "'eta', 'estimator': left out of 7 rows (--keep adds them)" in result.stderr


def test_soft_labels_need_a_threshold_for_a_format_of_yes_and_no(erprm: Run) -> None:
    result = erprm("convert", "--to", "math-shepherd", APS)
    assert isinstance(result.exception, UserError) and result.exception.exit_status == 2
    assert "--threshold 0.5" in str(result.exception)


def test_a_label_inside_the_question_is_a_bad_row(erprm: Run, tmp_path: Path) -> None:
    text = SHEPHERD.read_text() + json.dumps(DIRTY) + "\n" + SHEPHERD.read_text()
    result = erprm("convert", stdin=text)
    assert "stdin:8: math-shepherd: 'ки' is in the problem" in str(result.exception)
    bad = tmp_path / "bad.jsonl"
    result = erprm("convert", "--errors", bad, stdin=text)
    assert "1 bad row was written to" in str(result.exception)
    assert len(result.stdout.splitlines()) == 14
    assert orjson.loads(bad.read_bytes())["place"] == "stdin:8"


def test_an_unknown_row_or_format_is_named_with_the_known_ones(erprm: Run) -> None:
    result = erprm("convert", stdin='{"colour": "red"}\n')
    assert "stdin:1: no known format has the fields colour; name the format" in str(result.exception)
    result = erprm("convert", "--to", "prm800k", stdin="")
    assert "--to prm800k; known formats: erprm, er-prm, math-shepherd, trl, rlhflow" in str(result.exception)
    result = erprm("convert", "--from", "trl", stdin=json.dumps({"prompt": "p", "labels": []}))
    assert "trl: no 'completions'; rows have prompt, completions, labels" in str(result.exception)


def test_problems_of_known_data_sets_become_ours(erprm: Run) -> None:
    (row,) = rows(erprm("convert", stdin='{"question": "2+2?", "answer": "So\\n#### 4"}\n'))
    assert (row["problem"], row["answer"], row["reference_solution"]) == ("2+2?", "4", "So\n#### 4")


def test_problems_tell_where_texts_go_over_to_solutions(erprm: Run, tmp_path: Path) -> None:
    problems = tmp_path / "problems.jsonl"
    problems.write_text('{"problem": "What is 2+2?"}\n')
    text = json.dumps({"text": "What is 2+2? It is 4. ки", "value": [1.0]})
    assert "--problems FILE" in str(erprm("convert", stdin=text).exception)
    (row,) = rows(erprm("convert", "--problems", problems, stdin=text))
    assert (row["problem"], row["steps"]) == ("What is 2+2?", ["It is 4."])


# Arrays


def test_a_json_array_is_read_as_rows(erprm: Run) -> None:
    first, second = rows(erprm("convert", BENCH))
    assert (first["labels"], second["labels"][-1]) == ([1.0, 0.0, 0.0, 0.0], 1.0)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_elements_of_an_array_become_lines_however_it_is_cut(indent: int | None, size: int) -> None:
    given = [{"a": 'x"\\ [{,\n]', "b": [1, {"c": [[]]}]}, {}, {"n": [{"m": 2}, 3]}, {"e": "\\"}]
    text = json.dumps(given, indent=indent).encode()
    blocks = [text[begin : begin + size] for begin in range(0, len(text), size)]
    made = b"".join(value_lines(blocks)).split(b"\n")
    assert [orjson.loads(line) for line in made if line.strip()] == given
    lines = b"\n".join(json.dumps(row).encode() for row in given)
    assert b"".join(value_lines([lines])) == lines


def test_a_bad_element_is_named_by_the_line_on_which_it_begins(erprm: Run, tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text('[\n  {\n    "question": "q"\n  },\n  {\n    "colour": "red"\n  }\n]\n')
    assert f"{path}:5: no known format" in str(erprm("convert", path).exception)


# In the other commands


def test_label_takes_success_rates_and_says_what_has_none(erprm: Run) -> None:
    soft = rows(erprm("label", "--eta", 0, APS))
    labelled = rows(erprm("label", "--eta", 2, APS))
    for before, after in zip(soft, labelled, strict=True):
        assert (after["eta"], after["estimator"]) == (2.0, "er")
        for rate, label in zip(before["labels"], after["labels"], strict=True):
            assert label == pytest.approx(math.log1p(rate * math.expm1(2)) / 2)
    result = erprm("label", SHEPHERD)
    assert "math_shepherd.jsonl:1: no 'rollouts', and math-shepherd has no success rates" in str(
        result.exception
    )


def test_label_takes_foreign_rows_between_its_own(erprm: Run) -> None:
    own = '{"rollouts": [[1.0, 0.0], [1.0]]}\n'
    result = erprm("label", "--eta", 0, stdin=own + APS.read_text() + own)
    made = rows(result)
    assert made[0]["labels"] == made[-1]["labels"] == [0.5, 1.0] and len(made) == 9
    assert "label: 9 rows" in result.stderr and "read 1 rows of math-aps" in result.stderr


def test_bon_chooses_from_a_dump_by_its_rewards(erprm: Run) -> None:
    lines = [DUMP, *({"input": "3+3?", "output": str(n), "reward": n} for n in (-3, 0.1, -7))]
    result = erprm("bon", stdin="\n".join(map(json.dumps, lines)))
    first, second = rows(result)
    assert (first["solution"], first["score"], first["n"]) == ("It is 4.", 3.25, 2)
    assert (second["solution"], second["score"], second["correct"]) == ("0.1", 0.1, None)
    assert "read 1 rows of dump-list, 3 rows of dump" in result.stderr
    converted = erprm("convert", stdin="\n".join(map(json.dumps, lines))).stdout
    assert rows(erprm("bon", stdin=converted)) == [first, second]


def test_rewards_below_zero_are_no_weights_of_votes(erprm: Run) -> None:
    lines = erprm("convert", stdin=json.dumps(DUMP)).stdout.splitlines()
    known = [json.dumps(json.loads(line) | {"reward": float(n)}) for n, line in enumerate(lines)]
    result = erprm("bon", stdin="\n".join(known))
    assert rows(result)[0]["correct"] is True
    assert "best of n" in result.stderr and "weighted vote" not in result.stderr


def test_bon_judges_a_test_set_that_has_step_scores(erprm: Run) -> None:
    row = {"prompt": "2+2?", "answers": ["a\n\nThe answer is: 5", "The answer is: 4"], "label": [0, 1]}
    result = erprm("bon", stdin=json.dumps(row | {"step_scores": [[0.5, 0.25], [0.75]]}))
    (chosen,) = rows(result)
    assert (chosen["prediction"], chosen["score"], chosen["correct"]) == ("4", 0.75, True)
    assert "pass@1" in result.stderr


def test_math_shepherd_trains_a_model_that_scores_it(erprm: Run, tmp_path: Path) -> None:
    from tests.tiny_models import save_model

    base = save_model(tmp_path / "base", max_positions=2048)
    prm = tmp_path / "prm"
    flags = ["--base", base, "--lr", "1e-2", "--max-length", 2000, "--batch-size", 8]
    result = erprm("train", SHEPHERD, "-o", prm, *flags)
    assert rows(result)[-1]["rows"] == 7 and "read 7 rows of math-shepherd" in result.stderr
    assert json.loads((prm / "erprm.json").read_text())["estimator"] == "hard"
    scored = rows(erprm("score", "--prm", prm, SHEPHERD))
    assert [len(row["scores"]) for row in scored] == [5, 3, 2, 5, 5, 2, 3]


# Rows of nobody's format


@pytest.mark.parametrize("name", ["completions", "responses", "outputs"])
def test_solutions_under_another_name_are_not_dropped(erprm: Run, name: str) -> None:
    made = rows(erprm("convert", stdin=json.dumps({"problem": "1+1?", name: ["2", "3"], "answer": "2"})))
    assert [(row["solution"], row["sample"], row["answer"]) for row in made] == [("2", 0, "2"), ("3", 1, "2")]


@pytest.mark.parametrize(
    "field",
    [{"code": "print(2)"}, {"completions": [{"text": "2"}]}, {"solutions": ["2"]}, {"samples": ["2"]}],
)
def test_what_may_be_a_solution_is_refused_or_named(erprm: Run, field: dict[str, Any]) -> None:
    (name,) = field
    row = {"problem": "1+1?", "answer": "2"} | field
    told = str(erprm("convert", stdin=json.dumps(row)).exception)
    assert f"stdin:1: a problem whose '{name}' may hold solutions: --field solution={name} reads one" in told
    (made,) = rows(erprm("convert", "--from", "problem", stdin=json.dumps(row)))
    assert made[name] == field[name] and "sample" not in made
    if isinstance(field[name], str):
        (made,) = rows(erprm("convert", "--field", f"solution={name}", stdin=json.dumps(row)))
        assert (made["solution"], made["steps"], made["sample"]) == ("print(2)", ["print(2)"], 0)


def test_metamathqa_keeps_its_worked_solution(erprm: Run) -> None:
    (row,) = rows(erprm("convert", stdin='{"query": "1+1?", "response": "The answer is: 2"}'))
    assert (row["reference_solution"], row["answer"], "sample" in row) == ("The answer is: 2", "2", False)


def test_a_csv_of_solutions_is_converted(erprm: Run, tmp_path: Path) -> None:
    path = tmp_path / "solutions.txt"
    path.write_text('id,question,gold,steps\n7,1+1?,2,"[""1+1=2"", ""So 2""]"\n')
    done = erprm("convert", path)
    (row,) = rows(done)
    assert (row["id"], row["problem"], row["answer"], row["sample"]) == ("7", "1+1?", "2", 0)
    assert "'question' is read as 'problem', 'gold' is read as 'answer'" in done.stderr
