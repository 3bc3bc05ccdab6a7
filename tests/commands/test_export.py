"""erprm export: what it says; tests/prm/test_export.py compares the scores."""

from collections.abc import Callable
from pathlib import Path

from typer.testing import Result


def test_the_new_model_and_its_kind_are_named(erprm: Callable[..., Result], tmp_path: Path) -> None:
    output = tmp_path / "head"
    done = erprm("export", "tiny", "--prm-format", "er-prm", "-o", output)
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"erprm export: {output}: tiny as a PRM of kind head\n" in done.stderr
    assert (output / "erprm.json").is_file()
