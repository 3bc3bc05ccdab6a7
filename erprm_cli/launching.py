"""Several processes: who we are among them, and how a training starts itself through accelerate.

`launch` stores the examples, writes the settings as a job, and runs

    accelerate launch --config_file FILE --num_processes N -m erprm_cli.launching JOB

whose first process prints the log rows, which are handed on, or an error that the user can mend. Their stdin
is a pipe that ends with us: so they end too, even if we are killed, and never write beside a run that
continues this one.
"""

import os
import subprocess
import sys
import threading
from dataclasses import asdict, replace
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from erprm_cli.errors import EngineError, UsageError, UserError
from erprm_cli.jsonl import Row, open_output
from erprm_cli.progress import News

if TYPE_CHECKING:
    from erprm_cli.training import Data, Log

BY_DEVICE = {"cuda": "multi-gpu", "cpu": "multi-cpu"}  # if only --num-processes is given


def world_size() -> int:
    """Return the number of processes of this launch; accelerate and torchrun say it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main() -> bool:
    """Whether this process is the one that reads, speaks and writes."""
    return os.environ.get("RANK", "0") == "0"


class Silence(News):
    """What the other processes have to say."""

    def __init__(self) -> None:
        super().__init__("", quiet=True)

    def warn(self, message: str) -> None: ...


def accelerate_config(name: str) -> Path:
    """Return a shipped configuration of accelerate by name, or the file that `name` is; or UsageError."""
    folder = Path(str(files("erprm_cli.templates") / "accelerate"))
    path = Path(name) if name.endswith((".yaml", ".yml", ".json")) else folder / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        raise UsageError(f"no accelerate configuration {name!r}; there are {known}, or a .yaml file")
    return path


def spread_by(config: str | None) -> str | None:
    """Return what spreads the weights over processes, DEEPSPEED or FSDP; None where each has all of them.

    `config` is what --accelerate-config says; without it, what accelerate has told a process it started.
    """
    if config is not None:
        import yaml  # accelerate reads its configurations with it, JSON too

        try:
            kind = yaml.safe_load(accelerate_config(config).read_text(encoding="utf-8"))["distributed_type"]
        except (yaml.YAMLError, KeyError, TypeError, UnicodeDecodeError):
            raise UsageError(
                f"{config} is no configuration of accelerate: no distributed_type; `accelerate config "
                "--config_file FILE` writes one"
            ) from None
        return kind if kind in ("DEEPSPEED", "FSDP") else None
    kinds = (kind for kind in ("DEEPSPEED", "FSDP") if os.environ.get(f"ACCELERATE_USE_{kind}") == "true")
    return next(kinds, None)


def check_packages(accelerate_config: str | None, lora_rank: int = 0, report_to: str = "none") -> None:
    """Raise UserError if a package is missing that these settings of a training need, before work is done."""
    needed = []
    if lora_rank:
        needed.append(("peft", "--lora-rank", "'erprm[lora]'"))
    if report_to != "none":
        needed.append((report_to, f"--report-to {report_to}", report_to))
    if spread_by(accelerate_config) == "DEEPSPEED":
        needed.append(("deepspeed", f"--accelerate-config {accelerate_config}", "deepspeed"))
    for package, flag, remedy in needed:
        spec = find_spec(package)
        if spec is None or spec.origin is None:  # a folder of that name is none, as wandb leaves one behind
            raise UserError(f"{package} is not installed; {flag} needs: pip install {remedy}")


def launch(data: "Data", log: "Log", news: News) -> Row:
    """Train on `data` in processes of their own, as data.config asks; return the last log row."""
    import torch

    config = data.config
    on = "cuda" if torch.cuda.is_available() else "cpu"
    number = config.num_processes or max(1, torch.cuda.device_count())
    alone = replace(config, accelerate_config=None, num_processes=None)
    spec = {"data": str(data.store().absolute()), "quiet": news.quiet} | data.job(alone)
    job = job_file(config.output)
    job.parent.mkdir(parents=True, exist_ok=True)
    job.write_bytes(orjson.dumps(spec))
    command = [sys.executable, "-m", "accelerate.commands.launch"]
    command += ["--config_file", str(accelerate_config(config.accelerate_config or BY_DEVICE[on]))]
    command += ["--num_processes", str(number), "-m", "erprm_cli.launching", str(job)]
    news.say(f"{number} processes: {' '.join(command[2:])}")
    last: Row | None = None
    failed: UserError | None = None
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(b'{"error":'):
                    told = orjson.loads(line)
                    failed = UserError(told["error"])
                    failed.exit_status = told["exit_status"]
                elif line.startswith(b"{"):
                    last = orjson.loads(line)
                    log(last)
                else:
                    sys.stderr.write(line.decode("utf-8", "replace"))
        except BaseException:
            process.terminate()  # accelerate ends its processes
            raise
    if failed is not None:
        raise failed
    if process.returncode or last is None or "model" not in last:
        raise EngineError(
            f"the processes of the training ended with status {process.returncode}, see above; the same "
            "command continues from the last checkpoint"
        )
    return last


def job_file(output: Path) -> Path:
    """Return where the job of the model `output` stands: in its run folder."""
    from erprm_cli.training_folders import run_folder

    return run_folder(output).absolute() / "job.json"


def config_to_job(config: Any) -> Row:
    """Return the fields of a training's configuration as JSON holds them."""
    return asdict(config) | {"output": str(config.output)}


def _end_with_stdin() -> None:
    """End this process when its stdin does."""

    def watch() -> None:
        os.read(0, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main() -> None:
    """Do the share of one process of a launched training."""
    _end_with_stdin()
    spec: Row = orjson.loads(Path(sys.argv[1]).read_bytes())
    from erprm_cli.policy_training import PolicyData
    from erprm_cli.prm_training import PrmData
    from erprm_cli.training import train

    kinds: dict[str, Any] = {"train": PrmData, "rlhf": PolicyData}
    with open_output("-", {}) as out, News(spec["command"], spec["quiet"]) as news:
        try:
            data: Data = kinds[spec["command"]].of_job(spec)
            data.load(Path(spec["data"]))
            train(data, out.write, news)
        except UserError as error:
            if is_main():
                out.write({"error": str(error), "exit_status": error.exit_status})
            sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
