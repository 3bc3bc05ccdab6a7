from pathlib import Path

import pytest

from erprm_cli.errors import UsageError
from tests.training.runs import run


def test_an_unknown_optimizer_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no optimizer 'adam9000'; there are adamw_torch"):
        run(base, tmp_path / "prm", optim="adam9000")
