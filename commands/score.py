"""erprm score"""

from erprm_cli.options import Source, Target


def score(source: Source = "-", output: Target = "-") -> None:
    """Not built yet."""
    raise NotImplementedError
