"""The ids of prompts and solutions with the tokenizers of published models, against their model cards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from erprm_cli import shipped
from erprm_cli.engines.base import encode
from erprm_cli.errors import UserError
from erprm_cli.models.loading import load_tokenizer
from erprm_cli.policy.prompts import encode_prompt, encode_solution, make_prompt, render_prompt, turn_end
from erprm_cli.policy.templates import PolicyTemplate, load_template
from erprm_cli.rows.steps import prefixes, split_steps
from tests.real_tokenizers import PUBLISHED, mistral, mistral_instruct, published
from tests.tiny_models import TEMPLATE, make_tokenizer

slow = pytest.mark.thorough
PLAIN = [name for name in shipped.names("policy") if not load_template(name).chat]
PROBLEM = "Solve {x} + \\frac{1}{2} = 3."
MATH = load_template("math-chat")
TEXTS = (
    "First, 2 + 3 = 5.\n\nThen \\(5 \\times 2\\), na\u00efve: \u6570.\n\nThe answer is: 10",
    "\nStep 1: x.\n\n\nStep 2: \U0001f642!\n",  # begins with a newline, as many prompts end
    " So \\boxed{5}",  # begins with a space, as a word of a sentencepiece model
    "\t- 1\n\n    2",
)
OTHERS: dict[str, Callable[[], Any]] = {"mistral": mistral, "mistral_instruct": mistral_instruct}


def load(name: str) -> Any:
    return OTHERS[name]() if name in OTHERS else published(name)


# A chat as the model cards write it: special tokens by their ids, and the text between them.
CHATS: dict[str, list[int | str]] = {
    "qwen2_5": [
        151644,
        "system\n{s}",
        151645,
        "\n",
        151644,
        "user\n{p}",
        151645,
        "\n",
        151644,
        "assistant\n",
    ],
    "qwen3": [151644, "system\n{s}", 151645, "\n", 151644, "user\n{p}", 151645, "\n", 151644, "assistant\n"],
    "llama3_1": [
        *(128000, 128006, "system", 128007, "\n\n{s}", 128009, 128006, "user", 128007, "\n\n{p}", 128009),
        *(128006, "assistant", 128007, "\n\n"),
    ],
    "llama3_2": [
        *(128000, 128006, "system", 128007),
        "\n\nCutting Knowledge Date: December 2023\nToday Date: 31 Jan 2025\n\n{s}",
        *(128009, 128006, "user", 128007, "\n\n{p}", 128009, 128006, "assistant", 128007, "\n\n"),
    ],
    "gemma3": [2, 105, "user\n{s}\n\n{p}", 106, "\n", 105, "model\n"],
    "deepseek_v3": [0, "{s}", 128803, "{p}", 128804],
    "mistral_nemo": [1, 3, "{s}\n\n{p}", 4],
}
BOS = {  # that the model card puts before a plain text
    "llama3_1": [128000],
    "llama3_2": [128000],
    "gemma3": [2],
    "deepseek_v3": [0],
    "mistral_nemo": [1],
    "mistral": [1],
    "mistral_instruct": [1],
}
ENDS = {  # of the assistant's turn; each is an end token of the model's generation_config.json
    "qwen2_5": 151645,
    "qwen3": 151645,
    "llama3_1": 128009,
    "llama3_2": 128009,
    "gemma3": 106,
    "deepseek_v3": 1,
    "mistral_nemo": 2,
    "mistral_instruct": 2,
}


@slow
@pytest.mark.parametrize("name", CHATS)
def test_a_chat_has_the_ids_of_the_model_card(name: str) -> None:
    tokenizer = published(name)
    template = PolicyTemplate("own", "{problem}", chat=True, system=MATH.system, date="2025-01-31")
    expected: list[int] = []
    for part in CHATS[name]:
        if isinstance(part, int):
            expected.append(part)
        else:
            text = part.replace("{s}", MATH.system).replace("{p}", PROBLEM)
            expected += tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    prompt = make_prompt(template, tokenizer, PROBLEM)
    assert list(prompt) == expected  # type: ignore[arg-type]  # ids
    assert encode(tokenizer, prompt) == expected  # the engines add nothing
    assert turn_end(template, tokenizer) == ENDS[name]


@slow
@pytest.mark.parametrize(
    "template", [name for name in shipped.names("policy") if not load_template(name).chat]
)
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_a_plain_prompt_begins_with_bos_where_the_model_has_it(name: str, template: str) -> None:
    tokenizer, plain = load(name), load_template(template)
    text = plain.fill(PROBLEM)
    ids = encode_prompt(plain, tokenizer, text)
    alone = tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
    assert list(ids) == [*BOS.get(name, []), *alone]
    assert turn_end(plain, tokenizer) is None


@slow
@pytest.mark.parametrize("template", shipped.names("policy"))
@pytest.mark.parametrize("name", [*PUBLISHED, *OTHERS])
def test_a_prefix_continues_the_prompt_token_by_token(name: str, template: str) -> None:
    tokenizer, used = load(name), load_template(template)
    if used.chat and tokenizer.chat_template is None:
        pytest.skip("no chat template")
    prompt = render_prompt(used, tokenizer, PROBLEM)
    start = ids_of(used, tokenizer)
    assert tokenizer.bos_token_id is None or list(start).count(tokenizer.bos_token_id) <= 1
    for solution in TEXTS:
        whole = encode_solution(used, tokenizer, prompt, solution)
        assert whole.prompt == start
        before = decode(tokenizer, start)
        if name == "mistral_instruct" and used.chat and solution[0] != " ":
            before += " "  # sentencepiece: a text after a special token begins with a space
        assert decode(tokenizer, whole.prompt + whole.solution) == before + solution
        steps = split_steps(solution, used.step_break)
        for prefix in prefixes(solution, steps):
            ids = whole.up_to(len(prefix))
            begun = make_prompt(used, tokenizer, PROBLEM, prefix)
            if ids is None:  # a token holds the end of the prefix and more
                assert decode(tokenizer, begun) == before + prefix
            else:
                assert (whole.prompt + whole.solution)[: len(ids)] == ids
                assert decode(tokenizer, ids) == before + prefix


@slow
@pytest.mark.parametrize("name", [*CHATS, "mistral_instruct"])
def test_what_a_chat_model_wrote_gets_the_ids_that_it_wrote(name: str) -> None:
    tokenizer = load(name)
    template = load_template("gsm8k-chat")
    prompt = render_prompt(template, tokenizer, PROBLEM)
    start = ids_of(template, tokenizer)
    for text in ("So 2 + 3 = 5.\nThe answer is: 5", "\\boxed{5}"):
        wrote = tuple(tokenizer(text, add_special_tokens=False).input_ids)
        solution = decode(tokenizer, (*start, *wrote)).removeprefix(decode(tokenizer, start))
        assert encode_solution(template, tokenizer, prompt, solution).solution == wrote


@slow
def test_special_tokens_in_a_solution_are_part_of_it() -> None:
    tokenizer = published("gptoss")
    plain = load_template("gsm8k")
    solution = "<|channel|>analysis<|message|>2 + 3<|end|><|start|>assistant"
    ids = encode_solution(plain, tokenizer, plain.fill("p"), solution).solution
    assert [tokenizer.decode([token]) for token in ids if token >= 199998] == [
        "<|channel|>", "<|message|>", "<|end|>", "<|start|>"
    ]  # fmt: skip
    assert decode(tokenizer, ids) == solution


def test_a_missing_chat_template_names_the_file_and_a_file_is_found(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"no chat template; use .* such as math, .* chat_template\.jinja"):
        render_prompt(MATH, load_tokenizer(str(tmp_path)), PROBLEM)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    assert render_prompt(MATH, load_tokenizer(str(tmp_path)), "p").endswith("<s>user: p</s>\n<s>assistant: ")


@slow
def test_a_date_and_an_end_of_harmony(monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = published("gptoss")
    monkeypatch.setattr(
        tokenizer,
        "chat_template",
        "{{ '<|start|>system<|message|>Current date: ' + strftime_now('%Y-%m-%d') + '<|end|>' }}"
        "{% for m in messages %}{{ '<|start|>' + m.role + '<|message|>' + m.content }}"
        "{{ '<|return|>' if m.role == 'assistant' else '<|end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}<|start|>assistant{% endif %}",
    )
    template = PolicyTemplate("own", "{problem}", chat=True, date="2025-01-31")
    text = (
        f"<|start|>system<|message|>Current date: 2025-01-31<|end|><|start|>user<|message|>{PROBLEM}<|end|>"
    )
    assert decode(tokenizer, ids_of(template, tokenizer)) == text + "<|start|>assistant"
    assert turn_end(template, tokenizer) == tokenizer.eos_token_id == 200002  # <|return|>


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("</s>\n", 2),
        (" </s>", 2),  # Llama 2
        ("<s>\n</s>", 1),  # an added token, and more after it, as in Phi-3
        ("=== next", "=== next"),  # several tokens: a stop text
        ("\n", None),
    ],
)
def test_the_end_of_the_turn_is_read_from_the_chat_template(end: str, expected: int | str | None) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m.role + ': ' + m.content + " + repr(end) + " }}{% endfor %}"
    )
    assert turn_end(MATH, tokenizer) == expected


def test_the_ids_of_the_prompt_stay_when_a_token_would_span_the_border() -> None:
    tokenizer = make_tokenizer()
    plain = PolicyTemplate("own", "{problem} So.")
    found = encode_solution(plain, tokenizer, plain.fill("Tom"), "\n has")  # ".\n" is one token
    assert found.prompt == encode_prompt(plain, tokenizer, "Tom So.")
    assert tokenizer.convert_ids_to_tokens(list(found.solution)) == ["\n", " has"]
    assert found.up_to(1) == (*found.prompt, found.solution[0])
    assert found.up_to(2) is None


def ids_of(template: PolicyTemplate, tokenizer: Any) -> tuple[int, ...]:
    prompt = make_prompt(template, tokenizer, PROBLEM)
    assert isinstance(prompt, tuple)
    return prompt


def decode(tokenizer: Any, ids: Any) -> str:
    text: str = tokenizer.decode(list(ids), clean_up_tokenization_spaces=False)
    return text
