import pytest

from erprm_cli.errors import RowError
from erprm_cli.rows.row import Row
from erprm_cli.rows.streams import peek, unique


def test_a_duplicate_is_named() -> None:
    def as_it_is(row: Row) -> Row:
        return row

    check = unique(as_it_is, "id", "sample")
    for sample in (0, 1, -1, -2, 2**61 - 1):  # some have equal hashes
        assert check({"id": "a", "sample": sample})["sample"] == sample
    with pytest.raises(RowError, match="^duplicate id 'a', sample 1; every row needs its own id and sample$"):
        check({"id": "a", "sample": 1})


def test_peek_loses_nothing() -> None:
    assert peek(iter(())) is None
    assert list(peek(iter((1, 2, 3))) or ()) == [1, 2, 3]


@pytest.mark.parametrize("one, other", [(-1, -2), (0, 2**61 - 1)])
def test_values_of_equal_hash_are_not_duplicates(one: int, other: int) -> None:
    assert hash(one) == hash(other)
    check = unique(dict, "sample")
    assert [check({"sample": value})["sample"] for value in (one, other)] == [one, other]
