"""erprm sample"""

from erprm_cli.options import Source, Target


def sample(source: Source = "-", output: Target = "-") -> None:
    """Not built yet."""
    raise NotImplementedError
