import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.errors import BaseModelError
from studio.models import remote
from studio.models.facts import ModelFacts
from studio.places import Workspace
from tests.studio.models.fake_hub import COMMIT, FakeHub, running
from tests.studio.models.folders import CONFIG, with_header

SHAPES = {
    "model.embed_tokens.weight": (256, 64),
    **{
        f"model.layers.{layer}.{name}.weight": shape
        for layer in range(2)
        for name, shape in {
            "self_attn.q_proj": (64, 64),
            "self_attn.k_proj": (32, 64),
            "self_attn.v_proj": (32, 64),
            "self_attn.o_proj": (64, 64),
            "mlp.gate_proj": (128, 64),
            "mlp.up_proj": (128, 64),
            "mlp.down_proj": (64, 128),
            "input_layernorm": (64,),
            "post_attention_layernorm": (64,),
        }.items()
    },
    "model.norm.weight": (64,),
}
Shapes = dict[str, tuple[int, ...]]


def weights(shapes: Shapes, dtype: str = "BF16", padding: int = 0) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "padding": "x" * padding}}
    size = 0
    for name, shape in shapes.items():
        num_bytes = {"BF16": 2, "F32": 4, "U8": 1}[dtype] * shape[0] * (shape[1] if len(shape) == 2 else 1)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [size, size + num_bytes]}
        size += num_bytes
    return with_header(header, bytes(size))


def model(content: bytes = b"", config: dict[str, Any] | None = None) -> dict[str, bytes]:
    return {"config.json": json.dumps(config or CONFIG).encode(), "model.safetensors": content or weights(SHAPES)}


def in_parts(num_files: int) -> dict[str, bytes]:
    names = [f"model-{number:05d}-of-{num_files:05d}.safetensors" for number in range(1, num_files + 1)]
    where = {tensor: names[number % num_files] for number, tensor in enumerate(SHAPES)}
    parts = {name: weights({key: SHAPES[key] for key in SHAPES if where[key] == name}) for name in names}
    index = json.dumps({"metadata": {"total_size": 1}, "weight_map": where}).encode()
    return {"config.json": json.dumps(CONFIG).encode(), "model.safetensors.index.json": index, **parts}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with running(FakeHub(models={"tiny/model": model()})) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")


def test_configuration_and_header_agree(hub: FakeHub, workspace: Workspace) -> None:
    told: list[str] = []
    found = remote.fetch(workspace, "tiny/model", told.append)
    assert found.facts == ModelFacts.from_config(CONFIG)
    assert found.weights is not None
    assert found.weights.num_parameters == found.facts.num_parameters
    assert found.weights.num_elements.keys() == {"BF16"}
    assert (found.revision, found.warning) == (COMMIT, "")
    assert "tiny/model" in told[0]
    assert "no weights" in told[0]


def test_weights_in_several_files(hub: FakeHub, workspace: Workspace) -> None:
    hub.models["tiny/model"] = in_parts(3)
    found = remote.fetch(workspace, "tiny/model")
    assert found.weights is not None
    assert found.weights.num_parameters == found.facts.num_parameters
    # All files of the revision that the configuration was of, though the model may change meanwhile.
    assert all(f"/resolve/{COMMIT}/" in path for path, _ in hub.heard[1:])


def test_a_long_header_takes_a_second_request(hub: FakeHub, workspace: Workspace) -> None:
    hub.models["tiny/model"] = model(weights(SHAPES, padding=200_000))
    found = remote.fetch(workspace, "tiny/model")
    assert found.weights is not None
    assert found.weights.num_parameters == found.facts.num_parameters
    assert hub.files_asked_for == ["config.json", "model.safetensors", "model.safetensors"]


def test_weights_are_not_fetched_even_if_the_server_would_send_them(hub: FakeHub, workspace: Workspace) -> None:
    """One that ignores ranges sends the whole file; the connection is closed after the header."""
    large = {**SHAPES, "model.norm.weight": (30_000_000,)}
    hub.models["tiny/model"] = model(weights(large))
    hub.knows_ranges = False
    found = remote.fetch(workspace, "tiny/model")
    assert found.weights is not None
    assert found.weights.num_bytes > 60_000_000
    assert found.fetched_bytes < 100_000
    assert hub.sent_bytes < 20_000_000  # the rest lay in the sockets' buffers at most
    assert "stores" in found.warning


def test_what_was_fetched_is_kept(hub: FakeHub, workspace: Workspace) -> None:
    first = remote.fetch(workspace, "tiny/model")
    count = len(hub.heard)
    again = remote.fetch(workspace, "tiny/model")
    assert len(hub.heard) == count
    assert (again.facts, again.weights, again.revision) == (first.facts, first.weights, first.revision)


def test_after_a_week_it_is_looked_up_again_but_kept_if_there_is_no_connection(
    hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.fetch(workspace, "tiny/model")
    (kept,) = workspace.hub.rglob("*.json")
    os.utime(kept, (0, 0))
    count = len(hub.heard)
    remote.fetch(workspace, "tiny/model")
    assert len(hub.heard) > count
    os.utime(kept, (0, 0))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    told: list[str] = []
    assert remote.fetch(workspace, "tiny/model", told.append).facts.num_parameters > 0
    assert "cannot be reached" in told[0]


@pytest.mark.parametrize("damage", ["", "{", '{"hub_id": "tiny/model"}', '{"hub_id": "tiny/model", "config": 3}'])
def test_a_damaged_record_is_fetched_anew(hub: FakeHub, workspace: Workspace, damage: str) -> None:
    remote.fetch(workspace, "tiny/model")
    (kept,) = workspace.hub.rglob("*.json")
    kept.write_text(damage)
    assert remote.fetch(workspace, "tiny/model").weights is not None


def test_a_revision_can_be_named(hub: FakeHub, workspace: Workspace) -> None:
    remote.fetch(workspace, f"tiny/model@{COMMIT}")
    assert hub.heard[0][0] == f"/tiny/model/resolve/{COMMIT}/config.json"
    with pytest.raises(BaseModelError, match="no revision 'v9'"):
        remote.fetch(workspace, "tiny/model@v9")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        ((401, "RepoNotFound"), "no such model on the hub"),
        ((403, "GatedRepo"), "accepted its terms"),
        ((401, "GatedRepo"), "accepted its terms"),
        ((404, "EntryNotFound"), "has no config.json"),
        ((500, ""), "answered 500"),
        ((429, ""), "answered 429"),
    ],
)
def test_refusals_are_told_in_plain_words(
    hub: FakeHub, workspace: Workspace, refusal: tuple[int, str], words: str
) -> None:
    hub.refusals["tiny/model"] = refusal
    with pytest.raises(BaseModelError, match=words) as raised:
        remote.fetch(workspace, "tiny/model")
    assert raised.value.hint


def test_no_connection(hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{_closed_port()}")
    with pytest.raises(BaseModelError, match="cannot be reached"):
        remote.fetch(workspace, "tiny/model")


def test_a_server_that_does_not_answer(hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setenv("HF_HUB_DOWNLOAD_TIMEOUT", "1")
        with pytest.raises(BaseModelError, match="cannot be reached"):
            remote.fetch(workspace, "tiny/model")


def test_offline_nothing_is_asked(hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BaseModelError, match="HF_HUB_OFFLINE"):
        remote.fetch(workspace, "tiny/model")
    assert not hub.heard


def test_the_token_goes_to_the_hub_and_nowhere_else(
    hub: FakeHub, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret\n")
    with running(FakeHub(models=hub.models)) as elsewhere:
        hub.elsewhere = elsewhere.url
        found = remote.fetch(workspace, "tiny/model")
        assert found.weights is not None
        assert all(headers["Authorization"] == "Bearer hf_secret" for _, headers in hub.heard)
        assert elsewhere.heard
        assert all("Authorization" not in headers for _, headers in elsewhere.heard)


def test_a_redirect_cannot_lead_to_a_file(hub: FakeHub, workspace: Workspace, tmp_path: Path) -> None:
    hub.elsewhere = (tmp_path / "secret").as_uri()
    with pytest.raises(BaseModelError):
        remote.fetch(workspace, "tiny/model")


def test_models_with_code_of_their_own_are_refused_before_anything_else_is_fetched(
    hub: FakeHub, workspace: Workspace
) -> None:
    hub.models["tiny/model"] = model(config={**CONFIG, "auto_map": {"AutoModel": "modeling.Model"}})
    with pytest.raises(BaseModelError, match="program code"):
        remote.fetch(workspace, "tiny/model")
    assert hub.files_asked_for == ["config.json"]


def test_models_that_continue_no_text_are_refused(hub: FakeHub, workspace: Workspace) -> None:
    hub.models["tiny/model"] = model(config={**CONFIG, "architectures": ["BertModel"]})
    with pytest.raises(BaseModelError, match="continues text"):
        remote.fetch(workspace, "tiny/model")


def test_without_safetensors_there_is_an_estimate_and_a_warning(hub: FakeHub, workspace: Workspace) -> None:
    del hub.models["tiny/model"]["model.safetensors"]
    found = remote.fetch(workspace, "tiny/model")
    assert found.weights is None
    assert "not trained" in found.warning
    assert found.facts.num_parameters > 0


@pytest.mark.parametrize(
    "content",
    [
        b"\xff" * 100_000,
        (50_000_000).to_bytes(8, "little") + b"{" * 100,
        with_header(b"[" * 50),
        with_header({"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 9]}}, bytes(9)),
        with_header({"a": {"dtype": "BF16", "shape": [4], "data_offsets": [0, 8]}}, bytes(5)),
        b"123",
    ],
)
def test_a_header_that_cannot_be_is_refused(hub: FakeHub, workspace: Workspace, content: bytes) -> None:
    hub.models["tiny/model"] = model(content)
    with pytest.raises(BaseModelError):
        remote.fetch(workspace, "tiny/model")
    assert not list(workspace.hub.rglob("*.json"))


def test_a_configuration_without_end_is_refused(hub: FakeHub, workspace: Workspace) -> None:
    hub.models["tiny/model"]["config.json"] = b" " * 2_000_000
    with pytest.raises(BaseModelError, match="too large"):
        remote.fetch(workspace, "tiny/model")


@pytest.mark.parametrize("index", [{"a": "../../etc/passwd"}, {"a": "x.bin"}, {"a": 3}, {}])
def test_an_index_that_leads_elsewhere_is_refused(hub: FakeHub, workspace: Workspace, index: dict[str, Any]) -> None:
    hub.models["tiny/model"] = {
        "config.json": json.dumps(CONFIG).encode(),
        "model.safetensors.index.json": json.dumps({"weight_map": index}).encode(),
    }
    with pytest.raises(BaseModelError):
        remote.fetch(workspace, "tiny/model")
    assert hub.files_asked_for[-1] == "model.safetensors.index.json"


@pytest.mark.parametrize(
    "name", ["model", "a/b/c", "../x", "a/..", "a b/c", "a/b@", "a/b@..", "/a/b", "a/b@v/../..", ""]
)
def test_what_is_no_hub_id_is_never_asked_for(hub: FakeHub, workspace: Workspace, name: str) -> None:
    assert not remote.is_hub_id(name)
    with pytest.raises(BaseModelError, match="no hub id"):
        remote.fetch(workspace, name)
    assert not hub.heard


def test_a_base_on_this_computer_is_not_asked_for(hub: FakeHub, workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    assert remote.find_facts(workspace, str(folder), print).vocab_size == 256
    assert not hub.heard


def test_packed_weights_are_not_held_against_the_configuration(hub: FakeHub, workspace: Workspace) -> None:
    hub.models["tiny/model"] = model(weights(SHAPES | {"model.scales": (3,)}, dtype="U8"))
    assert remote.fetch(workspace, "tiny/model").warning == ""


def test_the_addresses_are_those_of_the_official_library(hub: FakeHub, workspace: Workspace) -> None:
    library = pytest.importorskip("huggingface_hub")
    remote.fetch(workspace, "tiny/model")
    address = library.hf_hub_url("tiny/model", "config.json", revision="main", endpoint=hub.url)
    assert address == hub.url + hub.heard[0][0]


def _closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
