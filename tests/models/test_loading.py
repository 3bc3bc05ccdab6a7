"""Loading by name: what is asked of the Hub."""

import time
from typing import Any

import httpx2
import pytest
from huggingface_hub import constants

from erprm_cli.errors import UserError
from erprm_cli.models import loading


@pytest.mark.parametrize("answer", [httpx2.ConnectError("no network"), httpx2.ConnectTimeout("slow"), 404])
def test_an_optional_tokenizer_asks_the_hub_once(
    answer: int | Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    def head(url: str, timeout: float) -> httpx2.Response:
        asked.append(url)
        assert timeout <= 5
        if isinstance(answer, Exception):
            raise answer
        return httpx2.Response(answer)

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(httpx2, "head", head)
    begin = time.monotonic()
    with pytest.raises(UserError, match="cannot load the model"):
        loading.load_tokenizer("nobody/has this", is_optional=True)
    assert time.monotonic() - begin < 10
    assert asked == [f"{constants.ENDPOINT}/api/models/nobody/has%20this"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name, is_offline", [("nobody/nothing", True), ("tiny", False)])
def test_the_hub_is_not_asked_for_a_folder_or_offline(
    name: str, is_offline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def head(*_: Any, **__: Any) -> httpx2.Response:
        raise AssertionError("asked")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", is_offline)
    monkeypatch.setattr(httpx2, "head", head)
    if is_offline:
        with pytest.raises(UserError, match="cannot load the model"):
            loading.load_tokenizer(name, is_optional=True)
    else:
        assert loading.load_tokenizer(name, is_optional=True).eos_token
