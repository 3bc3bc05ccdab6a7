from erprm_cli.terminal.column_table import ColumnTable
from erprm_cli.terminal.text import rendered

NAMES = [["", "pass@1", "best of n"], ["prm", "", "a-model-with-a-long-name"]]
NUMBERS = [[f"n={n}", "50.0 ±10.0" if n == 1 else "", f"{n}0.0 ±1.0"] for n in (1, 4, 8, 16)]


def drawn(width: int) -> list[str]:
    return rendered(ColumnTable(NAMES, NUMBERS), width, colour=False).splitlines()


def test_a_table_that_fits_is_one() -> None:
    assert [line.split() for line in drawn(100)] == [
        ["prm", "n=1", "n=4", "n=8", "n=16"],
        ["pass@1", "50.0", "±10.0"],
        ["best", "of", "n", "a-model-with-a-long-name", "10.0", "±1.0", "40.0", "±1.0", "80.0", "±1.0"]
        + ["160.0", "±1.0"],
    ]


def test_columns_that_do_not_fit_follow_below_with_the_names() -> None:
    lines = drawn(60)
    assert max(map(len, lines)) <= 60
    assert lines[0].split() == ["prm", "n=1", "n=4"] and "" in lines
    below = lines[lines.index("") + 1 :]
    assert below[0].split() == ["prm", "n=8", "n=16"]
    assert len(below) == 2 and below[1].split()[-4:] == ["80.0", "±1.0", "160.0", "±1.0"]


def test_no_number_is_broken_however_narrow_the_terminal_is() -> None:
    for width in range(24, 100):
        text = "\n".join(drawn(width))
        assert all(f"{n}0.0 ±1.0" in text for n in (1, 4, 8, 16)), width
        assert all(len(line) <= width for line in text.splitlines())
