"""Which model runs where and how: the flags of every command that generates or scores."""

from dataclasses import dataclass
from typing import Any

from erprm_cli import options
from erprm_cli.errors import UsageError
from erprm_cli.io.provenance import is_secret


@dataclass(frozen=True, slots=True)
class EngineConfig:
    """Which model, where and how: the flags that `sample`, `rollout` and `rlhf` share.

    Each field is a flag (see `options.group`); a new one needs no other place but the engine that reads it.
    """

    model: options.Model = "tiny"
    engine: options.Engine = options.EngineName.auto
    dtype: options.DtypeOption = options.Dtype.auto
    batch_size: options.BatchSize = 0
    revision: options.Revision = None
    trust_remote_code: options.TrustRemoteCode = False
    allow_pickle: options.AllowPickle = False
    tensor_parallel_size: options.TensorParallelSize = 1
    data_parallel_size: options.DataParallelSize = 1
    max_model_len: options.MaxModelLen = None
    gpu_memory_utilization: options.GpuMemoryUtilization = None
    enforce_eager: options.EnforceEager = False
    quantization: options.Quantization = None
    engine_args: options.EngineArgs = None
    base_url: options.BaseUrl = None
    concurrency: options.Concurrency = 256

    def __post_init__(self) -> None:
        """Refuse a secret among the flags before any file notes the command line; UsageError."""
        for text in self.engine_args or ():
            key = text.partition("=")[0]
            if is_secret(key):
                raise UsageError(f"--engine-arg {key}: a secret is safe in the environment only (HF_TOKEN)")
        if self.base_url is not None and ("@" in self.base_url or "?" in self.base_url):
            raise UsageError("--base-url holds a password or a query; put a key into ERPRM_API_KEY instead")

    def settings(self) -> dict[str, Any]:
        """Return what the header of an output says: what changes the completions or is a risk."""
        names = ("quantization", "trust_remote_code", "allow_pickle")
        unusual = {name: getattr(self, name) for name in names}
        return {"dtype": self.dtype.value} | {name: value for name, value in unusual.items() if value}
