"""erprm bon: what comes out on stdout, in the report and on stderr, and what it says of bad input."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from typer.testing import Result

from erprm_cli.errors import UsageError, UserError
from erprm_cli.packages import install_command

Row = dict[str, Any]
Erprm = Callable[..., Result]
Shell = Callable[..., CompletedProcess[str]]


def candidate(
    id_: str, sample: int, scores: list[float], prediction: str | None, gold: str = "7", **more: Any
) -> Row:
    steps = [f"Step {number}: so it goes." for number in range(1, len(scores) + 1)]
    return {
        "id": id_,
        "problem": "How many?",
        "sample": sample,
        "solution": "\n".join(steps),
        "steps": steps,
        "prediction": prediction,
        "reward": float(prediction == gold),
        "scores": scores,
        "prm": "models/er",
        **more,
    }


# Problem a: min picks sample 1 (right), max sample 0 (wrong), the majority 5 (wrong), the weighted vote 7.
# Problem b: three candidates in between and after those of a; a tie of samples 0 and 2, the first is wrong.
ROWS = [
    candidate("a", 0, [1.0, 0.1], "5"),
    candidate("b", 0, [0.5, 0.5], "6", note="kept"),
    candidate("a", 1, [0.6, 0.6], "7", unknown={"x": [1, 2.0, None]}),
    candidate("b", 2, [0.5, 0.9], "7"),
    candidate("a", 2, [0.2, 0.2], "5"),
    candidate("b", 1, [0.4, 0.4], None),
]


def jsonl(rows: Iterable[Row]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def rows_of(text: str) -> list[Row]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture
def scored(tmp_path: Path) -> str:
    path = tmp_path / "er.jsonl"
    path.write_text(jsonl(ROWS))
    return str(path)


def with_scores(change: Callable[[Row], list[float]], prm: str) -> list[Row]:
    return [row | {"scores": change(row), "prm": prm} for row in ROWS]


def report(erprm: Erprm, tmp_path: Path, source: str, *flags: str) -> list[Row]:
    out = tmp_path / "report.jsonl"
    result = erprm("bon", source, "-o", tmp_path / "chosen.jsonl", "--report", out, "--overwrite", *flags)
    assert result.exit_code == 0, result.output
    return rows_of(out.read_text())


def figure(figures: list[Row], method: str, n: int, aggregate: str | None = None, **more: Any) -> Row:
    wanted = {"method": method, "n": n, "aggregate": aggregate, "minus": None, **more}
    (found,) = (row for row in figures if wanted.items() <= row.items())
    return found


# ---- What is chosen


def test_the_best_of_each_problem_comes_out_with_all_its_fields(erprm: Erprm) -> None:
    result = erprm("bon", stdin=jsonl(ROWS))
    chosen = rows_of(result.stdout)
    assert chosen[0] == ROWS[2] | {"score": 0.6, "n": 3, "aggregate": "min", "correct": True}
    assert chosen[1] == ROWS[1] | {"score": 0.5, "n": 3, "aggregate": "min", "correct": False}
    assert list(chosen[0]) == [*ROWS[2], "score", "n", "aggregate", "correct"]


@pytest.mark.parametrize(
    ("aggregate", "samples"),
    [("min", [1, 0]), ("last", [1, 2]), ("prod", [1, 2]), ("mean", [1, 2]), ("max", [0, 2])],
)
def test_each_aggregate_chooses_by_its_own_score(erprm: Erprm, aggregate: str, samples: list[int]) -> None:
    chosen = rows_of(erprm("bon", "--aggregate", aggregate, stdin=jsonl(ROWS)).stdout)
    assert [row["sample"] for row in chosen] == samples
    assert {row["aggregate"] for row in chosen} == {aggregate}


def test_of_equal_scores_the_first_in_the_file_is_chosen(erprm: Erprm) -> None:
    tied = [ROWS[1], ROWS[3]]
    for rows in (tied, tied[::-1]):
        assert rows_of(erprm("bon", stdin=jsonl(rows)).stdout)[0]["sample"] == rows[0]["sample"]


def test_a_score_of_one_step_is_a_float_even_if_written_as_an_integer(erprm: Erprm) -> None:
    result = erprm("bon", stdin=jsonl([candidate("a", 0, [1], "7")]))
    assert '"score":1.0' in result.stdout


def test_a_file_and_a_pipe_hold_the_same_rows(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    out = tmp_path / "chosen.jsonl"
    assert erprm("bon", scored, "-o", out).exit_code == 0
    assert out.read_text() == erprm("bon", stdin=jsonl(ROWS)).stdout
    assert erprm("bon", scored, "-o", out).exit_code == 0  # made again, not continued
    assert len(rows_of(out.read_text())) == 2
    refused = erprm("bon", scored, "-o", out, "--aggregate", "max")
    assert refused.exit_code != 0 and rows_of(out.read_text())[0]["sample"] == 1


def test_rows_alone_are_on_stdout(shell: Shell) -> None:
    result = shell("bon", stdin=jsonl(ROWS))
    assert result.returncode == 0
    assert len(rows_of(result.stdout)) == 2
    assert "best of n" in result.stderr and "pass@n (oracle)" in result.stderr


def test_empty_input_gives_empty_output(erprm: Erprm, tmp_path: Path) -> None:
    result = erprm("bon", "--report", tmp_path / "report.jsonl", stdin="\n\n")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "erprm: stdin has no rows\n")
    assert (tmp_path / "report.jsonl").read_text() == ""


def test_quiet_means_no_table(erprm: Erprm) -> None:
    assert erprm("bon", "-q", stdin=jsonl(ROWS)).stderr == ""


def test_without_rewards_it_chooses_all_the_same_and_says_that_nothing_is_judged(erprm: Erprm) -> None:
    rows = [{name: row[name] for name in row if name != "reward"} for row in ROWS]
    result = erprm("bon", stdin=jsonl(rows))
    assert result.exit_code == 0
    assert [row["sample"] for row in rows_of(result.stdout)] == [1, 0]
    assert [row["correct"] for row in rows_of(result.stdout)] == [None, None]
    assert "2 problems are left out because 'reward' is missing" in result.stderr
    assert "best of n" not in result.stderr


def test_a_problem_with_a_reward_missing_is_in_no_figure(erprm: Erprm, tmp_path: Path, scored: str) -> None:
    Path(scored).write_text(jsonl([*ROWS[:5], ROWS[5] | {"reward": None}]))
    assert {row["problems"] for row in report(erprm, tmp_path, scored)} == {1}


# ---- Figures


def test_figures_by_hand(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    found = report(erprm, tmp_path, scored, "--n", "1,2,3", "--all-aggregates")
    value = {(row["method"], row["aggregate"], row["n"]): row["value"] for row in found}
    expected = {
        ("pass@1", None, 1): 1 / 3,
        ("majority vote", None, 1): 1 / 3,
        ("weighted vote", "min", 1): 1 / 3,
        ("best of n", "min", 1): 1 / 3,
        ("pass@n", None, 1): 1 / 3,
        ("pass@n", None, 2): 2 / 3,
        ("pass@n", None, 3): 1,
        # a: right whenever sample 1 is drawn; b: sample 2 wins over 1, and over 0 half of the time
        ("best of n", "min", 2): (2 / 3 + (0.5 + 1) / 3) / 2,
        ("best of n", "min", 3): (1 + 0.5) / 2,
        ("best of n", "max", 3): (0 + 1) / 2,
        # a: 5 has the majority, 7 the larger minimum; b: 6 and 7 are tied, null has no vote
        ("majority vote", None, 3): (0 + 0.5) / 2,
        ("weighted vote", "min", 3): (1 + 0.5) / 2,
        ("weighted vote", "mean", 3): (0 + 1) / 2,
    }
    assert {key: value[key] for key in expected} == pytest.approx(expected)


def test_the_report_says_what_each_figure_is(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    found = report(erprm, tmp_path, scored, "--n", "1,3")
    assert [(row["method"], row["n"]) for row in found] == [
        ("pass@1", 1),
        *(
            (method, n)
            for method in ("majority vote", "weighted vote", "best of n", "pass@n")
            for n in (1, 3)
        ),
    ]
    fields = ["prm", "minus", "method", "aggregate", "n", "value", "low", "high", "p", "problems"]
    assert all(list(row) == fields for row in found)
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in found)
    assert {row["prm"] for row in found if row["aggregate"]} == {"er"}
    assert figure(found, "best of n", 3, "min")["problems"] == 2


def test_the_table_shows_what_the_report_holds(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    result = erprm("bon", scored, "--n", "1,3", "-o", tmp_path / "chosen.jsonl")
    table = {line[:15].strip(): line.split() for line in result.stderr.splitlines()}
    for row in report(erprm, tmp_path, scored, "--n", "3"):
        title = "pass@n (oracle)" if row["method"] == "pass@n" else row["method"]
        assert f"{100 * row['value']:.1f}" in table[title]
    assert table["problems"] == ["problems", "2", "2"]


def test_the_default_numbers_end_with_all_candidates(erprm: Erprm, tmp_path: Path) -> None:
    rows = [candidate(id_, sample, [0.5], "7") for sample in range(6) for id_ in "ab"]
    (tmp_path / "in.jsonl").write_text(jsonl(rows))
    assert {row["n"] for row in report(erprm, tmp_path, str(tmp_path / "in.jsonl"))} == {1, 4, 6}


def test_a_figure_rests_on_the_problems_with_enough_candidates(
    erprm: Erprm, scored: str, tmp_path: Path
) -> None:
    with Path(scored).open("a") as file:
        file.write(jsonl([candidate("c", 0, [0.5], "7")]))
    found = report(erprm, tmp_path, scored, "--n", "1,3,5")
    assert figure(found, "pass@n", 1)["problems"] == 3
    assert figure(found, "pass@n", 3)["problems"] == 2
    result = erprm("bon", scored, "--n", "1,3,5")
    assert "no problem has 5 candidates" in result.stderr
    assert ["problems", "3", "2"] in [line.split() for line in result.stderr.splitlines()]


def test_votes_are_left_out_where_nothing_has_a_prediction(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    Path(scored).write_text(jsonl(row | {"prediction": None} for row in ROWS))
    assert {row["method"] for row in report(erprm, tmp_path, scored)} == {"pass@1", "best of n", "pass@n"}


def test_equal_answers_in_two_spellings_vote_together(erprm: Erprm, tmp_path: Path) -> None:
    answers = ["5", "5", "1,000", "1000.0", "$1000$"]
    rows = [candidate("a", s, [0.5], text) | {"reward": float(text != "5")} for s, text in enumerate(answers)]
    (tmp_path / "in.jsonl").write_text(jsonl(rows))
    found = report(erprm, tmp_path, str(tmp_path / "in.jsonl"))
    assert figure(found, "majority vote", 5)["value"] == 1.0


def test_equal_seeds_give_equal_figures_whatever_the_order_of_problems(erprm: Erprm, tmp_path: Path) -> None:
    rows = [
        candidate(id_, s, [(7 * s + ord(id_)) % 11 / 11], str(5 + s % 3)) for id_ in "abc" for s in range(20)
    ]
    files = [tmp_path / "in.jsonl", tmp_path / "turned.jsonl"]
    files[0].write_text(jsonl(rows))
    files[1].write_text(jsonl(sorted(rows, key=lambda row: "cab".index(row["id"]))))
    first, second = (report(erprm, tmp_path, str(file), "--n", "8") for file in files)
    assert [row["value"] for row in first] == pytest.approx([row["value"] for row in second])
    other = report(erprm, tmp_path, str(files[0]), "--n", "8", "--seed", "1")
    assert figure(other, "best of n", 8, "min") == figure(first, "best of n", 8, "min")
    assert figure(other, "majority vote", 8) != figure(first, "majority vote", 8)


# ---- Comparisons


def test_a_comparison_shows_all_models_and_the_paired_differences(
    erprm: Erprm, scored: str, tmp_path: Path
) -> None:
    oracle, anti = tmp_path / "x.jsonl", tmp_path / "y.jsonl"
    oracle.write_text(jsonl(with_scores(lambda row: [row["reward"]] * 2, "models/oracle")[::-1]))
    anti.write_text(jsonl(with_scores(lambda row: [1 - row["reward"]] * 2, "models/anti")))
    found = report(erprm, tmp_path, scored, "--compare", str(oracle), "--compare", str(anti), "--n", "1,3")
    assert figure(found, "best of n", 3, "min", prm="oracle")["value"] == 1.0
    assert figure(found, "best of n", 3, "min", prm="anti")["value"] == 0.0
    ours = figure(found, "best of n", 3, "min", prm="er")["value"]
    for other, theirs in [("oracle", 1.0), ("anti", 0.0)]:
        difference = figure(found, "best of n", 3, "min", prm="er", minus=other)
        assert difference["value"] == pytest.approx(ours - theirs)
        assert difference["problems"] == 2 and 0 < difference["p"] <= 1
        assert figure(found, "weighted vote", 3, "min", prm="er", minus=other)["n"] == 3


def test_a_model_against_itself_has_difference_0_and_p_1(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    again = tmp_path / "again.jsonl"
    again.write_text(jsonl(ROWS))
    found = report(erprm, tmp_path, scored, "--compare", str(again), "--all-aggregates")
    differences = [row for row in found if row["minus"]]
    assert len(differences) == 10
    assert {(row["value"], row["low"], row["high"], row["p"]) for row in differences} == {
        (0.0, 0.0, 0.0, 1.0)
    }
    # both rows say prm "models/er", so the files' names tell them apart
    names = {(row["prm"], row["minus"]) for row in differences}
    assert names == {("er", "again")}


def test_other_candidates_cannot_be_compared(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    short, long = tmp_path / "short.jsonl", tmp_path / "long.jsonl"
    short.write_text(jsonl(ROWS[:4]))
    long.write_text(jsonl([*ROWS, candidate("c", 4, [0.5], "7")]))
    result = erprm("bon", scored, "--compare", short)
    assert result.exit_code != 0 and result.stdout == ""
    assert "short lacks 2 of 6 candidates, such as id 'a', sample 2" in str(result.exception)
    result = erprm("bon", scored, "--compare", long)
    assert "er lacks 1 of 7 candidates, such as id 'c', sample 4" in str(result.exception)


# ---- Without scores


def without_scores(rows: Iterable[Row]) -> list[Row]:
    return [{name: row[name] for name in row if name not in ("scores", "prm")} for row in rows]


def test_without_scores_the_first_candidate_with_the_majority_answer_is_chosen(erprm: Erprm) -> None:
    rows = without_scores(ROWS)
    result = erprm("bon", stdin=jsonl(rows))
    assert result.exit_code == 0, result.output
    chosen = rows_of(result.stdout)
    # a: two of three say 5; b: 6 and 7 have one vote each and 6 comes first, null has no vote
    vote = {"n": 3, "aggregate": "majority vote", "correct": False}
    assert chosen == [rows[0] | {"score": 2 / 3, **vote}, rows[1] | {"score": 1 / 3, **vote}]
    assert list(chosen[0]) == [*rows[0], "score", "n", "aggregate", "correct"]
    assert "2 problems, 6 candidates; chosen by majority vote" in result.stderr
    assert "best of n" not in result.stderr and "weighted vote" not in result.stderr


def test_of_tied_answers_the_one_that_comes_first_is_chosen(erprm: Erprm) -> None:
    rows = without_scores([ROWS[5], ROWS[1], ROWS[3]])
    for order in (rows, [rows[0], *rows[:0:-1]]):
        (chosen,) = rows_of(erprm("bon", stdin=jsonl(order)).stdout)
        assert chosen["sample"] == order[1]["sample"]


def test_equal_answers_in_several_spellings_are_one_majority(erprm: Erprm) -> None:
    answers = ["5", "5", r"\frac{1}{2}", "0.5", "1/2"]
    rows = without_scores(candidate("a", n, [0.5], text, gold="0.5") for n, text in enumerate(answers))
    (chosen,) = rows_of(erprm("bon", stdin=jsonl(rows)).stdout)
    assert (chosen["sample"], chosen["score"]) == (2, 0.6)


def test_without_any_answer_the_first_candidate_is_chosen(erprm: Erprm) -> None:
    rows = without_scores(candidate("a", n, [0.5], None) for n in range(3))
    (chosen,) = rows_of(erprm("bon", stdin=jsonl(rows)).stdout)
    assert (chosen["sample"], chosen["score"], chosen["correct"]) == (0, 0.0, False)


def test_figures_without_scores_by_hand(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    Path(scored).write_text(jsonl(without_scores(ROWS)))
    found = report(erprm, tmp_path, scored, "--n", "1,2,3")
    value = {(row["method"], row["n"]): row["value"] for row in found}
    assert value == pytest.approx(
        {
            ("pass@1", 1): 1 / 3,
            ("majority vote", 1): 1 / 3,
            # a: 5, 7 tie in two of three pairs; b: 6, 7 tie, 6 wins, 7 wins
            ("majority vote", 2): ((0.5 + 0 + 0.5) / 3 + (0.5 + 0 + 1) / 3) / 2,
            ("majority vote", 3): (0 + 0.5) / 2,
            ("pass@n", 1): 1 / 3,
            ("pass@n", 2): 2 / 3,
            ("pass@n", 3): 1,
        }
    )
    assert {(row["prm"], row["aggregate"], row["problems"]) for row in found} == {(None, None, 2)}
    assert all(row["low"] <= row["value"] <= row["high"] for row in found)


def test_figures_of_the_policy_are_the_same_with_and_without_scores(
    erprm: Erprm, scored: str, tmp_path: Path
) -> None:
    with_prm = report(erprm, tmp_path, scored)
    Path(scored).write_text(jsonl(without_scores(ROWS)))
    assert report(erprm, tmp_path, scored) == [row for row in with_prm if row["prm"] is None]


def test_a_choice_by_majority_is_shown(erprm: Erprm) -> None:
    chosen = erprm("bon", stdin=jsonl(without_scores(ROWS))).stdout
    assert "prediction 5, wrong, best of 3 by majority vote: 0.67" in erprm("show", stdin=chosen).stdout


def test_without_rewards_and_scores_the_majority_is_chosen_all_the_same(erprm: Erprm) -> None:
    rows = [row | {"reward": None} for row in without_scores(ROWS)]
    result = erprm("bon", stdin=jsonl(rows))
    assert [(row["sample"], row["correct"]) for row in rows_of(result.stdout)] == [(0, None), (0, None)]
    assert "2 problems are left out because 'reward' is missing; `erprm grade` writes it" in result.stderr


def test_a_dump_without_rewards_is_chosen_from_by_majority(erprm: Erprm) -> None:
    dump = {"prompt": "2 + 3?", "responses": ["#### 6", "#### 5", "The answer is: 5"], "answer": 5}
    (chosen,) = rows_of(erprm("bon", stdin=jsonl([dump])).stdout)
    assert (chosen["prediction"], chosen["sample"], chosen["n"]) == ("5", 1, 3)
    graded = erprm("grade", stdin=jsonl([dump])).stdout
    result = erprm("bon", stdin=graded)
    assert rows_of(result.stdout)[0]["correct"] is True and "majority vote    66.7" in result.stderr


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([*ROWS[:2], *without_scores(ROWS[2:])], "stdin:3: no 'scores'; `erprm score` writes them, or --prm"),
        (
            [*without_scores(ROWS[:2]), *ROWS[2:]],
            "stdin:3: this row has scores, but rows before it have none; `erprm score` scores all rows",
        ),
        (
            [*without_scores(ROWS[:2]), ROWS[2] | {"scores": None, "model_reward": 0.5}],
            "stdin:3: this row has scores, but rows before it have none",
        ),
    ],
)
def test_rows_with_and_without_scores_are_refused(erprm: Erprm, rows: list[Row], message: str) -> None:
    result = erprm("bon", stdin=jsonl(rows))
    assert result.stdout == "" and str(result.exception).startswith(message)


@pytest.mark.parametrize("flags", [["--aggregate", "prod"], ["--all-aggregates"], ["--compare", "tiny:test"]])
def test_flags_about_scores_are_refused_without_scores(erprm: Erprm, flags: list[str]) -> None:
    result = erprm("bon", *flags, stdin=jsonl(without_scores(ROWS)))
    assert isinstance(result.exception, UsageError) and result.stdout == ""
    assert str(result.exception).startswith(f"{flags[0]}") and "without scores; `erprm score`" in str(
        result.exception
    )


def test_rows_with_nothing_to_choose_by_are_refused(erprm: Erprm) -> None:
    rows = [row | {"prediction": None, "reward": None} for row in without_scores(ROWS)]
    result = erprm("bon", stdin=jsonl(rows))
    assert result.stdout == "" and "no row has 'scores', 'prediction' or 'reward'" in str(result.exception)


# ---- Bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": None}, "no 'scores'; `erprm score` writes them, or --prm MODEL adds them here"),
        ({"scores": [0.5]}, "'scores' has 1 number"),
        ({"scores": [0.5, 2]}, "'scores' contains 2, outside [0, 1]"),
        ({"id": ["a"]}, "'id' is a list, not a string"),
        ({"prediction": 7}, "'prediction' must be a string or null"),
        ({"reward": "1"}, "'reward' must be a number or null"),
        ({"sample": 0}, "duplicate id"),
    ],
)
def test_a_bad_row_stops_with_its_place_reason_and_remedy(
    erprm: Erprm, tmp_path: Path, change: Row, message: str
) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(jsonl([*ROWS[:2], ROWS[2] | change]))
    result = erprm("bon", path)
    assert isinstance(result.exception, UserError) and result.stdout == ""
    assert str(result.exception).startswith(f"{path}:3: ") and message in str(result.exception)


def test_an_error_is_one_line_and_exit_status_1(shell: Shell, scored: str) -> None:
    result = shell("bon", stdin=jsonl([ROWS[0], ROWS[1] | {"scores": None}]))
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == (
        "erprm: stdin:2: no 'scores'; `erprm score` writes them, or --prm MODEL adds them here. "
        "--errors FILE writes such rows to FILE and goes on\n"
    )


def test_bad_rows_can_be_set_aside(shell: Shell, tmp_path: Path) -> None:
    lines = jsonl(ROWS[:3]) + "not json\n" + jsonl([ROWS[3] | {"scores": None}])
    result = shell("bon", "--errors", tmp_path / "bad.jsonl", stdin=lines)
    assert result.returncode == 1
    assert [row["id"] for row in rows_of(result.stdout)] == ["a", "b"]
    assert [row["place"] for row in rows_of((tmp_path / "bad.jsonl").read_text())] == ["stdin:4", "stdin:5"]


def test_a_failed_run_leaves_the_earlier_file_as_it_was(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    out = tmp_path / "chosen.jsonl"
    assert erprm("bon", scored, "-o", out).exit_code == 0
    before = out.read_text()
    with Path(scored).open("a") as file:
        file.write("{\n")
    assert isinstance(erprm("bon", scored, "-o", out).exception, UserError)
    assert out.read_text() == before


@pytest.mark.parametrize("n", ["0", "4,", "many", "-1"])
def test_numbers_that_are_none_are_wrong_usage(erprm: Erprm, n: str) -> None:
    result = erprm("bon", f"--n={n}", stdin=jsonl(ROWS))
    assert isinstance(result.exception, UsageError) and "whole numbers from 1" in str(result.exception)


def test_rows_and_figures_cannot_share_stdout(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    assert isinstance(erprm("bon", scored, "--report", "-").exception, UsageError)
    result = erprm("bon", scored, "--report", "-", "-o", tmp_path / "chosen.jsonl")
    assert result.exit_code == 0 and rows_of(result.stdout)[0]["method"] == "pass@1"


# ---- Plots and models


@pytest.mark.skipif(find_spec("matplotlib") is None, reason="needs the extra [plot]")
def test_a_plot_is_drawn(erprm: Erprm, scored: str, tmp_path: Path) -> None:
    result = erprm("bon", scored, "--compare", scored, "--plot", tmp_path / "plot.png")
    assert result.exit_code == 0
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_plot_of_letters_goes_to_stderr(erprm: Erprm, scored: str) -> None:
    result = erprm("bon", scored, "--n", "1,2,3", "--plot", "-")
    assert len(rows_of(result.stdout)) == 2
    text = result.stderr.partition("problems      ")[2]
    assert "a  majority vote" in text and "d  pass@n (oracle)" in text
    top = next(line for line in text.splitlines() if line.startswith("100.0 |"))
    assert top.endswith("d")  # pass@3 is 100 %, at the right end
    assert sum(line[7:8] == "*" for line in text.splitlines()) == 1  # all meet at n = 1


@pytest.mark.skipif(find_spec("matplotlib") is not None, reason="matplotlib is there")
def test_a_plot_without_matplotlib_is_refused_before_the_work(erprm: Erprm, scored: str) -> None:
    result = erprm("bon", scored, "--plot", "plot.png")
    assert isinstance(result.exception, UsageError) and result.stdout == ""
    assert install_command("matplotlib") in str(result.exception)


def test_rows_without_scores_are_scored_on_the_way(erprm: Erprm, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from erprm_cli.models.folder import CARD
    from erprm_cli.prm.formats import PrmFormat
    from erprm_cli.prm.tagger import Tagger
    from tests.tiny_models import make_tokenizer, save_model, solution_rows

    prm = save_model(tmp_path / "random-prm")
    prm_format = PrmFormat("er-prm", "{problem} ", " ки", " +", " -")
    card = {"format": asdict(prm_format), "token_ids": asdict(Tagger(prm_format, make_tokenizer()).token_ids)}
    (prm / CARD).write_text(json.dumps(card))
    result = erprm("bon", "--prm", prm, stdin=jsonl(solution_rows(6)))
    assert f"{prm} is read with the format er-prm (" in result.stderr
    assert result.exit_code == 0, result.output
    chosen = rows_of(result.stdout)
    assert [row["id"] for row in chosen] == ["p0", "p1"]
    assert {row["prm"] for row in chosen} == {str(prm)}
    assert all(row["score"] == min(row["scores"]) for row in chosen)
    assert all(len(row["scores"]) == len(row["steps"]) for row in chosen)


def test_no_model_is_loaded_where_there_is_no_row(erprm: Erprm) -> None:
    assert erprm("bon", "--prm", "tiny", stdin="").exit_code == 0


def test_torch_is_not_loaded_for_rows_that_have_scores(scored: str) -> None:
    code = (
        "import sys; from erprm_cli.app import make_app; make_app()(standalone_mode=False);"
        "assert not {'torch', 'transformers', 'math_verify', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, "bon", scored], check=True, stdout=subprocess.DEVNULL)


def test_votes_with_too_many_different_formulas_are_counted(erprm: Erprm) -> None:
    answers = [f"x^2 + {number}" for number in range(20)]
    rows = [candidate("a", sample, [0.5], answer, "x^2 + 7") for sample, answer in enumerate(answers)]
    done = erprm("bon", stdin="".join(json.dumps(row) + "\n" for row in rows))
    assert done.exit_code == 0
    assert "votes: 1 problems have more different answers than are compared by value" in done.stderr


# ---- Accuracy against tokens


def searched(method: str, n: int, right: bool, tokens: int) -> list[Row]:
    """Rows of a search on the problems of ROWS, which found one solution each."""
    figures = {"n": n, "prompt_tokens": 30, "generated_tokens": tokens, "prm_tokens": 50, "distinct": 1}
    more: Row = {"method": method, "search": figures, "num_tokens": 10}
    return [candidate(id_, 0, [0.5, 0.7], "7" if right else "5", **more) for id_ in "ab"]


@pytest.fixture
def searches(tmp_path: Path) -> list[str]:
    """Files of samples, of SMC at two budgets and of beam search."""
    files = {
        "samples": [row | {"num_tokens": 10} for row in ROWS],
        "smc1": searched("smc", 1, False, 10),
        "smc3": searched("smc", 3, True, 30),
        "beam": searched("beam", 4, True, 20),
    }
    for name, rows in files.items():
        (tmp_path / f"{name}.jsonl").write_text(jsonl(rows))
    return [str(tmp_path / f"{name}.jsonl") for name in files]


def test_accuracy_against_tokens_compares_searches_at_equal_tokens(
    erprm: Erprm, tmp_path: Path, searches: list[str]
) -> None:
    samples, *others = searches
    flags = [word for other in others for word in ("--compare", other)]
    found = report(erprm, tmp_path, samples, "--x", "tokens", "-n", "1,3", *flags)
    best = [row for row in found if row["method"] == "best of n"]
    values = {(row["search"], row["tokens"]): row["value"] for row in best if row["minus"] is None}
    assert values[("best-of-n", 30)] == pytest.approx(0.75)  # as without --x tokens
    assert values | {("best-of-n", 10): 0, ("best-of-n", 30): 0} == {
        ("best-of-n", 10): 0,
        ("best-of-n", 30): 0,
        ("smc", 10): 0,
        ("smc", 30): 1,
        ("beam", 20): 1,
    }
    minus = {(row["minus"], row["tokens"]): row["value"] for row in best if row["minus"] is not None}
    assert minus[("smc", 30)] == pytest.approx(0.75 - 1)
    assert set(minus) == {("smc", 10), ("smc", 30), ("beam", 20)}
    counts = {(row["prompt_tokens"], row["prm_tokens"]) for row in best if row["search"] == "smc"}
    assert counts == {(30, 50)}


def test_the_table_and_the_plot_show_tokens(erprm: Erprm, tmp_path: Path, searches: list[str]) -> None:
    samples, smc1, smc3, _ = searches
    flags = ("--compare", smc1, "--compare", smc3, "--plot", "-", "-o", tmp_path / "chosen.jsonl")
    result = erprm("bon", samples, "--x", "tokens", *flags)
    assert "weighted vote, min" in result.stderr and "PRM tokens" in result.stderr
    assert "difference at equal tokens" in result.stderr and "best-of-n - smc" in result.stderr
    assert "Tokens per problem; % correct" in result.stderr and "a  best-of-n, weighted vote" in result.stderr


def test_rows_without_tokens_are_bad_rows(erprm: Erprm) -> None:
    result = erprm("bon", "--x", "tokens", stdin=jsonl(ROWS))
    assert isinstance(result.exception, UserError)
    assert "--x tokens needs 'num_tokens', which" in str(result.exception)


def test_other_problems_cannot_be_compared(erprm: Erprm, tmp_path: Path, searches: list[str]) -> None:
    path = tmp_path / "part.jsonl"
    path.write_text(jsonl(searched("smc", 1, True, 10)[:1]))
    result = erprm("bon", searches[0], "--x", "tokens", "--compare", path, "-o", tmp_path / "chosen.jsonl")
    assert isinstance(result.exception, UserError) and "differ by 1 problems" in str(result.exception)
    path.write_text(jsonl(row | {"problem": "Another?"} for row in searched("smc", 1, True, 10)))
    result = erprm("bon", searches[0], "--x", "tokens", "--compare", path, "-o", tmp_path / "chosen.jsonl")
    assert isinstance(result.exception, UserError) and "another problem or answer" in str(result.exception)


def test_a_very_long_name_of_a_prm_is_shown_in_part(erprm: Erprm) -> None:
    row = {"id": "1", "problem": "p", "solution": "s", "prediction": "1", "reward": 1.0, "scores": [0.5]}
    shown = erprm("bon", stdin=json.dumps(row | {"sample": 0, "steps": ["s"], "prm": "a" * 200_000})).stderr
    assert "..." in shown and len(shown) < 10_000
