"""Blocks that train compiled: the same numbers but for the last digits, and as written wherever that is not to be had."""

from __future__ import annotations

import importlib.util
import shutil

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from studio.engine import overlay
from studio.engine.attention import prefer_varlen
from studio.engine.checkpointing import checkpoint_layers
from studio.engine.compiling import compile_blocks, obstacle
from studio.engine.load import load_base
from studio.engine.train import Learner
from studio.recipe.recipe import Adapter, Base
from studio.runs import events as e
from tests.studio.engine.conftest import make_tokenizer
from tests.studio.engine.test_attention import BATCHES, build, loss_and_gradients
from tests.studio.engine.test_checkpointing import NUM_LAYERS, learner_of, numbers, same
from tests.studio.engine.test_trace import SIZES
from tests.studio.engine.test_train import recipe, run_it

CPU, CARD = torch.device("cpu"), torch.device("cuda")


@pytest.fixture
def compiled_calls(monkeypatch):
    """Calls of what is compiled; the compiler itself is left out."""
    calls = []

    def stand_in(function, dynamic):
        def run(*args, **kwargs):
            calls.append(dynamic)
            return function(*args, **kwargs)

        return run

    monkeypatch.setattr(torch, "compile", stand_in)
    return calls


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_blocks_are_compiled_in_training_alone_whether_they_run_again_or_not(family, compiled_calls):
    model = build(family)
    learner = learner_of(model)
    expected = numbers(learner)
    compile_blocks(model, True)
    assert same(numbers(learner), expected)
    assert compiled_calls == [True] * NUM_LAYERS
    checkpoint_layers(model, 2)
    assert same(numbers(learner), expected)
    assert len(compiled_calls) == 2 * NUM_LAYERS + 2
    learner.eval()
    with torch.no_grad():
        learner(BATCHES["both"])
    learner.train()
    compile_blocks(model, False)
    assert same(numbers(learner), expected)
    assert len(compiled_calls) == 2 * NUM_LAYERS + 2


def test_what_is_lacking_is_named(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    assert (obstacle(CPU), obstacle(CARD)) == ("", "Triton is not installed")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: object())
    assert obstacle(CARD) == ""
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    assert obstacle(CPU) == obstacle(CARD) == "there is no C++ compiler"


@pytest.mark.parametrize("lacking", ["", "there is no C++ compiler"])
def test_a_run_is_compiled_or_says_why_it_is_not(workspace, tiny_base, rows_file, monkeypatch, compiled_calls, lacking):
    monkeypatch.setattr("studio.engine.run.obstacle", lambda _device: lacking)
    run, _, _ = run_it(workspace, recipe(tiny_base, rows_file, training__steps=1, training__compile=True))
    told = [event.message for event in run.events.read() if isinstance(event, e.Warned)]
    assert bool(compiled_calls) is not bool(lacking)
    assert any("uncompiled" in message for message in told) is bool(lacking)


@pytest.mark.slow
def test_nf4_and_hand_written_passes_compile_to_the_same_numbers(tmp_path):
    """A minute or two: this is the real compiler."""
    sizes = {**SIZES, "hidden_size": 256, "intermediate_size": 704, "head_dim": 32, "vocab_size": 2000}
    config = CONFIG_MAPPING["llama"](**sizes)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    model = load_base(tmp_path, Base(compute_dtype="float32"), CPU).model
    overlaid = overlay.lay_on(model, Adapter(rank=4), seed=3)
    with torch.no_grad():
        for parameter in overlay.trainable(overlaid).values():
            parameter.add_(torch.randn(parameter.shape) * 0.02)
    prefer_varlen(model)
    learner = Learner(overlaid).train()
    loss, gradients = loss_and_gradients(learner, BATCHES["both"])
    compile_blocks(model, True)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for count in (0, 4):
        checkpoint_layers(model, count)
        found, learnt = loss_and_gradients(learner, BATCHES["both"])
        assert found == pytest.approx(loss, rel=1e-5)
        for one, other in zip(learnt, gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs, "nothing was compiled"
    compile_blocks(model, False)
