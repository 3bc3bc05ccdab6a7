"""Every shipped format against its owners' procedure, written out plainly, on real tokenizers.

The models are small and random but have the right architecture and checkpoint layout; no published weights
are read. Llama 3's tokenizer replaces Qwen's, which is a byte-level BPE of the same kind.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForTokenClassification

from erprm_cli.prm.formats import load_prm_format
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.tagger import Tagger
from tests.real_tokenizers import llama3, mistral

pytestmark = pytest.mark.slow

ROWS = [
    {
        "id": "a",
        "sample": 0,
        "problem": "Janet has 3 + 4 apples (a + b). How many does Mr. ки have?",
        "steps": ["Step 1: 3 + 4 = \\(7\\)", "Step 2: So there are 7.\nThe answer is: 7"],
    },
    {
        "id": "b",
        "sample": 0,
        "problem": "Find $\\frac{1}{2} + 1$.",
        "steps": ["First, 1 = \\frac{2}{2}.", "Then \\[ 1.5 \\]", "\\boxed{1.5}"],
    },
]


def config(model_type: str, vocab_size: int) -> Any:
    return AutoConfig.for_model(
        model_type,
        vocab_size=vocab_size,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
        initializer_range=0.4,  # wide, so that scores differ from one half
        sliding_window=None,
        pad_token_id=0,
    )


def causal(folder: Path, model_type: str, tokenizer: Any) -> Any:
    """Save a random language model with its tokenizer; return it."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(model_type, len(tokenizer))).eval()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


def with_other_head(folder: Path, model_type: str, tokenizer: Any, head: dict[str, Any], **other: Any) -> Any:
    """Save a checkpoint with the weight names and the config of a project that has its own head.

    The config points to Python code that does not exist, so a loader that runs such code fails.
    """
    base = causal(folder, model_type, tokenizer).model
    weights = load_file(folder / "model.safetensors")
    save_file(weights | head, folder / "model.safetensors", {"format": "pt"})
    settings = orjson.loads((folder / "config.json").read_bytes())
    settings |= {"auto_map": {"AutoModel": "modeling_own.OwnModel", "AutoConfig": "own.OwnConfig"}} | other
    (folder / "config.json").write_bytes(orjson.dumps(settings))
    return base


@torch.no_grad()
def check(folder: Path, prm_format: str | None, owners: Callable[[dict[str, Any]], list[float]]) -> Scorer:
    """Score the rows in one batch; each score must be the owners'."""
    scorer = Scorer(str(folder), prm_format=prm_format)
    for row in scorer.score(ROWS):
        assert len(row["scores"]) == len(row["steps"])
        assert row["scores"] == pytest.approx(owners(row), abs=1e-5)
    return scorer


def test_the_tokens_of_the_real_tokenizers_are_those_that_the_owners_code_names() -> None:
    llama, mist = llama3(), mistral()
    ids = {word: llama.encode(word, add_special_tokens=False) for word in (" ки", "ки", " +", " -", "+", "-")}
    assert ids == {" ки": [116624], "ки": [17165], " +": [489], " -": [482], "+": [10], "-": [12]}
    assert [mist.encode(word)[-1] for word in ("ки", "+", "-")] == [12902, 648, 387]
    assert mist.encode("1\\]ки")[-1] != 12902  # glued to a bracket it is another token


def test_er_prm_is_read_as_by_the_released_evaluator(tmp_path: Path) -> None:
    tokenizer = llama3()
    model = causal(tmp_path / "Llama3.1-Math-PRM", "llama", tokenizer)

    def owners(row: dict[str, Any]) -> list[float]:
        text = row["problem"].replace("ки", "x") + " " + "".join(f"{step} ки" for step in row["steps"])
        ids = tokenizer.encode(text, return_tensors="pt")
        logits = model(ids).logits[0]
        return logits[ids[0] == 116624][:, [489, 482]].softmax(-1)[:, 0].tolist()  # type: ignore[no-any-return]

    rows = [row | {"problem": str(row["problem"]).replace("ки", "x")} for row in ROWS]
    scorer = Scorer(str(tmp_path / "Llama3.1-Math-PRM"))  # known by its name
    for row in scorer.score(rows):
        assert row["scores"] == pytest.approx(owners(row), abs=1e-5)
    assert scorer.prm_format.name == "er-prm"


def test_math_shepherd_is_read_as_on_its_model_card(tmp_path: Path) -> None:
    tokenizer = mistral()
    model = causal(tmp_path, "mistral", tokenizer)

    def owners(row: dict[str, Any]) -> list[float]:
        output = "".join(f"{step} ки\n" for step in row["steps"]).removesuffix("\n")
        good, bad = tokenizer.encode("+ -")[1:]
        ids = torch.tensor([tokenizer.encode(f"{row['problem']} {output}")])
        scores = model(ids).logits[:, :, [good, bad]].softmax(dim=-1)[:, :, 0]
        found: list[float] = scores[ids == 12902].tolist()
        return found[-len(row["steps"]) :]  # the problem of a row holds a tag too

    ids = check(tmp_path, "math-shepherd", owners).tagger.token_ids
    assert (ids.tag, ids.good, ids.bad) == (12902, 648, 387)


def test_rlhflow_in_one_pass_is_what_one_pass_per_step_gives(tmp_path: Path) -> None:
    tokenizer = llama3()
    model = causal(tmp_path, "llama", tokenizer)

    def owners(row: dict[str, Any]) -> list[float]:
        plus, minus = tokenizer.encode("+")[-1], tokenizer.encode("-")[-1]
        conversation, scores = [], []
        for number, step in enumerate(row["steps"]):
            text = f"{row['problem']} {step}" if number == 0 else step
            conversation += [{"role": "user", "content": text}, {"role": "assistant", "content": "+"}]
            ids = tokenizer.apply_chat_template(conversation, return_tensors="pt", return_dict=True).input_ids
            logits = model(ids).logits[:, -3, [plus, minus]]  # -3 is before "+" and <|eot_id|>
            scores.append(float(logits.softmax(dim=-1)[0, 0]))
        return scores

    check(tmp_path, "rlhflow", owners)


def test_qwen_is_read_as_on_its_model_card_without_its_code(tmp_path: Path) -> None:
    tokenizer = type(llama3()).from_pretrained(_saved(llama3(), tmp_path / "tokenizer"))
    tokenizer.add_special_tokens({"additional_special_tokens": ["<extra_0>"]})
    torch.manual_seed(2)
    head = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 2))
    weights = {f"score.{name}": value.clone() for name, value in head.state_dict().items()}
    folder = tmp_path / "Qwen2.5-Math-PRM-7B"
    base = with_other_head(folder, "qwen2", tokenizer, weights, architectures=["Qwen2ForProcessRewardModel"])

    def owners(row: dict[str, Any]) -> list[float]:
        messages = [
            {
                "role": "system",
                "content": "Please reason step by step, and put your final answer within \\boxed{}.",
            },
            {"role": "user", "content": row["problem"]},
            {"role": "assistant", "content": "<extra_0>".join(row["steps"]) + "<extra_0>"},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        ids = tokenizer.encode(text, return_tensors="pt", add_special_tokens=False)  # Qwen's has none
        mask = ids[0] == tokenizer.encode("<extra_0>", add_special_tokens=False)[0]
        logits = head(base(ids).last_hidden_state)[0]
        return logits.softmax(dim=-1)[mask][:, 1].tolist()  # type: ignore[no-any-return]

    assert check(folder, None, owners).prm_format.name == "qwen"


def test_skywork_is_read_as_by_its_inference_code(tmp_path: Path) -> None:
    tokenizer = llama3()
    torch.manual_seed(2)
    head = nn.Linear(16, 1)
    weights = {f"v_head.summary.{name}": value.clone() for name, value in head.state_dict().items()}
    base = with_other_head(tmp_path, "qwen2", tokenizer, weights, architectures=["Qwen2ForPrmModel"])

    def encode(text: str) -> list[int]:  # Qwen's tokenizer adds no special tokens
        return tokenizer.encode(text, add_special_tokens=False)  # type: ignore[no-any-return]

    def owners(row: dict[str, Any]) -> list[float]:
        ids = encode(tokenizer.bos_token + row["problem"] + "\n")
        flags = [0] * len(ids)
        for step in row["steps"]:
            step_ids = [*encode(step), encode("\n")[-1]]
            ids += step_ids
            flags += [0] * (len(step_ids) - 1) + [1]
        assert (
            Tagger(load_prm_format("skywork"), tokenizer).encode(row["problem"], row["steps"]).ids.tolist()
            == ids
        )
        values = head(base(torch.tensor([ids])).last_hidden_state).squeeze(-1).sigmoid()[0]
        return [float(value) for value, flag in zip(values, flags, strict=True) if flag]

    check(tmp_path, "skywork", owners)


@pytest.mark.parametrize(
    ("kind", "prm_format", "separator"), [("mistral", "trl", "\n"), ("llama", "trl-paragraph", "\n\n")]
)
def test_trl_is_tokenised_as_by_its_trainer(
    tmp_path: Path, kind: str, prm_format: str, separator: str
) -> None:
    tokenizer = llama3() if kind == "llama" else mistral()
    torch.manual_seed(0)
    model = AutoModelForTokenClassification.from_config(config(kind, len(tokenizer))).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)

    def owners(row: dict[str, Any]) -> list[float]:
        prompt_ids = tokenizer(row["problem"], add_special_tokens=False).input_ids
        completions = [tokenizer(step, add_special_tokens=False).input_ids for step in row["steps"]]
        separator_ids = tokenizer.encode(separator, add_special_tokens=False)
        completions = [completion + separator_ids for completion in completions]
        labels = [[-100] * (len(completion) - 1) + [1] for completion in completions]
        ids = [tokenizer.bos_token_id, *prompt_ids, *sum(completions, [])]
        flags = [-100] * (1 + len(prompt_ids)) + sum(labels, [])
        tagged = Tagger(load_prm_format(prm_format), tokenizer).encode(row["problem"], row["steps"])
        assert tagged.ids.tolist() == ids
        good = model(torch.tensor([ids])).logits[0].softmax(-1)[:, 1]
        return [float(value) for value, flag in zip(good, flags, strict=True) if flag == 1]

    check(tmp_path, prm_format, owners)


@pytest.mark.parametrize("size", ["7B", "34B"])
def test_reasoneval_is_read_as_by_its_examples(tmp_path: Path, size: str) -> None:
    tokenizer = type(mistral()).from_pretrained(_saved(mistral(), tmp_path / "tokenizer"))
    tokenizer.pad_token = "<s>" if size == "7B" else "</s>"  # what their code takes for a separator
    torch.manual_seed(2)
    head = nn.Linear(16, 3)
    weights = {f"score_head.{name}": value.clone() for name, value in head.state_dict().items()}
    kind = "mistral" if size == "7B" else "llama"
    folder = tmp_path / f"ReasonEval-{size}"
    base = with_other_head(folder, kind, tokenizer, weights, architectures=[f"ReasonEval_{size}"])

    def owners(row: dict[str, Any]) -> list[float]:
        separator = tokenizer.pad_token
        prompt = f"Question:\n{row['problem']}\nAnswer:\nLet's think step by step.\n"
        steps = "".join(step + separator for step in row["steps"])
        tokenised = tokenizer(prompt + separator + steps).input_ids
        separator_id = tokenizer(separator).input_ids[-1]
        labelled, ids, count = [], [], 0
        for index, token in enumerate(tokenised):
            if token == separator_id:
                labelled.append(index - 1 - count)
                count += 1
            else:
                ids.append(token)
        if size == "7B":
            ids = [1, *ids]
        labelled = labelled[2 if size == "7B" else 1 :]
        prm_format = "reasoneval" if size == "7B" else "reasoneval-34b"
        tagged = Tagger(load_prm_format(prm_format), tokenizer).encode(row["problem"], row["steps"])
        assert tagged.ids.tolist() == ids[: labelled[-1] + 1] and tagged.tags.tolist() == labelled
        scores = head(base(torch.tensor([ids])).last_hidden_state)[0, labelled].softmax(-1)
        return (scores[:, 1] + scores[:, 2]).tolist()  # type: ignore[no-any-return]

    check(folder, None, owners)


def test_math_psa_is_read_as_in_openr(tmp_path: Path) -> None:
    tokenizer = llama3()
    model = causal(tmp_path, "qwen2", tokenizer)

    def owners(row: dict[str, Any]) -> list[float]:
        tag = tokenizer.encode(" \n\n\n\n\n")[-1]
        good, bad = (tokenizer.encode(word)[-1] for word in (" +", " -"))
        text = f"{row['problem']} " + "".join(f"{step} \n\n\n\n\n" for step in row["steps"])
        ids = torch.tensor([tokenizer.encode(text)])
        return model(ids).logits[0][ids[0] == tag][:, [good, bad]].softmax(-1)[:, 0].tolist()  # type: ignore[no-any-return]

    check(tmp_path, "math-psa", owners)


def _saved(tokenizer: Any, folder: Path) -> Path:
    tokenizer.save_pretrained(folder)
    return folder
