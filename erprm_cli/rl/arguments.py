"""The settings of a GRPO run as TRL's GRPOConfig."""

from dataclasses import fields
from typing import Any

from trl.trainer.grpo_config import GRPOConfig

from erprm_cli import options
from erprm_cli.engines.config import EngineConfig
from erprm_cli.errors import UsageError
from erprm_cli.rl.config import GrpoConfig
from erprm_cli.training.arguments import common_arguments, on_one_device
from erprm_cli.training.config import PolicyTrainingConfig, RlhfConfig
from erprm_cli.training.distributed import world_size


def grpo_arguments(
    config: RlhfConfig, grpo: GrpoConfig, training: PolicyTrainingConfig, engine: EngineConfig, use_vllm: bool
) -> GRPOConfig:
    """Return the settings as TRL names them; UsageError if TRL rejects one."""
    processes = world_size()
    per_device = grpo.per_device_train_batch_size or training.batch_size // processes
    settings: dict[str, Any] = common_arguments(training) | {
        "max_steps": grpo.max_steps or -1,
        "per_device_train_batch_size": per_device,
        "gradient_accumulation_steps": training.batch_size // (per_device * processes),
        "num_generations": config.n,
        "max_completion_length": config.max_tokens,
        "temperature": config.temperature,
        "top_p": config.top_p,
        "beta": grpo.beta,
        "loss_type": grpo.loss_type,
        "scale_rewards": grpo.scale_rewards,
        "epsilon": grpo.epsilon,
        "epsilon_high": grpo.epsilon_high,
        "num_iterations": grpo.num_iterations,
        "trust_remote_code": engine.trust_remote_code,
        "use_vllm": use_vllm,
    }
    if use_vllm:
        settings |= {
            "vllm_mode": grpo.vllm_mode,
            "vllm_server_base_url": grpo.vllm_server_base_url,
            "vllm_tensor_parallel_size": engine.tensor_parallel_size,
            "vllm_max_model_length": engine.max_model_len,
        }
        if engine.gpu_memory_utilization is not None:
            settings["vllm_gpu_memory_utilization"] = engine.gpu_memory_utilization
    more = options.key_values("--trl-arg", grpo.trl_arg or ())
    known = {field.name for field in fields(GRPOConfig)}
    for name in more:
        if name not in known:
            raise UsageError(f"--trl-arg {name}: TRL's GRPOConfig has no such setting")
        if name in settings or name == "mask_truncated_completions":
            raise UsageError(f"--trl-arg {name}: erprm sets it itself, by another flag of `erprm rlhf`")
    try:
        return on_one_device(GRPOConfig(**settings | more))
    except (TypeError, ValueError) as error:
        raise UsageError(f"TRL rejects the settings: {str(error).partition(chr(10))[0]}") from None


def check_batch(config: RlhfConfig, grpo: GrpoConfig, training: PolicyTrainingConfig, processes: int) -> None:
    """Raise UsageError unless an optimizer step can be divided into groups, processes and forward passes."""
    if config.n < 2:
        raise UsageError("-n must be at least 2 with --algorithm grpo, which compares solutions of a problem")
    if not config.temperature:
        raise UsageError("--temperature 0 makes all solutions of a problem equal; GRPO compares them")
    if training.batch_size % config.n:
        raise UsageError(
            f"--batch-size {training.batch_size} is not a multiple of -n {config.n}; GRPO compares all "
            "solutions of a problem in one step"
        )
    per_pass = (grpo.per_device_train_batch_size or 1) * processes
    if training.batch_size % per_pass:
        raise UsageError(
            f"--batch-size {training.batch_size} is not a multiple of {per_pass}, the solutions of a forward "
            f"pass (--per-device-train-batch-size) in {processes} process{'es' * (processes > 1)}"
        )
