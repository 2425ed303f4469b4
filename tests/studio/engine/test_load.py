"""A base as it is loaded for training: nothing of its pretraining stays on."""

from __future__ import annotations

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from studio.engine.load import config_of, load_base
from studio.recipe.recipe import Base
from tests.studio.engine.conftest import write_base
from tests.studio.engine.test_families import FAMILIES, SIZES

CPU = torch.device("cpu")


@pytest.mark.parametrize("family", FAMILIES)
def test_no_family_drops_anything_out(family, tmp_path):
    """Every probability that the family's configuration has is set; in training mode two passes are the same to the bit."""
    config = CONFIG_MAPPING[family](
        **{**SIZES, "vocab_size": 130, "eos_token_id": 2, "pad_token_id": 0, **FAMILIES[family]}
    )
    known = [name for name in config.to_dict() if ("drop" in name) and not name.startswith(("classifier", "summary"))]
    assert known
    for name in known:
        setattr(config, name, 0.5)
    config.save_pretrained(tmp_path)
    torch.manual_seed(0)
    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        dropping = AutoModelForCausalLM.from_config(config).train()
        assert not torch.equal(dropping(input_ids=ids).logits, dropping(input_ids=ids).logits)
        model = AutoModelForCausalLM.from_config(config_of(tmp_path)).train()
        assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)


def test_a_loaded_base_drops_nothing_out_either(tmp_path):
    folder = write_base(tmp_path / "dropping", attention_dropout=0.5)
    model = load_base(folder, Base(id="x", compute_dtype="float32"), CPU).model.train()
    ids = torch.arange(10, 60)[None]
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, model(input_ids=ids).logits)
