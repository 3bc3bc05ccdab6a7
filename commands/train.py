"""erprm train: labelled solutions -> a process reward model."""

from pathlib import Path
from typing import Annotated

import typer

from erprm_cli import options
from erprm_cli.jsonl import bad_rows, open_output, read_rows
from erprm_cli.progress import News


def train(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder that the model is written to.")
    ],
    source: options.Source = "-",
    base: Annotated[str, typer.Option(help="Model to start from: a folder, a Hub name, or tiny.")] = "tiny",
    outcome_only: Annotated[
        bool, typer.Option("--outcome-only", help="Learn the last label alone: the ORM baseline.")
    ] = False,
    epochs: Annotated[float, typer.Option(min=0.0, help="Passes over the solutions.")] = 1.0,
    lr: Annotated[
        float, typer.Option(min=0.0, help="Peak learning rate; it decays to 0 as a cosine.")
    ] = 5e-7,
    warmup_ratio: Annotated[
        float, typer.Option(min=0.0, max=0.99, help="Share of the steps in which the rate rises.")
    ] = 0.0,
    weight_decay: Annotated[float, typer.Option(min=0.0, help="AdamW's weight decay.")] = 0.0,
    batch_size: Annotated[int, typer.Option(min=1, help="Solutions per optimizer step.")] = 64,
    micro_batch_size: Annotated[
        int,
        typer.Option(min=1, help="Solutions per forward pass of a device; changes speed and memory only."),
    ] = 8,
    max_length: Annotated[
        int, typer.Option(min=1, help="Tokens; a longer solution is left out and counted.")
    ] = 512,
    bf16: Annotated[
        bool | None,
        typer.Option(
            help="Compute in bfloat16, with float32 weights.", show_default="on a GPU that can", is_flag=True
        ),
    ] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, a third more time.")
    ] = False,
    seed: options.Seed = 0,
    revision: options.Revision = None,
    trust_remote_code: options.TrustRemoteCode = False,
    limit: options.Limit = None,
    errors: options.Errors = None,
    max_errors: options.MaxErrors = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is in DIR.")] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a process reward model on labelled solutions.

    INPUT holds solutions with labels, as `erprm label` writes them or in a format that `erprm convert` reads.
    DIR gets a model that transformers loads, its tokenizer, erprm.json and a model card. Log rows (step,
    epoch, loss, lr, grad_norm) go to stdout; the last one adds rows, left_out, seconds, tokens_per_s and
    model. The defaults are the paper's for a base of 8 billion parameters; tiny needs --lr 1e-3.

    Example: erprm train labels.jsonl -o prm --epochs 3 --lr 1e-3
    """
    with (
        bad_rows(errors, max_errors) as bad,
        open_output("-", {}) as out,
        News("train", quiet) as news,
    ):
        from erprm_cli.data_formats import ForeignRows
        from erprm_cli.prm_training import PrmData, PrmTrainingConfig, fit_prm

        config = PrmTrainingConfig(
            base=base,
            output=output,
            outcome_only=outcome_only,
            epochs=epochs,
            lr=lr,
            warmup_ratio=warmup_ratio,
            weight_decay=weight_decay,
            batch_size=batch_size,
            micro_batch_size=micro_batch_size,
            max_length=max_length,
            bf16=bf16,
            gradient_checkpointing=gradient_checkpointing,
            seed=seed,
            revision=revision,
            trust_remote_code=trust_remote_code,
            overwrite=overwrite,
        )
        data = PrmData(config)
        foreign = ForeignRows()
        for _ in read_rows(source, data.add, bad, limit, foreign):
            news.progress(len(data.examples), "solutions read")
        foreign.tell(news)
        last = fit_prm(data, config, out.write, news)
        news.say(
            f"{output}: {last['rows']:,} solutions, {last['step']:,} steps, loss {last['loss']:.4f}, "
            f"{last['seconds']:.0f} s, {last['tokens_per_s']:,.0f} tokens/s"
        )
