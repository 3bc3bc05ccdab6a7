"""erprm train"""

from erprm_cli.options import Source, Target


def train(source: Source = "-", output: Target = "-") -> None:
    """Not built yet."""
    raise NotImplementedError
