"""What ships with erprm: the policy `tiny` with its problems, and the files of templates/ by their names."""

from importlib.resources import files
from pathlib import Path

from erprm_cli.errors import UsageError

TINY = "tiny"  # the shipped policy
SUFFIXES = {"policy": (".toml",), "prm": (".toml",), "accelerate": (".yaml", ".yml", ".json")}


def resolve(name: str) -> str:
    """Return what from_pretrained should be given: the folder of `tiny`, or `name` itself."""
    return str(_folder("tiny")) if name == TINY else name


def problems(split: str) -> Path:
    """Return the file of the shipped problems `split`, which may not exist: "train" or "test"."""
    return _folder("tiny") / f"{split}.jsonl"


def names(kind: str) -> list[str]:
    """Return the names of the shipped templates of one kind: "policy", "prm" or "accelerate"."""
    return sorted(path.stem for path in _folder(kind).glob(f"*{SUFFIXES[kind][0]}"))


def template_path(kind: str, name: str, called: str) -> Path:
    """Return the file of the shipped template `name`, or the path `name` itself if it has a suffix.

    Raises UsageError with the known names if no such template is shipped; `called` is what users call it.
    A path is returned as it is: whether the file exists shows when it is read.
    """
    if name.endswith(SUFFIXES[kind]):
        return Path(name)
    if name not in names(kind):
        raise UsageError(
            f"no {called} {name!r}; there are {', '.join(names(kind))}, or a {SUFFIXES[kind][0]} file"
        )
    return _folder(kind) / f"{name}{SUFFIXES[kind][0]}"


def _folder(kind: str) -> Path:
    return Path(str(files("erprm_cli.templates"))) / kind
