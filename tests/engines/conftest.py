from typing import Any

import pytest

from erprm_cli.engines import server_client
from erprm_cli.errors import UserError


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no key and no Hub, and wait next to no time between two tries."""
    monkeypatch.setattr(server_client, "BACKOFF_S", 0.01)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in server_client.KEY_NAMES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def no_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the tokenizer of every model unavailable without importing transformers in each test."""
    from erprm_cli.models import loading

    def load(name: str, **_: Any) -> Any:
        raise UserError(f"cannot load the model {name!r}")

    monkeypatch.setattr(loading, "load_tokenizer", load)
