"""erprm train: labelled solutions -> a process reward model."""

from contextlib import nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.bad_rows import bad_rows
from erprm_cli.io.writing import open_output
from erprm_cli.terminal.reporter import Reporter

Kind = StrEnum("Kind", ["token", "head"])
Target = StrEnum("Target", ["labels", "counts"])
Weighting = StrEnum("Weighting", ["step", "solution"])
ReportTo = StrEnum("ReportTo", ["none", "tensorboard", "wandb", "trackio"])


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that the model is written to.")
    ],
    source: options.Source = "-",
    base: Annotated[str, typer.Option(help="Model to start from: a folder, a Hub name, or tiny.")] = "tiny",
    kind: Annotated[
        Kind, typer.Option(help="Answer by the words + and - of a language model, or by a head of 2 classes.")
    ] = Kind.token,
    prm_format: Annotated[
        str, typer.Option("--prm-format", help="What the model reads: a shipped name or a .toml file.")
    ] = "er-prm",
    target: Annotated[
        Target, typer.Option(help="Learn labels, or the counts of right completions in `rollouts`.")
    ] = Target.labels,
    weighting: Annotated[
        Weighting, typer.Option(help="What counts alike: every step, or every solution.")
    ] = Weighting.step,
    outcome_only: Annotated[
        bool, typer.Option("--outcome-only", help="Learn the last label alone: the ORM baseline.")
    ] = False,
    evaluation: Annotated[
        str | None, typer.Option("--eval", metavar="FILE", help="Labelled solutions to validate on.")
    ] = None,
    eval_fraction: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share of the problems to set aside and validate on.")
    ] = 0.0,
    epochs: Annotated[float, typer.Option(min=0.0, help="Passes over the solutions.")] = 1.0,
    lr: Annotated[
        float, typer.Option(min=0.0, help="Peak learning rate; it decays to 0 as a cosine.")
    ] = 5e-7,
    warmup_ratio: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of the steps in which the rate rises.")
    ] = 0.0,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="AdamW's weight decay.")] = 0.0,
    optim: Annotated[str, typer.Option(help="Optimizer, as transformers calls it.")] = "adamw_torch_fused",
    batch_size: Annotated[int, typer.Option(min=1, help="Solutions per optimizer step.")] = 64,
    micro_batch_tokens: options.MicroBatchTokens = 0,
    packing: options.Packing = None,
    max_length: Annotated[
        int, typer.Option(min=1, help="Tokens; a longer solution is left out and counted.")
    ] = 512,
    truncate: Annotated[
        bool, typer.Option("--truncate", help="Keep the whole steps of a longer solution that fit.")
    ] = False,
    lora_rank: options.LoraRank = 0,
    merge_lora: Annotated[
        bool, typer.Option("--merge-lora", help="Save whole weights with the adapters added to them.")
    ] = False,
    bf16: Annotated[
        bool | None,
        typer.Option(
            help="Compute in bfloat16, with float32 weights.", show_default="on a GPU that can", is_flag=True
        ),
    ] = None,
    gradient_checkpointing: options.GradientCheckpointing = False,
    attn_implementation: options.AttnImplementation = None,
    accelerate_config: options.AccelerateConfig = None,
    num_processes: options.NumProcesses = None,
    save_steps: options.SaveSteps = 500,
    report_to: Annotated[ReportTo, typer.Option(help="Also send the log there.")] = ReportTo.none,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    allow_pickle: options.AllowPickle = False,
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in DIR.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a process reward model on labelled solutions.

    INPUT holds solutions with labels, as `erprm label` writes them or in a format that `erprm convert` reads.
    DIR gets a model that transformers loads, its tokenizer, erprm.json and a model card. The same command
    again continues a stopped run from its last checkpoint, which waits in .DIR.run beside DIR. Log rows
    (step, epoch, loss, lr, grad_norm; with validation eval_loss, eval_brier, eval_ece, eval_auc) go to
    stdout; the last one adds rows, left_out, seconds, tokens_per_s and model. The defaults are the paper's
    for a base of 8 billion parameters; tiny needs --lr 1e-3.

    Example: erprm train labels.jsonl -o prm --epochs 3 --lr 1e-3
    """
    if merge_lora and not lora_rank:
        raise UsageError("--merge-lora merges what --lora-rank trains; give both")
    from erprm_cli.training.distributed import Silence, is_main

    # Of several processes that accelerate started, the first one reads, speaks and writes.
    first = is_main()
    with (
        bad_rows(*(errors, max_errors) if first else (None, None)) as bad,
        open_output("-", {}) as out,
        Reporter("train", quiet) if first else Silence() as reporter,
    ):
        from erprm_cli.training import train
        from erprm_cli.training.config import PrmTrainingConfig
        from erprm_cli.training.prm_task import PrmTask
        from erprm_cli.training.run_folder import locked_run

        config = PrmTrainingConfig(
            base=base,
            output=output,
            kind=kind.value,
            format=prm_format,
            target=target.value,
            weighting=weighting.value,
            outcome_only=outcome_only,
            eval=evaluation,
            eval_fraction=eval_fraction,
            epochs=epochs,
            lr=lr,
            warmup_ratio=warmup_ratio,
            weight_decay=weight_decay,
            optim=optim,
            batch_size=batch_size,
            micro_batch_tokens=micro_batch_tokens,
            packing=packing,
            max_length=max_length,
            truncate=truncate,
            lora_rank=lora_rank,
            merge_lora=merge_lora,
            bf16=bf16,
            gradient_checkpointing=gradient_checkpointing,
            attn_implementation=attn_implementation,
            accelerate_config=accelerate_config,
            num_processes=num_processes,
            save_steps=save_steps,
            report_to=report_to.value,
            seed=seed,
            revision=revision,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
            overwrite=overwrite,
        )
        data = PrmTask(config)
        with locked_run(output) if first else nullcontext():
            data.read(source, bad, limit, reporter)
            last = train.train(data, out.write, reporter)
        reporter.info(
            f"{output}: {last['rows']:,} solutions, {last['step']:,} steps, loss {last['loss']:.4f}, "
            f"{last['seconds']:.0f} s, {last['tokens_per_s']:,.0f} tokens/s"
        )
