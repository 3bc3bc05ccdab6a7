"""erprm's own client against erprm's own server: `erprm score --base-url`."""

from collections.abc import Callable

import orjson
import pytest
from typer.testing import Result

from tests.serving.servers import SlowScorer, serving
from tests.tiny_models import solution_rows

ROWS = solution_rows(30)
LINES = b"".join(orjson.dumps(row) + b"\n" for row in ROWS)


def test_scores_through_a_server_are_those_without_one(
    erprm: Callable[..., Result], scorer: SlowScorer, prm: str
) -> None:
    with serving(scorer) as url:
        done = erprm("score", "--prm", prm, "--base-url", url, stdin=LINES)
    assert done.exception is None, done.stderr
    found = [orjson.loads(line) for line in done.stdout.splitlines()]
    for row, ours, theirs in zip(ROWS, found, scorer.score(ROWS), strict=True):
        assert ours == row | {"scores": pytest.approx(theirs["scores"], abs=1e-5), "prm": prm}


def test_a_full_queue_is_waited_for_and_a_long_solution_is_a_bad_row(
    erprm: Callable[..., Result], scorer: SlowScorer, prm: str, tmp_path: object
) -> None:
    long = ROWS[0] | {"id": "long", "steps": ["Tom has 9 more."] * 30, "solution": "Tom has 9 more." * 30}
    with serving(scorer, max_queue=4) as url:
        errors = f"{tmp_path}/bad.jsonl"
        words = ["score", "--prm", prm, "--base-url", url, "--concurrency", "8", "--errors", errors]
        done = erprm(*words, stdin=LINES + orjson.dumps(long) + b"\n")
    assert "1 bad row was written" in str(done.exception) and "the queue is full" in done.stderr
    assert len(done.stdout.splitlines()) == len(ROWS)
    with open(errors, "rb") as bad:
        assert "the model reads at most 64" in orjson.loads(bad.read())["reason"]
