"""erprm rlhf"""

from erprm_cli.options import Source, Target


def rlhf(source: Source = "-", output: Target = "-") -> None:
    """Not built yet."""
    raise NotImplementedError
