"""Which words of a text were not in the one before it. No Qt in here."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

MOST_WORDS = 2000
# A word, one sign of a script that writes without spaces, or one other character.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]|[^\W_]+(?:['\u2019_-][^\W_]+)*|[^\w\s]|_")

Span = tuple[int, int]


def new_words(before: str, after: str) -> list[Span]:
    """(start, end) in characters of `after` for each run of words that is new since `before`; signs alone do not count.

    Beyond the first 2,000 words nothing is compared: an answer that long is not read word by word.
    """
    old = [match.group() for match in _WORD.finditer(before)][:MOST_WORDS]
    new = list(_WORD.finditer(after))[:MOST_WORDS]
    matcher = SequenceMatcher(None, old, [match.group() for match in new], autojunk=False)
    spans: list[Span] = []
    for kind, _, _, first, last in matcher.get_opcodes():
        words = new[first:last]
        if kind not in ("insert", "replace"):
            continue
        # Signs at either end say nothing by themselves: "address." has the new word "address".
        while words and not words[-1].group()[0].isalnum():
            words.pop()
        while words and not words[0].group()[0].isalnum():
            words.pop(0)
        if words:
            spans.append((words[0].start(), words[-1].end()))
    return spans
