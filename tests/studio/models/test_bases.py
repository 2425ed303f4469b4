import json
from pathlib import Path
from typing import Any

import pytest

from studio.errors import BaseModelError
from studio.models.bases import find_base, licence_of, list_bases, list_problems, locate, write_sidecar
from studio.models.facts import ModelFacts
from studio.places import Workspace
from tests.studio.models.folders import CONFIG, write_base

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return Workspace(tmp_path / "home")


def cached(tmp_path: Path, hub_id: str, revision: str = REVISION, *, main: bool = True) -> Path:
    repository = tmp_path / "hub" / f"models--{hub_id.replace('/', '--')}"
    if main:
        (repository / "refs").mkdir(parents=True, exist_ok=True)
        (repository / "refs" / "main").write_text(revision)
    return write_base(repository / "snapshots" / revision)


def test_an_imported_base_is_found_by_name_with_what_was_noted(workspace: Workspace) -> None:
    folder = write_base(workspace.bases / "starter")
    write_sidecar(
        folder,
        name="starter",
        source="starter",
        licence="apache-2.0",
        imported="2026-01-01T00:00:00Z",
        hub_id="org/small",
        revision=REVISION,
    )
    base = find_base(workspace, "starter")
    assert (base.id, base.path, base.licence) == ("starter", folder, "apache-2.0")
    assert (base.hub_id, base.revision) == ("org/small", REVISION)
    assert base.architecture == "LlamaForCausalLM"
    assert base.context_tokens == 512
    assert base.num_parameters == ModelFacts.from_config(CONFIG).num_parameters
    record = base.record()
    keys = {"id", "path", "architecture", "num_parameters", "context_tokens", "licence", "fingerprint"}
    assert keys <= record.keys()
    assert json.loads(json.dumps(record))["path"] == str(folder)


def test_a_folder_anywhere_is_a_base(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "somewhere" / "model")
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A model\n")
    base = find_base(workspace, str(folder))
    assert base.path == folder
    assert base.licence == "mit"


def test_a_hub_id_is_found_in_the_cache_at_the_revision_of_main(workspace: Workspace, tmp_path: Path) -> None:
    cached(tmp_path, "org/model", "f" * 40, main=False)
    wanted = cached(tmp_path, "org/model")
    base = find_base(workspace, "org/model")
    assert (base.path, base.hub_id, base.revision) == (wanted, "org/model", REVISION)


def test_hf_home_is_obeyed(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    cached(tmp_path, "org/model", main=False)
    assert [base.id for base in list_bases(workspace)] == ["org/model"]


def test_links_to_blobs_are_followed(workspace: Workspace, tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "org/model")
    blob = snapshot.parent.parent / "blobs" / "abc"
    blob.parent.mkdir()
    (snapshot / "model.safetensors").rename(blob)
    (snapshot / "model.safetensors").symlink_to(blob)
    assert find_base(workspace, "org/model").num_parameters > 0


def test_the_list_leaves_out_what_is_damaged_and_says_why(workspace: Workspace, tmp_path: Path) -> None:
    write_base(workspace.bases / "good")
    damaged = write_base(workspace.bases / "torn")
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    cached(tmp_path, "org/model")
    assert [base.id for base in list_bases(workspace)] == ["good", "org/model"]
    [problem] = list_problems(workspace)
    assert problem.path == damaged
    assert "part of the file is missing" in problem.message
    assert problem.hint


def test_models_of_other_kinds_in_the_cache_are_no_problem(workspace: Workspace, tmp_path: Path) -> None:
    encoder = cached(tmp_path, "org/encoder")
    (encoder / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["BertForMaskedLM"]}))
    tokenizer_only = cached(tmp_path, "org/tokenizer")
    (tokenizer_only / "model.safetensors").unlink()
    assert list_bases(workspace) == []
    assert list_problems(workspace) == []


def test_nothing_is_there_on_a_fresh_computer(workspace: Workspace) -> None:
    assert list_bases(workspace) == []
    assert list_problems(workspace) == []


@pytest.mark.parametrize("name", ["starter", "org/model", "", "..", "a/b/c", "models--x", "nul\0l", "../../etc"])
def test_a_missing_base_says_how_to_get_one(workspace: Workspace, name: str) -> None:
    with pytest.raises(BaseModelError) as caught:
        find_base(workspace, name)
    assert caught.value.hint


def test_the_hint_for_a_missing_base_names_the_command(workspace: Workspace) -> None:
    with pytest.raises(BaseModelError, match="no base model 'starter'") as caught:
        find_base(workspace, "starter")
    assert "overlay bases add starter" in caught.value.hint


def test_an_estimate_needs_no_weights_but_training_does(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "model")
    (folder / "model.safetensors").unlink()
    assert locate(workspace, str(folder)) == folder
    with pytest.raises(BaseModelError, match="no weights"):
        find_base(workspace, str(folder))


def test_pickled_weights_are_refused_with_the_reason(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "model")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="pickle"):
        find_base(workspace, str(folder))


@pytest.mark.parametrize(
    "change",
    [
        {"auto_map": {"AutoModelForCausalLM": "modeling.Model"}},
        {"trust_remote_code": True},
        {"attn_implementation": "somebody/kernel"},
        {"_attn_implementation": {"text": "sdpa", "vision": "somebody/kernel:1"}},
        {"text_config": {**CONFIG, "auto_map": {"AutoConfig": "x.Y"}}},
        {"parts": [{"experts_implementation": "somebody/kernel"}]},
    ],
)
def test_code_from_outside_is_refused(workspace: Workspace, tmp_path: Path, change: dict[str, Any]) -> None:
    folder = write_base(tmp_path / "model", config={**CONFIG, **change})
    with pytest.raises(BaseModelError, match="program code"):
        find_base(workspace, str(folder))


def test_an_ordinary_attention_setting_is_no_code(workspace: Workspace, tmp_path: Path) -> None:
    config = {**CONFIG, "_attn_implementation": "sdpa", "auto_map": None, "trust_remote_code": False}
    assert find_base(workspace, str(write_base(tmp_path / "model", config=config))).num_parameters > 0


def test_a_model_that_does_not_write_text_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_base(tmp_path / "model", config={**CONFIG, "architectures": ["BertForMaskedLM"]})
    with pytest.raises(BaseModelError, match="continues text"):
        find_base(workspace, str(folder))


@pytest.mark.parametrize(
    ("card", "licence"),
    [
        ("---\nlanguage: en\nlicense: apache-2.0\n---\ntext", "apache-2.0"),
        ('---\nlicense: "llama3.1"\n---\n', "llama3.1"),
        ("---\nlicense: other\nlicense_name: gemma-terms\n---\n", "gemma-terms"),
        ("---\nlanguage: en\n---\nlicense: mit", "unknown"),
        ("# No head\nlicense: mit\n", "unknown"),
        ("\xff\x00---", "unknown"),
    ],
)
def test_the_licence_is_read_from_the_card(tmp_path: Path, card: str, licence: str) -> None:
    (tmp_path / "README.md").write_text(card, encoding="utf-8")
    assert licence_of(tmp_path) == licence
    (tmp_path / "README.md").unlink()
    assert licence_of(tmp_path) == "unknown"
