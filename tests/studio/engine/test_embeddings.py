"""Embeddings that lie in main memory: the same numbers, and nothing of the table on the card."""

from __future__ import annotations

import pytest
import torch

from studio.engine.embeddings import place_embeddings
from tests.studio.engine.test_attention import build
from tests.studio.engine.test_checkpointing import learner_of, numbers, same


def is_tied(model):
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


def untied(family):
    model = build(family)
    if is_tied(model):
        head = model.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    return model


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2", "gpt_neox"])
def test_no_number_changes_on_the_way_there_or_back(family):
    model = untied(family)
    learner = learner_of(model)
    expected = numbers(learner)
    table, names = model.get_input_embeddings(), dict(model.named_parameters()).keys()
    for in_main_memory in (True, True, False, False, True):
        place_embeddings(model, in_main_memory)
        assert ("weight" in table._parameters) is not in_main_memory
        assert same(numbers(learner), expected)
    place_embeddings(model, False)
    assert dict(model.named_parameters()).keys() == names
    assert not table.weight.requires_grad


def test_the_table_stays_behind_and_what_was_looked_up_goes_to_the_card():
    """The meta device stands for the card: whatever lies there has no contents, and meets nothing that lies here."""
    model = untied("gemma3_text")
    table, ids = model.get_input_embeddings(), torch.tensor([[3, 1, 4]])
    weight, buffers = table._parameters["weight"], dict(table._buffers)
    model.to("meta")
    table._parameters["weight"], table._buffers = weight, buffers
    place_embeddings(model, True)
    assert {parameter.device.type for parameter in model.parameters()} == {"meta"}
    assert table(ids).device.type == "meta"
    place_embeddings(model, False)
    assert {tensor.device.type for tensor in (table.weight, *table.buffers())} == {"meta"}


def test_a_table_that_is_the_head_as_well_stays():
    model = build("llama")
    model.get_output_embeddings().weight = model.get_input_embeddings().weight
    place_embeddings(model, True)
    assert is_tied(model)
    assert "weight" in model.get_input_embeddings()._parameters
