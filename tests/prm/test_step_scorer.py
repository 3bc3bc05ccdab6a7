from collections.abc import Iterator

import pytest

from erprm_cli.errors import EngineError
from erprm_cli.prm.step_scorer import in_order


def test_rows_that_wait_for_an_earlier_one_come_before_an_error() -> None:
    def finished() -> Iterator[tuple[int, dict[str, int]]]:
        yield from ((number, {"number": number}) for number in (0, 4, 2))
        raise EngineError("the server is gone")

    rows = in_order(finished())
    assert [next(rows)["number"] for _ in range(3)] == [0, 2, 4]
    with pytest.raises(EngineError, match="the server is gone"):
        next(rows)
