from erprm_cli.data_formats.registry import BY_NAME, FORMATS, WRITTEN, table
from tests.data_formats.format_rows import ROWS


def test_every_format_has_a_row_here() -> None:
    assert ROWS.keys() == BY_NAME.keys()


def test_names_are_unique_and_each_format_lists_what_it_cannot_store() -> None:
    assert len(BY_NAME) == len(FORMATS)
    lines = table().splitlines()
    assert len(lines) == 2 + len(FORMATS) and all(line.count("|") == 6 for line in lines)
    assert "labels between 0 and 1" in BY_NAME["trl"].lacks() and "labels" not in BY_NAME["er-prm"].lacks()
    assert WRITTEN == ("er-prm", "math-shepherd", "trl", "rlhflow")
