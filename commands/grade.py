"""erprm grade: solutions of any origin -> predictions and rewards."""

from typing import Annotated

from erprm_cli import options
from erprm_cli.io.streams import open_streams


@options.grouped
def grade(
    streams: options.Streams,
    template: Annotated[
        str | None,
        options.Role.READ_BY_NAME,
        options.Option(
            "--template",
            "-t",
            metavar="NAME",
            help="Prompt format whose rules find the answers: a shipped name or a .toml file. Default: the "
            "shipped one that a row was sampled with, else every rule.",
        ),
    ] = None,
    gold_field: Annotated[
        str,
        options.Option(
            metavar="NAME",
            help="Field of the gold answer: text, a number, or a worked solution that ends with the answer.",
        ),
    ] = "answer",
) -> None:
    """Grade solutions of any origin, or grade them again.

    Replaces or adds prediction and reward; steps and answer are added where they are missing, all other
    fields stay as they are. The reward is 1 if the prediction equals the gold answer, else 0; it is 0 if the
    solution is unfinished (finish_reason length), and null without a gold answer or if the completion failed
    or was filtered (abort, content_filter and the like). INPUT holds solutions (problem, solution), or
    rows of a format that `erprm convert` reads. On stderr: how many predictions and rewards changed.

    Example: erprm grade solutions.jsonl -o graded.jsonl
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.policy.grading import grade_to
    from erprm_cli.policy.templates import load_template

    rules = None if template is None else load_template(template)
    settings = {"command": "grade", "template": template, "gold_field": gold_field}
    with open_streams("grade", streams, settings, atomic=True) as (bad, out, reporter):
        grade_to(
            out,
            streams.source,
            reporter,
            template=rules,
            gold_field=gold_field,
            bad=bad,
            limit=streams.limit,
            names=FieldNames(streams.field, reporter.info),
        )
