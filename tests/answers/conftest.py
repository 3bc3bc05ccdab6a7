from collections.abc import Iterator

import pytest

from erprm_cli.answers.grader import Grader


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as grader:
        yield grader
