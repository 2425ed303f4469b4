"""`overlay fit`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.files import readable_bytes
from studio.memory.device import Gpu
from studio.models.catalogue import entries
from studio.recipe.fields import from_dict, replaced
from studio.recipe.toml import load
from tests.studio.cli.conftest import Overlay

CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
}


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A recipe that takes about 10 GB, with notes of its owner, for a base of which only the numbers are here."""
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "rows.jsonl").write_text("{}\n")
    path = tmp_path / "large.toml"
    path.write_text(
        f'# for my brother\nschema = 1\nname = "large"\n\n[base]\nid = "{tmp_path / "llama"}"\n\n'
        '[data]\npath = "rows.jsonl"\nmax_tokens = 2048  # long letters\n\n'
        "[training]\nmicro_batch_tokens = 8192  # as large as can be\nbatch_rows = 8\n"
    )
    return path


def test_changes_are_listed_and_lead_to_the_recipe(overlay: Overlay, large: Path) -> None:
    before = large.read_text()
    found = overlay("fit", large, "--card-gib", "12", "--json").document
    assert found.keys() >= {"recipe", "changes", "estimate"}
    (change,) = found["changes"]
    assert change.keys() == {"field", "from", "to", "saves_bytes", "price"}
    assert (change["field"], change["from"]) == ("training.micro_batch_tokens", 8192)
    assert from_dict(found["recipe"]) == replaced(load(large), change["field"], change["to"])
    assert (found["estimate"]["fits"], found["estimate"]["verdict"]) == (True, "fits")
    estimated = overlay("estimate", large, "--card-gib", "12", "--json").document
    assert estimated["process_bytes"] - found["estimate"]["process_bytes"] == change["saves_bytes"]
    assert large.read_text() == before

    told = overlay("fit", large, "--card-gib", "12").out
    assert f"8192  {change['to']}" in told
    assert change["price"] in told


def test_the_new_file_keeps_its_owners_words(overlay: Overlay, large: Path, tmp_path: Path) -> None:
    out = tmp_path / "smaller.toml"
    found = overlay("fit", large, "--card-gib", "12", "--out", out, "--json").document
    assert load(out) == from_dict(found["recipe"])
    text = out.read_text()
    for words in ("# for my brother", "# long letters", "# as large as can be"):
        assert words in text
    assert overlay("fit", out, "--card-gib", "12", "--json").document["changes"] == []


def test_a_new_file_elsewhere_still_finds_its_data(overlay: Overlay, large: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "smaller.toml"
    assert overlay("fit", large, "--card-gib", "12", "--out", out).code == 0
    assert load(out).data.path == str(tmp_path / "rows.jsonl")


def test_no_file_is_overwritten(overlay: Overlay, large: Path) -> None:
    before = large.read_text()
    answer = overlay("fit", large, "--card-gib", "12", "--out", large)
    assert answer.code == 2
    assert "there already" in answer.err
    assert large.read_text() == before


def test_what_cannot_fit_is_told_with_a_remedy(overlay: Overlay, large: Path, tmp_path: Path) -> None:
    out = tmp_path / "never.toml"
    answer = overlay("fit", large, "--card-gib", "4", "--out", out)
    assert (answer.code, answer.out) == (2, "")
    assert "No setting makes large.toml fit on a card of 4.3 GB" in answer.err
    assert "smaller base" in answer.err
    assert not out.exists()


def test_room_that_is_left_is_offered(overlay: Overlay, large: Path) -> None:
    found = overlay("fit", large, "--card-gib", "80", "--json").document
    assert found["changes"] == []
    assert {change["field"] for change in found["spare"]} == {"data.max_tokens", "training.micro_batch_tokens"}
    assert all(change["saves_bytes"] < 0 for change in found["spare"])
    assert "Nothing has to change" in overlay("fit", large, "--card-gib", "80").out


def test_what_auto_makes_of_the_rest_is_told_as_estimate_tells_it(overlay: Overlay, large: Path) -> None:
    told = overlay("fit", large, "--card-gib", "24").out
    found = overlay("estimate", large, "--card-gib", "24", "--json").document
    assert 0 < found["num_checkpointed"] < found["num_layers"] == 32
    layers, taken = f"{found['num_checkpointed']} of 32 layers", readable_bytes(found["process_bytes"])
    assert f"auto: with {layers} recomputed it takes {taken}." in told
    large.write_text(large.read_text() + '\n[memory]\ncheckpointing = "all"\n')
    assert "auto" not in overlay("fit", large, "--card-gib", "24").out


def test_the_card_here_counts_with_what_others_hold(
    overlay: Overlay, large: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gib = 1 << 30
    monkeypatch.setattr("studio.cli.commands_fit.survey", lambda: [Gpu("Card", 24 * gib, 11 * gib, "1.0", 0)])
    found = overlay("fit", large, "--json").document
    assert (found["estimate"]["card_bytes"], found["estimate"]["other_bytes"]) == (24 * gib, 13 * gib)
    assert found["changes"]
    assert "of which other programs hold 14.0 GB" in overlay("fit", large).out


def test_without_a_card_its_size_is_asked_for(overlay: Overlay, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studio.cli.commands_fit.survey", lambda: [])
    answer = overlay("fit", large)
    assert answer.code == 2
    assert "--card-gib" in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "--card-gib", "8"], "recipe is missing"),
        (["fit", "none.toml", "--card-gib", "8"], "none.toml"),
        (["fit", "--bases", "--card-gib", "8", "--out", "x.toml"], "writes no recipe"),
    ],
)
def test_what_is_typed_wrongly_is_told(overlay: Overlay, arguments: list[str], words: str) -> None:
    answer = overlay(*arguments)
    assert answer.code == 2
    assert words in answer.err


def test_a_recipe_that_contradicts_itself_is_refused(overlay: Overlay, recipe: Path) -> None:
    recipe.write_text(recipe.read_text().replace("max_tokens = 64", "max_tokens = 4000"))
    answer = overlay("fit", recipe, "--card-gib", "8")
    assert answer.code == 2
    assert "data.max_tokens" in answer.err


def test_bases_are_compared(overlay: Overlay, recipe: Path) -> None:
    small = overlay("fit", "--bases", "--card-gib", "12", "--json").document["bases"]
    large = overlay("fit", "--bases", "--card-gib", "80", "--json").document["bases"]
    assert [(base["base"], base["is_here"]) for base in small[:1]] == [("small", True)]
    assert {base["base"] for base in small[1:]} == {entry.hub_id for entry in entries()}
    assert {base["needs"] for base in small} >= {"nothing", "smaller base"}
    fitting = [{base["base"] for base in found if base["needs"] != "smaller base"} for found in (small, large)]
    assert fitting[0] < fitting[1]
    told = overlay("fit", recipe, "--bases", "--card-gib", "12").out
    assert "does not fit" in told
    assert "the settings of recipe.toml" in told
