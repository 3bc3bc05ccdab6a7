"""The environment that vLLM reads when it is imported."""

import os


def set_environment() -> None:
    """Have vLLM's log on stderr, errors only, and no usage statistics; what the user has set stays."""
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
