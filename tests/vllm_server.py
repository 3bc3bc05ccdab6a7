"""A real vLLM server on loopback, on its CPU build."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest

START_S = 300


class VllmServer:
    """`vllm serve` in a process group of its own."""

    def __init__(self, folder: Path, model: str, *arguments: object) -> None:
        """Start it, with its log in `folder`; `wait` until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/v1"
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model]
        command += map(str, arguments)
        command += ["--host", "127.0.0.1", "--port", str(port), "--block-size", "32"]
        # vLLM 0.32 on a CPU crashes if the prompt of a seeded request is read in parts.
        command += ["--dtype", "float32", "--enforce-eager", "--no-enable-chunked-prefill"]
        settings = {
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_NO_USAGE_STATS": "1",
        }
        self.log = folder / "vllm.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env=os.environ | settings, start_new_session=True
            )

    def wait(self) -> None:
        deadline = time.monotonic() + START_S
        while not self._is_up():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"vllm did not start: {self.log.read_text()[-3000:]}")
            time.sleep(0.5)

    def _is_up(self) -> bool:
        with suppress(OSError):
            urllib.request.urlopen(self.url.replace("/v1", "/health"), timeout=5).close()
            return True
        return False

    def kill(self) -> None:
        """Kill it and its children."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
