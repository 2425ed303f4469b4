"""What is new in an answer, word by word."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ui.widgets.word_changes import new_words

BEFORE = "Happy to help! Open Orders and choose the parcel. You can change the address there."
AFTER = "Happy to help! Open Orders, choose the parcel, then tap Edit address. You can change it until it leaves our warehouse."


@pytest.mark.parametrize(
    ("before", "after", "new"),
    [
        ("I am a model.", "I am a model.", []),
        ("", "Arr, matey!", ["Arr, matey"]),
        ("a b c", "a x c", ["x"]),
        ("Hello there.", "Hello there!", []),
        ("it is", "it isn't", ["isn't"]),
        ("\u4eca\u65e5\u306f\u96e8", "\u4eca\u65e5\u306f\u6674\u308c", ["\u6674\u308c"]),
        ("<b>old</b>", "<b>new</b>", ["new"]),
    ],
)
def test_runs_of_new_words_are_found_and_signs_alone_are_none(before: str, after: str, new: list[str]) -> None:
    assert [after[start:end] for start, end in new_words(before, after)] == new


def test_what_was_rewritten_is_marked_and_what_stayed_is_not() -> None:
    marked = [AFTER[start:end] for start, end in new_words(BEFORE, AFTER)]
    assert "then tap Edit address" in marked
    assert not any("Happy" in words or "You can" in words for words in marked)


@given(st.text(max_size=200), st.text(max_size=200))
def test_marks_are_in_order_and_inside_the_text(before: str, after: str) -> None:
    spans = new_words(before, after)
    assert all(0 <= start < end <= len(after) for start, end in spans)
    assert all(first[1] <= second[0] for first, second in pairwise(spans))
    assert new_words(after, after) == []
