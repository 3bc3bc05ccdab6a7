"""Where a model is looked for, and what is asked of the Hub: here a small server in its place."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants
from typer.testing import Result

from erprm_cli.errors import UserError
from erprm_cli.models import loading
from erprm_cli.models.names import Place, ask_hub, find_model
from tests.tiny_models import solution_rows

REASONS = {401: "RepoNotFound", 404: "RepoNotFound", 403: "GatedRepo", 410: "RevisionNotFound"}


@contextmanager
def hub(status: int, monkeypatch: pytest.MonkeyPatch, delay_s: float = 0.0) -> Iterator[list[str]]:
    """Let the Hub be a server that answers with `status`; yield the paths that it is asked for."""
    asked: list[str] = []

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "/models/" in self.path:  # the client has questions of its own
                asked.append(self.path)
            time.sleep(delay_s)
            self.send_response(404 if status == 410 else status)
            if status in REASONS:
                self.send_header("X-Error-Code", REASONS[status])
            body = json.dumps({"id": "nobody/model"}).encode()
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client left
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        ask_hub.cache_clear()
        yield asked
        server.shutdown()


@pytest.mark.parametrize("name", ["./prm", "/models/prm", "runs/prm/last", "../prm", "prm/"])
def test_a_path_is_not_asked_for_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(200, monkeypatch) as asked, pytest.raises(UserError) as caught:
        find_model(name)
    assert (str(caught.value), asked) == (f"{name}: no such folder", [])


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (404, "nobody/model: no such folder, and no such model on the Hub; a private one needs HF_TOKEN"),
        (401, "nobody/model: no such folder, and no such model on the Hub; a private one needs HF_TOKEN"),
        (410, "nobody/model: the Hub has no revision 'v2' of this model"),
        (403, "nobody/model: the Hub shows this model only to those who accepted its terms; accept them on "),
        (500, "nobody/model: no such folder, and the Hub cannot be asked for a model of that name ("),
    ],
)
def test_the_hub_is_asked_once(status: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(status, monkeypatch) as asked, pytest.raises(UserError) as caught:
        find_model("nobody/model", "v2")
    assert str(caught.value).startswith(message)
    assert asked == ["/api/models/nobody/model/revision/v2"]


def test_a_model_on_the_hub_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with hub(200, monkeypatch) as asked:
        assert find_model("nobody/model") is find_model("nobody/model") is Place.HUB
    assert len(asked) == 1


def test_a_hub_that_is_away_or_slow_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("erprm_cli.models.names.HUB_TIMEOUT_S", 0.2)
    begin = time.monotonic()
    for delay_s, endpoint in ((1.0, None), (0.0, "http://127.0.0.1:9")):
        with hub(200, monkeypatch, delay_s), pytest.raises(UserError, match="the Hub cannot be asked"):
            if endpoint is not None:
                monkeypatch.setattr(constants, "ENDPOINT", endpoint)
            find_model("nobody/model")
    assert time.monotonic() - begin < 10


def test_a_wait_for_the_hub_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "erprm: waiting for the Hugging Face Hub (nobody/model); HF_HUB_OFFLINE=1 avoids it\n"
    for silent_s, delay_s, expected in ((10.0, 0.0, ""), (0.1, 0.5, said)):
        monkeypatch.setattr("erprm_cli.models.names.SILENT_S", silent_s)
        with hub(200, monkeypatch, delay_s):
            find_model("nobody/model")
        assert capsys.readouterr().err == expected


def test_the_hub_is_not_asked_offline_or_for_what_is_here(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with hub(200, monkeypatch) as asked:
        assert find_model("tiny") is Place.FOLDER and find_model(str(tmp_path)) is Place.FOLDER
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
        with pytest.raises(UserError, match="nobody/model: no such folder, and the Hub cannot be asked"):
            find_model("nobody/model")
        cached = tmp_path / "models--nobody--model"
        (cached / "snapshots" / "1").mkdir(parents=True)
        (cached / "snapshots" / "1" / "config.json").write_text("{}")
        (cached / "refs").mkdir()
        (cached / "refs" / "main").write_text("1")
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
        assert find_model("nobody/model") is Place.CACHE
    assert asked == []


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "prm").write_text("")
    with pytest.raises(UserError, match="prm: a file, but a model is a folder"):
        find_model(str(tmp_path / "prm"))


def test_an_optional_tokenizer_is_asked_for_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with hub(404, monkeypatch) as asked, pytest.raises(UserError, match="no such model on the Hub"):
        loading.load_tokenizer("nobody/model", is_optional=True)
    assert asked == ["/api/models/nobody/model"]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words",
    [
        ["score", "--prm", "./prm-missing"],
        ["bon", "--prm", "./prm-missing"],
        ["processbench", "--prm", "./prm-missing"],
        ["calibrate", "--prm", "./prm-missing"],
        ["search", "--prm", "./prm-missing"],
        ["search", "-m", "./prm-missing", "--prm", "tiny"],
        ["rlhf", "--prm", "./prm-missing", "-o", "made"],
        ["rlhf", "-m", "./prm-missing", "--prm", "tiny", "-o", "made"],
        ["train", "--base", "./prm-missing", "-o", "made"],
        ["sample", "-m", "./prm-missing"],
        ["rollout", "-m", "./prm-missing"],
        ["export", "./prm-missing", "-o", "made"],
        ["inspect", "prm", "./prm-missing", "rows.jsonl"],
    ],
    ids=" ".join,
)
def test_every_command_names_a_folder_that_is_missing(
    words: list[str], erprm: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(json.dumps(solution_rows(1)[0]) + "\n")
    done = erprm(*words, stdin='{"problem": "?", "answer": "1"}\n')
    assert str(done.exception) == "./prm-missing: no such folder"
    assert not Path("made").exists()


def test_a_model_whose_files_cannot_be_had_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="^cannot load the model 'nobody/model': "):
        loading.load_config("nobody/model")
