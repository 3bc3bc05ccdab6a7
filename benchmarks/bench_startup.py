"""How long `erprm --help` takes, against bare Python and a bare Typer app with as many options.

    python benchmarks/bench_startup.py

Whole processes in turn, the best of --runs; the figure to trust is the difference, or the ratio.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer

from erprm_cli.app import make_app

BARE_APP = """
from typing import Annotated
import typer
app = typer.Typer(rich_markup_mode=None, add_completion=False)
{commands}
app()
"""
BARE_COMMAND = """
@app.command()
def command{number}({options}) -> None:
    pass
"""


def bare_app(num_options: list[int]) -> str:
    """Return the source of a Typer app whose commands do nothing; each has so many options."""
    options = [f'o{index}: Annotated[int, typer.Option(help="x")] = 0' for index in range(max(num_options))]
    commands = "".join(
        BARE_COMMAND.format(number=number, options=", ".join(options[:count]))
        for number, count in enumerate(num_options)
    )
    return BARE_APP.format(commands=commands)


def our_options() -> list[int]:
    """Return how many options and arguments each command of erprm has."""
    group = typer.main.get_command(make_app())
    assert isinstance(group, typer.core.TyperGroup)
    return [len(command.params) for command in group.commands.values()]


def seconds(command: list[str]) -> float:
    # An installed package has its bytecode on disk; the best of several runs of a checkout does too.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(bare_app(our_options()))
        rows = Path(folder) / "rows.jsonl"
        rows.write_text('{"rollouts": [[0.0, 1.0], [1.0]]}\n')
        commands = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "bare Typer app --help": [sys.executable, str(bare), "--help"],
            "erprm --help": [sys.executable, "-m", "erprm_cli", "--help"],
            "erprm label, one row": [sys.executable, "-m", "erprm_cli", "label", "-q", str(rows)],
        }
        best = dict.fromkeys(commands, float("inf"))
        for _ in range(runs):
            for name, command in commands.items():
                best[name] = min(best[name], seconds(command))
    for name, took in best.items():
        print(f"{name:24} {1000 * took:6.0f} ms")
    more = 1000 * (best["erprm --help"] - best["python -c pass"])
    ratio = best["erprm --help"] / best["bare Typer app --help"]
    print(f"erprm --help: {more:.0f} ms more than bare Python, {ratio:.2f} x the bare Typer app")


if __name__ == "__main__":
    main()
