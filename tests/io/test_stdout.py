"""Standard streams that a shell has closed, filled or taken away."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROW = '{"rollouts":[[1.0]]}'
LABELLED = '{"rollouts":[[1.0]],"labels":[1.0],"eta":1.0,"estimator":"er"}'
Shell = Callable[[str], "tuple[int, str, str]"]


@pytest.fixture
def bash(tmp_path: Path) -> Shell:
    """Run a line of bash, in which `erprm` is the program: status, stdout, stderr."""
    (tmp_path / "in.jsonl").write_text(f"{ROW}\n")

    def run(line: str) -> tuple[int, str, str]:
        program = f'erprm() {{ {sys.executable} -m erprm_cli "$@"; }}; set -o pipefail; {line}'
        done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


CASES = {
    "erprm label -q <&-": (1, "", "erprm: stdin, after line 0: Bad file descriptor\n"),
    "erprm label -q in.jsonl <&-": (0, f"{LABELLED}\n", ""),
    "erprm label -q in.jsonl >&-": (1, "", "erprm: stdout: Bad file descriptor\n"),
    "erprm label -q in.jsonl -o out.jsonl <&- >&- 2>&-; cat out.jsonl": (0, f"{LABELLED}\n", ""),
    "erprm label in.jsonl 2>&-": (0, f"{LABELLED}\n", ""),
    "erprm label in.jsonl 2>/dev/full": (0, f"{LABELLED}\n", ""),
    "erprm --help >/dev/full": (1, "", "erprm: stdout: No space left on device\n"),
    "erprm label --help >/dev/full": (1, "", "erprm: stdout: No space left on device\n"),
    "erprm --version >/dev/full": (1, "", "erprm: stdout: No space left on device\n"),
    "erprm --version >&-": (1, "", "erprm: stdout: Bad file descriptor\n"),
    f"yes '{ROW}' | head -200000 | erprm label -q | head -1": (141, f"{LABELLED}\n", ""),
    "erprm label -q in.jsonl >> in.jsonl": (
        2,
        "",
        "erprm: stdout is also the input; give each a name of its own\n",
    ),
    "erprm label -q < in.jsonl >> in.jsonl": (
        2,
        "",
        "erprm: stdout is also stdin; give each a name of its own\n",
    ),
    "erprm label -q in.jsonl 2>> in.jsonl; tail -1 in.jsonl": (
        0,
        "erprm: stderr is also the input; give each a name of its own\n",
        "",
    ),
    "erprm label -q $'a\\xff.jsonl'": (
        2,
        "",
        "erprm: a\\xff.jsonl is not UTF-8; give the file another name, or use < and >\n",
    ),
    "cp in.jsonl $'a\\xff.jsonl'; erprm label -q < $'a\\xff.jsonl'": (0, f"{LABELLED}\n", ""),
    "erprm label -q in.jsonl -o >(cat)": (0, f"{LABELLED}\n", ""),
    "erprm label -q in.jsonl -o /dev/stdout | cat": (0, f"{LABELLED}\n", ""),
}


@pytest.mark.parametrize("line", CASES)
def test_a_stream_of_any_kind_is_used_or_one_line(bash: Shell, line: str) -> None:
    assert bash(line) == CASES[line]
