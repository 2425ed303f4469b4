from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import AdapterError
from studio.files import sha256
from studio.library.adapter import UNKNOWN_ORIGIN, read, write_sidecar
from tests.studio.library.folders import facts, make_adapter


def test_an_adapter_of_ours_knows_its_origin(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "first", sidecar=facts("sha256:abc", tags=["style"], note="good"))
    adapter = read(folder)
    assert (adapter.name, adapter.base, adapter.base_fingerprint) == ("first", "small", "sha256:abc")
    assert (adapter.rank, adapter.alpha, adapter.scale, adapter.target_modules) == (2, 4.0, 2.0, ("q_proj",))
    assert (adapter.tags, adapter.note, adapter.run) == (("style",), "good", "2026-01-01_000000_first")
    assert (adapter.quantisation, adapter.created) == ("nf4", 1000.0)
    assert adapter.metrics == {"steps": 12.0, "loss": 1.5}
    assert adapter.fingerprint == f"sha256:{sha256(folder / 'adapter_model.safetensors')}"


def test_an_adapter_from_elsewhere_is_read_and_said_to_be_of_unknown_origin(tmp_path: Path) -> None:
    adapter = read(make_adapter(tmp_path / "theirs"))
    assert adapter.base_fingerprint == ""
    assert adapter.hub_id == "someone/small-model"
    assert adapter.note == UNKNOWN_ORIGIN


def test_rank_stabilised_scale(tmp_path: Path) -> None:
    adapter = read(make_adapter(tmp_path / "a", config={"r": 16, "lora_alpha": 8, "use_rslora": True}))
    assert adapter.scale == 2.0


def test_the_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    one = read(make_adapter(tmp_path / "one", seed=1))
    same = read(make_adapter(tmp_path / "same", seed=1))
    other = read(make_adapter(tmp_path / "other", seed=2))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_what_is_written_into_the_sidecar_is_read_back(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    write_sidecar(folder, **facts("sha256:abc"))
    assert read(folder).base_fingerprint == "sha256:abc"


def test_a_pickle_is_refused_with_the_reason(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(AdapterError, match="can run any program"):
        read(folder)


def test_a_folder_without_an_adapter_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match=r"no adapter_config\.json"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"r": 0}, "rank"),
        ({"r": 4097}, "rank"),
        ({"r": True}, "rank"),
        ({"r": "8"}, "rank"),
        ({"r": 8.5}, "rank"),
        ({"lora_alpha": 0}, "alpha"),
        ({"lora_alpha": None}, "alpha"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING"),
        ({"peft_type": None}, "LORA"),
        ({"megatron_config": {"a": 1}, "megatron_core": "os"}, "program code"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(tmp_path: Path, config: dict[str, Any], reason: str) -> None:
    with pytest.raises(AdapterError, match=reason):
        read(make_adapter(tmp_path / "a", config=config))


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"r"', "[" * 100_000, "\ud800", "1" * 10_000])
def test_a_configuration_that_is_no_object_is_refused(tmp_path: Path, text: str) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(AdapterError):
        read(folder)


def test_a_sidecar_with_nonsense_in_it_says_nothing(tmp_path: Path) -> None:
    nonsense = {
        "base": 7,
        "tags": "abc",
        "note": [],
        "metrics": {"loss": "low"},
        "created": "yesterday",
        "recipe": None,
    }
    adapter = read(make_adapter(tmp_path / "a", sidecar=nonsense))
    assert (adapter.base_fingerprint, adapter.tags, adapter.metrics) == ("", (), {})
    assert adapter.created > 1e9


def test_a_sidecar_that_is_no_json_is_told(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "overlay.json").write_text("{")
    with pytest.raises(AdapterError, match=r"overlay\.json"):
        read(folder)


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    record = read(make_adapter(tmp_path / "a", sidecar=facts("sha256:abc"))).record()
    keys = {"name", "path", "base", "base_fingerprint", "method", "rank", "bytes", "created", "tags"}
    assert keys <= json.loads(json.dumps(record)).keys()
