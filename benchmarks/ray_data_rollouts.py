"""Solutions and rollouts of the shipped policy, made by Ray Data with vLLM's processor; for bench_cluster.py.

    python benchmarks/ray_data_rollouts.py problems.jsonl DIR MODEL COPIES

Not a pipeline: nothing is graded, labelled or continued, and one row is one completion, because vLLM's stage
of Ray Data keeps the first completion of a request only. DIR/rollouts-0.jsonl has the texts in place of
rewards.
"""

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import jsonlines
import ray
from ray.data.llm import build_processor, vLLMEngineProcessorConfig

from erprm_cli.policy.templates import load_template
from erprm_cli.rows.steps import prefixes, split_steps

SOLUTIONS, ROLLOUTS, MAX_TOKENS = 15, 16, 160


def processor(model: str, copies: int) -> Any:
    """Return a function from rows with a prompt to rows with its completion, on copies of the model."""
    config = vLLMEngineProcessorConfig(
        model_source=model,
        engine_kwargs={
            "dtype": "float32",
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "block_size": 32,
        },
        placement_group_config={"bundles": [{"CPU": 1}]},
        log_engine_metrics=False,  # which would need `ray[serve]`
        concurrency=(copies, copies),
        batch_size=16,
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
    )
    sampling = {"temperature": 1.0, "max_tokens": MAX_TOKENS}
    return build_processor(
        config,
        preprocess=lambda row: row | {"sampling_params": sampling},
        postprocess=lambda row: {"prompt": row["prompt"], "text": row["generated_text"]},
    )


def complete(generate: Any, prompts: list[str]) -> dict[str, list[str]]:
    """Return the completions of each prompt; a prompt may be there several times."""
    texts = defaultdict(list)
    for row in generate(ray.data.from_items([{"prompt": prompt} for prompt in prompts])).take_all():
        texts[row["prompt"]].append(row["text"])
    return texts


def main() -> None:
    problems, folder, model, copies = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    ray.init(address="auto")
    ray.data.DataContext.get_current().enable_progress_bars = False
    template = load_template("tiny")
    with jsonlines.open(problems) as reader:
        rows = [*reader]
    generate = processor(model, copies)
    begins = [template.fill(row["problem"]) for row in rows]
    texts = complete(generate, [begin for begin in begins for _ in range(SOLUTIONS)])
    solutions = [
        (row["id"], begin, text, split_steps(text, template.step_break))
        for row, begin in zip(rows, begins, strict=True)
        for text in texts[begin]
    ]
    cut = [begin + part for _, begin, text, steps in solutions for part in prefixes(text, steps)]
    rollouts = complete(generate, [prompt for prompt in dict.fromkeys(cut) for _ in range(ROLLOUTS)])
    with jsonlines.open(folder / "rollouts-0.jsonl", "w") as writer:
        for name, begin, text, steps in solutions:
            made = [rollouts[begin + part] for part in prefixes(text, steps)]
            writer.write({"id": name, "steps": steps, "rollouts": [*made, [text]]})


if __name__ == "__main__":
    main()
