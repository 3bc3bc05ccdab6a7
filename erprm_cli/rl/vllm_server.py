"""A vLLM server that generates for GRPO: what TRL needs of it, checked before any weights are loaded."""

from erprm_cli.errors import UsageError, UserError

START = (
    "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --logprobs-mode processed_logprobs "
    """--weight-transfer-config '{"backend": "nccl"}'"""
)


def check_device() -> None:
    """Raise UsageError without CUDA, by which alone TRL sends the weights to a server."""
    import torch

    if not torch.cuda.is_available():
        raise UsageError(
            "--vllm-mode server needs a CUDA device, because TRL sends the weights to the server by NCCL; "
            "--vllm-mode colocate does not"
        )


def check_server(url: str) -> None:
    """Raise UserError unless a vLLM server answers at `url` that can receive weights."""
    from trl.generation.vllm_client import VLLMClient

    try:
        can_receive = VLLMClient(url).get_server_info()["weight_transfer_config"] is not None
    except ConnectionError:
        raise UserError("no vLLM server answers", where=url, remedy=f"`{START}` starts one") from None
    except RuntimeError:  # it lacks vLLM's endpoints for development
        can_receive = False
    if not can_receive:
        raise UserError("this vLLM server cannot receive weights", where=url, remedy=f"start it as `{START}`")
