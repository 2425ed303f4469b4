from __future__ import annotations

import pytest

from studio.chat.sampling import Sampling
from studio.chat.session import Lane, Session
from studio.errors import StudioError


def session(system: str = "") -> Session:
    return Session("small", (Lane("base"), Lane("pirate")), system)


def test_a_question_goes_to_every_lane_and_each_keeps_its_own_answer() -> None:
    chat = session("Be brief.").asked("Who are you?").answered(0, "A model.").answered(1, "Arrr!").asked("And now?")
    assert [message["content"] for message in chat.messages(0)] == ["Be brief.", "Who are you?", "A model.", "And now?"]
    assert [message["content"] for message in chat.messages(1)] == ["Be brief.", "Who are you?", "Arrr!", "And now?"]
    assert [message["role"] for message in chat.messages(1)] == ["system", "user", "assistant", "user"]


def test_without_a_system_prompt_there_is_no_system_message() -> None:
    assert session("  ").asked("Hello").messages(0) == [{"role": "user", "content": "Hello"}]


def test_asking_again_replaces_a_question_that_nobody_answered() -> None:
    chat = session().asked("Frist").asked("First").answered(0, "Yes")
    assert [message["content"] for message in chat.messages(0)] == ["First", "Yes"]
    assert [message["content"] for message in chat.messages(1)] == ["First"]


def test_asking_leaves_the_session_before_as_it_was() -> None:
    before = session()
    before.asked("Hello")
    assert before.messages(0) == []


def test_nothing_cannot_be_asked_and_nobody_cannot_be_asked() -> None:
    with pytest.raises(StudioError):
        session().asked(" \n")
    with pytest.raises(StudioError):
        Session("small", ())


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"seed": -1},
    ],
)
def test_sampling_out_of_range_is_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(StudioError, match=next(iter(wrong))):
        Sampling(**wrong)  # type: ignore[arg-type]


def test_temperature_zero_is_greedy() -> None:
    assert Sampling(temperature=0).is_greedy
    assert not Sampling().is_greedy
