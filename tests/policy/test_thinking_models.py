"""Each template of a thinking model, with the real tokenizer: the prompt, the ids, and a tiny model of it."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from erprm_cli import shipped
from erprm_cli.answers.grader import Grader
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.open import open_engine
from erprm_cli.policy.prompts import make_prompt, render_end, render_prompt
from erprm_cli.policy.reasoning import continued, written
from erprm_cli.policy.rollouts import Roller
from erprm_cli.policy.sampling import SamplingSettings, sample_solutions
from erprm_cli.policy.templates import PolicyTemplate, load_template
from erprm_cli.rows.row import Row
from erprm_cli.rows.steps import split_steps
from erprm_cli.terminal.reporter import Reporter
from erprm_cli.training.config import PolicyTrainingConfig
from erprm_cli.training.train import train_policy
from tests.scripted import ScriptedEngine
from tests.thinking_models import save_thinking_model, thinking_tokenizer

pytestmark = pytest.mark.thorough  # the real tokenizers are large

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
GPT_OSS_SYSTEM = (
    "<|start|>system<|message|>You are ChatGPT, a large language model trained by OpenAI.\nKnowledge cutoff: "
    "2024-06\nCurrent date: 2025-06-28\n\nReasoning: {}\n\n# Valid channels: analysis, commentary, final. "
    "Channel must be included for every message.<|end|>"
)
GPT_OSS_TURNS = (
    f"<|start|>developer<|message|># Instructions\n\n{INSTRUCTION}\n\n<|end|>"
    "<|start|>user<|message|>2 + 3?<|end|>"
)
PROMPTS = {
    "qwen3": f"<|im_start|>user\n2 + 3?\n{INSTRUCTION}<|im_end|>\n<|im_start|>assistant\n",
    "qwen3-non-thinking": f"<|im_start|>user\n2 + 3?\n{INSTRUCTION}<|im_end|>\n<|im_start|>assistant\n"
    "<think>\n\n</think>\n\n",
    "deepseek-r1": f"<｜begin▁of▁sentence｜><｜User｜>2 + 3?\n{INSTRUCTION}<｜Assistant｜><think>\n",
    "gpt-oss": GPT_OSS_SYSTEM.format("medium") + GPT_OSS_TURNS + "<|start|>assistant",
    "magistral": "<s>[INST]2 + 3?[/INST]",
}
ENDS = {"deepseek-r1": "<｜end▁of▁sentence｜>", "gpt-oss": "<|return|>", "magistral": "</s>"}
REASONING = {
    "qwen3": "\nTwo.\n\nThree.\n",
    "deepseek-r1": "Two.\n\nThree.\n",
    "gpt-oss": "Two.\n\nThree.",
    "magistral": "Two.\n\nThree.",
}
# What the model writes after the prompt, by its card.
COMPLETIONS = {
    "qwen3": "<think>\nTwo.\n\nThree.\n</think>\n\nSo 2 + 3.\n\nIt is \\boxed{5}.",
    "qwen3-non-thinking": "So 2 + 3.\n\nIt is \\boxed{5}.",
    "deepseek-r1": "Two.\n\nThree.\n</think>\n\nSo 2 + 3.\n\nIt is \\boxed{5}.",
    "gpt-oss": "<|channel|>analysis<|message|>Two.\n\nThree.<|end|>"
    "<|start|>assistant<|channel|>final<|message|>So 2 + 3.\n\nIt is \\boxed{5}.",
    "magistral": "[THINK]Two.\n\nThree.[/THINK]So 2 + 3.\n\nIt is \\boxed{5}.",
}
THINKING = [*REASONING]
PROBLEM = {"id": "a", "problem": "2 + 3?", "answer": "5"}


def template_of(name: str) -> PolicyTemplate:
    if name in shipped.names("policy"):
        return load_template(name)
    return PolicyTemplate(name, "{problem}", True, step_break=r"\n\s*\n", reasoning="mistral")


def solution(name: str, **changes: Any) -> Row:
    """Return the row of COMPLETIONS[name]."""
    answer = "So 2 + 3.\n\nIt is \\boxed{5}."
    before = "\n\n" if name in ("qwen3", "deepseek-r1") else ""
    row = PROBLEM | {"sample": 0, "reward": 1.0, "finish_reason": "stop", "reasoning": REASONING.get(name)}
    return row | {"solution": before + answer, "steps": answer.split("\n\n")} | changes


def steps_of_reasoning(name: str) -> Row:
    steps = split_steps(REASONING[name], r"\n\s*\n")
    assert steps == ["Two.", "Three."]
    return solution(name, steps=steps, steps_of="reasoning")


def ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False).input_ids
    return found


@pytest.mark.parametrize("name", PROMPTS)
def test_a_prompt_is_as_the_model_card_says_with_one_bos(name: str) -> None:
    tokenizer, template = thinking_tokenizer(name), template_of(name)
    assert render_prompt(template, tokenizer, "2 + 3?") == PROMPTS[name]
    assert make_prompt(template, tokenizer, "2 + 3?") == tuple(ids(tokenizer, PROMPTS[name]))
    assert render_end(template, tokenizer) == ENDS.get(name, "<|im_end|>")


def test_options_change_the_prompt() -> None:
    gpt = load_template("gpt-oss", ["reasoning_effort=high"])
    prompt = render_prompt(gpt, thinking_tokenizer("gpt-oss"), "2 + 3?")
    assert prompt == GPT_OSS_SYSTEM.format("high") + GPT_OSS_TURNS + "<|start|>assistant"
    qwen = load_template("qwen3", ["enable_thinking=false"])
    assert render_prompt(qwen, thinking_tokenizer("qwen3"), "2 + 3?") == PROMPTS["qwen3-non-thinking"]


# Without Magistral: the chat template of Mistral Nemo, whose tokenizer stands in, knows no reasoning.
@pytest.mark.parametrize("name", [name for name in PROMPTS if name != "magistral"])
def test_prompt_and_completion_are_the_whole_chat_of_the_model(name: str) -> None:
    tokenizer, template = thinking_tokenizer(name), template_of(name)
    prompt = render_prompt(template, tokenizer, "2 + 3?")
    text = continued(prompt, written(solution(name), template.marks), template.marks)
    assert text == COMPLETIONS[name]
    user = [{"role": "user", "content": template.fill("2 + 3?")}]
    system = [{"role": "system", "content": template.system}] if template.system else []
    turn = {"role": "assistant", "content": solution(name)["solution"]}
    if name in REASONING:
        turn |= {"reasoning_content": REASONING[name], "thinking": REASONING[name]}
    chat = tokenizer.apply_chat_template(
        [*system, *user, turn], tokenize=False, **template.chat_template_kwargs
    )
    if name == "deepseek-r1":  # its chat template leaves the reasoning out: it cannot continue a chat
        assert chat == prompt.removesuffix("<think>\n") + turn["content"] + ENDS[name]
    else:
        assert chat.rstrip() == prompt + text + render_end(template, tokenizer)


@pytest.mark.parametrize("name", THINKING)
@pytest.mark.parametrize("steps_of", ["answer", "reasoning"])
def test_a_prefix_continues_the_turn_token_by_token(name: str, steps_of: str) -> None:
    engine = ScriptedEngine(lambda *_: "")
    engine.tokenizer = tokenizer = thinking_tokenizer(name)
    template = template_of(name)
    row = solution(name) if steps_of == "answer" else steps_of_reasoning(name)
    settings = SamplingSettings("m", None, 1.0, 1.0, 50, 0, name)
    with Grader() as grader:
        list(Roller(engine, template, settings, 1, grader).roll([row]))
    (request,) = engine.asked
    begun = COMPLETIONS[name].partition("It is" if steps_of == "answer" else "Three.")[0]
    assert tokenizer.decode(request.prompt, skip_special_tokens=False) == PROMPTS[name] + begun
    whole = ids(tokenizer, PROMPTS[name] + COMPLETIONS[name])
    assert isinstance(request.prompt, tuple) and list(request.prompt) == whole[: len(request.prompt)]


@pytest.fixture(scope="module", params=PROMPTS)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Return a template and a tiny model of it that has learned by heart what to write."""
    name = request.param
    folder = tmp_path_factory.mktemp(name)
    base = save_thinking_model(name, folder / "base")
    config = PolicyTrainingConfig(
        output=folder / "policy", base=base, epochs=40.0, lr=2e-2, batch_size=1, log_every=1000
    )
    train_policy([solution(name)], template_of(name), config, reporter=Reporter("test", quiet=True))
    return name, str(folder / "policy")


def test_a_tiny_model_is_sampled_and_rolled_out(trained: tuple[str, str]) -> None:
    name, model = trained
    settings = SamplingSettings(model, None, 0.0, 1.0, 60, 0, name)
    template = template_of(name)
    with closing(open_engine(EngineConfig(model))) as engine, Grader() as grader:

        def sampled(**changes: Any) -> Row:
            (row,) = sample_solutions([PROBLEM], engine, template, replace(settings, **changes), 1, grader)
            return row

        row = sampled()
        expected = solution(name)
        for field in ("solution", "steps", "reward", "finish_reason"):
            assert row[field] == expected[field]
        assert row.get("reasoning") == expected["reasoning"]
        assert ("reasoning" in row) == (name in REASONING)
        tokens = len(ids(engine.tokenizer, COMPLETIONS[name]))
        assert row["num_tokens"] == tokens + 1  # all that was generated, with the end
        (rolled,) = Roller(engine, template, settings, 2, grader, keep_text=True).roll([row])
        assert rolled["rollouts"] == [[1.0] * 2, [1.0]]
        assert rolled["completions"][0] == ["It is \\boxed{5}."] * 2
        if name in REASONING:
            (rolled,) = Roller(engine, template, settings, 1, grader, keep_text=True).roll(
                [steps_of_reasoning(name)]
            )
            assert rolled["rollouts"] == [[1.0], [1.0]]
            assert rolled["completions"][0][0] == "Three." + COMPLETIONS[name].partition("Three.")[2]
            # Cut off within the reasoning, and within the answer
            cut = sampled(max_tokens=5)
            assert (cut["solution"], cut["prediction"], cut["reward"]) == ("", None, 0.0)
            assert REASONING[name].startswith(cut["reasoning"]) and cut["finish_reason"] == "length"
            assert cut["num_tokens"] == 5
        cut = sampled(max_tokens=tokens - 1)
        assert cut["reward"] == 0.0 and cut["finish_reason"] == "length"
        assert (
            expected["solution"].startswith(cut["solution"]) and cut.get("reasoning") == expected["reasoning"]
        )
