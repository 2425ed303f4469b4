import json
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from studio.errors import BaseModelError
from studio.models.headers import read_header, read_headers
from tests.studio.models.folders import safetensors, tensors, with_header, write_base

ONE = {"a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}}


def test_offsets_point_at_the_tensor_bytes(tmp_path: Path) -> None:
    content = tensors()
    folder = write_base(tmp_path / "base", content)
    found = read_headers(folder)
    assert found.keys() == content.keys()
    data = (folder / "model.safetensors").read_bytes()
    for name, (shape, values) in content.items():
        info = found[name]
        assert info.shape == shape
        assert info.dtype == "BF16"
        assert data[info.offset : info.offset + info.num_bytes] == values


def test_three_files_hold_what_one_does(tmp_path: Path) -> None:
    one = read_headers(write_base(tmp_path / "one"))
    three = read_headers(write_base(tmp_path / "three", num_files=3))
    assert {name: (info.shape, info.num_bytes) for name, info in one.items()} == {
        name: (info.shape, info.num_bytes) for name, info in three.items()
    }
    assert len({info.file for info in three.values()}) == 3


def test_files_without_an_index_are_joined(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", num_files=2)
    (folder / "model.safetensors.index.json").unlink()
    assert read_headers(folder).keys() == tensors().keys()


def test_metadata_is_no_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header({"__metadata__": {"format": "pt"}, **ONE}, bytes(16)))
    assert [tensor.name for tensor in read_header(path)] == ["a"]


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "longer than the file"),
        (struct.pack("<Q", 1 << 62) + b"{}", "longer than the file"),
        (struct.pack("<Q", 50) + b"{}", "longer than the file"),
        (with_header(b"not json"), "no readable JSON"),
        (with_header(b"[" * 100_000), "no readable JSON"),
        (with_header(b"[]"), "not a table"),
        (with_header(b'{"a": 1}'), "not a table"),
        (with_header(b'{"a": {}, "a": {}}'), "names a tensor twice"),
        (with_header(ONE, bytes(15)), "part of the file is missing"),
        (with_header(ONE, bytes(17)), "belong to no tensor"),
        (with_header({"a": {**ONE["a"], "dtype": "F99"}}, bytes(16)), "unknown dtype"),
        (with_header({"a": {**ONE["a"], "shape": [2, 3]}}, bytes(16)), "contradict"),
        (with_header({"a": {**ONE["a"], "shape": [-2, -2]}}, bytes(16)), "impossible shape"),
        (with_header({"a": {**ONE["a"], "shape": [True, 4]}}, bytes(16)), "impossible shape"),
        (with_header({"a": {**ONE["a"], "data_offsets": [16, 0]}}, bytes(16)), "impossible offsets"),
        (with_header({**ONE, "b": ONE["a"]}, bytes(16)), "does not begin where"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(tmp_path: Path, data: bytes, why: str) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(BaseModelError, match=why) as caught:
        read_header(path)
    assert caught.value.hint


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/x.safetensors", "a\\b.safetensors", "weights.bin", 3])
def test_an_index_never_leads_out_of_its_folder(tmp_path: Path, name: object) -> None:
    folder = write_base(tmp_path / "base")
    (tmp_path / "other.safetensors").write_bytes(safetensors(tensors()))
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))
    with pytest.raises(BaseModelError, match="no safetensors file beside it"):
        read_headers(folder)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", num_files=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(BaseModelError, match=r"model-00002-of-00003\.safetensors is missing"):
        read_headers(folder)


def test_a_tensor_that_the_index_promises_must_be_there(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base", num_files=3)
    path = folder / "model-00001-of-00003.safetensors"
    path.write_bytes(safetensors({"another": ((1,), b"\0\0")}))
    with pytest.raises(BaseModelError, match="that the index promises"):
        read_headers(folder)


def test_the_same_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors(tensors()))
    (tmp_path / "b.safetensors").write_bytes(safetensors(tensors()))
    with pytest.raises(BaseModelError, match="repeats the tensor"):
        read_headers(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(header=st.binary(max_size=200), data=st.binary(max_size=64))
def test_no_bytes_at_all_cause_another_exception(tmp_path: Path, header: bytes, data: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(with_header(header, data))
    try:
        tensors_found = read_header(path)
    except BaseModelError:
        return
    assert sum(tensor.num_bytes for tensor in tensors_found) == len(data)
