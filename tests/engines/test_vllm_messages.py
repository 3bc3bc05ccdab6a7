"""What is said when vLLM does not start: vLLM itself is not needed."""

import pytest

from erprm_cli.engines.vllm_stream import explained_start
from erprm_cli.errors import EngineError, UserError


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no such\n  architecture"), UserError, "vLLM cannot run 'm': no such architecture"),
        (OSError("no weights"), UserError, "vLLM cannot run 'm': no weights"),
        (RuntimeError("exit 1"), EngineError, "vLLM did not start with 'm' (exit 1); its log above says why"),
    ],
)
def test_a_start_that_fails_is_one_line(error: Exception, kind: type[UserError], message: str) -> None:
    with pytest.raises(kind) as caught, explained_start("m"):
        raise error
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
