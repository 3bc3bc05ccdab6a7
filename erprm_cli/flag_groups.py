"""Flags from dataclasses: each field of a command's parameters declares one flag."""

from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from inspect import Parameter, signature
from typing import Annotated, Any, get_args, get_origin, get_type_hints


@dataclass(frozen=True, slots=True)
class Without:
    """Fields of a dataclass that are not flags of a command; they keep their defaults."""

    names: tuple[str, ...]

    def __init__(self, *names: str) -> None:
        object.__setattr__(self, "names", names)


def given(config: Any, names: Iterable[str] | None = None) -> list[str]:
    """Return the flags of a dataclass that are not at their defaults; only those in `names`, if given."""
    hints = get_type_hints(type(config), include_extras=True)
    flags = []
    for field in fields(config):
        if (names is None or field.name in names) and getattr(config, field.name) != field.default:
            # Typer keeps the name of a flag that has one of its own as the default of the option.
            named = getattr(get_args(hints[field.name])[-1], "default", None)
            flags.append(named if isinstance(named, str) else f"--{field.name.replace('_', '-')}")
    return flags


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """Return `command` for Typer, with a flag for each field of its parameters that are dataclasses.

    A field without a default becomes a required flag; a default factory is called for each command line.
    `Annotated[Config, Without("seed")]` leaves fields out.
    Typer has no groups of options: it reads the signature of a command, so a signature is what is made here.
    """
    hints = get_type_hints(command, include_extras=True)
    flags: dict[str, Parameter] = {}
    groups: dict[str, tuple[Any, list[str]]] = {}
    for name, parameter in signature(command).parameters.items():
        config, *extras = get_args(hints[name]) if get_origin(hints[name]) is Annotated else (hints[name],)
        if not is_dataclass(config):
            flags[name] = parameter.replace(kind=Parameter.KEYWORD_ONLY, annotation=hints[name])
            continue
        left_out = {field for extra in extras if isinstance(extra, Without) for field in extra.names}
        types = get_type_hints(config, include_extras=True)
        own = [field for field in fields(config) if field.init and field.name not in left_out]
        groups[name] = config, [field.name for field in own]
        for field in own:
            default = field.default if field.default is not MISSING else field.default_factory
            default = Parameter.empty if default is MISSING else default
            assert field.name not in flags, f"two flags are called {field.name}"
            flags[field.name] = Parameter(
                field.name, Parameter.KEYWORD_ONLY, default=default, annotation=types[field.name]
            )

    def run(**values: Any) -> None:
        configs = {
            name: config(**{field: values.pop(field) for field in names})
            for name, (config, names) in groups.items()
        }
        command(**values, **configs)

    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = signature(command).replace(parameters=list(flags.values()))  # type: ignore[attr-defined]
    run.__annotations__ = {name: flag.annotation for name, flag in flags.items()}
    return run
