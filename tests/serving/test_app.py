"""The service over HTTP: what it answers, and how it refuses."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from tests.serving.servers import CLIENT, SlowScorer, message, metric, post, serving, until
from tests.tiny_models import solution_rows

ROW = {"problem": "Tom has 2 apples?", "steps": ["Step 1: Tom has 2 more.", "The answer is: 4"]}
PROMPT = "<|im_start|>user\nTom has 2 apples?<|im_end|>\n<|im_start|>assistant\n"


def scores(scorer: SlowScorer, *rows: dict[str, Any]) -> list[list[float]]:
    return [row["scores"] for row in scorer.score(rows)]


def test_scores_are_those_of_erprm_score_for_all_of_many_clients(scorer: SlowScorer) -> None:
    rows = solution_rows(60)
    scorer.pause_s = 0.02
    with serving(scorer) as url, ThreadPoolExecutor(30) as clients:
        answers = clients.map(lambda row: post(url, "/v1/score", {"rows": [row]}).json(), rows)
        found = [answer["scores"] for answer in answers]
        num_batches = metric(url, "erprm_batch_tokens_count")
        assert metric(url, "erprm_solutions_total") == 60
    expected = scores(scorer, *rows)
    for (ours,), theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert num_batches < 40  # they were scored together


def test_one_request_may_have_many_solutions(scorer: SlowScorer) -> None:
    rows = solution_rows(30)
    with serving(scorer) as url:
        answer = post(url, "/v1/score", {"rows": rows}).json()
    for ours, theirs in zip(answer["scores"], scores(scorer, *rows), strict=True):
        assert ours == pytest.approx(theirs, abs=1e-6)
    assert answer["errors"] == []


def test_the_prm_is_described(scorer: SlowScorer, prm: str) -> None:
    with serving(scorer) as url:
        described = CLIENT.get(f"{url}/v1/prm").json()
        assert post(url, "/v1/score", {"rows": [ROW]}).json()["prm"] == described
        listed = CLIENT.get(f"{url}/v1/models").json()
    assert len(described.pop("hash")) == 16
    assert described == {
        "model": prm,
        "format": "er-prm",
        "kind": "token",
        "eta": None,
        "outcome_only": False,
        "max_tokens": 64,
        "erprm": "0.1.0",
    }
    assert [model["id"] for model in listed["data"]] == [prm]


def test_a_solution_without_steps_is_split_by_the_template(scorer: SlowScorer) -> None:
    row = {"problem": ROW["problem"], "solution": "\n".join(ROW["steps"])}
    with serving(scorer, template="gsm8k") as url:
        (found,) = post(url, "/v1/score", {"rows": [row]}).json()["scores"]
    assert found == pytest.approx(scores(scorer, ROW)[0], abs=1e-6)


def test_with_partial_the_others_get_their_scores(scorer: SlowScorer) -> None:
    long = ROW | {"steps": ["Tom has 9 more."] * 30}
    with serving(scorer) as url:
        answer = post(url, "/v1/score", {"rows": [ROW, long, ROW], "partial": True}).json()
    assert answer["scores"][1] is None and len(answer["scores"][2]) == 2
    (error,) = answer["errors"]
    assert error["row"] == 1 and error["message"].endswith("the model reads at most 64; shorten the solution")


def test_openrlhf_gets_one_reward_per_query(scorer: SlowScorer) -> None:
    """The request and the use of the answer are those of OpenRLHF 0.11's SingleTurnAgentExecutor."""
    payload = {
        "query": [PROMPT + "\n\n".join(ROW["steps"]) + "<|im_end|>"],
        "prompts": [PROMPT],
        "labels": ["4"],
    }
    with serving(scorer) as url:
        response = post(url, "/get_reward", payload)
    response.raise_for_status()
    answer = response.json()
    (expected,) = scores(scorer, ROW)
    assert answer["rewards"] == answer["scores"] == pytest.approx([min(expected)], abs=1e-6)
    assert answer["step_scores"][0] == pytest.approx(expected, abs=1e-6)
    rewards = torch.cat([torch.tensor([answer["rewards"]]) for _ in range(4)], dim=0)
    assert rewards.reshape(-1, 2).shape == (2, 2)
    logs = {name: torch.tensor([value]) for name, value in answer["extra_logs"].items()}
    assert logs["num_steps"].tolist() == [[2.0]]


def test_rewards_are_the_aggregate_that_was_asked_for(scorer: SlowScorer) -> None:
    payload = {"query": [PROMPT + "\n\n".join(ROW["steps"])], "prompts": [PROMPT]}
    with serving(scorer, aggregate="last") as url:
        answer = post(url, "/get_reward", payload).json()
    assert answer["rewards"] == [answer["step_scores"][0][-1]]


def test_pooling_gives_the_probability_at_every_token(scorer: SlowScorer, prm: str) -> None:
    tagged = scorer.encode(ROW)
    with serving(scorer) as url:
        body = {"model": prm, "task": "token_classify", "input": [tagged.ids.tolist(), [1, 5]]}
        answer = post(url, "/pooling", body).json()
        texts = post(url, "/pooling", {"input": ["Tom has 2", "Tom"]}).json()["data"]
    first, second = (one["data"] for one in answer["data"])
    assert [first[tag][0] for tag in tagged.tags] == pytest.approx(scores(scorer, ROW)[0], abs=1e-6)
    assert (len(second), answer["object"], answer["model"]) == (2, "list", prm)
    assert answer["usage"]["prompt_tokens"] == len(tagged.ids) + 2
    assert [len(one["data"]) for one in texts] == [4, 2]  # with <s>


REFUSED = {
    "no JSON": ("/v1/score", b'{"rows": [', 400, "the body is not JSON: Expecting value at character 10"),
    "nested too deep": ("/v1/score", b"[" * 100_000, 400, "the body cannot be read as JSON"),
    "not UTF-8": ("/v1/score", b'{"rows": "\xff"}', 400, "the body cannot be read as JSON"),
    "a list": ("/v1/score", b"[]", 422, "the body: Input should be a valid dictionary or object"),
    "no rows": ("/v1/score", b"{}", 422, "rows: Field required"),
    "no text": ("/v1/score", b'{"rows": [{"problem": "?"}]}', 422, "rows[0]: no 'steps' and no 'solution'"),
    "no steps": (
        "/v1/score",
        b'{"rows": [{"problem": "?", "steps": []}]}',
        422,
        "rows[0].steps: List should have at least 1 item",
    ),
    "a number": (
        "/v1/score",
        b'{"rows": [{"problem": "?", "steps": ["a", 3]}]}',
        422,
        "rows[0].steps[1]: Input should be a valid string",
    ),
    "half a character": (
        "/v1/score",
        b'{"rows": [{"problem": "ab\\ud800", "steps": ["a"]}]}',
        422,
        "rows[0].problem: half a character (a lone surrogate) at 2",
    ),
    "too long": (
        "/v1/score",
        b'{"rows": [{"problem": "?", "steps": ["a"]}, {"problem": "%s", "steps": ["a"]}]}' % (b"2" * 99),
        422,
        "rows[1]: 102 tokens, but the model reads at most 64; shorten the solution",
    ),
    "two lengths": (
        "/get_reward",
        b'{"query": ["a", "b"], "prompts": ["a"]}',
        422,
        "the body: 2 in 'query', but 1 in 'prompts'",
    ),
    "another prompt": (
        "/get_reward",
        b'{"query": ["a"], "prompts": ["b"]}',
        422,
        "query[0]: 'query' does not begin with its prompt",
    ),
    "another model": ("/pooling", b'{"input": "a", "model": "m"}', 404, "there is no model 'm'; this server"),
    "an unknown token": (
        "/pooling",
        b'{"input": [[1], [123456]]}',
        422,
        "input[1]: there is no token 123,456; the PRM's tokenizer has 68",
    ),
    "a negative token": ("/pooling", b'{"input": [[-1]]}', 422, "input"),
    "no token": ("/pooling", b'{"input": [[]]}', 422, "input[0]: empty; it must have at least one token"),
    "too many tokens": ("/pooling", b'{"input": [%s1]}' % (b"1," * 64), 422, "input[0]: 65 tokens, but"),
    "logits": (
        "/pooling",
        b'{"input": "a", "use_activation": false}',
        422,
        "use_activation: Input should be",
    ),
    "another path": ("/score", b"{}", 404, "there is no /score; /docs lists what there is"),
    "another method": ("/health", b"{}", 405, "/health does not take POST"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_with_a_request_is_said_in_one_line(
    scorer: SlowScorer, case: str, refusing: str
) -> None:
    path, content, status, expected = REFUSED[case]
    headers = {"content-type": "application/json"}
    response = CLIENT.post(refusing + path, content=content, headers=headers)
    assert message(response, status).startswith(expected)
    assert post(refusing, "/v1/score", {"rows": [ROW]}).is_success  # it goes on


@pytest.fixture(scope="module")
def refusing(loaded: SlowScorer) -> Any:
    with serving(loaded) as url:
        yield url


def test_a_body_that_is_not_declared_as_json_is_refused(refusing: str) -> None:
    """A page in a browser may send such a body to this machine without asking."""
    headers = {"content-type": "text/plain"}
    response = CLIENT.post(f"{refusing}/v1/score", content=b'{"rows": []}', headers=headers)
    assert message(response, 415) == "send JSON, with the header Content-Type: application/json"


def test_a_prm_of_whole_solutions_has_no_scores_of_tokens(scorer: SlowScorer) -> None:
    scorer.outcome_only = True
    try:
        with serving(scorer) as url:
            assert "use /v1/score" in message(post(url, "/pooling", {"input": "Tom"}), 422)
            (found,) = post(url, "/v1/score", {"rows": [ROW]}).json()["scores"]
    finally:
        scorer.outcome_only = False
    assert found[0] == found[1]


def test_a_bug_is_an_error_in_json_and_a_traceback_in_the_log(
    scorer: SlowScorer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def encode(row: Any) -> Any:
        raise KeyError("bug")

    monkeypatch.setattr(scorer, "encode", encode)
    with serving(scorer) as url:
        answer = post(url, "/v1/score", {"rows": [ROW]})
        assert message(answer, 500) == "the server failed: KeyError; its log has the traceback"
        assert CLIENT.get(f"{url}/health").json() == {"status": "ok"}
        until(lambda: "KeyError: 'bug'" in caplog.text)


def test_the_api_describes_itself(refusing: str) -> None:
    api = CLIENT.get(f"{refusing}/openapi.json").json()
    assert set(api["paths"]) == {
        *("/v1/score", "/v1/prm", "/v1/models", "/get_reward", "/pooling", "/health", "/metrics")
    }
    answers = api["paths"]["/v1/score"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "408", "413", "415", "422", "500", "503"}
    refusal = answers["422"]["content"]["application/json"]["schema"]
    assert refusal == {"$ref": "#/components/schemas/ErrorAnswer"}
    assert "swagger" in CLIENT.get(f"{refusing}/docs").text


def test_prometheus_reads_the_metrics(refusing: str) -> None:
    from prometheus_client.parser import text_string_to_metric_families

    post(refusing, "/v1/score", {"rows": [ROW]})
    CLIENT.get(f"{refusing}/no/such/path")
    text = CLIENT.get(f"{refusing}/metrics").text
    found = {
        (sample.name, sample.labels.get("path"), sample.labels.get("status")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["erprm_requests_total", "/v1/score", "200"] >= 1
    assert found["erprm_requests_total", "other", "404"] >= 1
    assert found["erprm_accepted", None, None] == 0
    assert found["erprm_tokens_total", None, None] > 0
