"""erprm rlhf: a policy improved by what a process reward model prefers."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig


# A server cannot take the policy of each round, and --batch-size is the optimizer's here.
@options.grouped
def rlhf(
    prm: options.Prm,
    directory: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="The run directory; it is continued.")
    ],
    source: options.Source = "-",
    prm_format: options.PrmFormatName = None,
    template: options.Template = "tiny",
    evaluation: Annotated[
        str | None,
        typer.Option("--eval", metavar="FILE", help="Problems for a greedy evaluation each round."),
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Rounds of sample, score, select, train.")] = 3,
    slice_size: Annotated[int, typer.Option(min=1, help="Problems of a round.")] = 20_000,
    n: Annotated[int, typer.Option("-n", "--n", min=1, help="Solutions of each problem.")] = 16,
    temperature: options.Temperature = 1.0,
    top_p: options.TopP = 1.0,
    max_tokens: options.MaxTokens = 512,
    aggregate: options.AggregateOption = options.Aggregate.min,
    require_correct: Annotated[
        bool, typer.Option("--require-correct", help="Keep only solutions with the right answer.")
    ] = False,
    epochs: Annotated[float, typer.Option(min=0.0, help="Passes over what was kept.")] = 2.0,
    lr: Annotated[float, typer.Option(help="Learning rate of round 1; it falls linearly.")] = 5e-7,
    batch_size: Annotated[int, typer.Option(min=1, help="Solutions of an optimizer step.")] = 128,
    lora_rank: options.LoraRank = 0,
    micro_batch_tokens: options.MicroBatchTokens = 0,
    packing: options.Packing = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    attn_implementation: options.AttnImplementation = None,
    accelerate_config: options.AccelerateConfig = None,
    num_processes: options.NumProcesses = None,
    save_steps: options.SaveSteps = 500,
    seed: options.Seed = 0,
    *,
    engine: Annotated[EngineConfig, options.Without("batch_size", "revision", "base_url", "concurrency")],
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: options.Overwrite = False,
    quiet: options.Quiet = False,
) -> None:
    """Improve a policy by RAFT with a process reward model.

    INPUT holds problems. Every phase is a JSONL file in DIR, so the same command continues a stopped run.
    stdout gets one row per round: the policy's folder, its greedy accuracy, what was selected.

    Example: erprm rlhf tiny:train --prm prm -o raft --eval tiny:test --iterations 2 --lr 3e-4
    """
    from erprm_cli.data_formats.problems import as_problem
    from erprm_cli.io.bad_rows import bad_rows
    from erprm_cli.io.reading import read_rows
    from erprm_cli.io.run_directory import run_directory
    from erprm_cli.io.writing import open_output
    from erprm_cli.policy.templates import load_template
    from erprm_cli.rows.streams import unique
    from erprm_cli.terminal.reporter import Reporter
    from erprm_cli.training.config import RaftConfig
    from erprm_cli.training.distributed import check_packages
    from erprm_cli.training.raft import Raft

    config = RaftConfig(
        policy=engine.model,
        prm=prm,
        prm_format=prm_format,
        iterations=iterations,
        slice_size=slice_size,
        n=n,
        temperature=temperature,
        top_p=top_p,
        max_tokens=max_tokens,
        aggregate=aggregate.value,
        require_correct=require_correct,
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        lora_rank=lora_rank,
        seed=seed,
    )
    how = {
        "micro_batch_tokens": micro_batch_tokens,
        "packing": packing,
        "gradient_checkpointing": gradient_checkpointing,
        "attn_implementation": attn_implementation,
        "accelerate_config": accelerate_config,
        "num_processes": num_processes,
        "save_steps": save_steps,
    }
    check_packages(accelerate_config, lora_rank)  # a round fine-tunes at its end only
    recipe = load_template(template)
    settings = {"command": "rlhf", **asdict(config), "template": recipe.name, "eval": evaluation}
    with (
        bad_rows(errors, max_errors) as bad,
        open_output("-", {}) as out,
        Reporter("rlhf", quiet) as reporter,
    ):
        # The slices of later rounds wait for the earlier rounds: the problems, all short, stay in memory.
        problems = list(read_rows(source, unique(as_problem, "id"), bad, limit))
        if not problems:
            return
        raft = Raft(config, engine, recipe, directory, evaluation, reporter, bad.note, how)
        with run_directory(directory, settings, overwrite=overwrite):
            for row in raft.run(problems):
                out.write(row)
