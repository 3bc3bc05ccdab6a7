"""The `erprm` program: one Typer app, one module per command, errors as one line."""

import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from erprm_cli.errors import EngineError, Stopped, UserError
from erprm_cli.options import Heading
from erprm_cli.packages import EXTRAS, missing_package
from erprm_cli.presets import with_config, with_presets
from erprm_cli.terminal.signals import catch_signals
from erprm_cli.terminal.stderr import clean_stderr
from erprm_cli.terminal.text import visible

# In the order of `erprm --help`.
COMMANDS = (
    "convert",
    "sample",
    "rollout",
    "label",
    "train",
    "export",
    "score",
    "inspect",
    "grade",
    "bon",
    "processbench",
    "calibrate",
    "show",
    "rlhf",
    "doctor",
)
FLAG_COLUMNS = 26  # a longer flag has its help on the next line


class Command(TyperCommand):
    """A command with --config, and with help that lists the flags under headings, most needed first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of this command, with what --config and the environment set."""
        if not ctx.resilient_parsing:  # as while a shell completes
            words = with_presets(self, ctx, args, COMMANDS)
            if sys.argv[1:] == [
                ctx.info_name,
                *args,
            ]:  # what is recorded and typed again is the whole command
                sys.argv[2:] = words
            args = words
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:  # Typer names neither type in public
        """Write one section per heading, arguments first, the flags of all sections in equal columns."""
        sections: dict[str, list[tuple[str, str]]] = {heading.value: [] for heading in Heading}
        for parameter in sorted(self.get_params(ctx), key=lambda one: one.param_type_name == "option"):
            if (record := parameter.get_help_record(ctx)) is not None:
                heading = getattr(parameter, "rich_help_panel", None) or Heading.OPTIONS
                sections[Heading.OTHER if parameter.name == "help" else heading].append(record)
        width = min(FLAG_COLUMNS, max(len(flag) for section in sections.values() for flag, _ in section))
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl([(flag.ljust(width), text) for flag, text in records], FLAG_COLUMNS)


class Group(TyperGroup):
    """The program: `erprm help CMD` is `erprm CMD --help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of the program."""
        if args[:1] == ["help"]:
            args = [*args[1:2], "--help"]
        return super().parse_args(ctx, args)


def make_app(names: Sequence[str] = COMMANDS) -> typer.Typer:
    """Return the program with the commands `names`; a module is loaded for each."""
    app = typer.Typer(
        cls=Group,
        help="Entropy-regularized process reward models: commands that read and write JSON Lines.",
        no_args_is_help=True,
        rich_markup_mode=None,  # plain help: rich panels take 100 ms more, and a pipe gets the same text
        pretty_exceptions_enable=False,  # a bug keeps its ordinary traceback
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(root)
    for name in names:
        command = getattr(import_module(f"erprm_cli.commands.{name}"), name)
        app.command(name, cls=Command)(with_config(command))
    return app


def main() -> None:
    """Run the command named on the command line and exit with its status."""
    catch_signals()
    clean_stderr()
    # A named command does not wait until the others are loaded.
    chosen = [name for name in sys.argv[1:2] if name in COMMANDS]
    try:
        make_app(chosen or COMMANDS)()
    except EngineError as error:
        _exit(f"{error}; {_how_to_continue()}", error.exit_status)
    except UserError as error:
        _exit(str(error), error.exit_status)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        missing = missing_package(error.name, "this command")
        _exit(str(missing), missing.exit_status)
    except Stopped as stop:
        _exit(f"stopped; {_how_to_continue()}", stop.exit_status)


def _how_to_continue() -> str:
    """Return what to do after a command that did not finish."""
    if not any(word.startswith(("-o", "--output")) for word in sys.argv[1:]):
        return "with -o, the same command again continues"
    from erprm_cli.io.provenance import command_line

    return f"to continue: {command_line()}"


def _exit(message: str, status: int) -> None:
    print(f"erprm: {visible(message)}", file=sys.stderr)
    sys.exit(status)


def root(
    version: bool = typer.Option(False, "--version", "-V", help="Show the version and exit."),
) -> None:
    if version:
        from erprm_cli import __version__

        print(f"erprm {__version__}")
        raise typer.Exit
