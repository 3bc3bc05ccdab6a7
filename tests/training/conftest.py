"""Models and trainings that several tests read and none changes.

Nothing heavy is imported here: `datasets` must not be loaded before tests/conftest.py has chosen its cache.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.tiny_models import save_model, solution_rows

if TYPE_CHECKING:
    from erprm_cli.training.examples import Examples


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="session")
def rows_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "labels.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in solution_rows(48, labels=True)))
    return path


@pytest.fixture(scope="session")
def unbroken(base: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """Return the folder and the log of a run that nothing stopped."""
    from tests.training.runs import run

    output = tmp_path_factory.mktemp("unbroken") / "prm"
    return output, run(base, output)


@pytest.fixture(scope="session")
def examples(tmp_path_factory: pytest.TempPathFactory) -> "Examples":
    from erprm_cli.training.examples import Examples, ExampleWriter
    from tests.training.runs import LENGTHS, example

    path = tmp_path_factory.mktemp("examples") / "train.arrow"
    writer = ExampleWriter(path)
    for length in LENGTHS:
        writer.write(example(length))
    writer.close()
    return Examples(path)


@pytest.fixture(scope="session")
def fsdp2_on_cpu(tmp_path_factory: pytest.TempPathFactory) -> str:
    from tests.training.runs import FSDP2_ON_CPU

    path = tmp_path_factory.mktemp("accelerate") / "fsdp2.yaml"
    path.write_text(FSDP2_ON_CPU)
    return str(path)
