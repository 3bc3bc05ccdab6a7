"""Several processes: who we are among them, and how a training starts itself through accelerate.

`launch` stores the examples, writes the settings as a job, and runs

    accelerate launch --config_file FILE --num_processes N -m erprm_cli.launching JOB

whose first process prints the log rows, which are handed on.
"""

import os
import subprocess
import sys
from dataclasses import asdict, replace
from importlib.resources import files
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
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.startswith(b"{"):
                    last = orjson.loads(line)
                    log(last)
                else:
                    sys.stderr.write(line.decode("utf-8", "replace"))
        except BaseException:
            process.terminate()  # accelerate ends its processes
            raise
    if process.returncode or last is None or "model" not in last:
        raise EngineError(
            f"the processes of the training ended with status {process.returncode}, see above; the same "
            "command continues from the last checkpoint"
        )
    return last


def job_file(output: Path) -> Path:
    """Return where the job of the model `output` stands: in its run folder."""
    from erprm_cli.training import run_folder

    return run_folder(output).absolute() / "job.json"


def config_to_job(config: Any) -> Row:
    """Return the fields of a training's configuration as JSON holds them."""
    return asdict(config) | {"output": str(config.output)}


def main() -> None:
    """Do the share of one process of a launched training."""
    spec: Row = orjson.loads(Path(sys.argv[1]).read_bytes())
    from erprm_cli.policy_training import PolicyData
    from erprm_cli.prm_training import PrmData
    from erprm_cli.training import train

    kinds: dict[str, Any] = {"train": PrmData, "rlhf": PolicyData}
    try:
        with open_output("-", {}) as out, News(spec["command"], spec["quiet"]) as news:
            data: Data = kinds[spec["command"]].of_job(spec)
            data.load(Path(spec["data"]))
            train(data, out.write, news)
    except UserError as error:
        if is_main():
            print(f"erprm: {error}", file=sys.stderr)
        sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
