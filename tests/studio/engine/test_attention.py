"""Attention without masks: the same numbers as with them, for every family, with the kernel stood in for by a loop.

The kernel itself runs on cards alone. Everything around it is real: the families' own attention code must hand the boundaries
through, and what `attend` asks of the kernel must be what the family means.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from studio.engine import attention, overlay
from studio.engine.attention import VARLEN, attend, for_answers, suits
from studio.engine.batches import Boundaries, collate
from studio.engine.checkpointing import checkpoint_layers
from studio.engine.load import load_base
from studio.engine.reply import Sampling, reply
from studio.engine.template import Example
from studio.engine.train import Learner
from studio.models.families import FAMILIES
from studio.recipe.recipe import Adapter, Base

CPU = torch.device("cpu")
ROWS = [
    Example(tuple(range(5 + n, 5 + n + length)), (False, False) + (True,) * (length - 2), n)
    for n, length in enumerate((9, 30, 14, 5, 22, 17, 8, 12))
]
BATCHES = {
    "packed": collate([[ROWS[1], ROWS[4], ROWS[2]]], 0, multiple=64),  # 30 + 22 + 14 tokens, filled up to 128
    "padded": collate([[row] for row in (ROWS[1], ROWS[3], ROWS[0])], 0),
    "both": collate([[ROWS[1], ROWS[3]], [ROWS[4], ROWS[0]]], 0, multiple=8),
}


def looped(query, key, value, starts, starts_k, longest, longest_k, *, scale, window_size, enable_gqa):
    """What the variable-length kernel computes: causal softmax attention within each stretch, by ordinary arithmetic.

    (tokens, heads, head size) each. `window_size` is how far back and ahead a token sees, itself aside; -1 is all the way.
    """
    assert starts.tolist() == starts_k.tolist()
    back, ahead = window_size
    assert ahead == 0
    ends = starts.tolist()
    assert longest == longest_k == max(end - start for start, end in pairwise(ends))
    if enable_gqa:
        group = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    stretches = []
    for start, end in pairwise(ends):
        q, k, v = (x[start:end].transpose(0, 1) for x in (query, key, value))
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)[None]
        sees = (distance >= 0) & (distance <= back if back >= 0 else True)
        scores = q @ k.transpose(1, 2) * (1 / math.sqrt(q.shape[-1]) if scale is None else scale)
        stretches.append((scores.masked_fill(~sees, -torch.inf).softmax(-1) @ v).transpose(0, 1))
    return torch.cat(stretches)


@pytest.fixture
def kernel(monkeypatch):
    """The reference in the kernel's place; notes how it was called."""
    calls = []

    def noted(*arguments, **options):
        calls.append((arguments[3].tolist(), options["window_size"]))
        return looped(*arguments, **options)

    monkeypatch.setattr(attention, "varlen_attn", noted)
    return calls


# --- the function itself -------------------------------------------------------------------------------------------------


def masked(query, key, value, batch, window=None, scale=None):
    """The ordinary way: a dense mask of T x T per row, from the stretches that the boundaries name."""
    rows, _, length, _ = query.shape
    starts = batch.boundaries.starts_S[1:-1].long()
    stretch = torch.zeros(rows * length, dtype=torch.long)
    stretch[starts] = 1
    stretch = stretch.cumsum(0).view(rows, length)
    distance = torch.arange(length)[:, None] - torch.arange(length)[None]
    sees = (stretch[:, :, None] == stretch[:, None]) & (distance >= 0)
    if window is not None:
        sees &= distance < window
    out = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=sees[:, None], scale=scale, enable_gqa=query.shape[1] != key.shape[1]
    )
    return out.transpose(1, 2)


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.parametrize("heads", [(4, 4), (4, 2), (6, 1)])
@pytest.mark.parametrize(("window", "scale"), [(None, None), (1, None), (8, 0.3), (1000, None)])
def test_attend_is_masked_attention(kernel, kind, heads, window, scale):
    batch, generator = BATCHES[kind], torch.Generator().manual_seed(1)
    rows, length = batch.ids_BT.shape
    shapes = [(rows, count, length, 16) for count in (heads[0], heads[1], heads[1])]
    ours = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    theirs = [x.detach().clone().requires_grad_() for x in ours]
    found, weights = attend(
        torch.nn.Identity(), *ours, None, scaling=scale, sliding_window=window, boundaries=batch.boundaries
    )
    expected = masked(*theirs, batch, window, scale)
    assert weights is None
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    slope = torch.randn(found.shape, generator=generator)
    for one, other in zip(
        torch.autograd.grad(found, ours, slope), torch.autograd.grad(expected, theirs, slope), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_mask_is_refused_rather_than_passed_over(kernel):
    query = torch.zeros(1, 2, 4, 8)
    with pytest.raises(AssertionError, match="mask"):
        attend(torch.nn.Identity(), query, query, query, torch.ones(1, 1, 4, 4), boundaries=Boundaries.of([4]))
    with pytest.raises(AssertionError, match="chat"):
        attend(torch.nn.Identity(), query, query, query, None)


# --- every family --------------------------------------------------------------------------------------------------------

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 130,
    "max_position_embeddings": 512,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
EXPERTS = {
    **{"num_experts": 4, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32},
    "shared_expert_intermediate_size": 48,
}
WINDOWS = {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 2}
# GPT-2 names its sizes differently; OLMoE knows no windows, whatever its configuration says.
OWN_SIZES = {
    "gpt2": {
        **{"n_embd": 64, "n_layer": 4, "n_head": 4, "n_positions": 512, "n_inner": 128, "vocab_size": 130},
        **{"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    },
    "olmoe": {**SIZES, **EXPERTS},
}
# Scores that must be capped or have sinks need the plain way; Qwen2-MoE's attention keeps its windows to itself.
WITHOUT = {"gemma2", "gpt_oss", "qwen2_moe"}


def build(family, **more):
    torch.manual_seed(0)
    sizes = OWN_SIZES.get(family) or {**SIZES, **WINDOWS, **(EXPERTS if FAMILIES[family].experts else {})}
    config = CONFIG_MAPPING[family](**{**sizes, **more})
    model = AutoModelForCausalLM.from_config(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "norm" not in name and parameter.dim() >= 2:
            torch.nn.init.normal_(parameter, 0, 0.15)
    return model


def learner_of(model):
    """Hidden states in, one number out, as in training, with an overlay that does something."""
    overlaid = overlay.lay_on(model, Adapter(rank=4, targets="attention"), seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in overlay.trainable(overlaid).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return Learner(overlaid).train()


def loss_and_gradients(learner, batch):
    learner.zero_grad()
    loss = learner(batch)
    loss.backward()
    return float(loss.detach()), [p.grad.clone() for p in learner.parameters() if p.grad is not None]


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_every_family_hands_the_boundaries_to_its_attention(kernel, family):
    """Packed, padded or both: with the kernel, the loss and its gradients are those of the family's own masks."""
    model = build(family)
    if not suits(model.bfloat16()):
        assert family in WITHOUT
        return
    assert family not in WITHOUT
    learner = learner_of(model.float())
    for kind, batch in BATCHES.items():
        model.config._attn_implementation = "sdpa"
        expected, expected_gradients = loss_and_gradients(learner, batch)
        kernel.clear()
        model.config._attn_implementation = VARLEN
        found, gradients = loss_and_gradients(learner, batch)
        assert [starts for starts, _ in kernel] == [batch.boundaries.starts_S.tolist()] * 4, kind
        assert found == pytest.approx(expected, rel=1e-5), kind
        largest = max(float(gradient.abs().max()) for gradient in expected_gradients)
        for one, other in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * largest)


def test_the_comparison_would_notice_rows_that_read_each_other(kernel):
    model = build("llama")
    learner, batch = learner_of(model), BATCHES["packed"]
    model.config._attn_implementation = VARLEN
    right, _ = loss_and_gradients(learner, batch)
    whole = collate([[ROWS[1]]], 0, multiple=128)  # one stretch of 30 tokens and one of padding: other boundaries
    wrong = type(batch)(batch.ids_BT, batch.positions_BT, batch.targets_BT, batch.supervised_N, whole.boundaries, 66)
    mixed, _ = loss_and_gradients(learner, wrong)
    assert abs(mixed / right - 1) > 1e-4


@pytest.mark.parametrize("window", [None, 8])
def test_windows_reach_the_kernel_where_layers_have_them(kernel, window):
    model = build("qwen3", use_sliding_window=window is not None)
    learner = learner_of(model)
    model.config._attn_implementation = VARLEN
    learner(BATCHES["packed"])
    assert [size for _, size in kernel] == [(-1, 0)] * 2 + [(-1, 0) if window is None else (7, 0)] * 2


@pytest.mark.parametrize("offload", [False, True])
def test_blocks_that_run_again_find_the_boundaries(kernel, offload):
    model = build("mistral")
    learner = learner_of(model)
    model.config._attn_implementation = VARLEN
    expected = loss_and_gradients(learner, BATCHES["both"])
    kernel.clear()
    checkpoint_layers(model, 4, offload)
    found = loss_and_gradients(learner, BATCHES["both"])
    assert len(kernel) == 2 * 4
    assert found[0] == expected[0]
    assert all(torch.equal(one, other) for one, other in zip(found[1], expected[1], strict=True))


# --- where it is used, and where not ---------------------------------------------------------------------------------


def test_it_suits_fused_attention_in_sixteen_bit_with_heads_that_the_kernel_takes():
    assert suits(build("llama").bfloat16())
    assert suits(build("llama").half())
    assert not suits(build("llama"))
    assert suits(build("llama", head_dim=256).bfloat16())
    assert not suits(build("llama", head_dim=512).bfloat16())
    eager = build("llama").bfloat16()
    eager.config._attn_implementation = "eager"
    assert not suits(eager)


def test_a_family_that_was_never_checked_keeps_its_masks():
    """Some hand no further arguments to their attention (StableLM, Nemotron): training on a card would end at once."""
    config = CONFIG_MAPPING["stablelm"](**SIZES)
    assert not suits(AutoModelForCausalLM.from_config(config).bfloat16())


def test_windows_that_a_family_keeps_to_itself_rule_it_out():
    assert not suits(build("qwen2_moe").bfloat16())
    assert suits(build("qwen2_moe", use_sliding_window=False).bfloat16())


def test_a_cpu_takes_boundaries_until_training_is_over():
    model = build("llama")
    attention.prefer_varlen(model)
    assert model.config._attn_implementation == VARLEN
    attention.forget_boundaries(model)
    assert model.config._attn_implementation == "sdpa"


def test_a_family_that_keeps_what_it_is_handed_keeps_its_masks():
    model = build("qwen2_moe", use_sliding_window=True)
    attention.prefer_varlen(model)
    assert model.config._attn_implementation == "sdpa"


@pytest.mark.parametrize("window", [None, 5])
def test_one_conversation_after_another_is_what_a_mask_says(window):
    """The CPU's own way, beside fused attention under a dense mask; grouped heads, two rows, a padding tail."""
    torch.manual_seed(0)
    rows, length, heads, kv_heads, size = 2, 40, 4, 2, 16
    lengths = [10, 22, 8, 30, 10]
    inputs = [torch.randn(rows, count, length, size, requires_grad=True) for count in (heads, kv_heads, kv_heads)]
    found, _ = attention.attend(
        torch.nn.Identity(), *inputs, None, sliding_window=window, boundaries=Boundaries.of(lengths)
    )
    document = torch.repeat_interleave(torch.arange(5), torch.tensor(lengths)).view(rows, length)
    ages = torch.arange(length)[:, None] - torch.arange(length)
    mask = (document[:, :, None] == document[:, None, :]) & (ages >= 0) & (ages < (window or length))
    scored = torch.nn.functional.scaled_dot_product_attention(*inputs, mask[:, None], enable_gqa=True)
    wanted = scored.transpose(1, 2)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    gradients = torch.autograd.grad(found.square().sum(), inputs, retain_graph=True)
    for own, masked in zip(gradients, torch.autograd.grad(wanted.square().sum(), inputs), strict=True):
        torch.testing.assert_close(own, masked, rtol=1e-4, atol=1e-5)


def test_answers_restore_what_training_had():
    model = build("llama")
    with for_answers(model):
        assert model.config._attn_implementation == "sdpa"
    model.config._attn_implementation = VARLEN
    with for_answers(model):
        assert model.config._attn_implementation == "sdpa"
    assert model.config._attn_implementation == VARLEN
    with pytest.raises(KeyError), for_answers(model):
        raise KeyError
    assert model.config._attn_implementation == VARLEN


def test_a_model_in_training_answers_as_it_always_did(tiny_base):
    loaded = load_base(tiny_base, Base(id="tiny", compute_dtype="float32"), CPU)
    overlaid = overlay.lay_on(loaded.model, Adapter(rank=4), seed=3)
    turns, sampling = [{"role": "user", "content": "What is the sea?"}], Sampling(max_tokens=12)
    before = reply(overlaid, loaded.tokenizer, turns, sampling)
    loaded.model.config._attn_implementation = VARLEN
    after = reply(overlaid, loaded.tokenizer, turns, sampling)
    assert after.num_tokens > 0
    assert after.text == before.text
    assert loaded.model.config._attn_implementation == VARLEN
