"""Answer a chat with whatever overlay is on, token by token.

Sampling draws from a generator of its own: an answer given in the middle of a training run leaves the run's own random numbers,
and so its curve, untouched to the last bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicSlidingWindowLayer

from studio.engine.attention import for_answers
from studio.engine.ranks import Ranks
from studio.engine.sharded import is_sharded
from studio.engine.template import prompt
from studio.errors import DataError


@dataclass(frozen=True)
class Sampling:
    """How to choose the next token. Temperature 0 takes the likeliest; `top_p` keeps the smallest set that holds that mass."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Sampling:
        """From a wish; unknown keys are passed over."""
        return cls(
            max_tokens=int(values.get("max_tokens", 256)),
            temperature=float(values.get("temperature", 0.0)),
            top_p=float(values.get("top_p", 1.0)),
            seed=int(values.get("seed", 0)),
        )


@dataclass(frozen=True)
class Reply:
    """One answer."""

    text: str
    num_tokens: int
    seconds: float
    stopped: bool


def reply(
    model: torch.nn.Module,
    tokenizer: Any,
    turns: Sequence[dict[str, str]],
    sampling: Sampling,
    on_text: Callable[[str], None] = lambda _: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Reply:
    """The assistant's answer to `turns`; `on_text` gets each new piece of text, whole characters only.

    The model is put into evaluation mode for the time being. Raises `BaseModelError` if nothing says how a chat is written out,
    `DataError` if it is longer than the context.
    """
    began = time.perf_counter()
    ids = prompt(tokenizer, turns)
    room = context_tokens(model) - len(ids)
    if room < 1:
        raise DataError(f"This chat has {len(ids)} tokens: more than the base can read.", "Begin a new chat.")
    ends = _end_ids(model, tokenizer)
    answer: list[int] = []
    shown, stopped = "", False
    was_training = model.training
    model.eval()
    try:
        with for_answers(model):
            for token in _tokens(model, ids, sampling, min(sampling.max_tokens, room)):
                if token in ends:
                    break
                answer.append(token)
                text = tokenizer.decode(answer, skip_special_tokens=True)
                # A token may end in the middle of a character; the replacement mark says so.
                if len(text) > len(shown) and not text.endswith("\ufffd"):
                    on_text(text[len(shown) :])
                    shown = text
                if should_stop():
                    stopped = True
                    break
    finally:
        model.train(was_training)
    text = tokenizer.decode(answer, skip_special_tokens=True)
    if text != shown:
        on_text(text[len(shown) :])
    return Reply(text.strip(), len(answer), time.perf_counter() - began, stopped)


@torch.no_grad()
def _tokens(model: torch.nn.Module, ids: list[int], sampling: Sampling, max_tokens: int) -> Iterator[int]:
    device = next(model.parameters()).device
    generator = torch.Generator(device).manual_seed(sampling.seed)
    config: Any = model.config
    cache, shared = empty_cache(config.get_text_config()), is_sharded(model)
    step_ids = torch.tensor([ids], device=device)
    for _ in range(max_tokens):
        logits_V = (
            model(input_ids=step_ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits[0, -1].float()
        )
        token = _choose(logits_V, sampling, generator)
        if shared:
            # Every rank says it, for each needs the others' share of the base: none may end sooner.
            (token,) = Ranks.here().told(token)
        yield token
        step_ids = torch.tensor([[token]], device=device)


def empty_cache(config: Any) -> DynamicCache:
    """A key-value cache that grows in layers that read all, and in those that look through a window keeps the window alone."""
    cache = DynamicCache(config=config)
    cache.layers = [
        _Window(layer.sliding_window) if type(layer) is DynamicSlidingWindowLayer else layer for layer in cache.layers
    ]
    return cache


class _Window(DynamicSlidingWindowLayer):
    keys: Tensor
    values: Tensor

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        read: tuple[Tensor, Tensor] = super().update(key_states, value_states, *args, **kwargs)
        if key_states.shape[-2] > 1:
            # Transformers keeps a view, which would hold on to the whole question.
            self.keys, self.values = self.keys.clone(), self.values.clone()
        return read


def _choose(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature <= 0:
        return int(logits_V.argmax())
    probabilities_V, order_V = torch.softmax(logits_V / sampling.temperature, dim=-1).sort(descending=True)
    if sampling.top_p < 1:
        # Keep a token if the mass before it is below top_p: the likeliest one always stays.
        before_V = probabilities_V.cumsum(dim=-1) - probabilities_V
        probabilities_V = probabilities_V.masked_fill(before_V >= sampling.top_p, 0.0)
    return int(order_V[torch.multinomial(probabilities_V, 1, generator=generator)])


def context_tokens(model: Any) -> int:
    """The longest text the model was made to read."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", 1 << 20))


def _end_ids(model: Any, tokenizer: Any) -> set[int]:
    """Tokens that end an answer: what the base's generation settings say, and the tokenizer's own end token."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = set(configured) if isinstance(configured, list | tuple) else {configured}
    return {int(end) for end in ends | {tokenizer.eos_token_id} if end is not None}


def last_is_question(turns: Sequence[dict[str, str]]) -> bool:
    """Whether there is something to answer."""
    return bool(turns) and turns[-1].get("role") == "user"


def has_overlay(model: PreTrainedModel | torch.nn.Module) -> bool:
    """Whether PEFT has wrapped this model."""
    return hasattr(model, "peft_config")
