"""The size of a model, from its configuration alone: no weights are read."""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from erprm_cli.models import loading
from erprm_cli.models.outputs import max_positions
from erprm_cli.rows.row import Row
from erprm_cli.shipped import resolve


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How many parameters a language model has, and its longest input in tokens (None: it does not say)."""

    parameters: int
    max_tokens: int | None

    def weights_gib(self, dtype: torch.dtype) -> float:
        """Return the memory of the weights in GiB."""
        return self.parameters * dtype.itemsize / 2**30

    def row(self, dtype: torch.dtype) -> Row:
        """Return the size for the report of a dry run."""
        name = str(dtype).removeprefix("torch.")
        gib = round(self.weights_gib(dtype), 3)
        return {"parameters": self.parameters, "dtype": name, "weights_gib": gib}


def model_size(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> ModelSize:
    """Return the size of the language model of a folder or Hub name; UserError if it cannot be known.

    The layers are made on torch's meta device, which holds no values. A PRM with a head, or with adapters, is
    a little larger or smaller than its language model.
    """
    load_options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    path = resolve(name)
    with loading.explained(name):
        config = AutoConfig.from_pretrained(path, **load_options)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=trust_remote_code)
    return ModelSize(sum(one.numel() for one in model.parameters()), max_positions(config))
