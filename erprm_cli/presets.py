"""Flags set in advance: in a table [COMMAND] of a file for --config, by variables ERPRM_<COMMAND>_<FLAG>.

A flag on the command line wins over a variable, a variable over the file, the file over the default. Presets
become words of the command line, so everything that reads or records it (FILE.meta.json, the command that
continues a stopped run) sees the flags that hold, and does not need the file or the variables again.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

from erprm_cli import shipped
from erprm_cli.completions import template_names
from erprm_cli.errors import UsageError
from erprm_cli.io.files import read_toml
from erprm_cli.options import BadParameter, Heading, Option

CONFIG = "config"  # the flag that names the file, which is not in the file itself
PREFIX = "ERPRM"
SWITCHES = {
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def with_config(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` for Typer, with the flag --config, which `with_presets` takes out of its words."""

    @wraps(command)
    def run(**values: Any) -> None:
        del values[CONFIG]
        command(**values)

    flag = Option(
        f"--{CONFIG}",
        metavar="NAME",
        help=f"Take flags from the table [{command.__name__}] of a .toml file, or of a shipped recipe.",
        autocompletion=template_names("pipelines"),
        rich_help_panel=Heading.OTHER,
    )
    annotation = Annotated[str | None, flag]
    parameter = Parameter(CONFIG, Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
    own = signature(command)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), parameter])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, CONFIG: annotation}
    return run


def with_presets(command: Any, context: Any, words: Sequence[str], commands: Iterable[str]) -> list[str]:
    """Return the words of one command with its presets before them.

    `command` and `context` are Typer's; `commands` are the names that tables of the file may have. Raises
    UsageError that names the file and key, or the variable, of an unknown flag or a value it does not take.
    """
    typed, *_ = command.make_parser(context).parse_args(list(words))
    if typed.get("help"):
        return list(words)
    parameters = {flag_name(parameter): parameter for parameter in command.params if parameter.name != CONFIG}
    presets: dict[str, list[str]] = {}
    if typed.get(CONFIG):
        path = shipped.template_path("pipelines", typed[CONFIG], "recipe")
        for name, value in _table(path, command.name, commands).items():
            where = f"{path}: [{command.name}] {name}"
            name = name.replace("_", "-")
            presets[name] = _as_words(_known(parameters, name, where), name, value, where, context)
    for variable, text in _variables(command.name):
        name = variable.removeprefix(f"{PREFIX}_{command.name.upper()}_").replace("_", "-").lower()
        parameter = _known(parameters, name, variable)
        presets[name] = _as_words(parameter, name, _value(parameter, text), variable, context)
    given = {name for name, parameter in parameters.items() if typed.get(parameter.name)}
    flags = [word for name in presets if name not in given for word in presets[name]]
    return flags + _without_config(words)


def flag_name(parameter: Any) -> str:
    """Return the name of a flag in files: the long one without dashes, or an argument's in small letters."""
    is_argument = parameter.param_type_name == "argument"
    name: str = (parameter.metavar or parameter.name) if is_argument else max(parameter.opts, key=len)
    return name.strip("-.").lower()


def _table(path: Path, command: str, commands: Iterable[str]) -> dict[str, Any]:
    """Return the table of `command` in a file that holds one table for each command."""
    tables = read_toml(path)
    known = dict.fromkeys(commands)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise UsageError(
                f"{name!r} stands outside a table", where=path, remedy=f"put it below [{command}]"
            )
        _known(known, name, f"{path}: [{name}]", "command")
    own: dict[str, Any] = tables.get(command, {})
    return own


def _variables(command: str) -> list[tuple[str, str]]:
    begin = f"{PREFIX}_{command.upper()}_"
    return [(name, text) for name, text in sorted(os.environ.items()) if name.startswith(begin)]


def _known(names: Mapping[str, Any], name: str, where: str, kind: str = "flag") -> Any:
    """Return what `name` stands for. Raises UsageError with the nearest names if it is unknown."""
    if name in names:
        return names[name]
    from difflib import get_close_matches  # here, because `--help` loads this module

    near = get_close_matches(name, names, n=3, cutoff=0.5)
    remedy = f"did you mean {' or '.join(near)}?" if near else f"known are {', '.join(sorted(names))}"
    raise UsageError(f"unknown {kind} {name!r}", where=where, remedy=remedy)


def _value(parameter: Any, text: str) -> Any:
    """Return the value of a variable as a file would hold it."""
    if getattr(parameter, "is_flag", False):
        return SWITCHES.get(text.strip().lower(), text)
    if _takes_many(parameter):
        import shlex  # here, because `--help` loads this module

        return shlex.split(text)
    return text


def _takes_many(parameter: Any) -> bool:
    return parameter.nargs == -1 or getattr(parameter, "multiple", False)


def _as_words(parameter: Any, name: str, value: Any, where: str, context: Any) -> list[str]:
    """Return the words that give `value` to a flag on a command line."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError(f"must be true or false, not {value!r}", where=where)
        return [f"--{name}"] if value else list(parameter.secondary_opts[:1])
    values = value if _takes_many(parameter) and isinstance(value, list) else [value]
    for one in values:
        if isinstance(one, bool) or not isinstance(one, str | int | float):
            raise UsageError(f"must be a number or a text, not {one!r}", where=where)
        try:
            parameter.process_value(context, [str(one)] if _takes_many(parameter) else str(one))
        except BadParameter as error:
            raise UsageError(error.message, where=where) from None
    is_argument = parameter.param_type_name == "argument"
    return [str(one) if is_argument else f"--{name}={one}" for one in values]


def _without_config(words: Sequence[str]) -> list[str]:
    """Return `words` without --config NAME, which has done its work."""
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if word == f"--{CONFIG}":
            next(rest)
        elif not word.startswith(f"--{CONFIG}="):
            kept.append(word)
    return kept
