"""Flags that say how a process reward model is loaded, for commands that run no engine."""

from dataclasses import dataclass

from erprm_cli import options


@dataclass(frozen=True, slots=True)
class PrmConfig:
    """How a process reward model is loaded. The fields are arguments of `Scorer` and of `export_prm`."""

    prm_format: options.PrmFormatName = None
    revision: options.Revision = None
    trust_remote_code: options.TrustRemoteCode = False
    allow_pickle: options.AllowPickle = False
