import contextlib
import errno
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio import files
from studio.errors import DamagedError, DiskFullError, StudioError


@given(st.text())
def test_any_text_becomes_a_plain_name(text):
    name = files.safe_name(text)
    assert name
    assert not set(name) & set('/\\:*?"<>|\0\n')
    assert not name.startswith(".")
    assert len(name.encode()) <= 255
    assert name.split(".")[0].lower() not in {"con", "nul", "com1", "lpt9"}


@given(st.text())
def test_no_name_leads_out_of_its_folder(tmp_path_factory, text):
    root = tmp_path_factory.getbasetemp()
    assert (root / files.safe_name(text)).resolve().parent == root.resolve()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "a\0b"])
def test_a_path_out_of_the_folder_is_refused(tmp_path, name):
    with pytest.raises((StudioError, ValueError)):
        files.inside(tmp_path, name)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path)
    with pytest.raises(StudioError):
        files.inside(tmp_path / "root", "link/secret")


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    files.write_json(path, {"x": 1})

    monkeypatch.setattr(os, "fsync", no_room)
    with pytest.raises(DiskFullError, match="is full"):
        files.write_json(path, {"x": 2})
    assert files.read_json(path)["x"] == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_real_full_disk_is_named(tmp_path):
    """/dev/full answers every write as a full disk does."""
    with pytest.raises(DiskFullError), files.full_disk_named(tmp_path), open("/dev/full", "wb", buffering=0) as file:
        file.write(b"x")


def test_a_file_without_room_asks_for_the_room_of_its_whole_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", no_room)
    with (
        pytest.raises(DiskFullError, match=r"7\.0 kB are needed") as caught,
        files.new_folder(tmp_path / "a", needs_bytes=7000) as folder,
    ):
        files.write_text(folder / "x", "1")
    assert (caught.value.folder, caught.value.needs_bytes) == (str(tmp_path), 7000)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_remover_is_killed_has_no_name_any_more(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    monkeypatch.setattr(os, "unlink", no_room)
    with pytest.raises(OSError, match="No space"):
        files.remove(tmp_path / "a")
    monkeypatch.undo()
    assert not (tmp_path / "a").exists()
    assert len(files.sweep(tmp_path)) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with contextlib.suppress(KeyError), files.new_folder(tmp_path / "a") as folder:
        files.write_text(folder / "x", "1")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with files.new_folder(tmp_path / "a") as folder:
        files.write_text(folder / "sub" / "x", "1")
        assert not (tmp_path / "a").exists()
    assert files.damage(tmp_path / "a") == []
    with pytest.raises(StudioError, match="exists already"), files.new_folder(tmp_path / "a"):
        pass


def test_every_kind_of_damage_is_told(tmp_path):
    with files.new_folder(tmp_path / "a") as folder:
        for name in "xyz":
            files.write_text(folder / name, name * 10)
    (tmp_path / "a" / "x").unlink()
    (tmp_path / "a" / "y").write_text("y")
    (tmp_path / "a" / "z").write_text("zzzzzzzzz!")
    told = " ".join(files.damage(tmp_path / "a"))
    assert "x is missing" in told
    assert "y has 1 bytes instead of 10" in told
    assert "z has been changed" in told
    (tmp_path / "a" / files.MANIFEST).unlink()
    assert "never finished" in files.damage(tmp_path / "a")[0]


@pytest.mark.parametrize(
    "text", ['{"fi1es": []}', '{"files": [{"path": "x"}]}', '{"files": [7]}', '{"files": 7}', "{}"]
)
def test_a_manifest_with_a_wrong_letter_in_it_is_damage(tmp_path, text):
    with files.new_folder(tmp_path / "a") as folder:
        files.write_text(folder / "x", "1")
    (tmp_path / "a" / files.MANIFEST).write_text(text)
    assert files.damage(tmp_path / "a")


def test_a_manifest_that_points_out_of_its_folder_is_refused(tmp_path):
    with files.new_folder(tmp_path / "a") as folder:
        files.write_text(folder / "x", "1")
    entry = {"path": "../../secret", "bytes": 1, "sha256": ""}
    (tmp_path / "a" / files.MANIFEST).write_text(json.dumps({"schema": 1, "files": [entry]}))
    with pytest.raises(StudioError, match="leads out"):
        files.damage(tmp_path / "a")


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "[" * 100_000, '{"schema": 99}'])
def test_a_file_that_is_not_ours_is_damage_not_a_crash(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DamagedError):
        files.read_json(tmp_path / "a.json")


def test_leftovers_of_killed_writers_are_swept_and_nothing_else(tmp_path):
    left = files.temporary_beside(tmp_path / "a")
    left.mkdir()
    (left / "x").write_text("x")
    kept = [tmp_path / ".hidden", tmp_path / "b.tmp-1", tmp_path / ".c.tmp-xyz"]
    for path in kept:
        path.write_text("")
    assert files.sweep(tmp_path) == [left]
    assert sorted(tmp_path.iterdir()) == sorted(kept)


def test_what_goes_to_the_trash_never_covers_what_is_there(tmp_path):
    for content in "12":
        (tmp_path / "a").write_text(content)
        files.move_to(tmp_path / "a", tmp_path / "trash")
    assert sorted(path.read_text() for path in (tmp_path / "trash").iterdir()) == ["1", "2"]
