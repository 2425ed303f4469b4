from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from studio.files import write_manifest
from studio.library.adapter import read
from studio.library.soundness import check, fits, origin_warning
from studio.models.bases import Base, read_base
from tests.studio.library.folders import LAYER, LORA, Shapes, facts, make_adapter, make_base, write_safetensors

A, B = LORA
MAGNITUDE = f"base_model.model.{LAYER}.lora_magnitude_vector"


def base(folder: Path, seed: int = 0) -> Base:
    return read_base(make_base(folder, seed=seed), folder.name)


def test_a_good_adapter_has_no_problems(tmp_path: Path) -> None:
    assert check(read(make_adapter(tmp_path / "a"))) == []


def test_a_changed_file_is_told(tmp_path: Path) -> None:
    folder = make_adapter(tmp_path / "a", seed=1)
    write_manifest(folder)
    write_safetensors(folder / "adapter_model.safetensors", LORA, seed=2)
    assert any("changed or damaged" in problem for problem in check(read(folder)))


@pytest.mark.parametrize("manifest", ["{", '{"files": [{}]}', '{"files": 7}', '{"files": [{"path": "/etc/passwd"}]}'])
def test_a_manifest_that_is_none_is_told(tmp_path: Path, manifest: str) -> None:
    folder = make_adapter(tmp_path / "a")
    (folder / "manifest.json").write_text(manifest)
    assert check(read(folder))


@pytest.mark.parametrize(
    ("shapes", "config", "reason"),
    [
        ({}, {}, "no tensors"),
        ({"other": (2, 2)}, {}, "no LoRA matrices"),
        ({A: (2, 8)}, {}, "only one of the two"),
        ({A: (4, 8), B: (8, 4)}, {}, "instead of 2"),
        ({A: (2, 8), B: (8, 3)}, {}, "instead of 2"),
        ({A: (16,), B: (16,)}, {}, "impossible shape"),
        (LORA, {"use_dora": True}, "lacks a DoRA magnitude"),
        ({**LORA, MAGNITUDE: (8,)}, {}, "has a DoRA magnitude"),
    ],
)
def test_tensors_that_contradict_the_configuration_are_told(
    tmp_path: Path, shapes: Shapes, config: dict[str, Any], reason: str
) -> None:
    problems = check(read(make_adapter(tmp_path / "a", shapes=shapes, config=config)))
    assert any(reason in problem for problem in problems), problems


@pytest.mark.parametrize(
    ("shapes", "config"),
    [
        ({A: (4, 8), B: (8, 4)}, {"rank_pattern": {"q_proj": 4}}),
        ({A: (4, 8), B: (8, 4)}, {"rank_pattern": {LAYER: 4}}),
        ({**LORA, MAGNITUDE: (8,)}, {"use_dora": True}),
        (
            {
                name.replace("_A.weight", "_embedding_A").replace("_B.weight", "_embedding_B"): LORA[name]
                for name in LORA
            },
            {},
        ),
    ],
)
def test_what_peft_allows_is_no_problem(tmp_path: Path, shapes: Shapes, config: dict[str, Any]) -> None:
    assert check(read(make_adapter(tmp_path / "a", shapes=shapes, config=config))) == []


def test_an_adapter_fits_its_own_base_and_no_other_of_the_same_shape(tmp_path: Path) -> None:
    own, other = base(tmp_path / "own", 1), base(tmp_path / "other", 2)
    adapter = read(make_adapter(tmp_path / "a", sidecar=facts(own.fingerprint)))
    assert fits(adapter, own) is None
    assert origin_warning(adapter, own) is None
    assert "not those of other" in str(fits(adapter, other))


def test_an_adapter_of_unknown_origin_may_be_laid_on_with_a_warning(tmp_path: Path) -> None:
    adapter, own = read(make_adapter(tmp_path / "a")), base(tmp_path / "own")
    assert fits(adapter, own) is None
    assert "someone/small-model" in str(origin_warning(adapter, own))


def test_an_adapter_of_unknown_origin_is_refused_where_its_shapes_cannot_fit(tmp_path: Path) -> None:
    adapter = read(make_adapter(tmp_path / "a", shapes={A: (2, 64), B: (64, 2)}))
    assert LAYER in str(fits(adapter, base(tmp_path / "own")))
