import pytest

from erprm_cli.answers.formulas import MAX_NESTING, read_formula


@pytest.mark.parametrize(
    "forms",
    [
        [r"\frac{\pi}{2}", "pi/2", r"\pi/2", r"\frac{pi}{2}"],
        [r"3\sqrt{2}", "3 sqrt(2)", r"3\sqrt(2)"],
        ["x^{2}", "x^2", "x**2"],
        [r"a \cdot b", "a*b", "ab", r"a\times b"],
        [r"1\frac{1}{2}", r"1 \frac{1}{2}"],
        [r"x \le 1", "x <= 1"],
        [r"\{1, 2\}", "{1,2}"],
        ["(1, 2]", "(1;2]"],
        [r"\sin x", "sin(x)", r"\sin{x}", r"\operatorname{sin} x"],
    ],
)
def test_spellings_of_a_formula_give_one_tree(forms: list[str]) -> None:
    trees = {read_formula(form) for form in forms}
    assert len(trees) == 1 and None not in trees


@pytest.mark.parametrize(
    "text",
    [
        "",
        r"\foo",
        r"4\foo{2}",
        r"\forall x",
        r"1, 2, \ldots, n",
        r"\ge 5",
        "x >",
        "2 3",
        "x2",
        "1 +",
        "(1, 2",
        "1, 2)",
        "(1]",
        "east",
        "5 apples",
        "5?",
        "7:30",
        r"n \equiv 3",
        r"\sum_{i=1}^{n} i",
        r"\begin{pmatrix} 1 & 2 \\ 3 \end{pmatrix}",
        "(" * (MAX_NESTING + 1) + "1" + ")" * (MAX_NESTING + 1),
    ],
)
def test_what_is_not_understood_as_a_whole_is_not_read(text: str) -> None:
    assert read_formula(text) is None
