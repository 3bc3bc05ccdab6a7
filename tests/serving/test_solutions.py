"""Problems and steps in what trainers send."""

import pytest

from erprm_cli.errors import RowError
from erprm_cli.policy.templates import load_template
from erprm_cli.serving.solutions import problem_of, solution_of, steps_of

CHATS = {
    "qwen": "<|im_start|>system\nHi.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n",
    "llama 3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "gemma": "<bos><start_of_turn>user\n{}<end_of_turn>\n<start_of_turn>model\n",
    "gpt-oss": "<|start|>system<|message|>Hi.<|end|><|start|>user<|message|>{}<|end|><|start|>assistant",
    "deepseek": "<｜begin▁of▁sentence｜><｜User｜>{}<｜Assistant｜>",
    "mistral": "<s>[INST] {} [/INST]",
    "none": "{}",
}


@pytest.mark.parametrize("chat", CHATS)
@pytest.mark.parametrize("template", ["math-chat", "deepseek-r1", "gsm8k", "tiny"])
def test_the_problem_is_found_in_a_prompt(chat: str, template: str) -> None:
    used = load_template(template)
    prompt = CHATS[chat].format(used.fill("How many {sets} has 2 + 3?"))
    assert problem_of(prompt, used) == "How many {sets} has 2 + 3?"


def test_the_last_turn_of_the_user_has_the_problem() -> None:
    shot = "<|im_start|>user\n1 + 1?<|im_end|>\n<|im_start|>assistant\n2<|im_end|>\n"
    prompt = shot + CHATS["qwen"].format("2 + 2?")
    assert problem_of(prompt, load_template("math-chat")) == "2 + 2?"


def test_a_prompt_of_another_template_is_refused() -> None:
    with pytest.raises(RowError, match="not one of the template gsm8k; start the server with the --template"):
        problem_of(CHATS["qwen"].format("2 + 2?"), load_template("gsm8k"))


@pytest.mark.parametrize(
    "end",
    ["", "<|im_end|>", "</s>", "<|eot_id|>", "<end_of_turn>\n", "<｜end▁of▁sentence｜>", "<|endoftext|>" * 3],
)
def test_special_tokens_at_the_end_are_not_a_step(end: str) -> None:
    prompt = CHATS["qwen"].format("2 + 2?")
    found = solution_of(f"{prompt}It is\n\n|4|.{end}", prompt, load_template("math-chat"))
    assert found == ("2 + 2?", ["It is", "|4|."])


def test_a_query_without_its_prompt_is_refused() -> None:
    with pytest.raises(RowError, match="'query' does not begin with its prompt"):
        solution_of("cut prompt, answer", "the whole prompt", load_template("math-chat"))


def test_the_answer_of_a_thinking_model_is_split_and_its_thought_is_not() -> None:
    text = "<think>Hm.\n\nWell.</think>It is\n\n4."
    assert steps_of(text, load_template("qwen3")) == ["It is", "4."]
    assert steps_of(text, load_template("qwen3", steps_of="reasoning")) == ["Hm.", "Well."]
    assert steps_of("Hm.</think>4.", load_template("qwen3"), prompt="2 + 2?<think>\n") == ["4."]
