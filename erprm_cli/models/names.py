"""Where a model is: in a folder, in the Hub's cache or on the Hub. A wrong name is found before a load.

transformers takes any name that is not a folder for one of the Hub, and its client tries again for a minute.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto
from functools import cache
from threading import Timer

from erprm_cli.errors import UserError
from erprm_cli.packages import MODELS, check_packages
from erprm_cli.shipped import resolve
from erprm_cli.terminal.say import say

HUB_NAME = re.compile(r"(?=.{1,96}$)(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.-]*")
HUB_TIMEOUT_S = 3.0  # for the question whether the Hub has a model
SILENT_S = 1.0  # longest wait for the Hub that is not reported
CONFIGS = (
    "config.json",
    "adapter_config.json",
    "tokenizer_config.json",
)  # one of them is cached with a model


class Place(Enum):
    FOLDER = auto()
    CACHE = auto()
    HUB = auto()


def find_model(name: str, revision: str | None = None) -> Place:
    """Return where the model `name` is. The Hub is asked once, and only for what is not on this machine.

    Raises UserError if it is nowhere, or if the Hub does not answer within HUB_TIMEOUT_S.
    """
    path = resolve(name)
    if os.path.isdir(path):  # unlike Path.is_dir, it takes any text for a name
        return Place.FOLDER
    if os.path.exists(path):
        raise UserError("a file, but a model is a folder", where=name)
    if not HUB_NAME.fullmatch(name):  # ./prm, /models/prm, runs/prm/last
        raise UserError("no such folder", where=name)
    check_packages(MODELS, f"the model {name}")
    from huggingface_hub import try_to_load_from_cache

    if any(isinstance(try_to_load_from_cache(name, file, revision=revision), str) for file in CONFIGS):
        return Place.CACHE
    ask_hub(name, revision)
    return Place.HUB


@contextmanager
def waiting_for_hub(name: str) -> Iterator[None]:
    """Report on stderr that a model is waited for, if the Hub takes more than SILENT_S; not for a folder."""
    if os.path.isdir(resolve(name)):
        yield
        return

    def report() -> None:
        say(f"waiting for the Hugging Face Hub ({name})", remedy="HF_HUB_OFFLINE=1 avoids it")

    timer = Timer(SILENT_S, report)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@cache
def ask_hub(name: str, revision: str | None) -> None:
    """Ask the Hub for a model, once per process; UserError if it has none or does not answer."""
    import httpx2
    from huggingface_hub import HfApi, errors

    try:
        with waiting_for_hub(name):
            HfApi().model_info(name, revision=revision, timeout=HUB_TIMEOUT_S)
    except errors.GatedRepoError:
        raise UserError(
            "the Hub shows this model only to those who accepted its terms",
            where=name,
            remedy="accept them on its page and set HF_TOKEN",
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"the Hub has no revision {revision!r} of this model", where=name) from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            "no such folder, and no such model on the Hub", where=name, remedy="a private one needs HF_TOKEN"
        ) from None
    except (httpx2.HTTPError, OSError) as error:
        raise UserError(
            f"no such folder, and the Hub cannot be asked for a model of that name ({_reason(error)})",
            where=name,
        ) from None


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
