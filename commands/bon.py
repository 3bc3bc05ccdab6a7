"""erprm bon"""

from erprm_cli.options import Source, Target


def bon(source: Source = "-", output: Target = "-") -> None:
    """Not built yet."""
    raise NotImplementedError
