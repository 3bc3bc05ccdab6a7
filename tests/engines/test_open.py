"""Which engine is chosen, before anything is loaded."""

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import choose_engine
from erprm_cli.errors import UsageError


@pytest.mark.parametrize(
    "config",
    [EngineConfig(engine="server"), EngineConfig(engine="transformers", base_url="http://localhost:1")],
)
def test_a_server_and_its_address_go_together(config: EngineConfig) -> None:
    with pytest.raises(UsageError, match="--engine server requires --base-url URL, and the reverse"):
        choose_engine(config)
