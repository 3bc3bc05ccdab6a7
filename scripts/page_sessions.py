"""Run the shell sessions of documentation pages, to check or to renew the output that the pages show.

    python scripts/page_sessions.py README.md docs/quickstart.md docs/troubleshooting.md
    python scripts/page_sessions.py --write README.md docs/quickstart.md docs/troubleshooting.md

A session is a ```console block. A line that begins with "$ " is a command (a backslash at the end continues
it on the next line); the lines after it are its output, stdout and stderr together, as a terminal shows them.
A ```sh block holds commands without output. A block after a comment `<!-- not run: REASON -->` is not run.
All pages run in one temporary folder, in the order given, and a command that an earlier page has run is not
run again: a page may show an excerpt of the session of another.

The check compares words exactly, and in order; further lines may stand between those shown. Durations and
rates are not compared. From the first `erprm train` of a page on, other numbers may differ a little, because
the rounding of a training depends on the processor.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = re.compile(
    r"(?P<comment><!-- not run: [^\n]*? -->\n+)?^```(?P<language>console|sh)\n(?P<text>.*?)^```$", re.M | re.S
)
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e-?\d+)?")
PROGRESS = re.compile(r"erprm \w+: [\d,]+ \w+, \d+ s, [\d,]+ tokens")  # a slow machine prints more of these
TIMING = re.compile(r'[\d,.]+(?= ?(?:(?:rows|tokens)?/s|s)\b)|(?<="seconds":)[\d.]+|(?<=_per_s":)[\d.]+')
RELATIVE, ABSOLUTE = 0.25, 0.2  # how far a number may be from the one shown, after a training
TIMEOUT_S = 300  # of one command


@dataclass(slots=True)
class Command:
    """One command of a page and the lines of output that the page shows for it."""

    text: str
    shown: list[str] = field(default_factory=list)
    loosely: bool = False  # numbers may differ a little


def blocks(page: str) -> Iterator[re.Match[str]]:
    """Yield the blocks of a page that are to be run."""
    return (block for block in BLOCK.finditer(page) if block["comment"] is None)


def commands(block: re.Match[str]) -> list[Command]:
    """Return the commands of a block."""
    if block["language"] == "sh":
        return [Command(block["text"])]
    found: list[Command] = []
    lines = iter(block["text"].splitlines())
    for line in lines:
        if line.startswith("$ "):
            text = line.removeprefix("$ ")
            while text.endswith("\\"):
                text += "\n" + next(lines)
            found.append(Command(text))
        else:
            found[-1].shown.append(line)
    return found


class Shell:
    """Runs commands in one folder and remembers what those of earlier pages printed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.earlier: dict[str, list[str]] = {}  # commands of earlier pages: the lines they printed
        self.here: dict[str, list[str]] = {}  # commands of this page
        self.environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "COLUMNS": "100",
            "PAGER": "cat",
            "OMP_NUM_THREADS": "1",  # the same sums on any number of cores
            "HF_DATASETS_CACHE": str(folder / ".cache"),  # no tokenised data of earlier runs
        }

    def run(self, command: str) -> list[str]:
        """Return the lines that `command` prints; of a command of an earlier page, those it printed there."""
        if command in self.earlier:
            return self.earlier[command]
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
            text=True,
        )
        text = done.stdout.replace(f"{self.folder}/", "")
        lines = [line.rstrip() for line in text.rstrip().splitlines()]
        lines = [line for line in lines if not PROGRESS.match(line)]
        self.here.setdefault(command, lines)
        return lines

    def next_page(self) -> None:
        """Begin a page: the commands so far are those of earlier pages."""
        self.earlier |= self.here
        self.here = {}


def run_page(page: str, shell: Shell) -> Iterator[tuple[Command, list[str]]]:
    """Yield each command of a page with the lines that it printed."""
    shell.next_page()
    loosely = False
    for block in blocks(page):
        for command in commands(block):
            loosely |= "erprm train" in command.text
            command.loosely = loosely
            yield command, shell.run(command.text)


def missing_line(command: Command, printed: Iterable[str]) -> str | None:
    """Return the first line that the page shows and the command did not print; None if there is none."""
    rest = iter(printed)
    for line in command.shown:
        if not any(_is_alike(line, other, command.loosely) for other in rest):
            return line
    return None


def _is_alike(shown: str, printed: str, loosely: bool) -> bool:
    shown, printed = (TIMING.sub("TIME", line) for line in (shown, printed))
    if not loosely:
        return shown.split() == printed.split()
    if NUMBER.sub("0", shown).split() != NUMBER.sub("0", printed).split():
        return False
    pairs = zip(_numbers(shown), _numbers(printed), strict=True)
    return all(abs(a - b) <= ABSOLUTE + RELATIVE * max(a, b) for a, b in pairs)


def _numbers(line: str) -> list[float]:
    return [float(number.replace(",", "")) for number in NUMBER.findall(line)]


def renewed(page: str, shell: Shell) -> str:
    """Return the page with the output that its sessions print now."""

    def renew(block: re.Match[str]) -> str:
        if block["comment"] is not None or block["language"] == "sh":
            return block[0]
        lines = []
        for command in commands(block):
            lines += [f"$ {command.text}", *shell.run(command.text)]
        return "```console\n" + "\n".join(lines) + "\n```"

    shell.next_page()
    return BLOCK.sub(renew, page)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--write", action="store_true", help="write the new output into the pages")
    options = parser.parse_args(arguments)
    differences = 0
    with tempfile.TemporaryDirectory() as folder:
        shell = Shell(Path(folder))
        for path in options.pages:
            page = path.read_text(encoding="utf-8")
            if options.write:
                path.write_text(renewed(page, shell), encoding="utf-8")
                continue
            for command, printed in run_page(page, shell):
                if (line := missing_line(command, printed)) is not None:
                    differences += 1
                    print(f"{path}: $ {command.text}\n  not printed: {line}", *printed, sep="\n  ")
    return min(differences, 1)


if __name__ == "__main__":
    sys.exit(main())
