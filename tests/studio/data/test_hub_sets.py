"""Datasets on the hub: names, what a repository offers, the first rows before anything is fetched, and the fetching itself."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.data.conversation import RawRow
from studio.data.fetched import source_of
from studio.data.hub_download import fetch, fetch_named
from studio.data.hub_layout import layouts
from studio.data.hub_preview import NUM_ROWS, first_rows
from studio.data.hub_sets import HubName, choose, look_up, parse
from studio.data.reading import raw_rows
from studio.data.versions import VersionedSet
from studio.errors import DamagedError, DataError, StudioError
from studio.hub import Hub, HubError
from studio.places import Workspace
from tests.studio.data.hub_rows import NAME, lines, parquet, served, talk
from tests.studio.models.fake_hub import COMMIT, CONVERTED_COMMIT, FakeHub

TALK = HubName("owner/talk")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with served(monkeypatch) as made:
        yield made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hub:owner/talk", TALK),
        ("owner/talk:long", HubName("owner/talk", "long")),
        ("hub:owner/talk:long:test@v1.0", HubName("owner/talk", "long", "test", "v1.0")),
        ("https://huggingface.co/datasets/owner/talk", TALK),
        ("https://huggingface.co/datasets/owner/talk/viewer/long/test?row=3", HubName("owner/talk", "long", "test")),
        ("https://huggingface.co/datasets/owner/talk/tree/v2", HubName("owner/talk", revision="v2")),
    ],
)
def test_a_set_is_named_by_a_word_or_an_address(text: str, name: HubName) -> None:
    assert parse(text) == name


@pytest.mark.parametrize("text", ["", "a/b/c", "../b", "https://huggingface.co/owner/model", "a b", "owner/talk:"])
def test_what_names_no_set_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="names no dataset"):
        parse(text)


@pytest.mark.parametrize(
    "paths",
    [
        ["data/train-00000-of-00002.csv", "data/train-00001-of-00002.csv", "data/test_sft-00000-of-00001-ab.csv"],
        ["x/train/a.csv", "my-dev/b.csv", ".hidden/train/c.csv", "loose.csv"],
        ["train.csv", "sub/my_test.1.csv", "contest.csv", "__pycache__/train.csv"],
        ["a/b/c.json", "d.json", "config.json"],
    ],
)
def test_splits_are_those_that_the_official_library_finds(paths: list[str], tmp_path: Path) -> None:
    import datasets.data_files as official

    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    patterns = official.get_data_patterns(str(tmp_path))
    theirs = official.DataFilesDict.from_local_or_remote(patterns, base_path=str(tmp_path))
    ours = layouts(paths, {})[0].splits
    assert {split: set(found) for split, found in ours.items()} == {
        split: {Path(path).relative_to(tmp_path).as_posix() for path in found} for split, found in theirs.items()
    }


def test_what_a_repository_offers(hub: FakeHub) -> None:
    offer = look_up(TALK)
    assert (offer.commit, offer.licence, offer.is_converted) == (COMMIT, "apache-2.0", False)
    assert {layout.name: list(layout.splits) for layout in offer.subsets} == {
        "short": ["train", "test"],
        "long": ["train"],
    }
    chosen = choose(offer)
    assert (chosen.subset, chosen.split, chosen.num_rows) == ("short", "train", 42)
    with pytest.raises(DataError, match="no subset 'tall'") as raised:
        choose(offer, "tall")
    assert "short, long" in raised.value.hint


@pytest.mark.parametrize(
    "siblings", [None, "rows.jsonl", [1, None, []], [{"rfilename": "rows.jsonl", "size": "9", "lfs": "large"}]]
)
@pytest.mark.parametrize("card", [None, {"configs": "x", "dataset_info": [1], "license": 2}, {"configs": [1, {}]}])
def test_a_listing_that_makes_no_sense_offers_nothing(
    siblings: Any, card: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = {"sha": COMMIT, "siblings": siblings, "cardData": card}
    monkeypatch.setattr(Hub, "listing", lambda *_: told)
    with pytest.raises(DataError, match="has no rows for us"):
        look_up(TALK)


def test_the_official_library_reads_the_same_from_the_same_addresses(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub as library

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    offer = look_up(TALK)
    theirs = library.HfApi(endpoint=hub.url).dataset_info(
        "owner/talk", revision="main", files_metadata=True, token=False
    )
    assert hub.heard[0][0].split("?")[0] == hub.heard[1][0].split("?")[0]
    assert (theirs.sha, theirs.card_data.license) == (offer.commit, offer.licence)
    assert {one.rfilename: (one.size, one.lfs.sha256 if one.lfs else one.blob_id) for one in theirs.siblings} == {
        path: (file.num_bytes, file.sha256 or file.blob) for path, file in offer.files.items()
    }
    first_rows(choose(offer))
    address = library.hf_hub_url(
        "owner/talk", "train/a.jsonl.gz", repo_type="dataset", revision=COMMIT, endpoint=hub.url
    )
    assert address == hub.url + hub.heard[-1][0]


@pytest.mark.parametrize(("subset", "split"), [("short", "train"), ("short", "test"), ("long", "train")])
def test_the_first_rows_come_before_anything_is_fetched(hub: FakeHub, subset: str, split: str) -> None:
    choice = choose(look_up(TALK), subset, split)
    rows = first_rows(choice)
    assert [row.row for row in rows] == list(range(3 if split == "test" else NUM_ROWS))
    values = [row.value for row in rows if isinstance(row, RawRow)]
    answers = [value["answer"] if subset == "long" else value["messages"][1]["content"] for value in values]
    assert all(answer.startswith(f"{n}.") for n, answer in enumerate(answers))
    if subset == "long":
        assert hub.sent_bytes < choice.num_bytes / 2


def test_a_row_that_the_look_cuts_is_not_shown(hub: FakeHub) -> None:
    hub.models[NAME] = {"train.jsonl": lines(5) + b'{"text": "' + "\u00e4".encode() * 1_000_000 + b'"}\n'}
    hub.cards.clear()
    assert len(first_rows(choose(look_up(TALK)))) == 5


def test_a_set_is_fetched_whole_with_its_source_and_found_again_offline(
    hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    choice = choose(look_up(TALK))
    path = fetch(workspace, choice, lambda done, total: told.append((done, total)))
    rows = [row.value["messages"][0]["content"] for row in raw_rows(path) if isinstance(row, RawRow)]
    assert rows == [f"first {n}?" for n in range(40)] + ["second 0?", "second 1?"]
    assert told[-1] == (choice.num_bytes, choice.num_bytes)
    assert source_of(path) == choice.source
    assert choice.source["licence"] == "apache-2.0"
    mended = VersionedSet(workspace, path).mend(["repeats"])
    assert source_of(mended.path) == choice.source
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_named(workspace, TALK, lambda _: None) == path
    for absent in (
        HubName("owner/talk", "long"),
        HubName("owner/talk", split="test"),
        HubName("owner/talk", revision="v2"),
    ):
        with pytest.raises(DataError, match=r"not on this computer.*HF_HUB_OFFLINE"):
            fetch_named(workspace, absent, lambda _: None)


def test_offline_another_split_is_not_taken_for_the_one_that_is_meant(
    hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch(workspace, choose(look_up(TALK), "short", "test"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert fetch_named(workspace, HubName("owner/talk", split="test"), lambda _: None) == path
    with pytest.raises(DataError, match="not on this computer"):
        fetch_named(workspace, TALK, lambda _: None)


def test_a_fetch_that_breaks_off_goes_on_where_it_was(hub: FakeHub, workspace: Workspace) -> None:
    choice = choose(look_up(TALK), "long")

    class Enough(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Enough

    with pytest.raises(Enough):
        fetch(workspace, choice, stop)
    assert not list(workspace.fetched.glob("*/*/source.json"))
    hub.heard.clear()
    hub.breaks_after = choice.num_bytes // 8
    told: list[int] = []
    path = fetch(workspace, choice, lambda done, _: told.append(done))
    assert told[0] > choice.num_bytes / 2
    assert len(hub.heard) > 2
    assert path.read_bytes() == talk()["long/all.parquet"]


@pytest.mark.parametrize("file", ["long/all.parquet", "test.jsonl"])
def test_what_is_not_what_the_hub_announced_is_not_kept(hub: FakeHub, workspace: Workspace, file: str) -> None:
    choice = choose(look_up(TALK), "long") if file.startswith("long") else choose(look_up(TALK), "short", "test")
    content = bytearray(hub.models[NAME][file])
    content[50] ^= 1
    hub.models[NAME][file] = bytes(content)
    with pytest.raises(DamagedError, match="other contents"):
        fetch(workspace, choice)
    assert not [path for path in workspace.fetched.rglob("*") if path.is_file() and path.name != ".lock"]


def test_a_set_made_by_a_script_is_taken_as_the_hub_converted_it_or_refused(hub: FakeHub, workspace: Workspace) -> None:
    hub.models[NAME] = {"talk.py": b"raise SystemExit", "raw.xml": b"<x/>"}
    hub.cards.clear()
    with pytest.raises(DataError, match=r"program \(talk.py\), which is never run"):
        look_up(TALK)
    hub.converted[NAME] = {"default/train/0000.parquet": parquet(2), "default/train/0001.parquet": parquet(1)}
    choice = choose(look_up(TALK))
    assert (choice.offer.files_revision, choice.offer.is_converted) == (CONVERTED_COMMIT, True)
    assert len(list(raw_rows(fetch(workspace, choice)))) == 3


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((401, "RepoNotFound"), "no such dataset"),
        ((403, "GatedRepo"), "accepted its terms"),
        ((500, ""), "answered 500"),
    ],
)
def test_refusals_are_told_in_plain_words(hub: FakeHub, refusal: tuple[int, str], words: str) -> None:
    hub.refusals[NAME] = refusal
    with pytest.raises(HubError, match=words) as raised:
        look_up(TALK)
    assert raised.value.hint


def test_a_name_from_the_hub_cannot_lead_out_of_its_folder(hub: FakeHub, workspace: Workspace, tmp_path: Path) -> None:
    hub.cards.clear()
    hub.models[NAME] = {"../../x.jsonl": lines(1), "a.jsonl": lines(1)}
    assert [file.path for file in choose(look_up(TALK)).files] == ["a.jsonl"]
    hub.models[NAME] = {f"{tmp_path}/x.jsonl": lines(1), f"{tmp_path}/y.jsonl": lines(1)}
    with pytest.raises(StudioError, match="leads out of"):
        fetch(workspace, choose(look_up(TALK)))
    assert not list(tmp_path.glob("*.jsonl"))
