"""The estimates for chat and evaluation, held against the storages that are really alive while small models run."""

import json
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from studio.engine.loss import CHUNK_ROWS, LogitShape, supervised_loss  # noqa: E402
from studio.engine.reply import empty_cache  # noqa: E402
from studio.memory import uses  # noqa: E402
from studio.memory.uses import chat, evaluation, merge  # noqa: E402
from studio.models.facts import ModelFacts  # noqa: E402
from studio.recipe.recipe import Adapter, Base, Data, Recipe, Training  # noqa: E402

pytestmark = pytest.mark.slow
TOKENS = 1024
BASE = Base(id="small", quantisation="none", compute_dtype="bfloat16")
SIZES: dict[str, Any] = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "vocab_size": 2000,
    "max_position_embeddings": 2048,
    "pad_token_id": None,
}
MODELS: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "qwen3": SIZES,
    "gemma3_text": {**SIZES, "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 2},
    "gemma2": {**SIZES, "sliding_window": 4096},
    "mistral": {**SIZES, "sliding_window": 256},
    "gpt_neox": {**SIZES, "num_key_value_heads": 8},
    "gpt2": {"n_embd": 256, "n_layer": 4, "n_head": 8, "vocab_size": 2000, "n_positions": 2048},
}


class Counter(TorchDispatchMode):
    """The most bytes that storages made within the block held at once; those of `model` were there before."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.peak = 0
        self._before = [tensor.untyped_storage() for tensor in (*model.parameters(), *model.buffers())]
        self._ignored = {id(storage) for storage in self._before}
        self._live: dict[int, Any] = {}
        self._bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        self.peak = max(self.peak, self._bytes)
        return result

    def _add(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key not in self._live and key not in self._ignored:
            self._live[key] = weakref.ref(storage, lambda _: self._release(key, size))
            self._bytes += size

    def _release(self, key: int, size: int) -> None:
        del self._live[key]
        self._bytes -= size


def build(family: str) -> tuple[Any, ModelFacts]:
    config = transformers.CONFIG_MAPPING[family](**MODELS[family])
    kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    attention = "sdpa" if kind._supports_sdpa else "eager"
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, attn_implementation=attention)
    model.requires_grad_(False).eval()
    return model, ModelFacts.from_config(config.to_dict())


def sized(model: Any) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in {*model.parameters()})


# GPT-2 spells its activation out in several steps, which the rehearsal of a pass that keeps nothing leaves out.
@pytest.mark.parametrize("family", [family for family in MODELS if family != "gpt2"])
def test_reading_a_question(family: str) -> None:
    model, facts = build(family)
    estimate = chat(facts, BASE, lanes=2, context_tokens=TOKENS)
    assert estimate.term("weights").bytes == sized(model)
    ids = torch.randint(0, 2000, (1, TOKENS))
    cache = empty_cache(model.config)
    with torch.no_grad(), Counter(model) as counter:
        model(input_ids=ids[:, 1:], past_key_values=cache, use_cache=True, logits_to_keep=1)
        model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True, logits_to_keep=1)
    storages = [tensor.untyped_storage() for layer in cache.layers for tensor in (layer.keys, layer.values)]
    longest = TOKENS if "full" in facts.layer_kinds else facts.sliding_window or 0
    once_more = 2 * longest * facts.kv_features * 2  # of one layer, when the next token comes
    assert estimate.term("cache").bytes == sum(storage.nbytes() for storage in storages) + once_more
    dynamic = estimate.total_bytes - estimate.term("weights").bytes - once_more
    assert dynamic == pytest.approx(counter.peak, rel=0.05)


@pytest.mark.parametrize("family", MODELS)
def test_taking_the_loss_without_gradients(family: str) -> None:
    model, facts = build(family)
    recipe = Recipe(
        base=BASE,
        data=Data(max_tokens=TOKENS),
        training=Training(micro_batch_tokens=TOKENS),
        adapter=Adapter(targets="attention"),
    )
    estimate = evaluation(facts, recipe)
    ids = torch.randint(0, 2000, (1, TOKENS))
    with torch.no_grad(), Counter(model) as counter:
        hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        supervised_loss(hidden, model.get_output_embeddings(), ids, LogitShape.of(model.config), CHUNK_ROWS)
    static = estimate.term("weights").bytes + estimate.term("adapters").bytes
    assert estimate.total_bytes - static == pytest.approx(counter.peak, rel=0.05)


MERGE = """
import sys
from pathlib import Path
from studio.engine.merge import merge
from studio.library.adapter import read
from studio.models.bases import read_base
base, adapter, out = map(Path, sys.argv[1:])
merge(read_base(base, "base"), read(adapter), out, None, lambda *_: None)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


def write_merge(folder: Path) -> ModelFacts:
    """A base of 170 MB with matrices as large as real ones, and an adapter of rank 16 on all of them; all zeros."""
    from safetensors.torch import save_file

    config = {**SIZES, "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 128, "vocab_size": 8000}
    config |= {"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": True, "dtype": "bfloat16"}
    facts = ModelFacts.from_config(config)
    base = {"model.embed_tokens.weight": torch.zeros(8000, 2048, dtype=torch.bfloat16)}
    adapter = {}
    for shape in facts.linear_shapes():
        part = "mlp" if shape.name in ("gate_proj", "up_proj", "down_proj") else "self_attn"
        name = f"model.layers.0.{part}.{shape.name}"
        base[f"{name}.weight"] = torch.zeros(shape.out_features, shape.in_features, dtype=torch.bfloat16)
        adapter[f"base_model.model.{name}.lora_A.weight"] = torch.zeros(16, shape.in_features)
        adapter[f"base_model.model.{name}.lora_B.weight"] = torch.zeros(shape.out_features, 16)
    for name in ("base", "adapter"):
        (folder / name).mkdir()
    save_file(base, folder / "base" / "model.safetensors", metadata={"format": "pt"})
    save_file(adapter, folder / "adapter" / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "base" / "config.json").write_text(json.dumps(config))
    settings = {"peft_type": "LORA", "r": 16, "lora_alpha": 32, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"}
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings))
    return facts


@pytest.mark.skipif(
    sys.platform != "linux", reason="getrusage counts the parent's peak in, and only Linux tells another"
)
def test_merging_takes_the_memory_that_was_foretold(tmp_path: Path) -> None:
    facts = write_merge(tmp_path)
    estimate = merge(facts, Adapter(rank=16, targets="all-linear"))
    places = [tmp_path / name for name in ("base", "adapter", "out")]
    done = subprocess.run([sys.executable, "-c", MERGE, *map(str, places)], capture_output=True, text=True, check=True)
    # An upper bound, and no loose one: the whole file is mapped when the last shard is full.
    assert 0.95 < estimate.process_bytes / (1024 * int(done.stdout)) < 1.25


def test_the_engine_still_works_with_the_numbers_that_were_assumed() -> None:
    from studio.engine import desk
    from studio.engine import merge as engine_merge

    assert uses._MAX_ATTACHED == desk.MAX_ATTACHED
    assert uses._SHARD_BYTES == engine_merge.SHARD_BYTES
