from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from erprm_cli.errors import UserError
from erprm_cli.models.end_tokens import end_tokens
from erprm_cli.models.outputs import output_at
from erprm_cli.policy.prompts import encode_prompt, render_end, render_prompt
from erprm_cli.policy.templates import PolicyTemplate
from erprm_cli.training.batches import collate
from erprm_cli.training.config import PolicyTrainingConfig
from erprm_cli.training.examples import Examples
from erprm_cli.training.policy_task import PolicyTask, token_loss
from erprm_cli.training.train import train_policy
from tests.tiny_models import make_model, make_tokenizer, solution_rows

PLAIN = PolicyTemplate("plain", "Question: {problem}\nAnswer:\n")
CHAT = PolicyTemplate("chat", "{problem}", chat=True, system="So")


def task(base: str, template: PolicyTemplate, output: Path) -> PolicyTask:
    return PolicyTask(template, PolicyTrainingConfig(base=base, output=output))


def examples(prepared: PolicyTask) -> Examples:
    found = prepared.store.examples()
    assert found is not None
    return found


def test_a_plain_prompt_is_masked_and_the_end_of_sequence_learned(base: str, tmp_path: Path) -> None:
    prepared = task(base, PLAIN, tmp_path / "policy")
    prepared.add({"problem": "Tom has 3?", "solution": "So 3."})
    example, tokenizer = examples(prepared)[0], prepared.tokenizer
    text = "".join(tokenizer.convert_ids_to_tokens(example.ids.tolist()))
    assert text == "<s>Question: Tom has 3?\nAnswer:\nSo 3.</s>"
    assert "".join(tokenizer.convert_ids_to_tokens(example.targets.tolist())) == "So 3.</s>"
    assert example.targets.tolist() == example.ids[example.positions + 1].tolist()


def test_a_solution_that_was_cut_off_does_not_teach_to_end(base: str, tmp_path: Path) -> None:
    prepared = task(base, PLAIN, tmp_path / "policy")
    prepared.add({"problem": "Tom has 3?", "solution": "So 3", "finish_reason": "length"})
    assert prepared.tokenizer.eos_token_id not in examples(prepared)[0].ids


def test_a_chat_is_learned_from_where_the_assistant_begins_to_the_end_of_its_turn(
    base: str, tmp_path: Path
) -> None:
    prepared = task(base, CHAT, tmp_path / "policy")
    ids, begin = prepared.encode("Tom has 3?", "So 3.")
    text = render_prompt(CHAT, prepared.tokenizer, "Tom has 3?")
    assert text == "<s>system: So</s>\n<s>user: Tom has 3?</s>\n<s>assistant: "
    assert tuple(ids[:begin]) == encode_prompt(CHAT, prepared.tokenizer, text)
    assert ids.count(prepared.tokenizer.bos_token_id) == 3  # the template's own, and no further one
    assert prepared.tokenizer.convert_ids_to_tokens(ids[begin:]) == ["So", " 3", ".", "</s>"]


def test_a_token_over_the_border_does_not_change_the_ids_of_the_prompt(base: str, tmp_path: Path) -> None:
    prepared = task(base, PolicyTemplate("glued", "{problem} So"), tmp_path / "policy")
    prompt = encode_prompt(prepared.template, prepared.tokenizer, "Tom So")
    ids, begin = prepared.encode("Tom", "has 3.")  # " Sohas" would be one word
    assert tuple(ids[:begin]) == prompt
    assert prepared.tokenizer.convert_ids_to_tokens(ids[begin:]) == ["has", " 3", ".", "</s>"]


def test_without_a_tokenizer_a_prompt_stays_text_and_a_chat_is_refused() -> None:
    assert encode_prompt(PLAIN, None, "text") == "text"
    with pytest.raises(UserError, match="no chat template; use a plain template such as math, or save"):
        render_prompt(CHAT, None, "Tom")
    tokenizer = make_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="no end-of-sequence token"):
        render_end(PLAIN, tokenizer)


@pytest.mark.parametrize("kind", ["llama", "gemma3", "cohere"])
def test_loss_and_gradients_equal_those_of_transformers(base: str, tmp_path: Path, kind: str) -> None:
    prepared = task(base, PLAIN, tmp_path / "policy")
    for row in solution_rows(5):
        prepared.add(row)
    batch = collate(list(examples(prepared)))
    fast, plain = (make_model(kind, len(prepared.tokenizer)) for _ in range(2))
    with output_at(fast, batch["positions"]):
        loss = token_loss(fast(input_ids=batch["input_ids"]).logits, batch["targets"]).mean()
    loss.backward()
    labels = torch.full_like(batch["input_ids"], -100)
    labels.view(-1)[batch["positions"] + 1] = batch["targets"]
    mask = torch.ones_like(batch["input_ids"])
    for number, example in enumerate(examples(prepared)):
        mask[number, len(example.ids) :] = 0
    expected = plain(input_ids=batch["input_ids"], attention_mask=mask, labels=labels).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for ours, theirs in zip(fast.parameters(), plain.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.slow
def test_training_makes_the_solutions_likelier_and_a_repeated_run_does_nothing(
    base: str, tmp_path: Path
) -> None:
    rows = solution_rows(32)
    config = PolicyTrainingConfig(
        base=base, output=tmp_path / "policy", epochs=4.0, lr=1e-2, batch_size=16, log_every=1
    )
    log: list[Any] = []
    last = train_policy(rows, PLAIN, config, log.append)
    assert log[-1] == last and last["rows"] == 32
    assert last["loss"] < 0.5 * log[0]["loss"]
    assert train_policy(rows, PLAIN, config) == last
    with pytest.raises(UserError, match="made with template plain, not other"):
        train_policy(rows, PolicyTemplate("other", "{problem}\n"), config)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "policy").config.use_cache


def test_the_end_of_the_turn_is_an_end_token_of_the_trained_policy(base: str, tmp_path: Path) -> None:
    prepared = task(base, CHAT, tmp_path / "policy")
    prepared.tokenizer.chat_template = "{% for m in messages %}{{ m.content + '<s>' }}{% endfor %}"
    model = prepared.load_model(torch.float32)
    model.save_pretrained(tmp_path / "saved")
    assert end_tokens(AutoModelForCausalLM.from_pretrained(tmp_path / "saved")) == [2, 1]
    plain = task(base, PLAIN, tmp_path / "policy").load_model(torch.float32)
    assert end_tokens(plain) == [2]


def test_a_thinking_model_learns_its_reasoning_and_its_answer(base: str, tmp_path: Path) -> None:
    row = {"problem": "Tom has 3?", "reasoning": "So 3.", "solution": "3", "finish_reason": "stop"}

    def learned(prompt: str, **changes: Any) -> str:
        template = PolicyTemplate("think", prompt, reasoning="think")
        prepared = task(base, template, tmp_path / "policy")
        prepared.add(row | changes)
        ids = examples(prepared)[0].targets.tolist()
        return "".join(prepared.tokenizer.convert_ids_to_tokens(ids))

    # The tiny tokenizer knows the signs of the marks only.
    opening, closing = "<unk><unk><unk>", "<unk><unk><unk><unk>"
    assert learned("{problem}\n") == f"{opening}So 3.{closing}3</s>"
    assert learned("{problem}\n<think>\n") == f"So 3.{closing}3</s>"
    assert learned("{problem}\n", reasoning=None) == "3</s>"
    assert learned("{problem}\n", solution="", finish_reason="length") == f"{opening}So 3."


def test_reasoning_is_part_of_the_hash_of_the_examples(base: str, tmp_path: Path) -> None:
    def hash_of(**fields: Any) -> object:
        prepared = task(base, PolicyTemplate("think", "{problem}", reasoning="think"), tmp_path / "policy")
        prepared.add({"problem": "Tom has 3?", "solution": "3"} | fields)
        return prepared.store.stats["hash"]

    assert hash_of() == hash_of(reasoning=None) != hash_of(reasoning="So 3.") != hash_of(reasoning="So 4.")
