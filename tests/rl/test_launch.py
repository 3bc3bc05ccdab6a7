"""GRPO in two processes: they do what one does, and a killed command continues."""

import subprocess
import sys
import time
from pathlib import Path

import orjson
import pytest

from erprm_cli.training.launch import job_file
from erprm_cli.training.run_folder import checkpoints, run_folder
from tests.rl.runs import FLAGS
from tests.training.runs import assert_equal_bits
from tests.training.test_launch import wait_for_the_end_of

pytest.importorskip("trl")


@pytest.mark.distributed
@pytest.mark.thorough
def test_two_processes_train_and_continue_after_sigkill(
    base: str, problems_file: Path, tmp_path: Path
) -> None:
    def words(folder: Path) -> list[str]:
        flags = [
            "--prm",
            base,
            "-o",
            str(folder),
            *FLAGS,
            "--num-processes",
            "2",
            "--eval",
            str(problems_file),
        ]
        return [sys.executable, "-m", "erprm_cli", "rlhf", str(problems_file), "-m", base, *flags]

    done = subprocess.run(words(tmp_path / "run"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [row["step"] for row in rows] == [0, 1, 2, 3, 4, 4]
    assert rows[-1]["policy"] == str(tmp_path / "run" / "policy")

    process = subprocess.Popen(
        words(tmp_path / "again"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    policy = tmp_path / "again" / "policy"
    while process.poll() is None and not checkpoints(run_folder(policy)):
        time.sleep(0.005)
    process.kill()
    process.wait()
    wait_for_the_end_of(job_file(policy))
    assert not policy.exists()
    done = subprocess.run(words(tmp_path / "again"), capture_output=True, text=True)
    assert done.returncode == 0 and "continuing from" in done.stderr, done.stderr
    again = [orjson.loads(line) for line in done.stdout.splitlines()]
    assert [row | {"policy": None} for row in again] == [row | {"policy": None} for row in rows]
    assert_equal_bits(policy, tmp_path / "run" / "policy")
