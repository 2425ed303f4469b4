from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio import files
from studio.errors import AdapterError, BaseModelError, NotFoundError, StudioError
from studio.library import shelf
from studio.models.bases import find_base
from studio.places import Workspace
from tests.studio.library.folders import facts, make_adapter, make_base


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "no-cache"))
    return Workspace(tmp_path / "home")


def test_an_adopted_adapter_is_found_and_sound(workspace: Workspace, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "run" / "adapter", sidecar=facts("sha256:abc"))
    files.write_manifest(source)
    adapter = shelf.adopt(workspace, source, "My first!")
    assert adapter.name == "My-first"
    assert adapter.path == workspace.adapters / "My-first"
    assert shelf.find(workspace, "My-first") == adapter
    assert shelf.check(adapter) == []
    assert shelf.list_adapters(workspace) == [adapter]


def test_adopting_twice_takes_the_next_free_name(workspace: Workspace, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "a")
    assert [shelf.adopt(workspace, source, "a").name for _ in range(3)] == ["a", "a-2", "a-3"]


def test_adopting_at_the_same_moment_loses_nothing(workspace: Workspace, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "a")
    with ThreadPoolExecutor(4) as pool:
        names = list(pool.map(lambda _: shelf.adopt(workspace, source, "a").name, range(4)))
    assert sorted(names) == ["a", "a-2", "a-3", "a-4"]


def test_only_what_an_adapter_consists_of_is_copied(workspace: Workspace, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "a")
    (source / "training_args.bin").write_bytes(b"pickle")
    (source / "setup.py").write_text("boom")
    (source / "README.md").write_text("card")
    (source / "checkpoint-1").mkdir()
    adapter = shelf.import_adapter(workspace, source)
    assert {path.name for path in adapter.path.iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "README.md",
        "manifest.json",
    }


def test_the_newest_comes_first(workspace: Workspace, tmp_path: Path) -> None:
    for name, created in (("old", 1.0), ("new", 3.0), ("middle", 2.0)):
        shelf.adopt(workspace, make_adapter(tmp_path / name, sidecar=facts("sha256:abc", created=created)), name)
    assert [adapter.name for adapter in shelf.list_adapters(workspace)] == ["new", "middle", "old"]


def test_a_damaged_adapter_is_told_and_hides_no_other(workspace: Workspace, tmp_path: Path) -> None:
    shelf.adopt(workspace, make_adapter(tmp_path / "a"), "good")
    shelf.adopt(workspace, make_adapter(tmp_path / "b"), "bad")
    (workspace.adapters / "bad" / "adapter_config.json").write_text("{")
    assert [adapter.name for adapter in shelf.list_adapters(workspace)] == ["good"]
    assert [problem.path.name for problem in shelf.list_problems(workspace)] == ["bad"]


def test_an_empty_library_is_no_problem(workspace: Workspace) -> None:
    assert shelf.list_adapters(workspace) == []
    assert shelf.list_problems(workspace) == []


@pytest.mark.parametrize("name", ["", "..", "../a", ".lock", "no such", "a\0b", " "])
def test_what_is_not_there_is_not_found(workspace: Workspace, tmp_path: Path, name: str) -> None:
    shelf.adopt(workspace, make_adapter(tmp_path / "a"), "a")
    with pytest.raises((NotFoundError, AdapterError)):
        shelf.find(workspace, name)


def test_a_misspelt_name_gets_the_nearest_one(workspace: Workspace, tmp_path: Path) -> None:
    shelf.adopt(workspace, make_adapter(tmp_path / "a"), "pirate")
    with pytest.raises(NotFoundError) as caught:
        shelf.find(workspace, "pirat")
    assert "pirate" in caught.value.hint


def test_an_adapter_outside_the_library_is_found_by_its_folder(workspace: Workspace, tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "outside")
    assert shelf.find(workspace, str(folder)).path == folder
    with pytest.raises(NotFoundError, match="not in the library"):
        shelf.remove(workspace, str(folder))
    assert folder.is_dir()


def test_import_takes_the_folder_or_one_of_its_files(workspace: Workspace, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "theirs")
    assert shelf.import_adapter(workspace, source).name == "theirs"
    assert shelf.import_adapter(workspace, source / "adapter_model.safetensors", "mine").name == "mine"


def test_import_refuses_what_is_damaged(workspace: Workspace, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "theirs")
    weights = source / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(AdapterError, match="part of the file is missing"):
        shelf.import_adapter(workspace, source)
    with pytest.raises(NotFoundError):
        shelf.import_adapter(workspace, tmp_path / "nothing")
    assert shelf.list_adapters(workspace) == []


def test_rename(workspace: Workspace, tmp_path: Path) -> None:
    shelf.adopt(workspace, make_adapter(tmp_path / "a"), "a")
    shelf.adopt(workspace, make_adapter(tmp_path / "b"), "b")
    assert shelf.rename(workspace, "a", "../../c").path == workspace.adapters / "c"
    with pytest.raises(StudioError, match="already"):
        shelf.rename(workspace, "c", "b")
    with pytest.raises(StudioError, match="no name"):
        shelf.rename(workspace, "c", "///")
    assert {adapter.name for adapter in shelf.list_adapters(workspace)} == {"b", "c"}


def test_tags_and_note_leave_the_adapter_sound(workspace: Workspace, tmp_path: Path) -> None:
    shelf.adopt(workspace, make_adapter(tmp_path / "a", sidecar=facts("sha256:abc")), "a")
    shelf.tag(workspace, "a", add=("style", " fun "))
    shelf.tag(workspace, "a", add=("fun",), remove=("style",))
    adapter = shelf.set_note(workspace, "a", "speaks like a pirate\n")
    assert (adapter.tags, adapter.note) == (("fun",), "speaks like a pirate")
    assert (adapter.base_fingerprint, adapter.run) == ("sha256:abc", "2026-01-01_000000_first")
    assert shelf.check(adapter) == []


@pytest.mark.parametrize("word", ["", "  ", "x" * 41, "two\nlines"])
def test_a_tag_is_one_short_line(workspace: Workspace, tmp_path: Path, word: str) -> None:
    shelf.adopt(workspace, make_adapter(tmp_path / "a"), "a")
    with pytest.raises(StudioError, match="no tag"):
        shelf.tag(workspace, "a", add=(word,))


def test_a_tagged_adapter_from_elsewhere_stays_of_unknown_origin(workspace: Workspace, tmp_path: Path) -> None:
    shelf.import_adapter(workspace, make_adapter(tmp_path / "a"))
    adapter = shelf.tag(workspace, "a", add=("theirs",))
    assert adapter.base_fingerprint == ""
    assert adapter.note.startswith("Of unknown origin")
    assert adapter.hub_id == "someone/small-model"
    assert shelf.check(adapter) == []


def test_the_trash_gives_back_what_was_removed(workspace: Workspace, tmp_path: Path) -> None:
    before = shelf.adopt(workspace, make_adapter(tmp_path / "a"), "a")
    lies = shelf.remove(workspace, "a")
    assert shelf.list_adapters(workspace) == []
    assert lies.parent == workspace.trash
    assert shelf.list_trash(workspace) == [lies]
    assert shelf.restore(workspace, lies, "a") == before
    assert shelf.list_trash(workspace) == []


def test_a_restored_adapter_gives_way_to_a_newer_one_of_its_name(workspace: Workspace, tmp_path: Path) -> None:
    first = shelf.adopt(workspace, make_adapter(tmp_path / "a", seed=1), "a")
    lies = shelf.remove(workspace, "a")
    second = shelf.adopt(workspace, make_adapter(tmp_path / "b", seed=2), "a")
    back = shelf.restore(workspace, lies)
    assert (back.name, back.fingerprint) == ("a-2", first.fingerprint)
    assert shelf.find(workspace, "a").fingerprint == second.fingerprint
    with pytest.raises(NotFoundError):
        shelf.restore(workspace, lies)


def test_of_two_of_one_name_in_the_trash_the_one_that_is_meant_comes_back(workspace: Workspace, tmp_path: Path) -> None:
    shelf.adopt(workspace, make_adapter(tmp_path / "a", seed=1), "a")
    shelf.remove(workspace, "a")
    second = shelf.adopt(workspace, make_adapter(tmp_path / "b", seed=2), "a")
    lies = shelf.remove(workspace, "a")
    assert shelf.restore(workspace, lies, "a") == second, "under its own name, which is free"


def test_nothing_outside_the_trash_is_brought_back(workspace: Workspace, tmp_path: Path) -> None:
    elsewhere = make_adapter(tmp_path / "a")
    with pytest.raises(NotFoundError):
        shelf.restore(workspace, elsewhere)
    assert elsewhere.is_dir()


def test_the_base_is_found_by_its_weights_whatever_it_is_called(workspace: Workspace, tmp_path: Path) -> None:
    make_base(workspace.bases / "another", seed=1)
    base = find_base(workspace, str(make_base(workspace.bases / "renamed", seed=2)))
    adapter = shelf.adopt(workspace, make_adapter(tmp_path / "a", sidecar=facts(base.fingerprint)), "a")
    assert shelf.base_for(workspace, adapter).id == "renamed"


def test_a_base_that_is_not_here_is_named(workspace: Workspace, tmp_path: Path) -> None:
    adapter = shelf.import_adapter(workspace, make_adapter(tmp_path / "a"))
    with pytest.raises(BaseModelError, match="someone/small-model"):
        shelf.base_for(workspace, adapter)
