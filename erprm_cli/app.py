"""The `erprm` program: one Typer app, one module per command, errors as one line."""

import math
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from erprm_cli.errors import EngineError, Stopped, UsageError, UserError
from erprm_cli.io import provenance
from erprm_cli.io.ownership import NamedFile, check_files
from erprm_cli.io.stdout import repair_streams
from erprm_cli.options import Heading
from erprm_cli.packages import EXTRAS, missing_package
from erprm_cli.presets import with_config, with_presets
from erprm_cli.roles import Role
from erprm_cli.terminal.say import say
from erprm_cli.terminal.signals import catch_signals
from erprm_cli.terminal.stderr import clean_stderr

# In the order of `erprm --help`.
COMMANDS = (
    "convert",
    "sample",
    "rollout",
    "label",
    "train",
    "export",
    "score",
    "serve",
    "inspect",
    "grade",
    "bon",
    "search",
    "processbench",
    "calibrate",
    "show",
    "rlhf",
    "rerun",
    "doctor",
)
FLAG_COLUMNS = 26  # a longer flag has its help on the next line


class Command(TyperCommand):
    """A command with --config, which checks the files its flags name, and whose help has headings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words of this command, with what --config and the environment set."""
        if not ctx.resilient_parsing:  # as while a shell completes
            words = with_presets(self, ctx, args, COMMANDS)
            if sys.argv[1:] == [ctx.info_name, *args]:
                sys.argv[2:] = words  # what is recorded, and typed again, is the whole command
            args = words
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command, unless a number is none or it would write a file that it may not."""
        check_numbers(self, ctx.params)
        files = named_files(self, ctx.params)
        check_files(files, overwrite=ctx.params.get("overwrite", False))
        provenance.read_by_this_run[:] = [file.name for file in files if file.role is Role.READ]
        try:
            return super().invoke(ctx)
        except (EngineError, Stopped) as error:
            if "output" in ctx.params:
                error.add_note(how_to_continue(files, error.kept_in))
            raise

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


def loaded(name: str) -> Callable[..., None]:
    """Return the command `name`."""
    return with_config(getattr(import_module(f"erprm_cli.commands.{name}"), name))


def outlined(name: str) -> Callable[..., None]:
    """Return a command that only has the docstring of the command `name`, whose module is not run."""
    import ast
    from importlib.abc import InspectLoader
    from importlib.util import find_spec

    module = find_spec(f"erprm_cli.commands.{name}")
    assert module is not None and isinstance(module.loader, InspectLoader)
    parts = ast.parse(module.loader.get_source(module.name) or "").body
    (function,) = (part for part in parts if isinstance(part, ast.FunctionDef) and part.name == name)

    def outline() -> None: ...

    outline.__doc__ = ast.get_docstring(function)
    return outline


def make_app(
    names: Sequence[str] = COMMANDS, load: Callable[[str], Callable[..., None]] = loaded
) -> typer.Typer:
    """Return the program with the commands `names`, each as `load` returns it."""
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
        app.command(name, cls=Command)(load(name))
    return app


def main() -> None:
    """Run the command named on the command line and exit with its status."""
    repair_streams()
    clean_stderr()
    # A named command does not wait until the others are loaded, nor the list of all until any is.
    chosen = [name for name in sys.argv[1:2] if name in COMMANDS]
    load = outlined if sys.argv[1:] in (["help"], ["-h"], ["--help"]) else loaded
    try:
        _check_words()
        app = make_app(chosen or COMMANDS, load)
        catch_signals()
        try:
            app()
        finally:
            sys.stdout.flush()
    except UserError as error:
        _exit(_with_notes(error, str(error)), error.exit_status)
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        missing = missing_package(error.name, "this command")
        _exit(str(missing), missing.exit_status)
    except Stopped as stop:
        if stop.signal_number == signal.SIGPIPE:
            sys.exit(stop.exit_status)
        _exit(_with_notes(stop, "stopped"), stop.exit_status)


def check_numbers(command: Command, values: Mapping[str, Any]) -> None:
    """Raise UsageError for an integer beyond 64 bits, and for infinity or NaN where a flag has bounds."""
    hints = get_type_hints(command.callback, include_extras=True)
    for parameter in command.params:
        value = values[str(parameter.name)]
        declared = get_args(hints.get(str(parameter.name)))
        has_bounds = any(getattr(extra, "min", None) is not None for extra in declared)
        if isinstance(value, float) and has_bounds and not math.isfinite(value):
            raise UsageError(f"{parameter.opts[0]} {value} is not a finite number")
        if isinstance(value, int) and value.bit_length() > 63:
            raise UsageError(f"{parameter.opts[0]} {value} is beyond 64 bits")


def file_flags(command: Command) -> Iterator[tuple[Any, Role]]:
    """Yield the parameters of a command that name a file or folder, with the roles in their types."""
    hints = get_type_hints(command.callback, include_extras=True)
    for parameter in command.params:
        for extra in get_args(hints.get(str(parameter.name))):
            if isinstance(extra, Role):
                yield parameter, extra


def named_files(command: Command, values: Mapping[str, Any]) -> list[NamedFile]:
    """Return the files that the flags of a command name."""
    files = []
    for parameter, role in file_flags(command):
        is_flag = parameter.param_type_name == "option"
        flag = min(parameter.opts, key=len) if is_flag else "the input"
        names = values[parameter.name] or (None if is_flag else "-")
        for name in names if isinstance(names, list | tuple) else [names]:
            if name is not None:
                files.append(NamedFile(flag, role, str(name)))
    return files


def how_to_continue(files: Sequence[NamedFile], kept_in: str | None) -> str:
    """Return what to do after a command that did not finish, and whose rows so far are in `kept_in`."""
    if not any(file.flag == "-o" and file.name != "-" for file in files):
        return "with -o, the same command again continues"
    if any(file.is_read and file.name == "-" for file in files):  # this command is only a part of the pipe
        kept = "" if kept_in is None else f"; {kept_in} keeps the rows so far"
        return f"to continue, run the whole pipe again{kept}"
    return f"to continue: {provenance.command_line()}"


def _with_notes(error: BaseException, message: str) -> str:
    return "; ".join([message, *getattr(error, "__notes__", ())])


def _check_words() -> None:
    """Raise UsageError for words that are not UTF-8: JSON could not say what made a file."""
    for word in sys.argv[1:]:
        try:
            word.encode()
        except UnicodeEncodeError:
            readable = os.fsencode(word).decode("utf-8", "backslashreplace")
            raise UsageError(f"{readable} is not UTF-8; give the file another name, or use < and >") from None


def _exit(message: str, status: int) -> None:
    say(message)
    sys.exit(status)


def root(
    version: bool = typer.Option(False, "--version", "-V", help="Show the version and exit."),
) -> None:
    if version:
        from erprm_cli import __version__

        print(f"erprm {__version__}")
        raise typer.Exit
