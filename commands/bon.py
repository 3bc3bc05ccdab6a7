"""erprm bon: candidates -> the best of each problem, or the majority answer, and how good that is."""

from contextlib import closing
from typing import Annotated

from erprm_cli import options
from erprm_cli.evaluation.config import BestOfNConfig
from erprm_cli.io.sources import check_input
from erprm_cli.io.streams import ResultStreams, open_side_output, open_streams
from erprm_cli.reports.config import FiguresConfig
from erprm_cli.rows.row import Row


@options.grouped
def bon(
    streams: ResultStreams,
    figures: FiguresConfig,
    config: BestOfNConfig,
    prm: options.PrmOnTheWay = None,
    prm_format: options.PrmFormatName = None,
    engine: options.ScoringEngine = "auto",
    aggregate: options.AggregateOption = options.Aggregate.min,
    all_aggregates: options.AllAggregates = False,
    report: Annotated[
        str | None, options.Role.ROWS, options.Option(metavar="FILE", help="Write one JSON row per result.")
    ] = None,
    seed: options.Seed = 0,
) -> None:
    """Choose the best of N candidates and judge the choice.

    Writes one row per problem: the solution with the highest score, with score, n, aggregate and correct
    (reward above 0.5; null without a reward). Without scores, it is the first solution with the most frequent
    answer; score is then the share of candidates with that answer. Of tied candidates or answers, the row has
    the one that comes first; the table counts them with their mean. INPUT holds solutions in any order, all
    with scores or all without, or solutions with one reward each in a format that `erprm convert` reads. On
    stderr: pass@1, votes, best-of-n (with scores) and pass@n for every n over all subsets of the candidates
    (votes: over random subsets), with 95 % intervals over problems; with --compare also paired differences.
    --plot draws accuracy against n. With --x tokens, INPUT and the files of --compare hold solutions of the
    same problems, by `erprm search` or `erprm sample`, and differences are at equal tokens of the policy.

    Example: erprm sample tiny:test -L 40 -n 16 | erprm bon -o chosen.jsonl
    """
    from erprm_cli.answers.grader import Grader
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.foreign_rows import ForeignRows
    from erprm_cli.evaluation import best_of_n, candidates, equal_tokens
    from erprm_cli.prm.scoring import ScoredRows
    from erprm_cli.reports import charts, tables
    from erprm_cli.reports.figures import check_figures, write_figures
    from erprm_cli.rows.versions import Versions, one_version

    others, budgets = config.others, config.budgets
    check_figures(figures)
    for other in others:
        check_input(other)
    aggregates = options.aggregates(aggregate, all_aggregates)
    settings: Row = {"command": "bon", "aggregate": aggregate.value, "prm": prm}
    by_tokens = config.x == "tokens"
    shown = {"all_aggregates": all_aggregates, "n": config.n, "compare": others, "seed": seed, "x": config.x}
    need_scores = ["--compare"] * bool(others and not by_tokens) + ["--all-aggregates"] * all_aggregates
    need_scores += [f"--aggregate {aggregate.value}"] * (aggregate != options.Aggregate.min)
    pool, costs = candidates.Candidates(streams.source, aggregates), equal_tokens.Costs()
    seen = Versions()
    check = one_version(candidates.check_candidate, seen)
    check_unless_prm = one_version(candidates.CandidateCheck(" and ".join(need_scores)), seen)
    if by_tokens:
        check, check_unless_prm = costs.counting(check), costs.counting(check_unless_prm)
    with (
        open_streams("bon", streams, settings, atomic=True) as (bad, out, reporter),
        open_side_output(report, streams, settings | shown) as report_out,
        closing(ScoredRows(prm, check, check_unless_prm, engine, prm_format, reporter)) as rows,
        Grader() as grader,  # answers that it finds equal vote together
    ):
        for other in others if prm is not None else ():  # not after hours of scoring
            candidates.check_compared(other, FieldNames(streams.field), streams.limit)
        names = FieldNames(streams.field, reporter.info)
        foreign = ForeignRows(names=names)
        for row in rows.read(streams.source, bad, streams.limit, foreign):
            pool.add(row)
            reporter.progress(pool.count, "candidates")
        foreign.report(reporter)
        pool.check_evidence()
        files, compared = [equal_tokens.Searched(pool, costs)], list[candidates.ScoreTable]()
        for other in others:
            if by_tokens:
                files.append(equal_tokens.read_searched(other, pool, streams.limit, seen, names))
            else:
                compared.append(candidates.read_scores(other, aggregates, streams.limit, seen, names))
                pool.table.check_same(compared[-1])
        reporter.start("problems", total=len(pool.problems))
        for row in pool.choices(grader):
            out.write(row)
            reporter.progress(out.count, "problems", len(pool.problems), "choosing")
        out.flush()
        if not pool.count:
            return
        chosen_by = aggregate.value if pool.scored else candidates.MAJORITY
        reporter.info(f"{len(pool.problems):,} problems, {pool.count:,} candidates; chosen by {chosen_by}")
        if by_tokens:
            at_tokens = equal_tokens.evaluate(files, budgets, seed, grader, reporter)
            found_rows = [result.row() for result in at_tokens]
            table, grids = tables.tokens_table(at_tokens), tables.tokens_grids(at_tokens)
            chart = charts.tokens_chart(at_tokens)
        else:
            at_n = best_of_n.evaluate(pool, compared, budgets, seed, grader, reporter)
            found_rows = [result.row() for result in at_n]
            table, grids = tables.best_of_n_table(at_n), tables.best_of_n_grids(at_n)
            chart = charts.accuracy_chart(at_n)
        if not found_rows:
            return
        reporter.show(table)
        if report_out is not None:
            for row in found_rows:
                report_out.write(row)
        write_figures(figures, chart, grids, found_rows, reporter)
