"""The tokens at which a model ends: those of its generation_config.json."""

from typing import Any


def end_tokens(model: Any) -> list[int]:
    """Return the end tokens of a model's generation config."""
    return as_list(model.generation_config.eos_token_id)


def add_end_token(model: Any, token: int) -> None:
    """Make a token one of the end tokens, also in the generation_config.json that is saved."""
    known = end_tokens(model)
    if token not in known:
        model.generation_config.eos_token_id = [*known, token]


def as_list(value: int | list[int] | None) -> list[int]:
    """Return token ids that may be one, several or none as a list."""
    return [] if value is None else [value] if isinstance(value, int) else list(value)
