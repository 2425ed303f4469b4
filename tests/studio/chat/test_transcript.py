from __future__ import annotations

from pathlib import Path

import pytest

from studio.chat import transcript
from studio.chat.sampling import Sampling
from studio.chat.session import Lane, Session
from studio.errors import DamagedError, NotFoundError
from studio.places import Workspace


@pytest.fixture
def session() -> Session:
    lanes = (Lane("base"), Lane("pirate"))
    chat = Session("small", lanes, "Be brief.", Sampling(max_tokens=9, temperature=0, seed=3))
    return chat.asked("Who\nare you?").answered(0, "A model.").answered(1, "Arrr \u2620")


def test_a_saved_chat_is_read_back_as_it_was(tmp_path: Path, session: Session) -> None:
    path = transcript.save(Workspace(tmp_path), session, "../small")
    assert path.parent == tmp_path / "chats"
    assert transcript.read(path) == session


def test_two_chats_of_the_same_second_do_not_overwrite_each_other(tmp_path: Path, session: Session) -> None:
    paths = {transcript.save(Workspace(tmp_path), session) for _ in range(3)}
    assert len(paths) == 3


def test_a_torn_last_line_costs_that_line_only(tmp_path: Path, session: Session) -> None:
    path = transcript.save(Workspace(tmp_path), session)
    path.write_bytes(path.read_bytes()[:-5])
    read = transcript.read(path)
    assert read.lanes[0] == session.lanes[0]
    assert [turn.role for turn in read.lanes[1].turns] == ["user"]


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", "null", "nonsense", '{"base": "b", "lanes": [], "system": "", "sampling": {}}']
)
def test_what_is_no_transcript_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "chat.jsonl").write_text(text)
    with pytest.raises(DamagedError):
        transcript.read(tmp_path / "chat.jsonl")
    with pytest.raises(NotFoundError):
        transcript.read(tmp_path / "none.jsonl")


def test_markdown_has_each_question_once_and_every_answer(session: Session) -> None:
    text = transcript.markdown(session.asked("Really?").answered(0, "Yes."))
    assert text.count("Who\nare you?") == 1
    assert text.count("Really?") == 1
    assert text.index("### base") < text.index("A model.") < text.index("### pirate") < text.index("Arrr")
    assert text.index("Really?") < text.index("Yes.")
