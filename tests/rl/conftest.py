"""What the tests of GRPO read and none changes: the shipped policy, also as the PRM, on six of its problems.

A random model never answers, so its completions would teach nothing.
"""

from itertools import islice
from pathlib import Path

import pytest

from erprm_cli.data_formats.problems import as_problem
from erprm_cli.io.reading import read_rows
from erprm_cli.io.writing import write_rows


@pytest.fixture(scope="session")
def base() -> str:
    return "tiny"


@pytest.fixture(scope="session")
def problems_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    write_rows(path, islice(read_rows("tiny:train", as_problem), 6))
    return path
