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
    """Raise UserError unless a vLLM server answers at `url` that can receive weights.

    TRL would ask a server that has another address again and again.
    """
    import httpx2

    try:
        answer = httpx2.get(f"{url.rstrip('/')}/server_info", params={"config_format": "json"}, timeout=30)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        raise UserError(
            f"no vLLM server answers ({error})", where=url, remedy=f"`{START}` starts one"
        ) from None
    try:
        can_receive = answer.json()["vllm_config"]["weight_transfer_config"] is not None
    except (ValueError, KeyError, TypeError):  # vLLM has this address only with VLLM_SERVER_DEV_MODE=1
        can_receive = False
    if not can_receive:
        raise UserError(
            "is not a vLLM server that can receive weights", where=url, remedy=f"start it as `{START}`"
        )
