"""The data that ships with erprm: the policy `tiny`, its problems, and the files of templates/ by name."""

from pathlib import Path

from erprm_cli.errors import UsageError

TINY = "tiny"  # the shipped policy
SUFFIXES = {
    "policy": (".toml",),
    "prm": (".toml",),
    "accelerate": (".yaml", ".yml", ".json"),
    "pipelines": (".toml",),
}


def resolve(name: str) -> str:
    """Return the model name for from_pretrained: the folder of `tiny`, or `name` itself."""
    return str(_folder("tiny")) if name == TINY else name


def problems(split: str) -> Path:
    """Return the path of the shipped problems of a split, "train" or "test"; for others it does not exist."""
    return _folder("tiny") / f"{split}.jsonl"


def names(kind: str) -> list[str]:
    """Return the names of the shipped templates of one kind, a key of SUFFIXES."""
    return sorted(path.stem for path in _folder(kind).glob(f"*{SUFFIXES[kind][0]}"))


def is_name(name: str) -> bool:
    """Return whether `name` is the name of something shipped: the policy, or a template of any kind."""
    return name == TINY or any(name in names(kind) for kind in SUFFIXES)


def template_path(kind: str, name: str, called: str) -> Path:
    """Return the path of the shipped template `name`, or `name` as a path if it has a suffix of its kind.

    Raises UsageError with the known names if there is no such template; `called` is what users call the kind.
    The path of a user's file is not checked: reading it shows whether it exists.
    """
    if name.endswith(SUFFIXES[kind]):
        return Path(name)
    if name not in names(kind):
        raise UsageError(
            f"unknown {called} {name!r}; known names: {', '.join(names(kind))}, or a {SUFFIXES[kind][0]} file"
        )
    return _folder(kind) / f"{name}{SUFFIXES[kind][0]}"


def _folder(kind: str) -> Path:
    from importlib.resources import files  # here, because `--help` loads this module

    return Path(str(files("erprm_cli.templates"))) / kind
