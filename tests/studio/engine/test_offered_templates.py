"""The templates offered for bases that have none: what is learnt under each, and that all that is made of a run speaks by it."""

from __future__ import annotations

import typing

import pytest

from studio.data.conversation import Conversation, Message
from studio.engine.desk import Desk
from studio.engine.merge import merge
from studio.engine.reply import Sampling, reply
from studio.engine.template import Coder, dressed, prompt, template_for
from studio.errors import BaseModelError, DataError, RecipeError
from studio.library import adapter as library
from studio.library.templates import kept_template, lane_templates
from studio.models.bases import find_base
from studio.models.templates import OFFERED, OWN, template_text
from studio.recipe.fields import replaced
from studio.recipe.recipe import Base, Data
from tests.studio.engine.conftest import write_base
from tests.studio.engine.template_families import ALPACA, GEMMA, LLAMA2, tokenizer_of
from tests.studio.engine.test_masks import WITH_TOOLS
from tests.studio.engine.test_train import CPU, recipe, run_it

TURNS = (
    Message("system", "Be brief."),
    Message("user", "who are you"),
    Message("assistant", "I be a pirate"),
    Message("user", "and now"),
    Message("assistant", "arr"),
)
# What is learnt stands in brackets; EOS is the token that ends a text for the base.
GOLDEN = {
    "chatml": "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nwho are you<|im_end|>\n<|im_start|>assistant\n"
    "[I be a pirateEOS]\n<|im_start|>user\nand now<|im_end|>\n<|im_start|>assistant\n[arrEOS]\n",
    "alpaca": "Be brief.\n\n### Instruction:\nwho are you\n\n### Response:\n[I be a pirateEOS]\n\n"
    "### Instruction:\nand now\n\n### Response:\n[arrEOS]\n\n",
    "vicuna": "Be brief. USER: who are you ASSISTANT:[ I be a pirateEOS]USER: and now ASSISTANT:[ arrEOS]",
    "plain": "Be brief.\n\nwho are you\n\n[I be a pirateEOS]\n\nand now\n\n[arrEOS]\n\n",
}
BASES = {
    "bytes": (ALPACA, "", "<|endoftext|>"),
    "pieces": (LLAMA2, "<s>", "</s>"),
    "other end": (GEMMA, "<bos>", "<eos>"),
}


def bare(base):
    tokenizer = tokenizer_of(BASES[base][0])
    tokenizer.chat_template = None
    return tokenizer


def seen(tokenizer, example):
    """The tokens as text, with brackets around what is learnt."""
    words, was = "", False
    for token, is_trained in zip(example.ids.tolist(), example.trained.tolist(), strict=True):
        words += ("[" if is_trained and not was else "]" if was and not is_trained else "") + _text(tokenizer, token)
        was = is_trained
    return words + ("]" if was else "")


def _text(tokenizer, token):
    spelt = tokenizer.convert_ids_to_tokens(token)
    if spelt.startswith("<0x"):
        return chr(int(spelt[3:5], 16))
    return spelt.replace("Ġ", " ").replace("Ċ", "\n").replace("▁", " ")


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("name", OFFERED)
def test_golden_masks(name, base):
    _, bos, eos = BASES[base]
    tokenizer = dressed(bare(base), template_text(name))
    num_tokens = len(tokenizer)
    (example,) = Coder.of(tokenizer, "assistant").encode([Conversation(TURNS, 0, 1)])
    wanted = bos + GOLDEN[name].replace("EOS", eos)
    # A tokenizer of pieces puts a space before a text, and after each of its control tokens.
    found = seen(tokenizer, example)
    assert found.replace(" ", "") == wanted.replace(" ", "")
    assert base != "bytes" or found == wanted
    assert len(tokenizer) == num_tokens
    # A chat asks by the very tokens that were learnt from.
    asked = prompt(tokenizer, [message.turn for message in TURNS[:-1]])
    assert example.ids.tolist()[: len(asked)] == asked
    assert example.trained[len(asked)]


@pytest.mark.parametrize("name", OFFERED)
def test_without_a_system_message_the_preamble_is_read_and_not_learnt_and_tools_are_refused(name):
    tokenizer = dressed(bare("bytes"), template_text(name))
    first, tools = Coder.of(tokenizer, "assistant").encode([Conversation(TURNS[1:3], 0, 1), WITH_TOOLS])
    assert seen(tokenizer, first).count("[") == 1
    assert isinstance(tools, DataError)
    assert "no words for tools" in tools.message


def test_a_choice_that_does_not_fit_the_base_is_refused():
    assert tuple(OFFERED) == typing.get_args(Data.model_fields["chat_template"].annotation)[1:]
    assert template_for("mine", OWN) == "mine"
    for own, choice, words in ((None, OWN, "no chat template"), ("mine", "chatml", "of its own")):
        with pytest.raises(BaseModelError, match=words):
            template_for(own, choice)
    tokenizer = bare("bytes")
    tokenizer.eos_token = None
    (refused,) = Coder.of(dressed(tokenizer, template_text("plain")), "assistant").encode([Conversation(TURNS, 0, 1)])
    assert "no token that ends a text" in refused.message


def test_run_adapter_chat_and_merged_model_speak_by_the_template_that_was_chosen(workspace, rows_file, tmp_path):
    folder = write_base(tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    made = recipe(folder, rows_file, training__steps=1, training__epochs=None)
    with pytest.raises(RecipeError, match="no chat template"):
        run_it(workspace, made)
    run, _, desk = run_it(workspace, replaced(made, "data.chat_template", "alpaca"))
    adapter = library.read(run.adapter)
    assert kept_template(adapter.path) == template_text("alpaca")
    assert "`chat_template.jinja` (Alpaca)" in (adapter.path / "README.md").read_text(encoding="utf-8")
    assert "### Instruction:" in desk.base.tokenizer.decode(
        prompt(desk.base.tokenizer, [{"role": "user", "content": "x"}])
    )
    base = find_base(workspace, str(folder))
    fresh = Desk(CPU)
    fresh.lay_base(base, Base(id="x", compute_dtype="float32"))
    question = [{"role": "user", "content": "Who are you?"}]
    with pytest.raises(BaseModelError, match="no chat template"):
        reply(fresh.model, fresh.base.tokenizer, question, Sampling(1))
    alone, laid = lane_templates([None, str(run.adapter)])
    assert alone == laid == template_text("alpaca")
    assert reply(fresh.model, fresh.speak(laid).tokenizer, question, Sampling(1)).num_tokens <= 1
    merge(base, adapter, tmp_path / "merged", None, lambda *_: None)
    assert (tmp_path / "merged" / "chat_template.jinja").read_text(encoding="utf-8") == template_text("alpaca")
