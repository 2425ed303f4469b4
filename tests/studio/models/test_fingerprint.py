import json
import os
from pathlib import Path

import pytest

from studio.errors import BaseModelError
from studio.models.bases import write_sidecar
from studio.models.fingerprint import SAMPLE_BYTES, compute, fingerprint
from tests.studio.models.folders import CONFIG, tensors, write_base

LARGE = "model.embed_tokens.weight"


def changed(position: int) -> dict[str, tuple[tuple[int, ...], bytes]]:
    content = tensors()
    shape, values = content[LARGE]
    position %= len(values)
    content[LARGE] = (shape, values[:position] + bytes([values[position] ^ 1]) + values[position + 1 :])
    return content


def test_it_does_not_depend_on_the_number_of_files(tmp_path: Path) -> None:
    one = fingerprint(write_base(tmp_path / "one"))
    assert one == fingerprint(write_base(tmp_path / "three", num_files=3))
    assert one.startswith("sha256:")
    assert len(one) == 7 + 64


def test_the_order_of_tensors_in_the_file_is_no_difference(tmp_path: Path) -> None:
    content = tensors()
    reverse = dict(reversed(content.items()))
    assert fingerprint(write_base(tmp_path / "a", content)) == fingerprint(write_base(tmp_path / "b", reverse))


@pytest.mark.parametrize("position", [0, SAMPLE_BYTES - 1, 16384, -1, -SAMPLE_BYTES])
def test_one_byte_of_a_sampled_place_makes_another_base(tmp_path: Path, position: int) -> None:
    base = write_base(tmp_path / "a")
    assert fingerprint(base) != fingerprint(write_base(tmp_path / "b", changed(position)))


def test_other_weights_of_the_same_shape_are_another_base(tmp_path: Path) -> None:
    base = write_base(tmp_path / "a")
    assert fingerprint(base) != fingerprint(write_base(tmp_path / "b", tensors(seed=2)))


def test_other_architecture_numbers_are_another_base_but_bookkeeping_is_not(tmp_path: Path) -> None:
    plain = fingerprint(write_base(tmp_path / "a"))
    resaved = {**CONFIG, "transformers_version": "9.9", "_name_or_path": "somewhere", "use_cache": False}
    assert fingerprint(write_base(tmp_path / "b", config=resaved)) == plain
    heads = {**CONFIG, "num_attention_heads": 8}
    assert fingerprint(write_base(tmp_path / "c", config=heads)) != plain


def test_a_noted_sum_is_not_believed_once_the_weights_changed(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    write_sidecar(base, name="base", source="test", licence="mit", imported="2026-01-01T00:00:00Z")
    before = fingerprint(base)
    write_base(base, tensors(seed=3))
    weights = base / "model.safetensors"
    os.utime(weights, ns=(1, weights.stat().st_mtime_ns + 1))
    assert fingerprint(base) == compute(base) != before


def test_a_noted_sum_spares_reading_the_weights_while_they_are_unchanged(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    write_sidecar(base, name="base", source="test", licence="mit", imported="2026-01-01T00:00:00Z")
    noted = json.loads((base / "base.json").read_text())
    noted["fingerprint"] = "sha256:" + "0" * 64
    (base / "base.json").write_text(json.dumps(noted))
    assert fingerprint(base) == "sha256:" + "0" * 64


def test_a_damaged_base_has_no_fingerprint(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base")
    weights = base / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(BaseModelError, match="part of the file is missing"):
        fingerprint(base)
