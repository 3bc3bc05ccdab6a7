"""Rows of others to ours and back: round trips, real samples, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli import hashing
from erprm_cli.data_formats.converter import Converter
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.data_formats.registry import BY_NAME, FORMATS, WRITTEN, format_of, table
from erprm_cli.data_formats.tagged_text import TAG, split_tagged, tagged
from erprm_cli.errors import RowError, UsageError
from erprm_cli.io.reading import read_rows
from erprm_cli.rows import schema
from erprm_cli.rows.row import Row

DATA = Path(__file__).parents[1] / "data" / "formats"
SAMPLES = {path.stem: list(read_rows(str(path), dict)) for path in sorted(DATA.iterdir())}
TEXT = "Tom has 2. Step 1: He gets 3. ки\nStep 2: So 5. ки"
OURS: Row = {
    "id": "p7",
    "problem": "Tom has 2.",
    "answer": "5",
    "sample": 3,
    "solution": "Step 1: He gets 3.\nStep 2: So 5.",
    "steps": ["Step 1: He gets 3.", "Step 2: So 5."],
    "prediction": "5",
    "reward": 1.0,
    "finish_reason": "stop",
    "num_tokens": 9,
    "sampling": {"model": "tiny"},
    "labels": [1.0, 0.0],
    "eta": 2.0,
    "estimator": "er",
    "source": "mine",
}
# One row of every format but the real samples, what it becomes, and how many solutions it holds.
ROWS: dict[str, tuple[Row, Row]] = {
    "er-prm": ({"text": TEXT, "value": [0.25, 1]}, {"labels": [0.25, 1.0], "eta": None, "estimator": None}),
    "openrlhf": ({"input": TEXT, "value": ["+", "-"]}, {"labels": [1.0, 0.0]}),
    "trl": (
        {"prompt": "Tom has 2.", "completions": ["He gets 3.", "So 5."], "labels": [True, False]},
        {"solution": "He gets 3.\nSo 5.", "labels": [1.0, 0.0]},
    ),
    "rlhflow": (
        {
            "conversations": [
                {"role": "user", "content": "Tom has 2. Step 1: He gets 3."},
                {"role": "assistant", "content": "+"},
                {"role": "user", "content": "Step 2: So 5."},
                {"role": "assistant", "content": "-"},
            ]
        },
        {"steps": OURS["steps"], "labels": [1.0, 0.0]},
    ),
    "rlhflow-test": (
        {
            "prompt": "Tom has 2.",
            "answers": ["Step 1: 2+3 ки\nThe answer is: 5 ки", "So\n\n6"],
            "label": [1, 0],
        },
        {"steps": ["Step 1: 2+3", "The answer is: 5"], "reward": 1.0, "prediction": "5"},
    ),
    "openr": (
        {"question": "Tom has 2.", "process": "He gets 3. ки\nSo 5. ки", "label": ["+", "-"]},
        {"steps": ["He gets 3.", "So 5."], "labels": [1.0, 0.0]},
    ),
    "prmbench": (
        {
            "original_question": "q",
            "modified_question": "Tom has 2.",
            "original_process": ["1. x"],
            "modified_process": ["1. a", "2. b", "3. c"],
            "modified_steps": [2, 3],
            "error_steps": [2],
            "reason": "r",
            "idx": "circular_1",
            "classification": "circular",
        },
        {
            "id": "circular_1",
            "labels": [1.0, 0.0, 1.0],
            "classification": "circular",
            "original_process": ["1. x"],
        },
    ),
    "math-aps-tree": (
        {
            "question": "Tom has 2.",
            "final_answer": 5,
            "reasoning_steps": {
                "text": "Tom has 2.",
                "mc_value": 0.5,
                "children": [
                    {
                        "text": "He gets 3.",
                        "mc_value": 0.75,
                        "children": [
                            {"text": "So 5.", "mc_value": 1.0, "children": []},
                            {"text": "So 6.", "mc_value": 0.0, "children": []},
                        ],
                    }
                ],
            },
        },
        {
            "answer": "5",
            "steps": ["He gets 3.", "So 5."],
            "labels": [0.75, 1.0],
            "eta": 0.0,
            "estimator": "soft",
        },
    ),
    "math-aps-node": (
        {
            "text": "Tom has 2.",
            "mc_value": 0.5,
            "children": [{"text": "So 5.", "mc_value": 1.0, "children": []}],
        },
        {"problem": "Tom has 2.", "steps": ["So 5."], "labels": [1.0], "mc_value": 0.5},
    ),
    "distilabel": (
        {
            "instruction": "Tom has 2.",
            "golden_solution": ["He gets 3.", "The answer is: 5"],
            "solutions": [["He gets 3. +", "So 6. -"]],
        },
        {"steps": ["He gets 3.", "So 6."], "labels": [1.0, 0.0], "answer": "5"},
    ),
    "dump": (
        {"input": "Tom has 2.", "output": "He gets 3.\n\nThe answer is: 5", "reward": -2},
        {
            "steps": ["He gets 3.", "The answer is: 5"],
            "model_reward": -2.0,
            "reward": None,
            "prediction": "5",
        },
    ),
    "dump-list": (
        {"prompt": "Tom has 2.", "responses": ["a\nb", "c"], "rewards": [0.5, 2.5], "tag": 1},
        {"steps": ["a", "b"], "model_reward": 0.5, "tag": 1},
    ),
    "dump-chat": (
        {"messages": [{"role": "user", "content": "Tom has 2."}, {"role": "assistant", "content": "5"}]},
        {"problem": "Tom has 2.", "solution": "5", "steps": ["5"]},
    ),
    "math-shepherd": (SAMPLES["math_shepherd"][0], {"labels": [1.0] * 4 + [0.0], "estimator": "hard"}),
    "prm800k": (
        SAMPLES["prm800k"][0],
        {
            "answer": "29",
            "labels": [1.0, 0.0],
            "prm800k": {"total_time": 293250, "finish_reason": "solution"},
        },
    ),
    "processbench": (
        SAMPLES["processbench"][0],
        {"id": "gsm8k-0", "labels": [1.0, 0.0, 0.0, 0.0], "label": 1},
    ),
    "math-aps": (SAMPLES["math_aps"][0], {"estimator": "soft", "eta": 0.0, "mc_value": 0.1875}),
}


def read(row: Row, **options: Any) -> list[Row]:
    return list(ForeignRows(**options)(row))


def convert(row: Row, to: str = "erprm", **options: Any) -> list[Row]:
    converter = Converter(None, to, **options)
    return [converter(own) for own in converter.expand(row)]


def refusal(row: Row, **options: Any) -> str:
    with pytest.raises(RowError) as caught:
        read(row, **options)
    return str(caught.value)


# Reading


def test_every_format_has_a_row_here() -> None:
    assert ROWS.keys() == BY_NAME.keys()


@pytest.mark.parametrize("name", ROWS)
def test_a_row_is_recognised_and_becomes_ours(name: str) -> None:
    row, expected = ROWS[name]
    before = json.dumps(row)
    form = format_of(row)
    assert form is not None and form.name == name
    rows = read(row)
    assert json.dumps(row) == before
    for own in rows:
        assert schema.check_solution(own) is own
        assert list(own)[:2] == ["id", "problem"] and own["problem"]
        if "labels" in own:
            assert schema.check_labels(own) and all(type(label) is float for label in own["labels"])
            assert {"eta", "estimator"} <= own.keys()
        assert {"prediction", "reward", "finish_reason", "num_tokens", "sampling"} <= own.keys()
    assert {field: rows[0][field] for field in expected} == expected
    assert read(rows[0]) == [rows[0]]  # ours passes as it is


@pytest.mark.parametrize("name", ROWS)
def test_a_row_without_one_of_its_fields_names_it(name: str) -> None:
    row, _ = ROWS[name]
    field = BY_NAME[name].fields[0]
    assert f"{name}: no '{field}'" in refusal({k: v for k, v in row.items() if k != field}, name=name)


def test_solutions_of_one_problem_are_counted_and_the_ids_are_the_problem() -> None:
    foreign = ForeignRows()
    made = [own for row in SAMPLES["math_shepherd"][:2] * 2 for own in foreign(row)]
    assert [row["sample"] for row in made] == [0, 0, 1, 1]
    assert made[0]["id"] == made[2]["id"] == hashing.content_hash(made[0]["problem"]) != made[1]["id"]
    assert foreign.summary() == "4 rows of math-shepherd"


def test_prm800k_branches_at_every_rated_completion() -> None:
    foreign = ForeignRows()
    rows = list(foreign(SAMPLES["prm800k"][0]))
    # 5 wrong second steps, 4 other last steps, and the path that was chosen, with a step of the labeler in it
    assert [len(row["steps"]) for row in rows] == [2] * 5 + [6] * 5
    assert [row["labels"][-1] for row in rows] == [0.0] * 5 + [1.0] * 5
    assert rows[-1]["steps"][1] == "We have $3p+e=1.24$ and $5p+e=1.82$." and rows[-1]["labels"] == [1.0] * 6
    assert rows[5]["steps"][-1] == "We could also solve this system by substitution."  # rated 0: good
    assert foreign.notes() == ["1 steps of prm800k that a labeler wrote count as good"]


def test_math_aps_prefixes_become_chains_of_steps() -> None:
    row, foreign = SAMPLES["math_aps"][0], ForeignRows()
    rows = list(foreign(row))
    values: dict[str, list[float]] = {}
    for state in row["reasoning_steps"]:
        values.setdefault(state["solution_prefix"], []).append(state["mc_value"])
    assert len(rows) == 7 and {len(own["steps"]) for own in rows} == {1, 2, 3}
    for own in rows:
        whole = next(text for text in values if text.endswith(own["solution"]))
        assert own["labels"][-1] == sum(values[whole]) / len(values[whole])
    assert foreign.notes() == ["3 prefixes of math-aps judged more than once got the mean"]


@pytest.mark.parametrize(("label", "labels"), [(-1, [1.0, 1.0]), (0, [0.0, 0.0]), (1, [1.0, 0.0])])
def test_processbench_labels_the_steps_from_the_first_wrong_one(label: int, labels: list[float]) -> None:
    row = {"id": "x-1", "problem": "p", "steps": ["a", "b"], "label": label, "final_answer_correct": True}
    (made,) = read(row)
    assert made["labels"] == labels and made["label"] == label and made["final_answer_correct"] is True
    assert (made["id"], made["reward"], made["solution"]) == ("x-1", 1.0, "a\n\nb")
    assert "'label' is 2, outside -1 to 1" in refusal(row | {"label": 2})


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": TEXT, "value": [0.5]}, "er-prm: 'labels' has 1 number for 2 steps"),
        ({"text": TEXT, "value": [0.5, 1.5]}, "'value' holds 1.5, outside [0, 1]"),
        ({"text": TEXT + " more", "value": [1, 1]}, "text after the last 'ки'"),
        ({"text": "Tom has 2. He gets 3. ки", "value": [1]}, "no ' Step 1:' before the first label"),
        ({"text": "Tom Step 1: has Step 1: x ки", "value": [1]}, "2 ' Step 1:' before the first label"),
        ({"text": "Tom ки has 2. Step 1: x ки", "value": [1, 1]}, "'ки' stands in the problem"),
        ({"text": " Step 1: x ки", "value": [1]}, "no problem before 'Step 1:'"),
        ({"text": "T. Step 1: x ки ки", "value": [1, 1]}, "step 2 is empty"),
        ({"text": TEXT, "value": [1, 1], "problem": "Ann has 2."}, "does not begin with 'problem'"),
        ({"input": "T. Step 1: x ки", "label": "T. Step 1: x *"}, "'label' has '*' as label 1, not + or -"),
        (
            {"input": "T. Step 1: x ки", "label": "T. Step 1: y +"},
            "'label' differs from 'input' before label 1",
        ),
        ({"input": "T. Step 1: x ки", "label": "T. Step 1: x"}, "'label' differs from 'input'"),
        ({"input": "T. Step 1: x ки", "label": "T. Step 1: x ++"}, "differs from 'input' after the last"),
        ({"input": TEXT, "value": ["+", 1]}, "'value' has 1 as label 2, not + or -"),
        ({"prompt": "p", "completions": ["a"], "labels": [None]}, "'labels' holds null"),
        ({"prompt": "p", "completions": [], "labels": []}, "'completions' is no list of texts"),
        ({"conversations": [{"role": "user", "content": "p"}]}, "'conversations' has 1 turns"),
        ({"conversations": [{"role": "user", "content": "p"}] * 2}, "2 is no turn of the assistant"),
        ({"prompt": "p", "answers": ["a"], "label": []}, "'label' has 0 entries for 1 answers"),
        ({"question": "q", "process": "Step: 2: x ки", "label": 1}, "'label' is an integer, not a list"),
        ({"prompt": "p", "responses": ["a"], "rewards": [1, 2]}, "'rewards' is no list with one number"),
        ({"instruction": "i", "solutions": [["a +", "b"]]}, "steps with + or - at the end and steps without"),
        ({"messages": [{"role": "user", "content": "p"}]}, "'messages' is no single turn"),
    ],
)
def test_a_dirty_or_ambiguous_row_is_refused_with_the_reason(row: Row, reason: str) -> None:
    assert reason in refusal(row)


def test_known_problems_tell_where_a_text_goes_over_to_the_solution() -> None:
    row = {"text": "Tom has 2. He gets 3. ки", "value": [1]}
    assert "--problems FILE" in refusal(row)
    (made,) = read(row, problems={"Tom has 2.", "Ann has 2."})
    assert (made["problem"], made["solution"]) == ("Tom has 2.", "He gets 3.")
    assert "2 of the problems" in refusal(row, problems={"Tom has 2.", "Tom"})


def test_a_tag_that_is_glued_to_its_step_is_told() -> None:
    foreign = ForeignRows()
    (made,) = foreign({"text": "T. Step 1: (x)ки", "value": [1]})
    assert made["steps"] == ["Step 1: (x)"]
    assert foreign.notes() == ["1 texts have 'ки' without a blank before it"]


def test_step_scores_of_a_test_set_are_scores() -> None:
    row = ROWS["rlhflow-test"][0] | {"step_scores": [[0.5, 0.25], [1.0, 0.0]]}
    assert [own["scores"] for own in read(row)] == [[0.5, 0.25], [1.0, 0.0]]


# There and back

WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters=TAG), min_size=1
).map(str.strip)
PART = WORDS.filter(lambda text: bool(text) and "Step 1:" not in text)


@st.composite
def solutions(draw: st.DrawFn, soft: bool, gap: st.SearchStrategy[str]) -> Row:
    texts = draw(st.lists(PART, min_size=1, max_size=5))
    steps = [f"Step {number}: {text}" for number, text in enumerate(texts, start=1)]
    text = steps[0] + "".join(draw(gap) + step for step in steps[1:])
    label = st.floats(0, 1) if soft else st.sampled_from([0.0, 1.0])
    labels = draw(st.lists(label, min_size=len(steps), max_size=len(steps)))
    return OURS | {"problem": draw(PART), "solution": text, "steps": steps, "labels": labels}


GAPS = {True: st.sampled_from(["", " ", "\n", "\n\n", "\n \n"]), False: st.just("\n")}


@pytest.mark.parametrize("name", WRITTEN)
@given(data=st.data())
def test_ours_comes_back_from_every_format_that_is_written(name: str, data: st.DataObject) -> None:
    form = BY_NAME[name]
    row = data.draw(solutions(not form.yes_or_no, GAPS[form.gaps]))
    (foreign,) = convert(row, name)
    assert all(field in foreign for field in form.fields)
    (back,) = read(json.loads(json.dumps(foreign)))
    for field in ("problem", "solution", "steps", "labels", "source"):
        assert back[field] == row[field]


@pytest.mark.parametrize("name", WRITTEN)
@given(data=st.data())
def test_with_keep_every_field_comes_back(name: str, data: st.DataObject) -> None:
    row = data.draw(solutions(not BY_NAME[name].yes_or_no, GAPS[True]))
    row["problem"] = row["problem"] + " Step 1: or not"  # not even that the problem ends is lost
    (foreign,) = convert(row, name, keep=True)
    (back,) = read(json.loads(json.dumps(foreign)))
    assert back | {"task": None} == row | {"task": None}


@pytest.mark.parametrize("row", SAMPLES["math_shepherd"], ids=range(7))
def test_real_rows_come_back_from_ours_as_they_were(row: Row) -> None:
    (ours,) = convert(row)
    converter = Converter(None, "math-shepherd")
    assert json.dumps(converter(ours)) == json.dumps(row)
    assert converter.report() == ["math-shepherd cannot carry 'estimator' (1 rows); " + KEEP]


KEEP = "--keep writes what is ours beside its own"


@pytest.mark.parametrize("name", WRITTEN)
def test_foreign_rows_come_back_from_ours_field_for_field(name: str) -> None:
    row = ROWS[name][0] | {"extra": {"a": [1]}}
    assert convert(convert(row)[0], name) == [row]


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("row", SAMPLES["math_shepherd"][:3], ids=range(3))
def test_real_labels_pass_through_every_format(name: str, row: Row) -> None:
    (ours,) = convert(row)
    (foreign,) = convert(ours, name)
    (back,) = convert(foreign)
    assert convert(back, "math-shepherd") == [row]


@given(st.lists(PART, min_size=1), st.lists(GAPS[True], min_size=20, max_size=20))
def test_a_tagged_text_splits_into_what_it_was_made_of(steps: list[str], gaps: list[str]) -> None:
    solution = steps[0] + "".join(gap + step for gap, step in zip(gaps * 9, steps[1:], strict=False))
    if len(steps) < 180:
        assert split_tagged(tagged("p", solution, steps).removeprefix("p ")) == (solution, steps)


# What is lost


def test_what_a_format_cannot_carry_is_told_and_kept_on_request() -> None:
    converter = Converter(None, "trl")
    made = converter(OURS)
    assert list(made) == ["prompt", "completions", "labels", "source"]
    assert converter.report() == [
        "trl cannot carry 'id', 'answer', 'prediction', 'reward', 'finish_reason', 'num_tokens', 'sampling', "
        f"'eta', 'estimator' (1 rows); {KEEP}"
    ]
    keeper = Converter(None, "trl", keep=True)
    assert {"id", "sample", "answer", "eta"} <= keeper(OURS).keys() and keeper.report() == []


def test_soft_labels_are_never_rounded_unasked() -> None:
    row = OURS | {"labels": [0.5, 0.25]}
    with pytest.raises(UsageError, match="--threshold 0.5 rounds them"):
        convert(row, "trl")
    converter = Converter(None, "trl", threshold=0.5)
    assert converter(row)["labels"] == [True, False]
    assert converter(OURS)["labels"] == [True, False]
    assert "2 labels in 1 rows were rounded at 0.5" in converter.report()
    assert convert(row, "er-prm")[0]["value"] == [0.5, 0.25]


def test_a_text_from_which_the_problem_cannot_be_told_is_written_and_told() -> None:
    row = OURS | {"solution": "So 5.", "steps": ["So 5."], "labels": [1.0]}
    converter = Converter(None, "er-prm")
    assert converter(row)["text"] == "Tom has 2. So 5. ки"
    assert any("where the problem ends" in line for line in converter.report())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem": "Мои руки"}, "'ки' stands in 'problem'"),
        ({"solution": "Step 1: He gets 3. -- Step 2: So 5."}, "text before step 2 that is in no step"),
        ({"solution": OURS["solution"] + " Done."}, "text after the last step"),
    ],
)
def test_a_text_that_would_be_read_otherwise_is_not_written(change: Row, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        convert(OURS | change, "er-prm")


def test_a_field_that_another_format_calls_the_same_is_told() -> None:
    (ours,) = convert(SAMPLES["processbench"][1])
    converter = Converter(None, "math-shepherd")
    with pytest.raises(RowError, match="no 'labels'"):
        converter({name: value for name, value in ours.items() if name != "labels"})
    assert "'label'" in (converter(ours), converter.report())[1][-1]


def test_names_are_unique_and_each_format_says_what_it_lacks() -> None:
    assert len(BY_NAME) == len(FORMATS)
    lines = table().splitlines()
    assert len(lines) == 2 + len(FORMATS) and all(line.count("|") == 6 for line in lines)
    assert "labels between 0 and 1" in BY_NAME["trl"].lacks() and "labels" not in BY_NAME["er-prm"].lacks()
    assert WRITTEN == ("er-prm", "math-shepherd", "trl", "rlhflow")
