"""erprm train: labelled solutions -> a process reward model."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from erprm_cli import options
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.sources import check_input
from erprm_cli.io.writing import open_output
from erprm_cli.reports.config import FiguresConfig
from erprm_cli.rows.row import Row
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PrmTrainingConfig


@options.grouped
def train(
    rows: options.Input,
    config: Annotated[PrmTrainingConfig, options.Without("log_every")],
    figures: FiguresConfig,
    quiet: options.Quiet = False,
    dry_run: options.DryRun = False,
    tokens_per_s: options.TokensPerS = None,
) -> None:
    """Train a process reward model on labelled solutions.

    INPUT holds solutions with labels, as `erprm label` writes them or in a format that `erprm convert` reads.
    DIR gets a model that transformers loads, its tokenizer, erprm.json and a model card. The same command
    continues a stopped run from its last checkpoint, which is kept in .DIR.run beside DIR. Log rows (step,
    epoch, loss, lr, grad_norm; with validation also eval_loss, eval_brier, eval_ece, eval_auc) go to stdout;
    the last one adds rows, left_out, seconds, tokens_per_s and model. --plot draws the loss. The defaults are
    the paper's, for a base with 8 billion parameters; tiny needs --lr 1e-3.

    Example: erprm train labels.jsonl -o prm --epochs 3 --lr 1e-3
    """
    from erprm_cli.reports import charts, tables
    from erprm_cli.reports.figures import check_figures, write_figures
    from erprm_cli.training.distributed import Silence, check_launch, is_main

    options.check_dry_run(dry_run, tokens_per_s)
    check_figures(figures)
    check_launch(config)
    for source in filter(None, (rows.source, config.eval)):
        check_input(source)
    # Of several processes that accelerate started, only the first one reads, reports and writes.
    first = is_main()
    with (
        bad_rows(*(rows.errors, rows.max_errors) if first else (None, None)) as bad,
        open_output("-", {}) as out,
        Reporter("train", quiet) if first else Silence() as reporter,
    ):
        from erprm_cli.data_formats.field_names import FieldNames

        names = FieldNames(rows.field, reporter.info)
        from erprm_cli.engines.plan import report_plan
        from erprm_cli.training import train
        from erprm_cli.training.plan import training_plan
        from erprm_cli.training.prm_task import PrmTask
        from erprm_cli.training.run_folder import locked_run

        log: dict[int, Row] = {}

        def write(row: Row) -> None:
            out.write(row)
            log[row["step"]] = row  # the last step has two rows; its second one has all fields

        task = PrmTask(config)
        if dry_run:
            from tempfile import TemporaryDirectory

            with TemporaryDirectory(prefix="erprm-") as folder:
                task.store.folder = Path(folder) / "data"  # the run folder may be in use
                task.read(rows.source, bad, rows.limit, reporter, names)
                task.check_examples(reporter)
                report_plan(training_plan(task), reporter, tokens_per_s, out)
            return
        with locked_run(config.output) if first else nullcontext():
            task.read(rows.source, bad, rows.limit, reporter, names)
            last = train.train(task, write, reporter)
        reporter.info(
            f"{config.output}: {last['rows']:,} solutions, {last['step']:,} steps, loss {last['loss']:.4f}, "
            f"{last['seconds']:.0f} s, {last['tokens_per_s']:,.0f} tokens/s"
        )
        if first:
            steps = list(log.values())
            chart, grids = charts.training_chart(steps), [tables.training_grid(steps)]
            write_figures(figures, chart, grids, steps, reporter)
