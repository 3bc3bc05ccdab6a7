from pathlib import Path

import numpy as np

from erprm_cli.training.examples import Examples, ExampleWriter
from tests.training.runs import LENGTHS, example


def test_what_was_written_is_read_again(examples: Examples) -> None:
    assert examples.lengths.tolist() == [*LENGTHS]
    for got, length in zip(examples.take([4, 0]), (30, 5), strict=True):
        made = example(length)
        for name in ("ids", "positions", "targets", "weights"):
            assert np.array_equal(getattr(got, name), getattr(made, name))
        assert got.is_right == made.is_right


def test_nothing_written_leaves_no_file(tmp_path: Path) -> None:
    ExampleWriter(tmp_path / "train.arrow").close()
    assert not list(tmp_path.iterdir())
