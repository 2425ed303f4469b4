"""What the window's workers find out about a set on the hub, without the window and without the processes."""

from dataclasses import asdict
from pathlib import Path

import pytest

from studio.data.conversation import RawRow
from studio.errors import DataError
from studio.places import Workspace
from studio.runs import hub_jobs
from studio.runs.hub_jobs import HubLook
from tests.studio.data.hub_rows import CARD, NAME, served


def look(workspace: Workspace, folder: Path, name: str, **part: str) -> HubLook:
    told = hub_jobs.look(workspace, folder, {"name": name, **part}, lambda *_: None)
    return HubLook.load(Path(told["look"]))


def test_a_look_offers_something_tells_what_is_here_and_goes_on_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path / "home")
    with served(monkeypatch) as hub:
        configs = [{key: value for key, value in one.items() if key != "default"} for one in CARD["configs"]]
        hub.cards[NAME] = {**CARD, "configs": configs}  # none is the default one
        found = look(workspace, tmp_path, "owner/talk")
        assert (found.name.subset, found.name.split, found.here, found.why) == ("short", "train", "", "")
        assert found.subsets == {"short": ["train", "test"], "long": ["train"]}
        assert isinstance(found.rows[0], RawRow)
        path = hub_jobs.fetch(workspace, tmp_path, {"name": asdict(found.name)}, lambda *_: None)["path"]
        assert look(workspace, tmp_path, "owner/talk").here == path
        assert look(workspace, tmp_path, "owner/talk", subset="long", split="").here == ""
        with pytest.raises(DataError, match="no subset 'tall'"):
            look(workspace, tmp_path, "owner/talk:tall")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = look(workspace, tmp_path, "owner/talk")
    assert (found.here, len(found.rows), found.subsets) == (path, 20, {})
    assert "HF_HUB_OFFLINE" in found.why
