import pytest

from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.rows.versions import Versions, one_version


def solution(sample: int, **fields: object) -> Row:
    row = {"id": "a", "problem": "p", "answer": "1", "sample": sample, "solution": "s", "steps": ["s"]}
    return row | fields


@pytest.mark.parametrize("one, other", [(-1, -2), (0, 2**61 - 1), (1, 2**61), (3, 2**63 - 1)])
def test_samples_are_compared_by_value(one: int, other: int) -> None:
    assert hash(one) == hash(other)
    seen = Versions()
    seen.add(solution(one))
    assert ("a", one) in seen and ("a", other) not in seen
    seen.add(solution(other))
    assert len(seen) == 2
    with pytest.raises(RowError, match=f"^duplicate id 'a', sample {other}; every row needs its own"):
        seen.add(solution(other))


@pytest.mark.parametrize("change", [{"problem": "q"}, {"answer": None}, {"answer": "1.0"}])
def test_an_id_has_one_problem_and_one_answer(change: Row) -> None:
    seen = Versions("in out.jsonl", "give it another id")
    seen.add(solution(0))
    message = "^id 'a': another problem or answer than in out.jsonl; give it another id$"
    for check in (seen.add, seen.check, seen.check_problem):
        with pytest.raises(RowError, match=message):
            check(solution(1, **change))
        check(solution(1, id=str(check), **change))


@pytest.mark.parametrize("change", [{"solution": "s "}, {"steps": ["s", "s"]}])
def test_a_sample_has_one_solution(change: Row) -> None:
    seen = Versions()
    seen.add(solution(0))
    assert seen.check(solution(0, reward=1.0)) and seen.check(solution(1, **change))
    with pytest.raises(
        RowError, match="^id 'a', sample 0: another solution than in an earlier row of INPUT; "
    ):
        seen.check(solution(0, **change))


def test_two_checks_can_share_what_was_seen() -> None:
    seen = Versions()
    one, other = (one_version(dict, seen) for _ in range(2))
    one(solution(0))
    with pytest.raises(RowError, match="another problem"):
        other(solution(1, problem="q"))
