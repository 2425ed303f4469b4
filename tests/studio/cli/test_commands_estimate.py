import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.models.catalogue import entries
from tests.studio.cli.conftest import Overlay
from tests.studio.models.fake_hub import FakeHub, running
from tests.studio.models.folders import CONFIG
from tests.studio.models.test_remote import model


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with running(FakeHub(models={"tiny/model": model()})) as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


def name_base(recipe: Path, base: str) -> Path:
    recipe.write_text(recipe.read_text().replace('id = "small"', f'id = "{base}"'))
    return recipe


def test_ways_to_train_side_by_side(overlay: Overlay, recipe: Path) -> None:
    document = overlay("estimate", recipe, "--methods", "--card-gib", "24", "--json").document
    everything, lora, qlora = document["methods"]
    assert [way["method"] for way in document["methods"]] == ["full", "lora", "qlora"]
    assert qlora["total_bytes"] == document["total_bytes"]
    assert everything["terms"]["gradients"] > lora["terms"]["gradients"]
    assert everything["num_trainable"] > lora["num_trainable"] == qlora["num_trainable"]
    text = overlay("estimate", recipe, "--methods", "--card-gib", "24").out
    assert "Full fine-tuning" in text
    assert "QLoRA (nf4)" in text


def test_auto_says_how_many_layers_it_recomputes_on_this_card(overlay: Overlay, recipe: Path) -> None:
    wide, narrow = (overlay("estimate", recipe, "--card-gib", size, "--json").document for size in ("24", "0.1"))
    assert (wide["num_checkpointed"], narrow["num_checkpointed"]) == (0, narrow["num_layers"])
    assert narrow["process_bytes"] < wide["process_bytes"]
    assert narrow["process_bytes"] == overlay("estimate", recipe, "--json").document["process_bytes"]
    layers = f"Auto: 0 of {wide['num_layers']} layers recomputed."
    assert layers in overlay("estimate", recipe, "--card-gib", "24").out
    recipe.write_text(recipe.read_text() + '\n[memory]\ncheckpointing = "none"\n')
    assert "recomputed" not in overlay("estimate", recipe, "--card-gib", "24").out


def test_a_chat_and_its_length(overlay: Overlay, recipe: Path) -> None:
    short = overlay("estimate", recipe, "--chat", "3", "--card-gib", "24", "--json").document["chat"]
    assert (short["lanes"], short["context_tokens"], short["fits"]) == (3, 64, True)
    assert short["total_bytes"] == sum(short["terms"].values()) < short["process_bytes"]
    long = overlay("estimate", recipe, "--chat", "3", "--context", "4096", "--json").document["chat"]
    assert long["terms"]["cache"] == 64 * short["terms"]["cache"]
    assert long["terms"]["adapters"] == 2 * overlay("estimate", recipe, "--json").document["num_trainable"] * 4
    assert "Chat in 3 lanes of 4,096 tokens" in overlay("estimate", recipe, "--chat", "3", "--context", "4096").out


def test_evaluation_and_merging(overlay: Overlay, recipe: Path) -> None:
    document = overlay("estimate", recipe, "--evaluation", "--merge", "--json").document
    assert document["evaluation"]["terms"].keys() == {"weights", "adapters", "activations", "logits", "overhead"}
    merging = document["merge"]
    assert merging["peak_rss_bytes"] == sum(merging["terms"].values())
    assert merging["needed_bytes"] == merging["peak_rss_bytes"] - merging["terms"]["mapped"]
    assert merging["fits"] is True
    assert "in the computer's memory" in overlay("estimate", recipe, "--merge").out


def test_without_being_asked_it_is_about_training_alone(overlay: Overlay, recipe: Path) -> None:
    document = overlay("estimate", recipe, "--json").document
    assert not {"methods", "chat", "merge", "evaluation"} & document.keys()


@pytest.mark.parametrize(
    "extra", [("--context", "100"), ("--chat", "0"), ("--chat", "many"), ("--chat", "2", "--context", "0")]
)
def test_what_makes_no_sense_is_refused(overlay: Overlay, recipe: Path, extra: tuple[str, ...]) -> None:
    answer = overlay("estimate", recipe, *extra)
    assert (answer.code, answer.out) == (2, "")


def test_a_base_on_the_hub_is_estimated_without_its_weights(overlay: Overlay, recipe: Path, hub: FakeHub) -> None:
    answer = overlay("estimate", name_base(recipe, "tiny/model"), "--json")
    assert answer.code == 0
    assert answer.document["num_parameters"] - answer.document["num_trainable"] == 90_432
    assert "Fetched the configuration and weight headers of tiny/model" in answer.err
    again = overlay("estimate", recipe, "--json")
    assert (again.document, again.err) == (answer.document, "")


def test_a_base_that_is_nowhere(overlay: Overlay, recipe: Path, hub: FakeHub) -> None:
    answer = overlay("estimate", name_base(recipe, "tiny/mode"))
    assert (answer.code, answer.out) == (2, "")
    assert "no such model on the hub" in answer.err


def test_a_name_that_is_no_hub_id_is_never_looked_up(overlay: Overlay, recipe: Path, hub: FakeHub) -> None:
    assert overlay("estimate", name_base(recipe, "tinymodel")).code == 2
    assert not hub.heard


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: entry.hub_id)
def test_every_model_of_the_catalogue_can_be_estimated(
    overlay: Overlay, recipe: Path, tmp_path: Path, entry: tuple[str, str, object]
) -> None:
    from studio.models.catalogue import CATALOGUE

    models = json.loads(CATALOGUE.read_text())["models"]
    config = next(model["config"] for model in models if model["id"] == entry[0])
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "config.json").write_text(json.dumps({**CONFIG, **config, "architectures": None}))
    name_base(recipe, str(tmp_path / "base"))
    document = overlay("estimate", recipe, "--methods", "--chat", "2", "--merge", "--evaluation", "--json").document
    assert document["total_bytes"] > 0
