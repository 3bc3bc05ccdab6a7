"""The server engine against scripted servers on loopback; test_vllm_server.py uses a real one."""

import math
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from erprm_cli import app
from erprm_cli.answers.grader import Grader
from erprm_cli.engines import server_client, server_engine
from erprm_cli.engines.base import Chat, Completion, Failure, Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.policy.prompts import make_prompt
from erprm_cli.policy.rollouts import Roller
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.stopping import StoppingRule
from erprm_cli.policy.templates import load_template
from tests.engines.server_runs import PARAMS, complete, config, only_completions
from tests.scripted_server import Fields, Reply, ScriptedServer, completed, limit, refusal, serving
from tests.torture import rows

pytestmark = pytest.mark.usefixtures("quick", "no_tokenizer")

KEY = "sk-canary-0451"
PROBLEM = {"id": "a", "problem": "p", "answer": "5"}


def failing(times: int, failure: Reply) -> Any:
    """Return the script of a server that answers the first `times` requests for work with `failure`."""
    left = count(times, -1)
    lock = threading.Lock()

    def say(_: str, fields: Fields) -> Reply:
        if fields["max_tokens"] == 1:
            return completed(fields)
        with lock:
            return failure if next(left) > 0 else completed(fields)

    return say


def test_n_completions_are_one_request_and_say_what_they_are() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        completions = complete(server, n=3)
    assert completions == [Completion(0, index, "The answer is: 5", 4, "stop") for index in range(3)]
    (asked,) = server.work
    assert (asked["model"], asked["prompt"], asked["n"], asked["max_tokens"]) == ("m", "prompt 0", 3, 50)
    assert (asked["temperature"], asked["top_p"], asked["top_k"], asked["repetition_penalty"]) == (
        1,
        1,
        -1,
        1,
    )


def test_a_completion_has_the_same_seed_in_whatever_request_it_comes() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        with closing(open_engine(config(server))) as engine:
            for indices in ((0, 1, 2, 3), (1, 2), (3,)):
                list(engine.generate([Request("a", "prompt", indices, 7)], PARAMS))
            list(engine.generate([Request("a", "prompt", (0, 3), 7)], PARAMS))
    whole, middle, last, *two = [asked["seed"] for asked in server.work]
    first_alone, last_alone = sorted(two)  # in flight together, so either may arrive first
    assert middle == whole + 1
    assert last == last_alone == whole + 3
    assert first_alone == whole < 1 << 31


@pytest.mark.parametrize(
    "failure",
    [
        Reply({"error": {"message": "slow down"}}, 429, {"Retry-After": "0"}),
        Reply(b"Bad Gateway", 502),
        refusal("overloaded", 500),
        Reply(b'{"choices": [{"text": "cut', 200),
        Reply({"error": "said with status 200"}, 200),
        Reply({"choices": []}, 200),
        Reply(None),
    ],
    ids=["429", "502", "500", "broken", "error", "empty", "closed"],
)
def test_a_failure_that_may_pass_is_retried(failure: Reply) -> None:
    with serving(failing(2, failure)) as server:
        assert len(complete(server)) == 1
    assert len(server.work) == 3
    assert server.work[0] == server.work[2]


def test_retry_after_is_honoured() -> None:
    with serving(failing(1, refusal("later", 429))) as server:
        server.say = failing(1, Reply({}, 429, {"Retry-After": "1"}))
        begin = time.monotonic()
        complete(server)
        assert 1.0 <= time.monotonic() - begin < 10.0


def test_a_silent_server_is_asked_again_after_a_timeout() -> None:
    released = threading.Event()
    calls = count()

    def say(_: str, fields: Fields) -> Reply:
        if next(calls) == 0:
            released.wait(10)
        return completed(fields)

    with serving(say) as server:
        engine = server_engine.ServerEngine(server.url, 4, read_timeout_s=0.3)
        with closing(engine):
            (completion,) = only_completions(engine.generate([Request("a", "prompt", (0,), 0)], PARAMS))
        released.set()
    assert completion.text == "The answer is: 5"
    assert len(server.work) == 2


def test_a_server_that_keeps_failing_is_an_engine_error() -> None:
    with serving(failing(10**6, refusal("out of order", 500))) as server:
        with pytest.raises(EngineError, match="failed 6 times in a row; last error: .*out of order"):
            complete(server, requests=20)


@pytest.mark.slow
def test_one_failing_request_is_tried_as_long_as_others_are_answered() -> None:
    """Seven failures in a row would be too many if no other request had been answered meanwhile."""
    failures = count()

    def say(_: str, fields: Fields) -> Reply:
        if fields.get("prompt") == "prompt 0" and next(failures) < 7:
            return refusal("bad luck", 500)
        time.sleep(0.05)
        return completed(fields)

    with serving(say) as server:
        assert len(complete(server, requests=60, concurrency=2)) == 60


def test_an_absent_server_is_an_engine_error() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        pass
    with pytest.raises(EngineError, match="ConnectError"):
        complete(server)


def test_a_refusal_is_reported_at_once() -> None:
    with serving(failing(10**6, refusal("temperature must not be that"))) as server:
        with pytest.raises(UserError, match="refused the request: status 400: temperature must not be that"):
            complete(server)
    assert len(server.work) == 1


@pytest.mark.parametrize("form", ["openai", "fastapi"])
@pytest.mark.parametrize("field", ["seed", "n", "return_token_ids", "top_k"])
def test_a_field_that_is_refused_is_left_out(
    field: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def say(_: str, fields: Fields) -> Reply:
        if field not in fields:
            return completed(fields)
        if form == "openai":
            return refusal("Unrecognized request argument supplied", param=field)
        location = {"type": "extra_forbidden", "loc": ["body", field], "msg": "Extra", "input": 1}
        return Reply({"detail": [location]}, 422)

    with serving(say) as server:
        completions = complete(server, n=3, requests=2)
    assert sorted((one.key, one.index) for one in completions) == [
        (key, n) for key in (0, 1) for n in range(3)
    ]
    # Without token ids the length of each of n completions is unknown, so one is requested at a time.
    assert len(server.work) == (6 if field in ("n", "return_token_ids") else 2)
    assert all(one.num_tokens == 4 for one in completions)
    warned = "warning: the server refuses seed" in capsys.readouterr().err
    assert warned == (field == "seed")


def test_fewer_choices_than_asked_are_made_up_for() -> None:
    def say(_: str, fields: Fields) -> Reply:
        return completed(fields | {"n": 1})

    with serving(say) as server:
        completions = complete(server, n=4)
    assert sorted(one.index for one in completions) == [0, 1, 2, 3]
    assert len(server.work) == 4


def test_fewer_choices_in_the_middle_of_a_run_are_made_up_for() -> None:
    def say(_: str, fields: Fields) -> Reply:
        return completed(fields | {"n": min(fields.get("n", 1), 2)})

    with serving(say) as server:
        completions = complete(server, n=5)
    assert sorted(one.index for one in completions) == [0, 1, 2, 3, 4]
    base = server.work[0]["seed"]
    assert [(asked["seed"] - base, asked.get("n", 1)) for asked in server.work] == [
        (0, 5),
        (2, 1),
        (3, 1),
        (4, 1),
    ]


def test_greedy_completions_are_asked_for_one_at_a_time() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        with closing(open_engine(config(server))) as engine:
            list(engine.generate([Request("a", "prompt", (0, 1), 0)], SamplingParams(0.0, 1.0, 50)))
    assert [asked.get("n", 1) for asked in server.work] == [1, 1]


def test_a_prompt_that_fills_the_context_is_a_failure() -> None:
    """The first prompt leaves room for 20 tokens, the second for none."""

    def say(_: str, fields: Fields) -> Reply:
        room = {"prompt 0": 20, "prompt 1": 0}.get(fields["prompt"], 99)
        if fields["max_tokens"] > room:
            return refusal("This model's maximum context length is 99 tokens, n of yours is too many")
        return completed(fields)

    with serving(say) as server, closing(open_engine(config(server))) as engine:
        wanted = [Request(key, f"prompt {key}", (0, 1), key) for key in range(3)]
        results = list(engine.generate(wanted, PARAMS))
    failures = [one for one in results if isinstance(one, Failure)]
    completions = [one for one in results if isinstance(one, Completion)]
    assert {(one.key, one.index): one.finish_reason for one in completions} == {
        (key, index): "stop" for key in (0, 2) for index in (0, 1)
    }
    assert [(one.key, one.indices) for one in failures] == [(1, (0, 1))]
    assert "too long for the model: status 400: This model's maximum context" in str(failures[0].error)
    assert all(asked["n"] == 2 for asked in server.work)


def test_at_most_concurrency_requests_are_in_flight_and_no_more_are_read() -> None:
    read: list[int] = []
    ahead: list[int] = []

    def requests() -> Iterator[Request]:
        for key in range(60):
            read.append(key)
            yield Request(key, f"prompt {key}", (0,), key)

    def say(_: str, fields: Fields) -> Reply:
        time.sleep(0.02)
        return completed(fields)

    with serving(say) as server, closing(open_engine(config(server, concurrency=8))) as engine:
        for done, _ in enumerate(engine.generate(requests(), PARAMS), start=1):
            ahead.append(len(read) - done)
    assert 4 <= server.most_at_once <= 8
    assert max(ahead) <= 8


def test_the_first_completion_leaves_before_the_last_request_enters() -> None:
    order: list[str] = []

    def requests() -> Iterator[Request]:
        for key in range(30):
            order.append("in")
            yield Request(key, f"prompt {key}", (0,), key)

    with serving(lambda _, fields: completed(fields)) as server:
        with closing(open_engine(config(server, concurrency=4))) as engine:
            for _ in engine.generate(requests(), PARAMS):
                order.append("out")
    assert order.index("out") <= 5
    assert order.count("out") == 30


def test_requests_in_flight_are_cancelled_when_the_reader_leaves() -> None:
    released = threading.Event()

    def say(_: str, fields: Fields) -> Reply:
        if fields.get("prompt") != "prompt 0" and fields["max_tokens"] > 1:
            released.wait(30)
        return completed(fields)

    with serving(say) as server:
        begin = time.monotonic()
        with closing(open_engine(config(server))) as engine:
            wanted = (Request(key, f"prompt {key}", (0,), key) for key in range(10))
            next(engine.generate(wanted, PARAMS))
        assert time.monotonic() - begin < 10
        released.set()


def test_closing_cancels_what_a_signal_left_behind() -> None:
    """A signal can arrive after a request was sent and before the engine has stored its future."""
    released = threading.Event()

    def say(_: str, fields: Fields) -> Reply:
        released.wait(30)
        return completed(fields)

    with serving(say) as server:
        engine = server_engine.ServerEngine(server.url, 4)
        future = engine._portal.start_task_soon(engine._complete, Request("a", "p", (0,), 0), (0,), PARAMS)
        while not server.asked:
            time.sleep(0.01)
        begin = time.monotonic()
        engine.close()
        assert time.monotonic() - begin < 5
        assert future.cancelled()
        released.set()


@pytest.mark.parametrize("name", server_client.KEY_NAMES)
def test_the_key_goes_to_the_server_and_nowhere_else(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(name, KEY)
    with serving(lambda _, fields: completed(fields)) as server:
        complete(server)
        assert server.headers[-1]["authorization"] == f"Bearer {KEY}"
        server.say = lambda _, fields: refusal(f"Incorrect API key provided: {KEY}", 401)
        with pytest.raises(UserError, match=r"Incorrect API key provided: \*\*\*.*ERPRM_API_KEY") as caught:
            complete(server)
    assert KEY not in str(caught.value)
    assert KEY not in "".join(capsys.readouterr())


def test_a_key_that_does_not_fit_a_header_is_rejected_without_showing_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\u2026\nx")
    with pytest.raises(UsageError, match="OPENAI_API_KEY") as caught:
        server_engine.ServerEngine("http://localhost:1/v1", 1)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url, reason",
    [("localhost:8000", "is not a URL"), (f"http://user:{KEY}@localhost", "contains a password")],
)
def test_a_wrong_url_is_wrong_usage(url: str, reason: str) -> None:
    with pytest.raises(UsageError, match=reason) as caught:
        server_engine.ServerEngine(url, 1)
    assert KEY not in str(caught.value)


def test_a_model_that_is_not_served_is_named_with_those_that_are() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        with pytest.raises(UserError, match="serves m, not other"):
            open_engine(EngineConfig(model="other", base_url=server.url))


# Tokenizers


def asked_with_tokenizer(monkeypatch: pytest.MonkeyPatch, say: Any) -> tuple[list[Fields], list[Completion]]:
    """Return the requests to a server of "m" whose local tokenizer is tiny's, and the completions."""
    from erprm_cli import shipped
    from erprm_cli.models import loading

    tokenizer = AutoTokenizer.from_pretrained(shipped.resolve("tiny"))
    monkeypatch.setattr(loading, "load_tokenizer", lambda *_, **__: tokenizer)
    monkeypatch.setattr("erprm_cli.engines.server_dialect.find_model", lambda *_: None)
    template = load_template("tiny")
    prompt = make_prompt(template, tokenizer, "Tom has 2 + 3 coins.")
    with serving(say) as server, closing(open_engine(config(server))) as engine:
        text = prompt if engine.tokenizer else make_prompt(template, None, "Tom has 2 + 3 coins.")
        completions = only_completions(engine.generate([Request("a", text, (0, 1), 0)], PARAMS))
        return server.work, completions


def counting(fields: Fields, extra: int = 0) -> Reply:
    """Answer as a server with tiny's tokenizer, with `extra` tokens more, and without token ids."""
    from erprm_cli.shipped import resolve

    prompt = fields["prompt"]
    tokenizer = AutoTokenizer.from_pretrained(resolve("tiny"))
    size = len(tokenizer(prompt).input_ids) if isinstance(prompt, str) else len(prompt)
    return completed(fields | {"return_token_ids": False}, prompt_tokens=size + extra)


def test_with_the_servers_tokenizer_prompts_are_token_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    (asked,), completions = asked_with_tokenizer(monkeypatch, lambda _, fields: counting(fields))
    assert all(isinstance(token, int) for token in asked["prompt"])
    assert asked["n"] == 2
    assert [one.num_tokens for one in completions] == [len("The answer is : 5 </s>".split())] * 2


def test_a_tokenizer_that_differs_from_the_servers_is_not_used(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked, _ = asked_with_tokenizer(monkeypatch, lambda _, fields: counting(fields, extra=1))
    assert {fields["prompt"] for fields in asked} == {"Question: Tom has 2 + 3 coins.\nAnswer:\n"}
    assert "so prompts are sent as text" in capsys.readouterr().err


def test_a_server_that_refuses_token_ids_gets_text(monkeypatch: pytest.MonkeyPatch) -> None:
    def say(_: str, fields: Fields) -> Reply:
        ids = isinstance(fields["prompt"], list)
        return refusal("prompt must be a string") if ids else counting(fields)

    asked, completions = asked_with_tokenizer(monkeypatch, say)
    assert len(asked) == len(completions) == 2


# The command


def test_a_run_whose_server_fails_is_continued_by_the_same_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(app, "catch_signals", lambda: None)  # signals are pytest's here
    target = tmp_path / "out.jsonl"
    left = count(5, -1)

    def say(_: str, fields: Fields) -> Reply:
        if fields["max_tokens"] > 1 and next(left) <= 0:
            return refusal(f"out of order, {KEY}", 500)
        return completed(fields)

    with serving(say) as server:
        words = ["sample", "tiny:test", "-L", "20", "-n", "1", "-m", "m", "-t", "tiny", "-o", str(target)]
        monkeypatch.setattr("sys.argv", ["erprm", *words, "--base-url", server.url, "--concurrency", "2"])
        with pytest.raises(SystemExit) as left_with:
            app.main()
        assert left_with.value.code == 4
        stdout, stderr = capsys.readouterr()
        assert stdout == ""
        assert f"to continue: erprm {' '.join(words)} --base-url {server.url}" in stderr.splitlines()[-1]
        kept = target.read_bytes()
        assert kept.count(b"\n") == 5
        server.say = lambda _, fields: completed(fields)
        app.make_app()(standalone_mode=False)
    assert target.read_bytes().startswith(kept)
    assert target.read_bytes().count(b"\n") == 20
    assert not any(KEY in path.read_text() for path in tmp_path.iterdir())
    assert KEY not in stderr


MORTAL = """
import os, signal, sys, time
from itertools import count
from erprm_cli.hashing import derive_seed
from tests.engines.server_runs import PARAMS, complete, config, only_completions
from tests.scripted_server import Reply, ScriptedServer

port, left = int(sys.argv[1]), count(int(sys.argv[2]), -1)

def say(_, fields):
    if fields["max_tokens"] > 1 and next(left) <= 0:
        os.kill(os.getpid(), signal.SIGKILL)
    choices = []
    for index in range(fields.get("n", 1)):
        answer = derive_seed(fields["prompt"], fields["seed"] + index) % 100
        choices.append({"index": index, "text": f"The answer is: {answer}", "finish_reason": "stop"})
    return Reply({"choices": [choice | {"token_ids": [1, 2, 3]} for choice in choices]})

server = ScriptedServer(say, port)
print(server.http.server_port, flush=True)
server.http.serve_forever()
"""


@contextmanager
def server_process(port: int = 0, answers: int = 10**6) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run a server in a process of its own that kills itself after `answers` answers."""
    command = [sys.executable, "-c", MORTAL, str(port), str(answers)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


@pytest.mark.parametrize("command", ["sample", "rollout"])
@pytest.mark.slow
def test_a_run_whose_server_is_killed_resumes_to_the_same_rows(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(app, "catch_signals", lambda: None)
    make, size = (rows.problem, "-n") if command == "sample" else (rows.solution, "-k")
    source = rows.write(tmp_path / "in.jsonl", [make(number) for number in range(20)])
    target = tmp_path / "out.jsonl"

    def run(port: int, path: Path) -> int | str | None:
        words = [command, str(source), size, "3", "-m", "m", "-t", "tiny", "-q", "-o", str(path)]
        words += ["--concurrency", "4"]
        monkeypatch.setattr(
            "sys.argv", ["erprm", *words, "--base-url", f"http://127.0.0.1:{port}", "--temperature", "0.9"]
        )
        try:
            app.main()
        except SystemExit as end:
            return end.code
        return 0

    with server_process(answers=12) as (process, port):
        assert run(port, target) == 4
        assert process.wait(10) == -signal.SIGKILL
    (line,) = capsys.readouterr().err.splitlines()
    assert "failed 6 times in a row" in line and f"; to continue: erprm {command} {source}" in line
    kept = target.read_bytes()
    assert kept.count(b"\n") >= 3
    with server_process(port):
        assert run(port, target) == run(port, tmp_path / "whole.jsonl") == 0
    assert target.read_bytes().startswith(kept)
    ours, whole = (sorted(path.read_bytes().splitlines()) for path in (target, tmp_path / "whole.jsonl"))
    assert len(ours) == (60 if command == "sample" else 20)
    assert ours == whole
    assert not list(tmp_path.glob("*.journal*"))


@pytest.mark.slow
def test_a_signal_cancels_the_requests_in_flight(tmp_path: Path) -> None:
    released = threading.Event()

    def say(_: str, fields: Fields) -> Reply:
        if fields["max_tokens"] > 1:
            released.wait(60)
        return completed(fields)

    with serving(say) as server:
        words = ["sample", "tiny:test", "-L", "20", "-m", "m", "-t", "tiny", "--base-url", server.url]
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "erprm_cli", *words]
        with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
            while not server.work:
                assert process.poll() is None
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=20)
        released.set()
    assert (process.returncode, stdout) == (130, "")
    assert "stopped" in stderr and "Traceback" not in stderr


# Chats


def chatting(continues: bool, refuses: bool = False, strips: bool = False) -> Any:
    """Return the script of a chat-only server that continues an assistant's turn, or ignores that wish."""

    def say(path: str, fields: Fields) -> Reply:
        if path != "/chat/completions":
            return Reply({"detail": "Not Found"}, 404)
        if refuses and "continue_final_message" in fields:
            return refusal("Unrecognized request argument supplied: continue_final_message")
        size = 5 * len(fields["messages"]) + 3 - 2 * (continues and "continue_final_message" in fields)
        size += not strips and fields["messages"][-1]["content"].endswith("\n")
        return completed(fields, prompt_tokens=size)

    return say


def rolled(server: ScriptedServer) -> list[Fields]:
    template = load_template("gsm8k-chat")
    settings = SamplingSettings("m", None, 1.0, 1.0, 50, 0, template.name)
    row = PROBLEM | {"sample": 0, "solution": "one\ntwo", "steps": ["one", "two"], "reward": 1.0}
    with closing(open_engine(config(server))) as engine, Grader() as grader:
        return list(Roller(engine, template, settings, 2, grader).roll([row]))


def test_a_chat_is_sampled_by_the_chat_endpoint() -> None:
    template = load_template("gsm8k-chat")
    settings = SamplingSettings("m", None, 1.0, 1.0, 50, 0, template.name)
    with serving(chatting(continues=False)) as server:
        with closing(open_engine(config(server))) as engine, Grader() as grader:
            rows = list(sample_solutions([PROBLEM], engine, template, settings, 2, grader))
    assert [(row["sample"], row["reward"], row["num_tokens"]) for row in rows] == [(0, 1.0, 4), (1, 1.0, 4)]
    (asked,) = server.work
    assert asked["messages"][-1] == {"role": "user", "content": template.fill("p")}


@pytest.mark.parametrize("strips", [False, True])
def test_a_server_that_continues_a_turn_rolls_out(strips: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(chatting(continues=True, strips=strips)) as server:
        (row,) = rolled(server)
    assert ("strips a prefix's last line break" in capsys.readouterr().err) == strips
    assert row["rollouts"] == [[1.0, 1.0], [1.0]]
    (asked,) = server.work
    assert asked["messages"][-1] == {"role": "assistant", "content": "one\n"}
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)


@pytest.mark.parametrize("refuses, reason", [(True, "Unrecognized"), (False, "opens a new turn")])
def test_a_server_that_cannot_continue_a_turn_is_refused(refuses: bool, reason: str) -> None:
    with serving(chatting(continues=False, refuses=refuses)) as server:
        with pytest.raises(UserError, match=f"cannot continue an assistant's turn.*{reason}"):
            rolled(server)
    assert server.work == []


def test_a_server_that_does_not_count_prompt_tokens_cannot_be_trusted_to_continue() -> None:
    def say(path: str, fields: Fields) -> Reply:
        reply: Reply = chatting(continues=True)(path, fields)
        if reply.status == 200:
            del reply.body["usage"]["prompt_tokens"]
        return reply

    with (
        serving(say) as server,
        pytest.raises(UserError, match="it does not count prompt tokens, so this can"),
    ):
        rolled(server)


def test_a_server_that_stops_counting_tokens_is_an_engine_error() -> None:
    def say(path: str, fields: Fields) -> Reply:
        reply: Reply = chatting(continues=True)(path, fields)
        if reply.status == 200 and limit(fields) > 1:
            del reply.body["usage"]
            for choice in reply.body["choices"]:
                choice.pop("token_ids", None)
        return reply

    with (
        serving(say) as server,
        pytest.raises(EngineError, match="no longer reports how many tokens its comp"),
    ):
        rolled(server)


def test_a_plain_prompt_for_a_server_that_only_chats_is_refused() -> None:
    with serving(chatting(continues=True)) as server:
        with pytest.raises(UserError, match="has a chat endpoint only; use a chat template"):
            complete(server)


def test_a_chat_goes_to_the_chat_endpoint_of_a_server_that_has_both() -> None:
    paths: list[str] = []

    def say(path: str, fields: Fields) -> Reply:
        paths.append(path)
        return completed(fields)

    with serving(say) as server, closing(open_engine(config(server))) as engine:
        list(engine.generate([Request("a", Chat((("user", "hi"),)), (0,), 0)], PARAMS))
    assert re.fullmatch("(/completions )+(/chat/completions ?)+", " ".join(paths))


def test_the_end_of_the_turn_and_special_tokens_are_asked_for_by_their_ids() -> None:
    with serving(lambda _, fields: completed(fields)) as server:
        with closing(open_engine(config(server))) as engine:
            list(engine.generate([Request("a", (1, 2), (0,), 0)], replace(PARAMS, stop_token_ids=(7,))))
    (asked,) = server.work
    assert (asked["stop_token_ids"], asked["skip_special_tokens"]) == ([7], False)


def test_a_server_without_stop_tokens_is_warned_about(capsys: pytest.CaptureFixture[str]) -> None:
    def say(_: str, fields: Fields) -> Reply:
        refused = [name for name in ("stop_token_ids", "skip_special_tokens") if name in fields]
        return refusal(f"Unknown field {refused[0]}") if refused else completed(fields)

    with serving(say) as server, closing(open_engine(config(server))) as engine:
        list(engine.generate([Request("a", (1, 2), (0,), 0)], replace(PARAMS, stop_token_ids=(7,))))
    assert "a solution may run on after the assistant's turn" in capsys.readouterr().err


# Stopping rules


@pytest.mark.parametrize("accepts_n", [True, False])
def test_a_rule_asks_a_server_for_the_next_completions_only(accepts_n: bool) -> None:
    """Rounds of 1, 2, 4 and 8 until the first success: the seed of a completion says which one it is."""

    def say(path: str, fields: Fields) -> Reply:
        if not accepts_n and fields.get("n", 1) > 1:
            return refusal("n is not supported")
        return completed(fields)

    with serving(say) as server:
        with closing(open_engine(config(server))) as engine, Grader() as grader:
            template = load_template("tiny")
            settings = SamplingSettings("m", None, 1.0, 1.0, 50, 0, template.name)
            row = PROBLEM | {"sample": 0, "solution": "one\ntwo", "steps": ["one", "two"], "reward": 1.0}
            row |= {"answer": "1000"}  # never reached
            rule = StoppingRule(1.0, math.inf)
            (rolled,) = Roller(engine, template, settings, 8, grader, rule=rule).roll([row])
    assert rolled["rollouts"] == [[0.0] * 8, [1.0]]
    first = min(fields["seed"] for fields in server.work)
    asked = [
        fields["seed"] - first + number for fields in server.work for number in range(fields.get("n", 1))
    ]
    assert sorted(asked) == list(range(8))
