"""Drafts: made exclusively, with the owner and mode of what they replace, in its place in one move."""

import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from erprm_cli.errors import UserError
from erprm_cli.io.drafts import drafted, new_folder, remove_folder, replace_json, replacing, report_file
from erprm_cli.io.ownership import NamedFile
from erprm_cli.io.writing import open_atomic_output, open_output
from erprm_cli.roles import Role
from tests.io.helpers import SETTINGS, numbers, write


def draft_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.erprm.tmp")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as file:
        file.write(b"one")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"two")
        raise ZeroDivisionError
    assert path.read_text() == "one"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("kind", ["link", "dangling link", "folder", "named pipe"])
def test_a_draft_is_never_made_through_what_is_there(tmp_path: Path, kind: str) -> None:
    path, victim = tmp_path / "file", tmp_path / "victim"
    draft = draft_of(path)
    if "link" in kind:
        draft.symlink_to(victim)
    elif kind == "folder":
        draft.mkdir()
    else:
        os.mkfifo(draft)
    if kind == "link":
        victim.write_text("mine")
    with pytest.raises(UserError, match="is in the way and not a file; move it away"), replacing(path):
        pass
    assert not path.exists() and os.path.lexists(draft)
    assert kind != "link" or victim.read_text() == "mine"


def test_the_draft_of_a_killed_run_is_removed_and_its_other_name_stays(
    tmp_path: Path,
) -> None:
    path, victim = tmp_path / "file", tmp_path / "victim"
    victim.write_text("mine")
    os.link(victim, draft_of(path))
    with replacing(path) as file:
        file.write(b"new")
    assert (path.read_text(), victim.read_text()) == ("new", "mine")
    assert sorted(os.listdir(tmp_path)) == ["file", "victim"]


def test_the_draft_of_a_run_that_lives_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with replacing(path) as file:
        file.write(b"one")
        with pytest.raises(UserError, match="another run"), replacing(path):
            pass
    assert path.read_text() == "one"


@pytest.mark.parametrize("change", ["appeared", "was changed or deleted"])
def test_what_changed_meanwhile_is_not_replaced(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    if change != "appeared":
        path.write_text("before")
    with pytest.raises(UserError, match=f"{change} while the command was at work"), replacing(path) as file:
        file.write(b"ours")
        path.write_text("of another program")
    assert path.read_text() == "of another program"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_draft_that_another_process_takes_away_is_an_error(tmp_path: Path, how: str) -> None:
    path = tmp_path / "file"
    with pytest.raises(UserError, match=f"was {how} by another process"), replacing(path) as file:
        file.write(b"ours")
        draft_of(path).unlink()
        if how == "replaced":
            draft_of(path).write_text("foreign")
    assert not path.exists()


def test_the_mode_of_a_file_is_kept_and_new_files_follow_the_umask(tmp_path: Path) -> None:
    path, new = tmp_path / "out.jsonl", tmp_path / "new.jsonl"
    before = os.umask(0o027)
    try:
        for opener in (open_atomic_output, open_output):
            write(path, [{"n": 1}], opener, overwrite=True)
            path.chmod(0o604)
            write(path, [{"n": 2}], opener, overwrite=True)
            assert (numbers(path), mode(path)) == ([2], 0o604)
            write(new, [], opener, overwrite=True)
            assert mode(new) == mode(tmp_path / "new.jsonl.meta.json") == 0o640
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_of_a_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    os.chown(path, 12345, 54321)
    with replacing(path) as file:
        file.write(b"two")
    assert (path.read_text(), path.stat().st_uid, path.stat().st_gid) == ("two", 12345, 54321)


def test_a_draft_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file"
    shutil.copy("/bin/sleep", draft_of(path))  # a program that runs is not opened for writing
    with subprocess.Popen([draft_of(path), "60"]) as program:
        try:
            with pytest.raises(UserError, match=r"\.file\.erprm\.tmp: Text file busy"), replacing(path):
                pass
        finally:
            program.kill()


def test_what_cannot_be_written_or_replaced_is_one_line(tmp_path: Path) -> None:
    (folder := tmp_path / "folder").mkdir()
    with pytest.raises(UserError, match="folder: Is a directory"), replacing(folder):
        pass
    with pytest.raises(UserError, match="/dev/full: No space left"):
        with report_file(NamedFile("--html", Role.PAGE, "/dev/full")) as file:
            file.write(b"page")
    with pytest.raises(UserError, match="model: No such file"), new_folder(tmp_path / "model") as draft:
        (draft / "gone" / "file").write_text("")


def test_json_on_a_full_disk_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "meta.json"
    replace_json(path, {})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(UserError, match=r"meta\.json: File too large"):
            replace_json(path, "x" * 1_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "{}\n" and os.listdir(tmp_path) == ["meta.json"]


def test_an_owner_that_cannot_be_kept_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    path = tmp_path / "file"
    path.write_text("one")
    monkeypatch.setattr(os, "fchmod", refused)  # as for a file of another user; the next test needs root
    with pytest.raises(UserError, match="belongs to another user or group"), replacing(path):
        pass
    assert os.listdir(tmp_path) == ["file"]


GIVE_UP_ROOT = """
import os, sys
from pathlib import Path
from erprm_cli.errors import UserError
from erprm_cli.io.drafts import replacing
os.setgid(12345); os.setuid(12345)
try:
    with replacing(Path(sys.argv[1])) as file:
        pass
except UserError as error:
    print(error)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_of_another_owner_is_refused_where_its_owner_cannot_be_kept(tmp_path: Path) -> None:
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o777)
    path = tmp_path / "file"
    path.write_text("one")
    path.chmod(0o666)
    command = [sys.executable, "-c", GIVE_UP_ROOT, str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if "Permission denied" in done.stderr:
        pytest.skip("the interpreter is not readable for other users")
    assert "belongs to another user" in done.stdout
    assert os.listdir(tmp_path) == ["file"] and path.stat().st_uid == 0


def test_an_overwritten_output_stays_until_the_first_new_row(tmp_path: Path) -> None:
    path, other = tmp_path / "out.jsonl", tmp_path / "other"
    write(path, [{"n": 1}])
    os.link(path, other)
    with pytest.raises(ZeroDivisionError), open_output(str(path), {"seed": 1}, overwrite=True):
        raise ZeroDivisionError  # such as a model that is not found
    assert numbers(path) == [1]
    write(path, [])  # its settings are the old ones
    with open_output(str(path), {"seed": 1}, overwrite=True) as output:
        assert list(output.existing(dict)) == []
        output.write({"n": 2})
        assert numbers(path) == [2]
        with pytest.raises(UserError, match="another run"), open_output(str(path), {"seed": 1}):
            pass
    assert (numbers(path), numbers(other)) == ([2], [1])
    write(path, [], overwrite=True)
    assert path.read_bytes() == b""
    assert (
        SETTINGS.items()
        <= __import__("json").loads((tmp_path / "out.jsonl.meta.json").read_bytes())["settings"].items()
    )


@pytest.mark.parametrize("role", [Role.PLOT, Role.PAGE])
def test_a_report_that_appeared_meanwhile_is_left_alone(tmp_path: Path, role: Role) -> None:
    path = tmp_path / "it"
    path.write_text("mine")
    with pytest.raises(UserError, match="was not written by erprm"):
        with report_file(NamedFile("--plot", role, str(path))):
            pass
    assert path.read_text() == "mine"


def test_a_report_can_go_to_a_device_and_through_a_link(tmp_path: Path) -> None:
    with report_file(NamedFile("--html", Role.PAGE, "/dev/null")) as file:
        file.write(b"page")
    link = tmp_path / "link.html"
    link.symlink_to(tmp_path / "page.html")
    with report_file(NamedFile("--html", Role.PAGE, str(link))) as file:
        file.write(b"page")
    assert link.is_symlink() and link.read_text() == "page"


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_is_replaced_in_one_move(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:  # a system without renameat2
        monkeypatch.setattr("erprm_cli.io.drafts._exchanged", lambda *_: False)
    real, path = tmp_path / "real", tmp_path / "link"
    path.symlink_to(real)
    for text in ("one", "two"):
        with new_folder(path) as draft:
            (draft / "file").write_text(text)
        assert (real / "file").read_text() == text
        real.chmod(0o750)
    assert path.is_symlink() and mode(real) == 0o750
    with pytest.raises(ZeroDivisionError), new_folder(path):
        raise ZeroDivisionError
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]
    remove_folder(path)
    assert os.listdir(tmp_path) == ["link"]


def test_a_new_folder_is_kept_where_it_may_not_take_its_place(tmp_path: Path) -> None:
    path = tmp_path / "model"

    def check() -> None:
        raise UserError("it holds a thesis")

    with pytest.raises(UserError, match="it holds a thesis; the new folder is complete: ") as caught:
        with new_folder(path, check) as draft:
            (draft / "weights").write_text("new")
    (kept,) = tmp_path.iterdir()
    assert str(caught.value).endswith(str(kept)) and (kept / "weights").read_text() == "new"


def test_a_folder_under_the_name_of_a_draft_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "model"
    taken = tmp_path / f".model.{os.getpid()}.erprm.tmp"
    taken.mkdir()
    (taken / "thesis").write_text("mine")
    with pytest.raises(UserError, match="File exists"), new_folder(path):
        pass
    assert (taken / "thesis").read_text() == "mine"


def test_a_draft_is_as_private_as_the_file_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("secret")
    path.chmod(0o600)
    with drafted(path) as draft:
        assert mode(draft.path) == 0o600
