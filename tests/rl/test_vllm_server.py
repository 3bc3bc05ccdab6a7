"""What is said of a server that cannot generate for GRPO. One that can needs a GPU; it has not been tried."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import orjson
import pytest
import torch
from typer.testing import Result

from erprm_cli.errors import UserError
from erprm_cli.rl.vllm_server import check_server
from tests.rl.runs import command

# The answers of `vllm serve` without and with VLLM_SERVER_DEV_MODE=1 and --weight-transfer-config.
PLAIN: dict[str, object] = {}
DEVELOPMENT = {"/server_info": {"vllm_config": {"weight_transfer_config": None}}}
USABLE = {"/server_info": {"vllm_config": {"weight_transfer_config": {"backend": "nccl"}}}}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = request.param.get(self.path.partition("?")[0])
            self.send_response(404 if answer is None else 200)
            self.end_headers()
            self.wfile.write(orjson.dumps(answer))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("localhost", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://localhost:{http.server_port}"
        http.shutdown()


def test_a_server_that_does_not_answer_is_named_with_the_command_that_starts_one() -> None:
    with pytest.raises(UserError, match=r"http://localhost:1: no vLLM server answers .*vllm serve MODEL"):
        check_server("http://localhost:1")


@pytest.mark.vllm
@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_cuda_a_server_is_refused_before_any_work(
    erprm: Callable[..., Result], base: str, problems_file: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    pytest.importorskip("vllm")
    more = ["--engine", "vllm", "--vllm-mode", "server", "--vllm-server-base-url", "http://localhost:1"]
    done = command(erprm, base, problems_file, tmp_path / "run", *more)
    assert "--vllm-mode server needs a CUDA device" in str(done.exception)
    assert (done.stdout, (tmp_path / "run").exists()) == ("", False)


@pytest.mark.parametrize("server", [PLAIN, DEVELOPMENT], indirect=True, ids=["plain", "no weight transfer"])
def test_a_server_without_weight_transfer_is_refused(server: str) -> None:
    with pytest.raises(UserError, match=r"can receive weights; start it as .*--weight-transfer-config"):
        check_server(server)


@pytest.mark.parametrize("server", [USABLE], indirect=True, ids=["usable"])
def test_a_server_with_weight_transfer_is_accepted(server: str) -> None:
    check_server(server)
