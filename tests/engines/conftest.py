from typing import Any

import pytest

from erprm_cli.errors import UserError


@pytest.fixture
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tokenizer of every model unavailable without importing transformers in each test."""
    from erprm_cli.models import loading

    def load(name: str, **_: Any) -> Any:
        raise UserError(f"cannot load the model {name!r}")

    monkeypatch.setattr(loading, "load_tokenizer", load)
