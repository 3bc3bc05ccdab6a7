"""One line for every error, however long what it quotes is."""

import pytest

from erprm_cli.errors import MAX_MESSAGE, RowError, UsageError, UserError, message


@pytest.mark.parametrize("kind", [UserError, UsageError, RowError])
@pytest.mark.parametrize(
    ("what", "where", "remedy"),
    [
        ("no such word: " + "a" * 100_000, "in.jsonl:3", "write another"),
        ("no such word", "b" * 100_000, "write another"),
        ("no such word", "in.jsonl:3", "write " + "c" * 100_000 + " another"),
    ],
)
def test_a_long_message_keeps_its_beginning_and_its_end(
    kind: type[UserError], what: str, where: str, remedy: str
) -> None:
    line = str(kind(what, where=where, remedy=remedy))
    assert len(line) == MAX_MESSAGE + len(" ... ")
    assert line.startswith(f"{where}: {what}"[:1_000])
    assert line.endswith(remedy[-10:])


def test_a_message_at_the_limit_is_whole() -> None:
    assert message("a" * MAX_MESSAGE) == "a" * MAX_MESSAGE
