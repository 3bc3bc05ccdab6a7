"""The models that are damaged, and what is done with them. It loads torch."""

import json
import shutil
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from erprm_cli.engines.base import Request, SamplingParams
from erprm_cli.engines.config import EngineConfig
from erprm_cli.engines.transformers_engine import TransformersEngine
from erprm_cli.models import loading
from erprm_cli.models.adapters import add_lora
from erprm_cli.policy.prompts import make_prompt, render_end
from erprm_cli.policy.templates import load_template
from erprm_cli.prm.formats import load_prm_format
from erprm_cli.prm.scorer import Scorer
from erprm_cli.prm.tagger import Tagger
from erprm_cli.serving.server import described
from tests.tiny_models import save_model, solution_rows


class Canary:
    """Leaves a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def bases(folder: Path) -> list[Path]:
    """Return the folders of a policy, a PRM with its card, and adapters of the policy."""
    policy, prm = save_model(folder / "policy"), save_model(folder / "prm")
    prm_format = load_prm_format("er-prm")
    token_ids = Tagger(prm_format, loading.load_tokenizer(str(prm))).token_ids
    card: dict[str, Any] = {
        "erprm": "0",
        "kind": "token",
        "format": asdict(prm_format),
        "token_ids": asdict(token_ids),
    }
    card |= {"eta": 2.0, "estimator": "er", "settings": {"target": "label"}, "result": {"rows": 1}}
    (prm / "erprm.json").write_text(json.dumps(card))
    adapters = folder / "adapters"
    model = loading.load_causal_lm(str(policy), dtype=torch.float32)
    add_lora(model, str(policy), 2).save_pretrained(adapters)
    for file in (*policy.glob("tokenizer*"), *policy.glob("*.jinja"), prm / "erprm.json"):
        shutil.copy(file, adapters)
    return [policy, prm, adapters]


def use(folder: Path, is_prm: bool) -> None:
    """Score a solution with a folder and describe it as `erprm serve` does, or answer a chat."""
    if is_prm:
        named = (folder / "erprm.json").exists()
        scorer = Scorer(str(folder), prm_format=None if named else "er-prm", eta=1.0 if named else None)
        list(scorer.score(solution_rows(2)))
        described(scorer, EngineConfig(model=str(folder))).model_dump_json()
        return
    template = load_template("gsm8k-chat")
    with closing(TransformersEngine.load(EngineConfig(model=str(folder), batch_size=1))) as engine:
        prompt = make_prompt(template, engine.tokenizer, "Tom has 2 apples?")
        render_end(template, engine.tokenizer)
        list(engine.generate([Request("a", prompt, (0,), 0)], SamplingParams(1.0, 1.0, 3)))
