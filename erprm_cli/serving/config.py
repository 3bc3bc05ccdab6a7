"""Flags of the service. `--help` loads this module, so it imports nothing heavy."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

from erprm_cli import options
from erprm_cli.completions import template_names

_server = partial(options.Option, rich_help_panel=options.Heading.SERVER)


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """Where the service listens, what it accepts, and how it reads what trainers send."""

    host: Annotated[
        str, _server(metavar="HOST", help="Address to listen on; 0.0.0.0 is every interface of this machine.")
    ] = "127.0.0.1"
    port: Annotated[int, _server(metavar="PORT", min=0, max=65_535, help="Port; 0: any free one.")] = 8000
    max_queue: Annotated[
        int,
        _server(metavar="N", min=1, help="Solutions accepted and not yet answered; more get status 503."),
    ] = 4096
    max_body_mb: Annotated[
        float,
        _server("--max-body-mb", metavar="MB", min=0.001, help="Largest request; beyond it: status 413."),
    ] = 16.0
    timeout_s: Annotated[
        float,
        _server(
            "--timeout-s",
            metavar="S",
            min=0.1,
            help="Seconds in which a request must arrive (else status 408) and be answered (else 503).",
        ),
    ] = 120.0
    template: Annotated[
        str,
        options.Role.READ_BY_NAME,
        options.Option(
            "--template",
            "-t",
            metavar="NAME",
            help="Prompt format of the policy whose prompts and solutions come as text: a shipped name or a "
            ".toml file.",
            autocompletion=template_names("policy"),
        ),
    ] = "math-chat"
    aggregate: options.AggregateOption = options.Aggregate.min
