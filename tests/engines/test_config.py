"""Settings of engines: what is said about flags that the chosen engine does not read."""

from typing import Any

import pytest

from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.options import EngineName
from erprm_cli.terminal.reporter import Reporter


@pytest.mark.parametrize(
    ("engine", "given", "flags"),
    [
        ("transformers", {"max_model_len": 9, "engine_args": ["a=1"]}, "--max-model-len, --engine-arg"),
        ("transformers", {"batch_size": 2, "revision": "v2"}, ""),
        ("vllm", {"max_model_len": 9}, ""),
        ("vllm", {"concurrency": 9}, "--concurrency"),
        ("server", {"concurrency": 9, "enforce_eager": True}, "--enforce-eager"),
    ],
)
def test_flags_that_the_engine_does_not_read_are_reported(
    engine: EngineName, given: dict[str, Any], flags: str, capsys: pytest.CaptureFixture[str]
) -> None:
    EngineConfig("tiny", **given).report_unread(engine, Reporter("sample"))
    said = f"erprm sample: warning: {flags}: not used by the engine {engine}\n" if flags else ""
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"engine_args": ["hf_token=abc"]}, "--engine-arg hf_token: pass secrets in the environment only"),
        ({"base_url": "http://me:abc@host/v1"}, "--base-url contains a password or a query"),
        ({"base_url": "http://host/v1?key=abc"}, "--base-url contains a password or a query"),
    ],
)
def test_secrets_are_refused_and_not_repeated(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told) as caught:
        EngineConfig(**given)
    assert "abc" not in str(caught.value)
