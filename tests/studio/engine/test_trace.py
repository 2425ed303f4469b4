"""The live estimate against the dry run of the real code, and the dry run against a real one."""

from __future__ import annotations

import itertools
import json
import weakref

import bitsandbytes as bnb
import psutil
import pytest
import torch
from bitsandbytes import functional as bnb_functional
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from studio.engine import attention, embeddings, loss, offload, overlay, train
from studio.engine import trace as tracing
from studio.engine.batches import collate
from studio.engine.checkpointing import checkpoint_layers
from studio.engine.load import config_of, load_base
from studio.engine.template import Example
from studio.engine.trace import Ledger, Traced, trace
from studio.engine.train import Learner
from studio.errors import RecipeError
from studio.memory.budget import TERM_NAMES, budget
from studio.memory.setup import Setup
from studio.memory.step import step
from studio.models.facts import ModelFacts
from studio.recipe.recipe import Recipe
from tests.studio.engine.conftest import make_tokenizer

# PEFT sets it right by itself for GPT-2, whose weights lie the other way round.
pytestmark = pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False")

STATIC = ("weights", "adapter", "gradients", "optimizer")
DYNAMIC = ("forward", "loss", "backward")
# Large enough that what the estimate rounds (small tensors' optimizer states, ids, single scalars) is below one percent.
SIZES = {
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "vocab_size": 8000,
    "max_position_embeddings": 8192,
    "pad_token_id": None,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOW = {"sliding_window": 1024, "query_pre_attn_scalar": 64}
FAMILIES = {
    "llama": {},
    "mistral": {"sliding_window": 1024},
    "qwen2": {"tie_word_embeddings": True},
    "qwen3": {},
    "gemma2": WINDOW,
    "gemma3_text": WINDOW,
    "phi3": {},
    "olmo2": {},
    "smollm3": {},
    "granite": {"logits_scaling": 4.0},
    "gpt_neox": {},
    "gpt2": {"n_embd": 512, "n_layer": 4, "n_head": 8, "n_positions": 8192, "n_inner": 1408, "vocab_size": 8000},
    "mixtral": {"num_local_experts": 8, "num_experts_per_tok": 2},
    "qwen3_moe": {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 512, "decoder_sparse_step": 1},
}
DENSE = [family for family in FAMILIES if family not in ("mixtral", "qwen3_moe")]


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    """Folders with nothing but a config.json, made on first use."""
    root = tmp_path_factory.mktemp("bases")

    def folder(family):
        path = root / family
        if not path.exists():
            sizes = FAMILIES[family] if family == "gpt2" else {**SIZES, **FAMILIES[family]}
            CONFIG_MAPPING[family](**sizes, architectures=["X"]).save_pretrained(path)
        return path

    return folder


def recipe(quantisation="nf4", checkpointing="all", rank=64, tokens=2048, **sections):
    merged = {
        "base": {"quantisation": quantisation},
        "data": {"max_tokens": tokens},
        "training": {"micro_batch_tokens": tokens},
        "adapter": {"rank": rank},
        "memory": {"checkpointing": checkpointing},
    }
    for name, values in sections.items():
        merged[name] = merged[name] | values
    return Recipe.model_validate(merged)


def static_bytes(terms):
    return sum(terms.get(name, 0) for name in STATIC)


def compared(folder, made):
    """Errors of the estimate against the dry run: of the total, of the static terms, and of what each phase adds to them."""
    facts, found, estimate = (
        ModelFacts.from_folder(folder),
        trace(folder, made),
        budget(ModelFacts.from_folder(folder), made),
    )
    errors = {"total": estimate.total_bytes / found.total_bytes - 1}
    for name in STATIC:
        errors[name] = estimate.term(name).bytes / found.terms[name] - 1
    held = step(facts, Setup.of(facts, made))
    for phase in DYNAMIC:
        estimated = max(peak.bytes for peak in held.peaks if peak.name == phase)
        errors[phase] = estimated / (found.peaks[phase] - static_bytes(found.held[phase])) - 1
    return errors


def assert_near(errors, total=0.03, static=0.01, phase=0.03):
    bounds = {"total": total, **dict.fromkeys(STATIC, static), **dict.fromkeys(DYNAMIC, phase)}
    beyond = {name: f"{error:+.1%}" for name, error in errors.items() if abs(error) > bounds[name]}
    assert not beyond


# Every family at least once, every quantisation and every way of forgetting with each of the others.
GRID = [
    *(("llama", *more) for more in itertools.product(("nf4", "none"), ("all", "none", 2))),
    *(("mistral", "nf4", "none"), ("qwen2", "none", 2), ("qwen3", "nf4", "all"), ("gemma2", "nf4", 2)),
    *(("gemma3_text", "none", "all"), ("gemma3_text", "nf4", "none"), ("phi3", "nf4", 2), ("phi3", "none", "none")),
    *(("olmo2", "nf4", "all"), ("smollm3", "none", "none"), ("granite", "nf4", "none"), ("gpt_neox", "nf4", "all")),
    *(("gpt_neox", "none", "none"), ("gpt2", "nf4", 2), ("gpt2", "none", "none")),
]


@pytest.mark.parametrize(("family", "quantisation", "checkpointing"), GRID)
def test_the_estimate_is_the_dry_run(bases, family, quantisation, checkpointing):
    assert_near(compared(bases(family), recipe(quantisation, checkpointing)))


def every_two(turn):
    """Six setups in which any two of the four settings meet in all their values; four turns make all 24 there are."""
    for checkpointing, q, t, r in (
        ("all", 0, 0, 0),
        ("all", 1, 1, 1),
        ("none", 0, 1, 1),
        ("none", 1, 0, 0),
        (2, 0, 0, 1),
        (2, 1, 1, 0),
    ):
        yield ("nf4", "none")[q ^ (turn & 1)], checkpointing, (1024, 4096)[t], (8, 64)[r ^ (turn >> 1)]


# The rest, with the published models' own sizes: `python -m tests.bench.estimate`.
EVERYWHERE = [(family, *setup) for number, family in enumerate(DENSE) for setup in every_two(number % 4)]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "quantisation", "checkpointing", "tokens", "rank"), EVERYWHERE)
def test_the_estimate_is_the_dry_run_everywhere(bases, family, quantisation, checkpointing, tokens, rank):
    errors = compared(bases(family), recipe(quantisation, checkpointing, rank, tokens))
    if rank == 8:  # of so small an adapter, most tensors lie about the limit below which 8-bit states are 32-bit ones
        errors.pop("optimizer")
    assert_near(errors)


@pytest.mark.parametrize("checkpointing", ["all", "none"])
@pytest.mark.parametrize("family", ["mixtral", "qwen3_moe"])
def test_experts_are_met_within_wider_bounds(bases, family, checkpointing):
    """Which kernels share tensors among experts is transformers' choice; attention alone is adapted here."""
    made = recipe("nf4", checkpointing, adapter={"targets": "attention"})
    assert_near(compared(bases(family), made), total=0.08, phase=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    "sections",
    [
        {"memory": {"offload": True}},
        {"memory": {"offload": True, "checkpointing": 2}},
        {"memory": {"keep_attention": True}},
        {"memory": {"keep_attention": True, "checkpointing": 2}},
        {"memory": {"keep_attention": True, "offload": True}},
        {"memory": {"reuse_weights": "always"}},
        {"memory": {"reuse_weights": "always", "checkpointing": 2}},
        {"memory": {"reuse_weights": "always", "keep_attention": True, "offload": True}},
        {"memory": {"reuse_weights": "always", "checkpointing": "none"}},
        {"memory": {"embeddings_on_cpu": True}},
        {"adapter": {"dropout": 0.1}},
        {"adapter": {"dropout": 0.1}, "memory": {"checkpointing": "none"}},
        {"adapter": {"targets": "attention"}, "memory": {"checkpointing": "none"}},
        {"base": {"double_quantisation": False}},
        {"base": {"quantisation": "fp4"}},
        {"base": {"compute_dtype": "float16"}},
        {"training": {"optimizer": "adamw_torch"}},
        {"adapter": {"dtype": "bfloat16"}},
        {"adapter": {"dtype": "bfloat16"}, "training": {"optimizer": "adamw_torch"}},
        {
            "training": {"micro_batch_tokens": None, "micro_batch_rows": 2},
            "data": {"max_tokens": 1024, "packing": False},
        },
    ],
    ids=lambda sections: "-".join(f"{k}={v}" for section in sections.values() for k, v in section.items()),
)
def test_other_settings_are_met_as_well(bases, sections):
    assert_near(compared(bases("llama"), recipe(**sections)), total=0.03, phase=0.08)


def test_padded_rows_have_scores_of_their_own(bases):
    """Four rows of 512 tokens have a quarter of the scores that one row of 2048 has."""
    padded = recipe(tokens=512, data={"packing": False}, training={"micro_batch_tokens": None, "micro_batch_rows": 4})
    assert_near(compared(bases("gemma2"), padded))
    assert trace(bases("gemma2"), padded).total_bytes < trace(bases("gemma2"), recipe(tokens=2048)).total_bytes / 2


def test_shares_of_attention_outlive_the_attention(tmp_path):
    """Gemma 2 at its own widths, where the MLP is the busiest part of the forward pass: the shares are still there."""
    widths = {"hidden_size": 2304, "intermediate_size": 9216, "head_dim": 256, "num_hidden_layers": 2}
    CONFIG_MAPPING["gemma2"](**{**SIZES, **FAMILIES["gemma2"], **widths}, architectures=["X"]).save_pretrained(tmp_path)
    assert abs(compared(tmp_path, recipe(rank=8, tokens=1024))["forward"]) < 0.02


def test_quantised_constants_are_unpacked_with_their_weight(bases):
    """In fp32 and twice over: bitsandbytes adds their mean out of place, and both stay until the product is done."""
    once, twice = (
        trace(bases("llama"), recipe(base={"double_quantisation": wanted})).held["forward"]["overhead"]
        for wanted in (False, True)
    )
    largest = SIZES["hidden_size"] * SIZES["intermediate_size"]
    assert once == 2 * largest
    assert twice - once == 2 * 4 * largest / 64


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "qwen2", "gemma2", "phi3", "gpt_neox", "gpt2", "olmo2", "qwen3_moe"])
def test_weights_that_stay_unpacked_are_met_in_every_kind_of_block(bases, family):
    targets = {"adapter": {"targets": "attention"}} if family == "qwen3_moe" else {}
    made = recipe(memory={"reuse_weights": "always"}, tokens=1024, **targets)
    bounds = {"total": 0.08, "phase": 0.15} if targets else {}
    assert_near(compared(bases(family), made), **bounds)


def test_weights_that_stay_unpacked_are_those_of_one_layer_and_no_more(bases):
    """At the peak of a layer's gradients: all but the last, which is unpacked for its own gradient at another moment."""
    peaks, held = {}, {}
    for value in ("never", "always"):
        found = trace(bases("llama"), recipe(rank=8, memory={"reuse_weights": value}))
        peaks[value], held[value] = found.peaks["backward"], found.held["backward"]["overhead"]
    hidden, width, kv_width = SIZES["hidden_size"], SIZES["intermediate_size"], 4 * SIZES["head_dim"]
    layer = 2 * hidden * (2 * hidden + 2 * kv_width + 2 * width)
    assert held == {"never": 0, "always": layer}
    assert peaks["always"] - peaks["never"] == layer


def test_the_terms_of_a_dry_run_are_those_of_the_estimate(bases):
    found = trace(bases("llama"), recipe())
    assert set(found.terms) <= set(TERM_NAMES)
    assert found.total_bytes == sum(found.terms.values()) == max(found.peaks.values())
    assert tuple(found.peaks) == tracing.PHASES


def test_fewer_layers_may_be_run(bases):
    four, two, one = (trace(bases("llama"), recipe(), num_layers=number).terms["weights"] for number in (None, 2, 1))
    assert four - two == 2 * (two - one) > 0


# --- what cannot be run dry, and what the dry run would notice ------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "field"),
    [({"base": {"quantisation": "int8"}}, "base.quantisation"), ({"adapter": {"dora": True}}, "adapter.dora")],
)
def test_what_needs_the_weights_contents_is_refused(bases, sections, field):
    with pytest.raises(RecipeError) as caught:
        trace(bases("llama"), recipe(**sections))
    assert [problem.field for problem in caught.value.problems] == [field]


def full_logits(hidden, head, targets, shape, rows, each=None):
    """The usual loss: logits of the whole batch, and their fp32 copy."""
    logits = shape(head(hidden).float())
    return nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum")


def test_a_loss_that_makes_all_logits_is_caught(bases, monkeypatch):
    """The dry run believes nothing that is written about the loss: it runs it."""
    before = trace(bases("llama"), recipe())
    monkeypatch.setattr(train, "supervised_loss", full_logits)
    errors, after = compared(bases("llama"), recipe()), trace(bases("llama"), recipe())
    # The 16-bit logits and their fp32 copy at least, for 2048 tokens and 8000 words, against 1024 tokens at a time.
    assert after.peaks["loss"] - before.peaks["loss"] > 1024 * 8000 * 6
    assert errors["loss"] < -0.08
    with pytest.raises(AssertionError):
        assert_near(errors)


def test_a_block_that_keeps_more_than_it_should_is_caught(bases, monkeypatch):
    real = attention.attend

    def hoarding(*arguments, **options):
        out, _ = real(*arguments, **options)
        return out * out.sigmoid().square().exp(), None  # three more tensors of the size of the output

    attention.AttentionInterface.register(attention.VARLEN, hoarding)
    try:
        errors = compared(bases("llama"), recipe("none", "none", adapter={"targets": "attention"}))
    finally:
        attention.AttentionInterface.register(attention.VARLEN, real)
    assert errors["loss"] < -0.08


# --- it leaves no trace of its own --------------------------------------------------------------------------------------


def surroundings():
    return (
        attention.varlen_attn,
        offload.lanes_of,
        embeddings.MAIN_MEMORY,
        nn.functional.dropout,
        dict(bnb_functional.name2qmap),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.zeros(2).sum().item(),  # no fake mode is left behind
    )


def test_everything_is_left_as_it_was(bases, monkeypatch):
    before = surroundings()
    trace(bases("llama"), recipe(memory={"offload": True}), num_layers=1)
    assert surroundings() == before
    with monkeypatch.context() as broken:
        broken.setattr(train, "supervised_loss", lambda *_args, **_options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trace(bases("llama"), recipe(), num_layers=1)
    assert surroundings() == before
    # bitsandbytes' own code still works: a table made of fake tensors would have spoilt it.
    parameter = nn.Parameter(torch.ones(8, 8))
    parameter.grad = torch.ones(8, 8)
    optimizer = bnb.optim.AdamW([parameter])
    optimizer.fill_qmap()
    assert type(optimizer.name2qmap["dynamic"]) is torch.Tensor


def test_a_large_model_takes_no_memory_to_speak_of(tmp_path):
    """Two blocks of an 8 B model with its embeddings and head: 3 GB if they were real."""
    sizes = {"hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8}
    config = CONFIG_MAPPING["llama"](**sizes, num_hidden_layers=32, vocab_size=128256)
    config.save_pretrained(tmp_path)
    made = recipe(rank=16, tokens=16384)
    trace(tmp_path, made, num_layers=1)  # what is imported and cached on first use is not its own
    process = psutil.Process()
    before = process.memory_info().rss
    highest = before

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal highest
            highest = max(highest, process.memory_info().rss)
            return func(*args, **(kwargs or {}))

    with Watch():
        found = trace(tmp_path, made, num_layers=2)
    assert highest - before < 300e6
    assert found.total_bytes > 3e9


# --- against reality ----------------------------------------------------------------------------------------------------


class Counter(TorchDispatchMode):
    """Bytes of living storages of real tensors; knows nothing of owners, and shares no code with the ledger."""

    def __init__(self, *known):
        super().__init__()
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._live = {}
        self.now = self.peak = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._count(tensor.untyped_storage())
        self.peak = max(self.peak, self.now)
        return result

    def _count(self, storage):
        key, size = id(storage), storage.nbytes()
        if key not in self._live and storage.data_ptr() not in self._known:
            self._live[key] = weakref.ref(storage, lambda _: self._forget(key, size))
            self.now += size

    def _forget(self, key, size):
        del self._live[key]
        self.now -= size


class FlashAttention(torch.autograd.Function):
    """The memory of the variable-length kernel: saves its inputs, its output and one fp32 number per query and head.

    Its backward pass (FlashAttention-2, Dao 2023) sums the queries' gradient in fp32 and, with grouped heads, makes the
    gradients of keys and values per query head before adding them up.
    """

    @staticmethod
    def forward(ctx, query, key, value):
        out = torch.empty_like(query)
        log_sums = query.new_empty(query.shape[:2], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, out, log_sums)
        return out

    @staticmethod
    def backward(ctx, *_gradients):
        query, key, value, _, log_sums = ctx.saved_tensors
        sums = torch.empty_like(query, dtype=torch.float32), torch.empty_like(log_sums)
        grads = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        if key.shape != query.shape:
            expanded = torch.empty_like(query), torch.empty_like(query)
            del expanded
        del sums
        return grads


def lean(query, key, value, *_args, **_options):
    """The kernel's memory with real tensors: what it saves and makes, contents aside."""
    return FlashAttention.apply(query, key, value)


@pytest.fixture(scope="module", params=["llama", "qwen3", "gpt2"])
def small_base(request, tmp_path_factory):
    """Real weights, written to disk and loaded as for training."""
    folder = tmp_path_factory.mktemp("real") / request.param
    sizes = {**SIZES, "hidden_size": 256, "intermediate_size": 704, "head_dim": 32, "vocab_size": 2000}
    gpt2 = {"n_embd": 256, "n_layer": 4, "n_head": 8, "n_positions": 2048, "n_inner": 704, "vocab_size": 2000}
    config = CONFIG_MAPPING[request.param](
        **(gpt2 if request.param == "gpt2" else {**sizes, **FAMILIES[request.param]})
    )
    AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("checkpointing", ["all", "none"])
@pytest.mark.parametrize("quantisation", ["nf4", "none"])
def test_a_real_micro_batch_holds_what_the_dry_run_says(small_base, quantisation, checkpointing, monkeypatch):
    """A later micro-batch of a step, with real tensors: real NF4, real PEFT, real loss, all contents computed.

    Three things are not the same on a CPU. The loss takes fewer rows at a time: here as many as on a card. The attention kernel
    does not exist there: a function that makes and saves the same tensors stands in for it, in both. And a large 4-bit product on
    a card unpacks the weight within the kernel, which no count of tensors sees; the dry run adds that by name, so it is counted
    as a part of its own (`overhead`) and compared without.
    """
    tokens = 512
    made = recipe(quantisation, checkpointing, rank=16, tokens=tokens)
    dry = trace(small_base, made)
    monkeypatch.setattr(attention, "varlen_attn", lean)
    monkeypatch.setattr(loss, "CHUNK_ROWS_CPU", loss.CHUNK_ROWS)
    loaded = load_base(small_base, made.base, torch.device("cpu"))
    loaded.model.config._attn_implementation = attention.VARLEN
    overlaid = overlay.lay_on(loaded.model, made.adapter, seed=1)
    checkpoint_layers(overlaid.get_base_model(), 4 if checkpointing == "all" else 0)
    learner = Learner(overlaid).train()
    ids = torch.randint(0, 300, (tokens,)).tolist()
    batch = collate([[Example(tuple(ids), (True,) * tokens, 0)]], 0)
    (learner(batch) / tokens).backward()  # the gradients stay, as in every micro-batch but the first
    with Counter(*overlaid.parameters(), *overlaid.buffers()) as counter:
        (learner(batch) / tokens).backward()
    static = static_bytes(dry.terms)
    without_overhead = max(
        sum(size for owner, size in held.items() if owner != "overhead") for held in map(dry.held.get, DYNAMIC)
    )
    assert counter.peak == pytest.approx(without_overhead - static, rel=0.05)


def test_the_weights_of_a_dry_run_are_those_on_disk(small_base):
    made = recipe("none", rank=16, tokens=512)
    model = load_base(small_base, made.base, torch.device("cpu")).model
    real = sum(parameter.nbytes for parameter in model.parameters())
    buffers = sum(buffer.nbytes for buffer in model.buffers())
    assert trace(small_base, made).terms["weights"] == real + buffers


def test_the_packed_weights_of_a_dry_run_are_those_of_a_real_base(small_base):
    made = recipe("nf4", rank=16, tokens=512)
    model = load_base(small_base, made.base, torch.device("cpu")).model
    states = [module.weight.quant_state for module in model.modules() if isinstance(module, bnb.nn.Linear4bit)]
    constants = [tensor for s in states for tensor in (s.absmax, s.state2.absmax, s.offset)]
    real = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers(), *constants))
    assert trace(small_base, made).terms["weights"] == real


# --- the ledger ---------------------------------------------------------------------------------------------------------


def test_the_ledger_counts_what_is_alive_and_forgets_what_is_not():
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode(), Ledger() as ledger:
        a = torch.empty(1000)  # 4000 bytes
        ledger.own("weights", [a])
        b = a * 2
        view = b[10:]
        del b
        c = view + 1  # 4000 + 4000 + 3960
        del view
        ledger.enter("loss")
        d = c.sum()
        ledger.own("gradients", [c])
        ledger.enter("backward")
        del d
    found = ledger.traced()
    assert isinstance(found, Traced)
    assert found.peaks == {"forward": 11960, "loss": 4000 + 3960 + 4, "backward": 4000 + 3960 + 4}
    assert found.held["forward"] == {"weights": 4000, "activations": 7960, "overhead": 0}
    assert found.held["backward"] == {"weights": 4000, "gradients": 3960, "logits": 4, "overhead": 0}
    assert found.busiest == "forward"
    ledger.begin("forward")
    assert ledger.traced().peaks == {"forward": 4000 + 3960}


def test_configurations_are_plain_files(bases):
    """Nothing but a config.json is needed."""
    folder = bases("llama")
    assert [path.name for path in folder.iterdir()] == ["config.json"]
    assert json.loads((folder / "config.json").read_text())["model_type"] == "llama"
    assert config_of(folder).num_hidden_layers == 4
