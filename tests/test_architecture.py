"""The rules of the layout that import-linter does not check: who opens files, sizes, heavy imports."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from erprm_cli.app import COMMANDS

ROOT = Path(__file__).parents[1]
LIBRARY = sorted((ROOT / "erprm_cli").rglob("*.py"))
COMMAND_MODULES = sorted((ROOT / "commands").glob("*.py"))
MAX_LINES = 400
COMMAND_LINES = range(40, 121)

OPENING = {"open", "read_bytes", "read_text", "write_bytes", "write_text"}
# /proc/PID/stat is a question to the kernel, and the metadata of a package one to the installer.
NOT_FILES = {("erprm_cli/worker_process.py", "read_bytes"), ("erprm_cli/packages.py", "read_text")}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def opening_calls(text: str) -> list[str]:
    """Return the names of the calls that open files; the method of a class (Engine.open) is not one."""
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    names = [call.id for call in calls if isinstance(call, ast.Name) and call.id == "open"]
    for call in calls:
        if isinstance(call, ast.Attribute) and call.attr in OPENING:
            owner = call.value.id if isinstance(call.value, ast.Name) else ""
            if owner == "Path" or not owner[:1].isupper():
                names.append(call.attr)
    return names


def imports(path: Path) -> set[str]:
    """Return the top-level packages that a module imports anywhere in its text."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize(
    "text",
    ["open(p)", "p.open('rb')", "os.open(p, 0)", "Path.open(p)", "Path(p).read_text()", "p.write_bytes(b'')"],
)
def test_the_scan_finds_every_way_to_open_a_file(text: str) -> None:
    assert len(opening_calls(f"def f():\n    with {text} as file:\n        pass")) == 1
    assert opening_calls("ServerEngine.open(config); reopen(p); popen.communicate()") == []


def test_only_io_opens_files() -> None:
    found = {
        (name_of(path), call)
        for path in (*LIBRARY, *COMMAND_MODULES)
        if path.parent.name != "io"
        for call in opening_calls(path.read_text())
    }
    assert found - NOT_FILES == set()


def test_only_the_terminal_prints() -> None:
    """Every line on stderr is formatted by one function; `erprm --version` prints on stdout."""
    printing = {
        name_of(path)
        for path in [*LIBRARY, *COMMAND_MODULES]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    }
    assert {name for name in printing if "/terminal/" not in name} == {"erprm_cli/app.py"}


def test_no_file_is_long() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in (*LIBRARY, *COMMAND_MODULES)}
    assert {name: length for name, length in lengths.items() if length > MAX_LINES} == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_is_flags_and_wiring(command: str) -> None:
    assert len((ROOT / "commands" / f"{command}.py").read_text().splitlines()) in COMMAND_LINES


def test_only_app_and_options_import_typer() -> None:
    importing = {name_of(path) for path in (*LIBRARY, *COMMAND_MODULES) if imports(path) & {"typer", "click"}}
    assert importing == {"erprm_cli/app.py", "erprm_cli/options.py"}


@pytest.mark.parametrize("package", ["rows", "answers", "labels", "evaluation"])
def test_packages_without_models_never_load_torch(package: str) -> None:
    folder = ROOT / "erprm_cli" / package
    names = [f"erprm_cli.{package}.{path.stem}" for path in sorted(folder.glob("[a-z]*.py"))]
    code = f"import sys, {', '.join(names)}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_every_package_is_installed() -> None:
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    folders = {path.parent for path in LIBRARY}
    expected = {".".join(folder.relative_to(ROOT).parts) for folder in folders}
    assert set(setuptools["packages"]) == expected | {"erprm_cli.commands", "erprm_cli.templates"}
    assert all((folder / "__init__.py").is_file() for folder in folders)
