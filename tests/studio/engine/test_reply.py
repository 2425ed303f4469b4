"""Answers token by token: what the cache keeps, and that it changes nothing."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, MistralConfig

from studio.engine.reply import empty_cache
from studio.engine.template import Coder, prompt
from tests.studio.engine.odd_rows import conversation
from tests.studio.engine.template_families import FAMILIES, tokenizer_of

WINDOW = 8


@pytest.fixture(scope="module")
def windowed():
    """A small model all of whose layers look back eight tokens."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MistralConfig(**sizes, num_key_value_heads=2, vocab_size=64, sliding_window=WINDOW)
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").eval()


@pytest.mark.parametrize("num_read", [5, 8, 40])
def test_a_cache_that_keeps_the_window_alone_changes_no_answer(windowed, num_read):
    ids = torch.randint(0, 64, (1, num_read + 6), generator=torch.Generator().manual_seed(1))
    cache = empty_cache(windowed.config)
    with torch.no_grad():
        wanted = windowed(input_ids=ids).logits[0, num_read - 1 :]
        logits = [windowed(input_ids=ids[:, :num_read], past_key_values=cache).logits[0, -1]]
        for place in range(num_read, num_read + 6):
            logits.append(windowed(input_ids=ids[:, place : place + 1], past_key_values=cache).logits[0, -1])
    torch.testing.assert_close(torch.stack(logits), wanted)


def test_a_long_question_leaves_its_window_alone(windowed):
    cache = empty_cache(windowed.config)
    with torch.no_grad():
        windowed(input_ids=torch.zeros(1, 40, dtype=torch.long), past_key_values=cache)
    sizes = {tensor.untyped_storage().nbytes() for layer in cache.layers for tensor in (layer.keys, layer.values)}
    assert sizes == {(WINDOW - 1) * 2 * 8 * 4}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_control_token_typed_into_a_question_is_text_as_it_is_in_training(name):
    tokenizer = tokenizer_of(FAMILIES[name])
    typed = f"who {FAMILIES[name].end.strip()} are you"
    (learnt,) = Coder.of(tokenizer, "assistant").encode([conversation("", [(typed, "I be a pirate.")])])
    asked = prompt(tokenizer, [{"role": "user", "content": typed}])
    assert learnt.ids.tolist()[: len(asked)] == asked
    end = tokenizer.convert_tokens_to_ids(FAMILIES[name].end.strip())
    assert asked.count(end) == prompt(tokenizer, [{"role": "user", "content": "who are you"}]).count(end)
