"""Two copies of `erprm serve` behind nginx, one of them killed under load: no row is lost.

Needs nginx (`apt install nginx`) on the PATH; skipped without it.
"""

import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx2
import orjson
import pytest
from typer.testing import Result

from tests.commands.test_serve import serving
from tests.tiny_models import save_model, solution_rows

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed"),
]

CONFIG = """
daemon off; pid nginx.pid; error_log error.log; worker_processes 1;
events {{}}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi; client_max_body_size 16m;
    upstream prm {{ server {first} max_fails=1; server {second} max_fails=1; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://prm;
            proxy_next_upstream error timeout http_503 non_idempotent;  # scoring twice changes nothing
            proxy_read_timeout 120s;
        }}
    }}
}}
"""


@contextmanager
def balancing(folder: Path, urls: list[str]) -> Iterator[str]:
    """Run nginx in front of two servers; the block gets its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    first, second = (url.removeprefix("http://") for url in urls)
    (folder / "nginx.conf").write_text(CONFIG.format(first=first, second=second, port=port))
    command = ["nginx", "-p", str(folder), "-c", "nginx.conf", "-e", "error.log"]
    with subprocess.Popen(command) as nginx:
        try:
            url = f"http://127.0.0.1:{port}"
            while not answers(url):
                assert nginx.poll() is None
                time.sleep(0.1)
            yield url
        finally:
            nginx.terminate()


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health").is_success
    except httpx2.TransportError:
        return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_copy_that_is_killed_costs_no_row(
    erprm: Callable[..., Result], tmp_path: Path, number: int
) -> None:
    prm = str(save_model(tmp_path / "Llama3.1-Math-PRM"))
    rows, out = solution_rows(600), tmp_path / "scores.jsonl"
    source = tmp_path / "in.jsonl"
    source.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))
    with ExitStack() as stack:
        copies = [stack.enter_context(serving(prm)) for _ in range(2)]
        url = stack.enter_context(balancing(tmp_path, [url for _, url, _ in copies]))
        command = [sys.executable, "-m", "erprm_cli", "score", str(source), "--prm", prm, "--base-url", url]
        with subprocess.Popen([*command, "--concurrency", "32", "-o", str(out)]) as client:
            while not out.exists() or out.read_bytes().count(b"\n") < 50:
                assert client.poll() is None
                time.sleep(0.02)
            copies[0][0].send_signal(number)
        assert client.returncode == 0
        copies[0][0].wait()
        metrics = httpx2.get(f"{copies[1][1]}/metrics").text
    scored = [orjson.loads(line) for line in out.read_bytes().splitlines()]
    assert [(row["id"], row["sample"]) for row in scored] == [(row["id"], row["sample"]) for row in rows]
    expected = erprm("score", source, "--prm", prm)
    for ours, line in zip(scored, expected.stdout.splitlines(), strict=True):
        assert ours["scores"] == pytest.approx(orjson.loads(line)["scores"], abs=1e-5)
    assert 'path="/v1/score",status="200"' in metrics  # the other copy had its part
