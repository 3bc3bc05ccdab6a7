"""LoRA adapters: add them to a model, load them and merge them into its weights."""

from pathlib import Path
from typing import Any

from torch import Tensor

from erprm_cli import shipped
from erprm_cli.errors import UserError
from erprm_cli.models import loading
from erprm_cli.models.file_checks import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_shapes
from erprm_cli.packages import missing_package


def merge_adapters(model: Any, name: str, revision: str | None) -> tuple[Any, set[str]]:
    """Return the base `model` with the adapters `name` merged into its weights, and their weights' names.

    UserError if a weight of the adapters is missing: peft would leave it at its initial value.
    """
    try:
        from peft import PeftModel, get_peft_model_state_dict
    except ModuleNotFoundError:
        raise missing_package("peft", f"the adapters {name}") from None
    path = shipped.resolve(name)
    with loading.explained(name):
        own = set(adapter_shapes(path, revision=revision))
    if not own:  # peft would load a pickle instead
        raise UserError(f"{name} has no {ADAPTER_WEIGHTS}; pickled adapters are not supported")
    with loading.explained(name, ADAPTER_CONFIG):
        try:
            adapted = PeftModel.from_pretrained(model, path, revision=revision)
            missing = sorted(get_peft_model_state_dict(adapted).keys() - own)
        except KeyError as error:  # a layer of modules_to_save
            missing = [str(error.args[0])]
        if missing:
            raise UserError(
                f"{ADAPTER_WEIGHTS} has no {missing[0]}", where=name, remedy="save the adapters again"
            )
        return adapted.merge_and_unload(), own


def add_lora(model: Any, base: str, rank: int, *, revision: str | None = None) -> Any:
    """Return the model with low-rank adapters (peft) on all linear layers except the output layer."""
    from peft import LoraConfig, TaskType, get_peft_model

    is_head = model.get_output_embeddings() is None
    adapters = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        target_modules="all-linear",
        task_type=TaskType.TOKEN_CLS if is_head else TaskType.CAUSAL_LM,
        exclude_modules=["score"] if is_head else None,
        modules_to_save=["score"] if is_head else None,
        revision=revision,
    )
    adapted = get_peft_model(model, adapters)
    folder = Path(shipped.resolve(base))
    if folder.is_dir():  # absolute: the adapters may be loaded from another working directory
        adapters.base_model_name_or_path = str(folder.absolute())
    return adapted


def merged_state(model: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the base's weights with the adapters merged, from the gathered weights `state` of a peft model.

    `model` is used for the adapters' scale only: its own weights may be sharded over devices.
    """
    merged = {}
    for name, weight in state.items():
        name = name.removeprefix("base_model.model.")
        owner, found, rest = name.partition(".base_layer.")
        if found and rest == "weight":
            low, high = (
                state[f"base_model.model.{owner}.lora_{part}.default.weight"].float() for part in "AB"
            )
            layer = model.get_base_model().get_submodule(owner)
            delta = layer.scaling["default"] * (high @ low)
            weight = (weight.float() + (delta.T if layer.fan_in_fan_out else delta)).to(weight.dtype)
        if ".lora_" not in name and ".original_module." not in name:
            merged[name.replace(".base_layer.", ".").replace(".modules_to_save.default.", ".")] = weight
    return merged
