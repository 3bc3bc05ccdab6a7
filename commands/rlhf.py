"""erprm rlhf: a policy improved by what a process reward model prefers."""

from functools import partial
from pathlib import Path
from typing import Annotated

from erprm_cli import options
from erprm_cli.engines.config import LocalConfig
from erprm_cli.rl.config import Algorithm, GrpoConfig, check_algorithm
from erprm_cli.training.config import PolicyTrainingConfig, RaftConfig

# A run sets these itself, or leaves them at the paper's value.
FIXED = options.Without(
    *"base output max_length warmup_ratio weight_decay optim seed bf16 merge_lora report_to revision".split(),
    *"trust_remote_code allow_pickle overwrite".split(),
)


@options.grouped
def rlhf(
    directory: Annotated[
        Path,
        options.Role.RUN,
        options.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="Run directory; a stopped run in it is continued.",
            rich_help_panel=options.Heading.STREAMS,
        ),
    ],
    rows: options.Input,
    config: RaftConfig,
    # A server cannot load the policy of each iteration, and --batch-size is the optimizer's here.
    engine: Annotated[LocalConfig, options.Without("batch_size", "revision", "base_url", "concurrency")],
    training: Annotated[PolicyTrainingConfig, FIXED],
    grpo: GrpoConfig,
    algorithm: Algorithm = "raft",
    template: options.Template = None,
    chat_template_kwargs: options.ChatTemplateKwargs = None,
    steps_of: options.StepsOf = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Improve a policy by RL with a process reward model.

    INPUT holds problems. DIR keeps what is done, so the same command continues a stopped run. By default the
    algorithm is RAFT: stdout gets one row per iteration, with the policy's folder, its greedy accuracy and
    what was selected. --lr is for the first of T iterations; it falls linearly to lr/T in the last. With
    --algorithm grpo, stdout gets the rows of the log, of which the last names the policy.

    Example: erprm rlhf tiny:train --prm prm -o raft --eval tiny:test --iterations 2 --lr 3e-4
    """
    from erprm_cli.data_formats.field_names import FieldNames
    from erprm_cli.data_formats.problems import as_problem
    from erprm_cli.engines.open import choose_engine
    from erprm_cli.engines.plan import report_plan
    from erprm_cli.io.bad_rows import bad_rows
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.run_directory import run_directory
    from erprm_cli.io.writing import open_output
    from erprm_cli.policy.template_choice import choose_template
    from erprm_cli.rl.grpo import Grpo
    from erprm_cli.rl.run import run as run_grpo
    from erprm_cli.rows.streams import unique
    from erprm_cli.terminal.reporter import Reporter
    from erprm_cli.training.distributed import check_launch
    from erprm_cli.training.raft import Raft

    check_algorithm(algorithm, config, grpo, training, engine)
    check_launch(training)
    choose_engine(engine)
    with (
        bad_rows(rows.errors, rows.max_errors) as bad,
        open_output("-", {}) as out,
        Reporter("rlhf", quiet) as reporter,
    ):
        begun = None if overwrite else directory / "run"
        prompt = choose_template(template, engine, reporter, chat_template_kwargs, steps_of, begun)
        names = FieldNames(rows.field, reporter.info)
        common = config, training, engine, prompt, directory, reporter, bad, names
        run = Raft(*common) if algorithm == "raft" else Grpo(*common, grpo=grpo)
        run.check()  # now, not when a round has been sampled
        # In memory, as later rounds need them again; problems are short.
        check = unique(partial(as_problem, names=names), "id")
        problems = list(read_rows(rows.source, check, bad, rows.limit))
        if not problems:
            return
        run.check_problems(problems)
        if engine.dry_run:
            report_plan(run.plan(len(problems)), reporter, engine.tokens_per_s, out)
            return
        settings = run.settings(rows.source, problems)
        with run_directory(directory, settings, overwrite=overwrite):
            if isinstance(run, Grpo):
                run_grpo(run, problems, settings, out.write)
                return
            for row in run.run(problems):
                out.write(row)
