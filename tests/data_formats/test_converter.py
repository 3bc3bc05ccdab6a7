"""Rows go to another format and come back; what is lost is reported."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.data_formats.converter import Converter
from erprm_cli.data_formats.registry import BY_NAME, WRITTEN
from erprm_cli.errors import RowError, UsageError
from erprm_cli.rows.row import Row
from tests.data_formats.format_rows import GAPS, OURS, PART, ROWS, SAMPLES, convert, read


@st.composite
def solutions(draw: st.DrawFn, soft: bool, gap: st.SearchStrategy[str]) -> Row:
    texts = draw(st.lists(PART, min_size=1, max_size=5))
    steps = [f"Step {number}: {text}" for number, text in enumerate(texts, start=1)]
    text = steps[0] + "".join(draw(gap) + step for step in steps[1:])
    label = st.floats(0, 1) if soft else st.sampled_from([0.0, 1.0])
    labels = draw(st.lists(label, min_size=len(steps), max_size=len(steps)))
    return OURS | {"problem": draw(PART), "solution": text, "steps": steps, "labels": labels}


@pytest.mark.parametrize("name", WRITTEN)
@given(data=st.data())
def test_our_rows_come_back_from_every_format_that_is_written(name: str, data: st.DataObject) -> None:
    data_format = BY_NAME[name]
    row = data.draw(solutions(not data_format.binary_labels, GAPS[data_format.keeps_gaps]))
    (foreign,) = convert(row, name)
    assert all(field in foreign for field in data_format.fields)
    (back,) = read(json.loads(json.dumps(foreign)))
    for field in ("problem", "solution", "steps", "labels", "source"):
        assert back[field] == row[field]


@pytest.mark.parametrize("name", WRITTEN)
@given(data=st.data())
def test_with_keep_every_field_comes_back(name: str, data: st.DataObject) -> None:
    row = data.draw(solutions(not BY_NAME[name].binary_labels, GAPS[True]))
    row["problem"] = row["problem"] + " Step 1: or not"  # not even that the problem ends is lost
    (foreign,) = convert(row, name, keep=True)
    (back,) = read(json.loads(json.dumps(foreign)))
    assert back | {"task": None} == row | {"task": None}


@pytest.mark.parametrize("row", SAMPLES["math_shepherd"], ids=range(7))
def test_real_rows_come_back_from_ours_as_they_were(row: Row) -> None:
    (ours,) = convert(row)
    converter = Converter(None, "math-shepherd")
    assert json.dumps(converter(ours)) == json.dumps(row)
    assert converter.notes() == [
        "math-shepherd has no place for 'estimator': left out of 1 rows (--keep adds them)"
    ]


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


def test_what_a_format_cannot_store_is_reported_and_kept_on_request() -> None:
    converter = Converter(None, "trl")
    made = converter(OURS)
    assert list(made) == ["prompt", "completions", "labels", "source"]
    assert converter.notes() == [
        "trl has no place for 'id', 'answer', 'prediction', 'reward', 'finish_reason', 'num_tokens', "
        "'sampling', 'eta', 'estimator': left out of 1 rows (--keep adds them)"
    ]
    keeper = Converter(None, "trl", keep=True)
    assert {"id", "sample", "answer", "eta"} <= keeper(OURS).keys() and keeper.notes() == []


def test_soft_labels_are_rounded_only_with_a_threshold() -> None:
    row = OURS | {"labels": [0.5, 0.25]}
    with pytest.raises(UsageError, match="--threshold 0.5 rounds them"):
        convert(row, "trl")
    converter = Converter(None, "trl", threshold=0.5)
    assert converter(row)["labels"] == [True, False]
    assert converter(OURS)["labels"] == [True, False]
    assert "2 labels in 1 rows were rounded at 0.5" in converter.notes()
    assert convert(row, "er-prm")[0]["value"] == [0.5, 0.25]


def test_a_text_without_a_clear_end_of_the_problem_is_written_and_reported() -> None:
    row = OURS | {"solution": "So 5.", "steps": ["So 5."], "labels": [1.0]}
    converter = Converter(None, "er-prm")
    assert converter(row)["text"] == "Tom has 2. So 5. ки"
    assert converter.notes()[-1] == (
        "er-prm does not mark where the problem ends in 1 rows (--keep adds the problem)"
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"problem": "Мои руки"}, "'ки' is in 'problem'"),
        ({"solution": "Step 1: He gets 3. -- Step 2: So 5."}, "text before step 2 that is not in any step"),
        ({"solution": OURS["solution"] + " Done."}, "text after the last step"),
    ],
)
def test_a_text_that_would_be_misread_is_not_written(change: Row, reason: str) -> None:
    with pytest.raises(RowError, match=reason):
        convert(OURS | change, "er-prm")


def test_a_field_with_the_name_of_a_field_of_the_target_is_reported() -> None:
    (ours,) = convert(SAMPLES["processbench"][1])
    converter = Converter(None, "math-shepherd")
    with pytest.raises(RowError, match="no 'labels'"):
        converter({name: value for name, value in ours.items() if name != "labels"})
    converter(ours)
    assert any("has no place for " in note and "'label'" in note for note in converter.notes())


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Why?", "completions": ["a  ", "b\n"], "labels": [True, False]},
        {"id": "x", "problem": "Why?", "sample": 0, "solution": "a  \nb\n", "steps": ["a  ", "b\n"]},
        {"input": "Why? Step 1: a  ки\nb\n ки", "label": "Why? Step 1: a  +\nb\n -"},
    ],
)
def test_steps_do_not_end_in_a_space(row: Row) -> None:
    (ours,) = convert(row)
    assert [step.removeprefix("Step 1: ") for step in ours["steps"]] == ["a", "b"]


@pytest.mark.parametrize("name", WRITTEN)
def test_steps_of_the_reasoning_are_what_a_format_stores(name: str) -> None:
    solution, ours = OURS["solution"], OURS | {"steps_of": "reasoning"}
    row = ours | {"reasoning": solution, "solution": "\n\nThe answer is: 5"}
    converter = Converter(None, name)
    foreign = converter(row)
    assert "'steps_of'" in converter.notes()[0] and "'reasoning'" not in converter.notes()[0]
    assert "'solution'" in converter.notes()[0]
    (back,) = read(foreign)
    assert (back["solution"], back["steps"]) == (solution, row["steps"])
    (kept,) = convert(row, name, keep=True)
    assert read(kept)[0] | {"task": None} == row | {"task": None}


@pytest.mark.parametrize("name", WRITTEN)
def test_reasoning_before_the_steps_is_lost_or_kept(name: str) -> None:
    row = OURS | {"reasoning": "He gets 3."}
    converter = Converter(None, name)
    converter(row)
    assert "'reasoning'" in converter.notes()[0]
    (kept,) = convert(row, name, keep=True)
    assert read(kept)[0] | {"task": None} == row | {"task": None}
