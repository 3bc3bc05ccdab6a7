from hypothesis import given
from hypothesis import strategies as st

from erprm_cli.data_formats.tagged_text import split_tagged, tagged
from tests.data_formats.format_rows import GAPS, PART


@given(st.lists(PART, min_size=1), st.lists(GAPS[True], min_size=20, max_size=20))
def test_a_tagged_text_splits_into_what_it_was_made_of(steps: list[str], gaps: list[str]) -> None:
    solution = steps[0] + "".join(gap + step for gap, step in zip(gaps * 9, steps[1:], strict=False))
    if len(steps) < 180:
        assert split_tagged(tagged("p", solution, steps).removeprefix("p ")) == (solution, steps)
