"""How long `erprm --help` takes, against bare Python and a bare Typer app with as many options.

    python benchmarks/bench_startup.py

Whole processes in turn, the best of --runs; the figure to trust is the difference, or the ratio.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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


def bare_app(num_commands: int, num_options: int) -> str:
    """Return the source of a Typer app whose commands do nothing."""
    options = ", ".join(
        f'o{index}: Annotated[int, typer.Option(help="x")] = 0' for index in range(num_options)
    )
    commands = "".join(BARE_COMMAND.format(number=n, options=options) for n in range(num_commands))
    return BARE_APP.format(commands=commands)


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=15)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.py"
        bare.write_text(bare_app(num_commands=7, num_options=18))
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
