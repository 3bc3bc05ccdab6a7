"""The `erprm` program: one Typer app, one module per command, errors as one line."""

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from erprm_cli.errors import EngineError, Stopped, UserError
from erprm_cli.terminal.signals import catch_signals
from erprm_cli.terminal.text import visible

# In the order `erprm --help` lists them.
COMMANDS = (
    "convert",
    "sample",
    "rollout",
    "label",
    "train",
    "export",
    "score",
    "inspect",
    "bon",
    "processbench",
    "calibrate",
    "show",
    "rlhf",
)
MODEL_LIBRARIES = ("accelerate", "datasets", "pyarrow", "torch", "transformers")  # the extra "train"


def make_app(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """Return the program with the commands `names`; a module is loaded for each."""
    app = typer.Typer(
        help="Entropy-regularized process reward models: commands that read and write JSON Lines.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,  # plain help: rich panels would cost 100 ms, and a pipe gets the same text
        pretty_exceptions_enable=False,  # a bug keeps its ordinary traceback
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for name in names:
        app.command(name)(getattr(import_module(f"erprm_cli.commands.{name}"), name))
    return app


def main() -> None:
    """Run the command named on the command line and leave with its exit status."""
    catch_signals()
    # Whoever names a command does not wait for the others to load.
    chosen = [name for name in sys.argv[1:2] if name in COMMANDS]
    try:
        make_app(chosen or COMMANDS)()
    except EngineError as error:
        _leave(f"{error}; {_how_to_continue()}", error.exit_status)
    except UserError as error:
        _leave(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        if error.name not in MODEL_LIBRARIES:
            raise
        _leave(f"{error.name} is not installed; models need: pip install 'erprm[train]'", 1)
    except Stopped as stop:
        _leave(f"stopped; {_how_to_continue()}", stop.exit_status)


def _how_to_continue() -> str:
    """Return what to tell whoever's command did not come to its end."""
    if not any(word.startswith(("-o", "--output")) for word in sys.argv[1:]):
        return "with -o, the same command again continues"
    from erprm_cli.io.provenance import command_line

    return f"to continue: {command_line()}"


def _leave(message: str, status: int) -> None:
    print(f"erprm: {visible(message)}", file=sys.stderr)
    sys.exit(status)


def root(
    version: bool = typer.Option(False, "--version", help="Show the version and exit."),
) -> None:
    if version:
        from erprm_cli import __version__

        print(f"erprm {__version__}")
        raise typer.Exit
