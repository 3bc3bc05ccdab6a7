from erprm_cli.answers.grader import Grader
from erprm_cli.answers.voting import group_equal


def test_votes_group_equal_answers(grader: Grader) -> None:
    answers = ["1/2", None, r"\frac12", "3", "x+1", "0.5", "1+x", "3.0", None, "4"]
    assert group_equal(answers) == [[0, 2, 5], [3, 7], [4], [6], [9]]
    assert group_equal(answers, grader) == [[0, 2, 5], [3, 7], [4, 6], [9]]
    assert group_equal([], grader) == []
    assert group_equal([None, None], grader) == []
