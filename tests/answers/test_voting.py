from erprm_cli.answers.grader import Grader
from erprm_cli.answers.voting import group_equal


def test_votes_group_equal_answers(grader: Grader) -> None:
    answers = ["1/2", None, r"\frac12", "3", "x+1", "0.5", "1+x", "3.0", None, "4"]
    assert group_equal(answers).members == [[0, 2, 5], [3, 7], [4], [6], [9]]
    assert group_equal(answers, grader).members == [[0, 2, 5], [3, 7], [4, 6], [9]]
    assert group_equal([], grader) == ([], True)
    assert group_equal([None, None], grader).members == []


def test_votes_evaluate_a_bounded_number_of_formulas_the_largest_classes_first(grader: Grader) -> None:
    """Ten different polynomials; the most frequent one is written in two ways."""
    many = [f"x^{{{power}}}+\\frac{{y}}{{{power}}}+7" for power in range(2, 12)]
    answers = [*many, "7+x^{2}+\\frac{y}{2}", *many[:1] * 2]
    with_value = group_equal(answers, grader)
    assert (with_value.members[0], len(with_value.members)) == ([0, 10, 11, 12], 10)
    assert not with_value.is_complete
    few = group_equal([many[1], *answers[-3:]], grader)
    assert few == ([[0], [1, 2, 3]], True)
    numbers = group_equal([str(number) for number in range(40)], grader)
    assert (len(numbers.members), numbers.is_complete) == (40, False)
    assert group_equal([str(number) for number in range(16)], grader).is_complete


def test_what_is_not_evaluated_is_equal_by_its_text(grader: Grader) -> None:
    words = [f"{{{number}}}x+{number}y+z" for number in range(2, 40)]
    found = group_equal([*words, *words], grader)
    assert found.members == [[index, index + 38] for index in range(38)]
