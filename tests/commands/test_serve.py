"""`erprm serve` as a process: its scores, its end, its messages. The service itself: tests/serving."""

import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from typer.testing import Result

from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.prm import scoring
from tests.tiny_models import save_model, solution_rows

Run = Callable[..., Result]

KEY = "secret-of-clients"
CLIENT = httpx2.Client(
    timeout=60,
    limits=httpx2.Limits(max_keepalive_connections=0),
    headers={"authorization": f"Bearer {KEY}"},
)


@pytest.fixture(scope="module")
def prm(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_model(tmp_path_factory.mktemp("prm") / "Llama3.1-Math-PRM"))


@contextmanager
def serving(prm: str, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """Start `erprm serve`; the block gets the process, which listens, its URL, and what it said before."""
    lines: list[str] = []
    command = [sys.executable, "-m", "erprm_cli", "serve", "--prm", prm, "--port", "0", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"listening on (\S+); \1/docs shows the API", line):
                    yield process, found[1], "".join(lines)
                    return
                lines.append(line)
            raise AssertionError("".join(lines))
        finally:
            process.kill()


def ask(url: str, row: dict[str, Any]) -> list[float] | int | None:
    """Return the scores of a solution, the status of a refusal, or None without any answer."""
    try:
        answer = CLIENT.post(f"{url}/v1/score", json={"rows": [row]})
    except httpx2.TransportError:
        return None
    if not answer.is_success:
        return answer.status_code
    scores: list[float] = answer.json()["scores"][0]
    return scores


def expected_scores(erprm: Run, prm: str, rows: list[dict[str, Any]]) -> list[list[float]]:
    done = erprm("score", "--prm", prm, stdin=b"".join(orjson.dumps(row) + b"\n" for row in rows))
    return [orjson.loads(line)["scores"] for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_a_stopped_server_answers_what_it_accepted_with_the_scores_of_erprm_score(
    erprm: Run, prm: str
) -> None:
    rows = solution_rows(300)
    expected = expected_scores(erprm, prm, rows)
    with serving(prm, "--host", "0.0.0.0") as (process, url, said), ThreadPoolExecutor(32) as clients:
        answers = [clients.submit(ask, url, row) for row in rows]
        while sum(one.done() for one in answers) < 60:
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        found = [one.result() for one in answers]
        out, err = process.communicate()
    assert (process.returncode, out) == (0, "")
    assert "everybody who reaches http://0.0.0.0:" in said and "; ERPRM_API_KEY sets a key" in said
    assert err.endswith("stopping; what was accepted is answered first\n")
    answered = [(ours, theirs) for ours, theirs in zip(found, expected, strict=True) if ours is not None]
    assert 60 <= len(answered) < 300  # later ones found no server; all others have their scores
    for ours, theirs in answered:
        assert ours == pytest.approx(theirs, abs=1e-5)


@pytest.mark.thorough
def test_clients_that_ask_again_lose_nothing_when_a_server_is_killed(
    erprm: Run, prm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERPRM_API_KEY", KEY)
    rows = solution_rows(200)
    urls: list[str] = []

    def ask_again(row: dict[str, Any]) -> list[float] | int:
        while not isinstance(found := ask(urls[-1], row), list | int):
            time.sleep(0.1)
        return found

    with ThreadPoolExecutor(32) as clients:
        with serving(prm) as (process, url, _):
            urls.append(url)
            answers = [clients.submit(ask_again, row) for row in rows]
            while sum(one.done() for one in answers) < 50:
                time.sleep(0.01)
            process.kill()
            process.wait()
        with serving(prm, "--port", url.rpartition(":")[2]) as (process, _, said):
            found = [one.result() for one in answers]
            assert httpx2.get(f"{url}/v1/prm").status_code == 401
            process.send_signal(signal.SIGINT)
            assert KEY not in said + process.communicate()[1]
    assert process.returncode == 0
    for ours, theirs in zip(found, expected_scores(erprm, prm, rows), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)


def test_an_address_that_is_taken_is_an_error_before_the_model_is_loaded(erprm: Run, prm: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = erprm("serve", "--prm", prm, "--port", port)
    assert isinstance(done.exception, UserError)
    assert str(done.exception) == (
        f"127.0.0.1:{port}: cannot listen: Address already in use; choose another --host or --port"
    )


def test_a_host_that_does_not_exist_is_an_error(erprm: Run, prm: str) -> None:
    done = erprm("serve", "--prm", prm, "--host", "no.such.host.invalid")
    assert "no.such.host.invalid:8000: cannot listen: " in str(done.exception)


def test_a_key_that_no_header_can_hold_is_wrong_usage(
    erprm: Run, prm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ERPRM_API_KEY", "ключ")
    done = erprm("serve", "--prm", prm)
    assert isinstance(done.exception, UsageError)
    assert str(done.exception) == "the key in ERPRM_API_KEY contains an invalid character"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--prm", "absent"], "absent"),
        (["--prm-format", "absent"], "absent"),
        (["--template", "absent"], "absent"),
    ],
)
def test_what_is_nowhere_is_named_before_anything_is_loaded(
    erprm: Run, prm: str, flags: list[str], said: str, tmp_path: Path
) -> None:
    done = erprm("serve", "--prm", prm, *flags)
    assert isinstance(done.exception, UserError) and said in str(done.exception)


def test_a_failure_of_the_engine_does_not_name_a_flag_that_serve_lacks(
    erprm: Run, prm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise EngineError("no GPU")

    monkeypatch.setattr(scoring, "open_scorer", fail)
    done = erprm("serve", "--prm", prm, "--port", "0")
    assert isinstance(done.exception, EngineError)
    assert getattr(done.exception, "__notes__", []) == []
