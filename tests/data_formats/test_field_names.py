"""Fields under other names are found, told once, and never lost."""

import pytest

from erprm_cli.data_formats.field_names import FieldNames
from erprm_cli.data_formats.foreign_rows import ForeignRows
from erprm_cli.errors import RowError, UsageError
from erprm_cli.hashing import content_hash
from erprm_cli.rows import schema


def test_a_field_is_read_under_another_name_and_both_are_kept() -> None:
    names = FieldNames(["answer=gold", "steps=chain"])
    made = names.renamed({"gold": 5, "answer": "so 5", "chain": '["a", "b"]', "x": 1})
    assert made == {
        "gold": 5,
        "answer": 5,
        "original_answer": "so 5",
        "chain": '["a", "b"]',
        "steps": ["a", "b"],
        "x": 1,
    }
    assert names.renamed({"answer": "5", "steps": ["a"]}) == {"answer": "5", "steps": ["a"]}
    with pytest.raises(RowError, match="no 'gold', which --field answer=gold reads; its fields are chain"):
        names.renamed({"chain": "[]"})
    assert names.settings() == {"field": {"answer": "gold", "steps": "chain"}}
    assert FieldNames().settings() == {}


@pytest.mark.parametrize(
    ("flag", "told"),
    [
        ("answer", "give NAME=OTHER, such as answer=gold"),
        ("answer=", "give NAME=OTHER"),
        ("reply=gold", "rows have no field 'reply'; fields: id, problem, answer"),
    ],
)
def test_a_flag_is_name_and_other_name(flag: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        FieldNames([flag])
    with pytest.raises(UsageError, match="--field answer is given twice"):
        FieldNames(["answer=a", "answer=b"])


def test_a_row_of_your_own_is_completed_and_that_is_told_once() -> None:
    told: list[str] = []
    foreign = ForeignRows(names=FieldNames(tell=told.append))
    row = {"question": "1 + 1?", "steps": ["1 + 1 = 2.", "So 2."], "gold": 2, "labels": [1, 0.5]}
    made = [own for _ in range(2) for own in foreign(row)]
    assert made[0] == row | {
        "problem": "1 + 1?",
        "answer": "2",
        "id": content_hash("1 + 1?"),
        "solution": "1 + 1 = 2.\nSo 2.",
        "sample": 0,
    }
    assert made[1] == made[0] | {"sample": 1}
    assert all(schema.check_labels(own) for own in made)
    assert told == [
        "'question' is read as 'problem', 'gold' is read as 'answer'",
        "'id' is derived, 'solution' is derived, 'sample' is derived",
    ]


def test_steps_are_the_paragraphs_of_a_solution_or_its_lines() -> None:
    for text, steps in (("a\nb\n\nc", ["a\nb", "c"]), ("a\nb", ["a", "b"]), ("a", ["a"])):
        ((made),) = ForeignRows()({"id": 7, "sample": 3, "problem": "p", "solution": text})
        assert (made["id"], made["sample"], made["steps"]) == ("7", 3, steps)


def test_an_id_is_text_or_a_number() -> None:
    row = {"sample": 0, "problem": "p", "solution": "a", "steps": ["a"], "answer": "1"}
    for given, text in ((7, "7"), ("7", "7"), (None, content_hash("p"))):
        ((made),) = ForeignRows()(row | {"id": given})
        assert made["id"] == text
    wrongs: list[object] = [True, ["a"], {}]
    for wrong in wrongs:
        ((made),) = ForeignRows()(row | {"id": wrong})
        with pytest.raises(RowError, match="'id' is .*, not a string"):
            schema.check_solution(made)


@pytest.mark.parametrize("problem", ["problem", "question", "query", "prompt"])
@pytest.mark.parametrize("name", ["completions", "responses", "outputs", "generations"])
def test_solutions_have_many_names(problem: str, name: str) -> None:
    foreign = ForeignRows()
    rows = list(foreign({problem: "1 + 1?", name: ["So\n2", "3"], "gold": "2", "x": 1}))
    assert [row["solution"] for row in rows] == ["So\n2", "3"]
    assert all((row["answer"], row["problem"], row["x"]) == ("2", "1 + 1?", 1) for row in rows)
    (row,) = foreign({problem: "1 + 1?", name.removesuffix("s"): "So\n2"})
    assert (row["solution"], row["sample"]) == ("So\n2", 2)
