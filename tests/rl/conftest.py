"""A policy and a PRM that several tests read and none changes: small random models."""

from pathlib import Path

import pytest

from tests.tiny_models import save_model


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("base")))


@pytest.fixture(scope="session")
def problems_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("problems") / "problems.jsonl"
    lines = [
        f'{{"id": "p{index}", "problem": "Tom has {index}?", "answer": "{index}"}}\n' for index in range(6)
    ]
    path.write_text("".join(lines))
    return path
