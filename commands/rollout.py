"""erprm rollout"""

from erprm_cli.options import Source, Target


def rollout(source: Source = "-", output: Target = "-") -> None:
    """Not built yet."""
    raise NotImplementedError
