"""What every engine has in common."""

from collections.abc import Iterable, Iterator

import pytest

from erprm_cli.engines.base import Completion, Failure, Request, SamplingParams, generate
from erprm_cli.errors import EngineError
from tests.scripted import ScriptedEngine


class Lost(ScriptedEngine):
    """Loses its connection after the first completion."""

    def generate(self, requests: Iterable[Request], params: SamplingParams) -> Iterator[Completion | Failure]:
        yield from super().generate(requests, params)
        raise ConnectionResetError("reset by peer")


def test_a_lost_connection_is_an_error_of_the_engine_and_no_closed_pipe() -> None:
    found = generate(Lost(lambda *_: "5"), [Request("a", "p", (0,), 0)], SamplingParams(1.0, 1.0, 9))
    assert next(found).index == 0  # type: ignore[union-attr]
    with pytest.raises(EngineError, match=r"lost the connection .*\(ConnectionResetError reset by peer\)"):
        next(found)
