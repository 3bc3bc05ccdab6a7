"""erprm bon: scored solutions -> the best of each problem, and how good that is."""

from contextlib import ExitStack
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.writing import open_atomic_output
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter


def bon(
    source: options.Source = "-",
    output: options.Target = "-",
    prm: options.PrmOnTheWay = None,
    prm_format: options.PrmFormatName = None,
    engine: options.Engine = options.EngineName.auto,
    aggregate: options.AggregateOption = options.Aggregate.min,
    all_aggregates: options.AllAggregates = False,
    n: Annotated[
        str | None,
        typer.Option(
            "-n", "--n", metavar="N,...", help="Show figures for these n; else 1,4,8,16,32,64 and all."
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="The same candidates scored by another PRM; repeatable."),
    ] = None,
    report: Annotated[str | None, typer.Option(metavar="FILE", help="Write one JSON row per figure.")] = None,
    plot: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Draw the figures against n (.png, .svg, .pdf; - is in letters)."),
    ] = None,
    seed: options.Seed = 0,
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Choose the best of N candidates and judge the choice.

    Writes one row per problem: the solution with the highest score (of equal ones the first), with score, n,
    aggregate and correct (reward above 0.5; null without reward). INPUT holds scored solutions in any order,
    or solutions with one reward each in a format that `erprm convert` reads. On stderr: pass@1, votes,
    best-of-n and pass@n for every n over all subsets of the candidates (votes: over random ones), with 95 %
    intervals over problems; with --compare also paired differences.

    Example: erprm score --prm prm solutions.jsonl | erprm bon -o chosen.jsonl
    """
    from erprm_cli.answers.grader import Grader
    from erprm_cli.data_formats.foreign_rows import ForeignRows
    from erprm_cli.evaluation import best_of_n, candidates
    from erprm_cli.prm.scoring import ScoredRows
    from erprm_cli.reports import plots, tables

    others, budgets = compare or [], _budgets(n)
    if report == "-" and output == "-":
        raise UsageError("the chosen rows and --report cannot share stdout; give -o FILE or --report FILE")
    if plot not in (None, "-"):
        plots.load_figure_module()
    aggregates = options.aggregates(aggregate, all_aggregates)
    settings: Row = {"command": "bon", "aggregate": aggregate.value, "prm": prm}
    shown = {"all_aggregates": all_aggregates, "n": n, "compare": others, "seed": seed}
    with (
        Reporter("bon", quiet) as reporter,
        bad_rows(errors, max_errors) as bad,
        open_atomic_output(output, settings, source=source, overwrite=overwrite) as out,
        ExitStack() as stack,
    ):
        figure_rows = None
        if report is not None:
            figure_rows = stack.enter_context(
                open_atomic_output(report, settings | shown, source=source, overwrite=overwrite)
            )
        pool = candidates.Candidates(source, aggregates)
        foreign = ForeignRows()
        checks = candidates.solution, candidates.scored_solution
        rows = ScoredRows(prm, *checks, "id", "sample", engine=engine, prm_format=prm_format)
        stack.callback(rows.close)
        for row in rows.read(source, bad, limit, foreign):
            pool.add(row)
            reporter.progress(pool.count, "candidates")
        foreign.report(reporter)
        compared = [candidates.read_scores(other, aggregates, limit) for other in others]
        for table in compared:
            pool.table.check_same(table)
        for row in pool.choices():
            out.write(row)
        out.flush()
        if not pool.count:
            return
        reporter.info(
            f"{len(pool.problems):,} problems, {pool.count:,} candidates; chosen by {aggregate.value}"
        )
        graded = []
        with Grader() as grader:  # the answers that vote together are those that grade as equal
            for problem in pool.graded(compared, grader):
                graded.append(problem)
                reporter.progress(len(graded), "problems", len(pool.problems), "grouping answers")
        if len(graded) < len(pool.problems):
            without = len(pool.problems) - len(graded)
            reporter.warn(
                f"{without:,} problems are in no figure, as 'reward' is missing; `erprm sample` writes it"
            )
        if not graded:
            return
        names = candidates.prm_names([pool.table, *compared])
        budgets = budgets or best_of_n.default_budgets(len(problem.correct_N) for problem in graded)
        found = best_of_n.evaluate(graded, names, aggregates, budgets, seed)
        for unknown in sorted(set(budgets) - {figure.n for figure in found}):
            reporter.warn(f"no problem has {unknown:,} candidates; there is no figure for that n")
        reporter.show(tables.best_of_n_table(found))
        if figure_rows is not None:
            for figure in found:
                figure_rows.write(figure.row())
        if plot == "-":
            reporter.show(f"\n{plots.text_accuracy(found)}")
        elif plot is not None:
            plots.plot_accuracy(found, plot)


def _budgets(text: str | None) -> list[int]:
    """Return the numbers of --n, or nothing where it is not given."""
    numbers = [part.strip() for part in text.split(",")] if text is not None else []
    if not all(part.isdecimal() and int(part) for part in numbers):
        raise UsageError(f"--n takes whole numbers from 1 with commas between, like 1,4,16, not {text!r}")
    return sorted(set(map(int, numbers)))
