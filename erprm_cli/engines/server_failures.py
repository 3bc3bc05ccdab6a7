"""Whose fault a failed request to a server is: its own, or that of the server or the settings."""

from collections.abc import Hashable, Iterable, Iterator
from typing import TypeVar

from erprm_cli.engines.base import Failure
from erprm_cli.errors import EngineError

PROMPT_STATUS = (400, 413, 422)  # refusals that may be about what one request asks
MAX_FAILED = 16  # requests that fail in a row, before the server is given up and not the requests

Result = TypeVar("Result")


class Doubtful(Failure):
    """A failure that may be due to the request, or to the server or the settings."""


def blamed(results: Iterable[Result | Failure]) -> Iterator[Result | Failure]:
    """Yield `results`, but raise the error of a failure that is the server's fault and not the request's.

    That is so if more than MAX_FAILED requests fail with no result between them. Refusals wait until there is
    a result: if there never is one, the settings are refused and not the requests.
    """
    refused: list[Failure] = []
    failed: set[Hashable] = set()
    has_completed = False
    for result in results:
        if not isinstance(result, Failure):
            has_completed = True
            failed.clear()
            yield from refused
            refused.clear()
        elif isinstance(result, Doubtful):
            failed.add(result.key)
            if len(failed) > MAX_FAILED:
                raise (refused[0] if refused else result).error
            if not has_completed and not isinstance(result.error, EngineError):
                refused.append(result)
                continue
        yield result
    if refused:
        raise refused[0].error
