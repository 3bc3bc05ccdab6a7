"""The pages say what is true: sessions print what is shown, links lead somewhere, command lines parse."""

import re
import shlex
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import typer
from page_sessions import Shell, missing_line, run_page

from erprm_cli.app import COMMANDS, make_app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# README is an excerpt of the first.
SESSIONS = ["docs/quickstart.md", "README.md", "docs/troubleshooting.md", "docs/evaluation.md"]

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)
COMMENT = re.compile(r"<!--.*?-->", re.S)
INLINE_CODE = re.compile(r"`(erprm [^`]+)`")
LINK = re.compile(r"\]\((?P<path>[^)#\s]*)(?:#(?P<anchor>[^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.M)
SOURCE_PATH = re.compile(r"`((?:erprm_cli|commands|templates|scripts|benchmarks|tests)/[\w/.-]*\w)`")

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def prose(path: Path) -> str:
    """Return a page without its code blocks and comments."""
    return COMMENT.sub("", FENCE.sub("", path.read_text(encoding="utf-8")))


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and the site make them."""
    titles = (title.replace("`", "") for title in HEADING.findall(prose(path)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def command_lines(text: str) -> Iterator[list[str]]:
    """Yield the words of each erprm command in a piece of shell, from the command's name on."""
    for line in text.replace("\\\n", " ").splitlines():
        if "erprm " not in line:
            continue
        lexer = shlex.shlex(line.removeprefix("$ "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        pieces = groupby(lexer, key=lambda word: not set(word) <= set("|&;()<>"))
        for words in (list(piece) for is_words, piece in pieces if is_words):
            if words[0] == "erprm":
                yield words[1:]


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(tmp_path_factory.mktemp("sessions"))


@pytest.fixture(scope="module")
def program() -> Any:
    """The commands by name, each with its flags."""
    return typer.main.get_command(make_app())


@pytest.mark.parametrize("name", SESSIONS)
@pytest.mark.slow
def test_sessions_print_what_the_page_shows(name: str, shell: Shell) -> None:
    for command, printed in run_page((ROOT / name).read_text(encoding="utf-8"), shell):
        line = missing_line(command, printed)
        assert line is None, f"$ {command.text}\ndid not print: {line}\nbut:\n" + "\n".join(printed)


@each_page
def test_links_lead_to_pages_and_headings(path: Path) -> None:
    for link in LINK.finditer(prose(path)):
        if "://" in link["path"]:
            continue
        target = path.parent / link["path"] if link["path"] else path
        assert target.exists(), f"no file {link['path']}"
        if link["anchor"] is not None:
            assert link["anchor"] in anchors(target), f"no heading #{link['anchor']} in {target.name}"


@each_page
def test_commands_in_code_blocks_parse(path: Path, program: Any) -> None:
    for language, text in FENCE.findall(path.read_text(encoding="utf-8")):
        shell = text if language != "console" else "".join(re.findall(r"^\$ (?:.*\\\n)*.*\n", text, re.M))
        for name, *arguments in command_lines(shell) if language in ("sh", "console") else ():
            if name in COMMANDS:
                program.commands[name].make_context(name, arguments)


@each_page
def test_flags_named_in_the_text_exist(path: Path, program: Any) -> None:
    for text in INLINE_CODE.findall(prose(path)):
        for name, *arguments in command_lines(text):
            if name not in COMMANDS:
                continue
            parameters = program.commands[name].params
            known = {
                flag for parameter in parameters for flag in (*parameter.opts, *parameter.secondary_opts)
            }
            unknown = {word for word in arguments if re.match(r"--?[A-Za-z]", word)} - known - {"--help"}
            assert not unknown, f"{text}: no flag {unknown}"


@each_page
@pytest.mark.skipif(not (ROOT / "erprm_cli" / "io").is_dir(), reason="the pages name files of the packages")
def test_files_named_in_the_text_exist(path: Path) -> None:
    names = [name for name in SOURCE_PATH.findall(prose(path)) if "NAME" not in name]
    missing = [name for name in names if not (ROOT / name).exists()]
    assert not missing


def test_every_command_has_a_section() -> None:
    assert set(COMMANDS) <= anchors(ROOT / "docs" / "commands.md")
