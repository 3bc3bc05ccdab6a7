"""erprm label"""

from erprm_cli.options import Source, Target


def label(source: Source = "-", output: Target = "-") -> None:
    """Not built yet."""
    raise NotImplementedError
