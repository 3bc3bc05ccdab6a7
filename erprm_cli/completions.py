"""What a shell completes, beside flags and choices."""

from collections.abc import Callable

from erprm_cli import shipped


def template_names(kind: str) -> Callable[[str], list[str]]:
    """Return the completion of a template's name; `kind` as in `shipped.names`."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in shipped.names(kind) if name.startswith(incomplete)]

    return complete


def shipped_problems(incomplete: str) -> list[str]:
    """Return the completions of an INPUT that is not a file."""
    return [name for name in ("tiny:train", "tiny:test") if name.startswith(incomplete or "-")]


def shipped_model(incomplete: str) -> list[str]:
    """Return the completions of a MODEL that is not a folder."""
    return [shipped.TINY] if incomplete and shipped.TINY.startswith(incomplete) else []
