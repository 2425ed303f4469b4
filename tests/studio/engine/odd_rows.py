"""Conversations that somebody will train on one day, and rows encoded as the documentation of transformers would have it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from studio.data.conversation import Conversation, Message
from studio.engine.template import Example
from studio.errors import DataError

CONTROL = ["<|im_end|>", "<|im_start|>assistant\n", "<|endoftext|>"]
PIECES = [
    "<|im_",
    "end|>",
    "\n",
    " ",
    "🏴‍☠️",
    "e\u0301",
    "ﬁ",
    "מים",
    "\u200b",
    "{{ x }}",
]
# Pieces may make a control token by chance.
contents = (
    st.lists(
        st.sampled_from(PIECES) | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
        min_size=1,
        max_size=6,
    )
    .map("".join)
    .filter(lambda text: not any(piece.strip() in text for piece in CONTROL))
)
turns = st.lists(st.tuples(contents.filter(str.strip), contents.filter(str.strip)), min_size=1, max_size=3)


def conversation(system: str, pairs: list[tuple[str, str]], row: int = 0) -> Conversation:
    messages = [Message("system", system)] if system.strip() else []
    for question, answer in pairs:
        messages += [Message("user", question), Message("assistant", answer)]
    return Conversation(tuple(messages), row, row + 1)


conversations = st.builds(conversation, contents, turns)


def plainly_encoded(tokenizer: Any, one: Conversation, train_on: str) -> Example | DataError:
    """Token by token, with the calls that everybody knows."""

    def render(turns: list[dict[str, str]], answer_next: bool) -> str:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answer_next)

    turns = [{"role": message.role, "content": message.content} for message in one.messages]
    text = render(turns, False)
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, offsets = coded["input_ids"], coded["offset_mapping"]
    if train_on == "everything":
        return Example(tuple(ids), (True,) * len(ids), one.row)
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    trained = [False] * len(ids)
    answers = [i for i, turn in enumerate(turns) if turn["role"] == "assistant"]
    for i in answers[-1:] if train_on == "last_answer" else answers:
        before, through = render(turns[:i], True), render(turns[: i + 1], False)
        if not (text.startswith(through) and through.startswith(before)):
            return DataError("rewrites")
        span = (len(before), len(through))
        inside = [t for t, (start, end) in enumerate(offsets) if start >= span[0] and end <= span[1] and start < end]
        last = [t for t in inside if ids[t] in special][-1]
        for t in inside:
            trained[t] = trained[t] or t <= last
    return Example(tuple(ids), tuple(trained), one.row)
