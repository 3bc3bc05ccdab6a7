"""Completion as shells ask for it: the script of each shell, where that shell is installed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# Words before the cursor, and the completions that must be offered.
CASES = {
    "sam": {"sample"},
    "sample --temp": {"--temperature", "--template"},
    "sample --template t": {"tiny"},
    "score --prm-format q": {"qwen"},
    "label --estimator ": {"er", "soft", "hard", "min"},
    "sample --engine v": {"vllm"},
    "search --method b": {"best-of-n", "beam"},
    "convert --from prm": {"prm800k", "prmbench"},
    "convert --to er-": {"er-prm"},
    "train --accelerate-config fs": {"fsdp2"},
    "train --config pa": {"paper"},
    "sample ti": {"tiny:train", "tiny:test"},
    "sample --model t": {"tiny"},
    "sample mine.j": {"mine.jsonl"},  # a file
    "sample -o mine.j": {"mine.jsonl"},
}
BASH = """
eval "$(erprm --show-completion bash)"
words=($1)
[[ $1 == *" " ]] && words+=("")
COMP_WORDS=(erprm "${words[@]}")
COMP_CWORD=${#words[@]}
_erprm_completion erprm
(( ${#COMPREPLY[@]} )) || COMPREPLY=($(compgen -f -- "${words[-1]}"))  # as `complete -o default` does
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = "erprm --show-completion fish | source; complete -C 'erprm '$argv[1] | string split -f1 \\t; true"
SHELLS = {"bash": ["bash", "-c", BASH, "bash"], "fish": ["fish", "-c", FISH]}


def complete(shell: str, words: str, folder: Path) -> set[str]:
    """Return what a shell offers after the words."""
    (folder / "mine.jsonl").touch()
    return set(run([*SHELLS[shell], words], folder).split())


def run(command: list[str], folder: Path, **variables: str) -> str:
    """Return what a shell prints, with this `erprm` on its path."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PATH": path} | variables
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


@pytest.mark.parametrize("words", CASES)
@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.slow
def test_names_and_values_are_completed(shell: str, words: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    assert complete(shell, words, tmp_path) == CASES[words]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.slow
def test_completion_is_installed_for_the_shell_that_asks(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    run([shell, "-c", "erprm --install-completion; true"], tmp_path, HOME=str(tmp_path))
    written = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert f"complete_{shell}" in written
