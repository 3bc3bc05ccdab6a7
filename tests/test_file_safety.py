"""No flag of any command empties, replaces or deletes a file that erprm did not write.

The flags are found in the Typer app, so a new one cannot be forgotten.
"""

import json
import os
import re
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from erprm_cli.app import COMMANDS, file_flags, make_app
from erprm_cli.errors import UserError
from erprm_cli.io.ownership import CARD, MARK
from erprm_cli.roles import Role
from tests.torture import rows

Run = Callable[..., Any]
PARSED: Any = get_command(make_app())
ROLES = {
    (command, parameter.name): (parameter, role)
    for command in COMMANDS
    for parameter, role in file_flags(PARSED.commands[command])
}
READ = [key for key, (_, role) in ROLES.items() if role in (Role.READ, Role.READ_BY_NAME)]
WRITTEN = [key for key in ROLES if key not in READ]
FILES = [key for key in WRITTEN if ROLES[key][1] not in (Role.MODEL, Role.RUN)]
FOLDERS = [key for key in WRITTEN if key not in FILES]
SIDECAR = json.dumps({"settings": {}, "runs": [{"command": "erprm label"}]})
BAD_ROW = '{"place":"in:1","reason":"bad","line":"x"}\n'
PAGE = '<meta name="generator" content="erprm 0.1">'
# What a command needs beside its input; {tmp} is a new name in the folder of the test.
WORDS = {
    "train": ("-o", "{tmp}/prm"),
    "export": ("tiny", "-o", "{tmp}/head"),
    "score": ("--prm", "tiny"),
    "search": ("--prm", "tiny"),
    "inspect": ("prm", "tiny"),
    "rlhf": ("--prm", "tiny", "-o", "{tmp}/raft"),
    "rerun": ("tiny",),
}


def words(command: str, folder: Path, given: dict[str, Path]) -> list[str]:
    """Return a command line that is right, apart from the files that `given` names by parameter."""
    source = rows.write(folder / "in.jsonl", [rows.scores(1) | rows.rollouts(1, k=2)])
    line = [command, *(word.replace("{tmp}", str(folder)) for word in WORDS.get(command, ()))]
    parameters = PARSED.commands[command].params
    arguments = {parameter.name for parameter in parameters if parameter.param_type_name != "option"}
    for name, path in given.items():
        parameter = ROLES[command, name][0]
        if name not in arguments:
            line += [max(parameter.opts, key=len), str(path)]
        elif name not in ("source", "sources"):
            line[line.index("tiny")] = str(path)
    if {"source", "sources"} & arguments:
        line.append(str(given.get("source", given.get("sources", source))))
    return line + ["--overwrite"] * any("--overwrite" in parameter.opts for parameter in parameters)


def content(folder: Path) -> dict[str, bytes | str]:
    """Return every file, link and folder below `folder`."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else ""
        for path in folder.rglob("*")
    }


def write_own(path: Path, role: Role) -> Path:
    """Write what erprm may have written to `path` for a flag of this role."""
    if role is Role.MODEL:
        path.mkdir()
        (path / CARD).write_text(json.dumps({"files": [CARD, "config.json"]}))
        (path / "config.json").write_text("{}")
    elif role is Role.RUN:
        (path / "iteration-1").mkdir(parents=True)
        for name in ("run.meta.json", "iteration-1/samples.jsonl", "iteration-1/samples.jsonl.meta.json"):
            (path / name).write_text(SIDECAR)
    else:
        marked = {Role.BAD_ROWS: BAD_ROW, Role.PLOT: MARK, Role.TABLE: MARK, Role.PAGE: PAGE}
        path.write_text(marked.get(role, '{"id":"a"}\n'))
        if role is Role.ROWS:
            path.with_name(path.name + ".meta.json").write_text(SIDECAR)
    return path


def name_for(role: Role) -> str:
    suffix = {Role.PLOT: ".png", Role.TABLE: ".tex", Role.PAGE: ".html", Role.MODEL: "", Role.RUN: ""}
    return f"it{suffix.get(role, '.jsonl')}"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_flag_that_names_a_file_says_what_it_does_with_it(command: str) -> None:
    for parameter in PARSED.commands[command].params:
        metavar, text = str(parameter.metavar), getattr(parameter, "help", "") or ""
        if re.fullmatch(r"(FILE|DIR|MODEL|PRM|INPUT)\b.*", metavar) or re.search(
            r"\.toml|\.yaml|a folder", text
        ):
            # --config is taken out of the words before they are parsed; see erprm_cli.presets
            assert (command, parameter.name) in ROLES or parameter.name == "config", metavar


def refused(line: list[str], folder: Path) -> str:
    """Run a command that must change nothing; return its message."""
    before = content(folder)
    with pytest.raises(UserError) as caught:
        PARSED(line, standalone_mode=False)
    assert content(folder) == before
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (key, kind)
        for key in FILES
        for kind in ("file", "link", "sidecar", "cut sidecar")
        if "sidecar" not in kind or ROLES[key][1] is Role.ROWS
    ],
)
def test_a_file_of_other_making_is_left_alone(tmp_path: Path, key: tuple[str, str], kind: str) -> None:
    command, name = key
    role = ROLES[key][1]
    path, victim = tmp_path / name_for(role), tmp_path / "victim"
    victim.write_text("mine")
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to(victim)
    else:
        (tmp_path / f"{path.name}.meta.json").write_text("mine" if kind == "sidecar" else '{"settings": {')
        path.write_text("")
    message = refused(words(command, tmp_path, {name: path}), tmp_path)
    assert "not written by erprm" in message or "says how it was made" in message


@pytest.mark.parametrize("key", [key for key in FOLDERS if key[0] != "export"], ids=" ".join)
@pytest.mark.parametrize("kind", ["file", "folder", "link", "own and more", "hidden file", "other kind"])
def test_a_folder_with_files_of_other_making_is_left_alone(
    tmp_path: Path, key: tuple[str, str], kind: str
) -> None:
    command, name = key
    role = ROLES[key][1]
    path, victim = tmp_path / "it", tmp_path / "victim"
    victim.mkdir()
    (victim / "thesis.txt").write_text("mine")
    if kind == "file":
        path.write_text("mine")
    elif kind == "link":
        path.symlink_to(victim)
    elif kind == "other kind":
        write_own(path, Role.MODEL if role is Role.RUN else Role.RUN)
    else:
        write_own(path, role) if "own" in kind else path.mkdir()
        (path / (".thesis" if "hidden" in kind else "thesis.txt")).write_text("mine")
    message = refused(words(command, tmp_path, {name: path}), tmp_path)
    assert "what erprm did not write there" in message or "is a file" in message


@pytest.mark.slow
def test_a_new_folder_is_new(tmp_path: Path) -> None:
    (tmp_path / "head").mkdir()
    (tmp_path / "head" / "thesis.txt").write_text("mine")
    assert "already exists" in refused(words("export", tmp_path, {}), tmp_path)


@pytest.mark.parametrize("spelling", ["same", "./", "case", "link", "hard link"])
@pytest.mark.parametrize(
    ("one", "other"),
    [pair for pair in combinations(WRITTEN, 2) if pair[0][0] == pair[1][0]],
    ids=lambda key: " ".join(key),
)
def test_two_outputs_are_two_files(
    tmp_path: Path, one: tuple[str, str], other: tuple[str, str], spelling: str
) -> None:
    first, role = ROLES[one]
    path = tmp_path / max(name_for(role), name_for(ROLES[other][1]))  # .png wins over .jsonl
    alias: Path | str = tmp_path / f"b{path.suffix}"
    if spelling == "link":
        Path(alias).symlink_to(path)
    elif spelling == "hard link" and role not in (Role.MODEL, Role.RUN):
        path.write_text("")
        os.link(path, alias)
    elif spelling == "case":
        alias = path.with_name(path.name.upper())
    else:
        alias = f"{tmp_path}/./{path.name}" if spelling == "./" else path
    line = words(one[0], tmp_path, {one[1]: path, other[1]: Path(alias)})
    message = refused([str(alias) if word == str(Path(alias)) else word for word in line], tmp_path)
    assert re.search("is also|are written as", message)


@pytest.mark.parametrize(
    ("read", "written"),
    [(read, written) for read in READ for written in WRITTEN if read[0] == written[0]],
    ids=lambda key: " ".join(key),
)
def test_an_input_is_not_an_output(tmp_path: Path, read: tuple[str, str], written: tuple[str, str]) -> None:
    """Even one that an earlier run wrote, and with --overwrite."""
    role = ROLES[written][1]
    path = write_own(tmp_path / name_for(role), role)
    message = refused(words(read[0], tmp_path, {read[1]: path, written[1]: path}), tmp_path)
    assert "is also" in message
    if role in (Role.MODEL, Role.RUN):
        inside = path / ("config.json" if role is Role.MODEL else "iteration-1/samples.jsonl")
        for source in (inside, tmp_path / "alias.jsonl"):
            if source != inside:
                os.link(inside, source)
            line = words(read[0], tmp_path, {read[1]: source, written[1]: path})
            assert "is also" in refused(line, tmp_path)


def test_two_flags_do_not_share_stdout(erprm: Run) -> None:
    for line in (("bon", "--report", "-"), ("processbench", "--scored", "-")):
        assert "cannot share stdout" in str(erprm(*line).exception)


@pytest.mark.parametrize(
    "key", [key for key in WRITTEN if ROLES[key][1] not in (Role.ROWS, Role.PLOT)], ids=" ".join
)
def test_stdout_is_for_rows_and_plots_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: tuple[str, str]
) -> None:
    """Otherwise a file that is called - would be written, and one that is there replaced."""
    monkeypatch.chdir(tmp_path)
    Path("-").write_text("mine")
    message = refused(words(key[0], tmp_path, {key[1]: Path("-")}), tmp_path)
    assert "cannot be stdout" in message
    assert Path("-").read_text() == "mine"


def test_what_an_earlier_run_wrote_is_replaced(erprm: Run, tmp_path: Path) -> None:
    bad = tmp_path / "in.jsonl"
    bad.write_text("{}\n")
    good = rows.write(tmp_path / "good.jsonl", [rows.rollouts(1, k=2)])
    given = ("--errors", tmp_path / "bad.jsonl", "-o", tmp_path / "out.jsonl")
    assert erprm("label", bad, *given).exit_code == 1
    assert (tmp_path / "bad.jsonl").read_bytes().count(b"\n") == 1
    assert erprm("label", good, *given).exit_code == 0
    assert (tmp_path / "bad.jsonl").read_bytes() == b""
    assert erprm("label", good, *given, "--eta", "2", "--overwrite").exit_code == 0
    assert json.loads((tmp_path / "out.jsonl").read_bytes())["eta"] == 2.0


def test_a_plot_is_replaced_by_a_plot(erprm: Run, tmp_path: Path) -> None:
    source = rows.write(tmp_path / "in.jsonl", [rows.scores(n, s) for n in range(3) for s in range(4)])
    for suffix in (".png", ".svg", ".pdf"):
        path = tmp_path / f"it{suffix}"
        for _ in range(2):
            assert erprm("bon", source, "--plot", path, "-q").exit_code == 0
        path.write_text("mine")
        refused(["bon", str(source), "--plot", str(path)], tmp_path)
