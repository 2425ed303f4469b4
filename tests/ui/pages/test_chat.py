"""The lanes of a chat never mix, what a model says is shown as it is, and a question can always be taken back."""

from collections.abc import Callable
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QPlainTextEdit, QTextEdit, QWidget

from studio.data.preferences import rows
from studio.places import Workspace
from studio.runs.events import Answered, AskFailed, BaseLoaded, TextStreamed
from tests.ui.pages.library import LLAMA, adapter, base
from ui.pages.chat import ChatPage
from ui.pages.chat_lanes import looks
from ui.pages.chat_record import visible
from ui.state import AppState, Ask
from ui.voting import Voting
from ui.widgets.controls import Choice
from ui.widgets.labels import MAX_LINE
from ui.widgets.messages import MessageBar
from ui.widgets.transcript import PromptRow

HOSTILE = "<b>x</b><img src='file:///etc/passwd'>"


class Chat:
    """A page, what it wishes, and the engine's side of the talk."""

    def __init__(self, qtbot) -> None:
        self.qtbot = qtbot
        self.state = AppState()
        self.state.bases = [base(), base("llama", LLAMA)]
        self.state.adapters = [adapter("tone"), adapter("format"), adapter("far", "llama", LLAMA)]
        self.asks: list[Ask] = []
        self.hushed: list[str] = []
        self.released: list[bool] = []
        self.state.chat_requested.connect(self.asks.append)
        self.state.hush_requested.connect(self.hushed.append)
        self.state.release_requested.connect(lambda: self.released.append(True))
        self.page = ChatPage(self.state)
        qtbot.addWidget(self.page)
        self.page.resize(1200, 800)
        self.page.show()

    def named(self, kind: type[QWidget], name: str) -> QWidget:
        found = [each for each in self.page.findChildren(kind) if each.accessibleName() == name and each.isVisible()]
        assert len(found) == 1, [each.accessibleName() for each in self.page.findChildren(kind)]
        return found[0]

    def press(self, name: str) -> None:
        self.qtbot.mouseClick(self.named(QAbstractButton, name), Qt.MouseButton.LeftButton)

    def ask(self, prompt: str) -> Ask:
        edit = self.named(QPlainTextEdit, "Message")
        edit.setPlainText(prompt)
        self.qtbot.keyClick(edit, Qt.Key.Key_Return, Qt.KeyboardModifier.ControlModifier)
        return self.asks[-1]

    def stream(self, ask: Ask, lane: int, text: str) -> None:
        self.state.chat_news.emit(TextStreamed(ask=ask.key, lane=lane, text=text))

    def answer(self, ask: Ask, lane: int, text: str, **facts) -> None:
        facts = {"num_tokens": 71, "seconds": 71 / 44, **facts}
        self.state.chat_news.emit(Answered(ask=ask.key, lane=lane, text=text, adapter="", **facts))

    def finish(self, ask: Ask) -> None:
        for lane in range(len(ask.lanes)):
            self.answer(ask, lane, f"answer {lane}")

    def text(self, lane: int, turn: int = 0) -> str:
        view = self.page._lanes.transcript.answer(turn, str(lane))
        view.flush()
        return view.text.toPlainText()

    def footer(self, lane: int, turn: int = 0) -> str:
        return self.page._lanes.transcript.answer(turn, str(lane))._stats.text()

    def named_all(self, name: str) -> list[QAbstractButton]:
        found = self.page.findChildren(QAbstractButton)
        return [each for each in found if each.accessibleName() == name and each.isVisible()]

    def votes(self) -> list[QAbstractButton]:
        return self.named_all("Better")

    def bars(self) -> list[str]:
        return [bar.accessibleName() for bar in self.page.findChildren(MessageBar) if bar.isVisible()]


@pytest.fixture
def chat(qtbot) -> Chat:
    return Chat(qtbot)


# --- lanes ---------------------------------------------------------------------------------------------------------


def test_one_question_goes_down_every_lane_and_answers_never_mix(chat: Chat) -> None:
    ask = chat.ask("hello")
    assert ask.lanes == ("", "tone")
    assert [turns[-1] for turns in ask.turns] == [{"role": "user", "content": "hello"}] * 2
    chat.stream(ask, 0, "gra")
    chat.stream(ask, 1, "bl")
    chat.stream(ask, 0, "phite")
    chat.stream(ask, 1, "ue")
    assert (chat.text(0), chat.text(1)) == ("graphite", "blue")
    chat.stream(ask, 2, "nobody")
    chat.answer(ask, 5, "nobody")
    assert (chat.text(0), chat.text(1)) == ("graphite", "blue")


def test_each_lane_remembers_its_own_answers(chat: Chat) -> None:
    first = chat.ask("one")
    chat.finish(first)
    second = chat.ask("two")
    for lane in (0, 1):
        assert [turn["content"] for turn in second.turns[lane]] == ["one", f"answer {lane}", "two"]


def test_what_comes_for_a_chat_that_was_left_is_ignored(chat: Chat) -> None:
    old = chat.ask("old")
    chat.stream(old, 0, "old wor")
    chat.press("New chat")
    assert chat.hushed == [old.key]
    new = chat.ask("new")
    chat.stream(old, 0, "ds")
    chat.answer(old, 1, "old words")
    chat.stream(new, 0, "new words")
    assert (chat.text(0), chat.text(1)) == ("new words", "")


def test_a_new_chat_can_be_taken_back(chat: Chat) -> None:
    chat.finish(chat.ask("keep me"))
    chat.press("New chat")
    assert not chat.page.findChildren(PromptRow) or chat.page._lanes.transcript.num_turns() == 0
    chat.press("Bring the last one back")
    assert chat.text(1) == "answer 1"


def test_only_overlays_of_this_base_are_offered(chat: Chat) -> None:
    choice = next(each for each in chat.page.findChildren(Choice) if each.accessibleName() == "Who answers in lane 2")
    assert [choice.itemData(index) for index in range(choice.count())] == ["", "tone", "format"]


def test_an_overlay_of_an_absent_base_is_refused_with_the_reason(chat: Chat) -> None:
    chat.state.adapters.append(adapter("lost", "mistral", "sha256:m"))
    chat.state.adapters.append(adapter("twin", "qwen", "sha256:other weights"))
    chat.state.chat_selected.emit("lost")
    assert any("mistral, which is not on this computer" in bar for bar in chat.bars())
    chat.state.chat_selected.emit("twin")
    assert any("the weights of the one here differ" in bar for bar in chat.bars())
    assert chat.ask("still the old lanes").lanes == ("", "tone")


def test_an_adapter_chosen_elsewhere_stands_beside_its_base(chat: Chat) -> None:
    chat.state.chat_selected.emit("far")
    ask = chat.ask("hello")
    assert (ask.base.id, ask.lanes) == ("llama", ("", "far"))


def test_an_adapter_finished_a_moment_ago_is_waited_for(chat: Chat) -> None:
    chat.state.chat_selected.emit("fresh")
    assert any("Looking for the adapter fresh" in bar for bar in chat.bars())
    chat.state.adapters.append(adapter("fresh", "llama", LLAMA))
    chat.state.adapters_changed.emit()
    ask = chat.ask("hello")
    assert (ask.base.id, ask.lanes) == ("llama", ("", "fresh"))


def test_an_adapter_that_never_comes_is_told(chat: Chat) -> None:
    chat.state.chat_selected.emit("nobody")
    chat.state.adapters_changed.emit()
    assert any("no adapter called nobody any more" in bar for bar in chat.bars())


def test_another_overlay_in_a_lane_never_loads_the_base_again(chat: Chat, qtbot) -> None:
    ask = chat.ask("hello")
    assert chat.footer(0) == "Loading qwen\u2026"
    assert chat.footer(1) == "A is next"
    chat.state.chat_news.emit(BaseLoaded(base="qwen", bytes=2_000_000_000, seconds=3.0))
    assert "Loading" not in chat.footer(0)
    chat.finish(ask)
    chat.page._lanes.lane_changed.emit(1, "format")
    qtbot.waitUntil(lambda: "by tone" in chat.footer(1))
    ask = chat.ask("again")
    assert ask.lanes == ("", "format")
    assert "Loading" not in chat.footer(0, turn=1)
    assert chat.page.base_loads == 1


def test_lanes_may_be_added_and_keep_what_was_said(chat: Chat) -> None:
    chat.finish(chat.ask("hello"))
    chat.press("3")
    assert (chat.text(0), chat.text(1), chat.text(2)) == ("answer 0", "answer 1", "")
    assert chat.footer(2) == "Not asked yet"
    assert chat.ask("all").lanes == ("", "tone", "format")


def test_the_base_is_graphite_and_overlays_are_lettered() -> None:
    assert looks(["", "x", "y"]) == ["base", "a", "b"]
    assert looks(["x", ""]) == ["a", "base"]


# --- taking back ---------------------------------------------------------------------------------------------------


def test_stop_hushes_the_engine_and_keeps_what_was_said(chat: Chat) -> None:
    ask = chat.ask("hello")
    chat.stream(ask, 0, "half an ans")
    named = [each for each in chat.page.findChildren(QAbstractButton) if each.accessibleName() == "Stop"]
    chat.qtbot.mouseClick(named[-1], Qt.MouseButton.LeftButton)
    assert chat.hushed == [ask.key]
    chat.stream(ask, 0, "wer that nobody waits for")
    assert (chat.text(0), chat.footer(0)) == ("half an ans", "Stopped")
    chat.answer(ask, 0, "half an ans", num_tokens=3, seconds=1.0, stopped=True)
    assert chat.text(0) == "half an ans"
    assert chat.footer(0) == "3 tokens, 3 tok/s, stopped"
    assert chat.footer(1) == "Stopped"
    again = chat.ask("go on")
    assert [turn["content"] for turn in again.turns[0]] == ["hello", "half an ans", "go on"]
    assert [turn["content"] for turn in again.turns[1]] == ["go on"]


def test_stopping_one_lane_leaves_the_others_their_turn(chat: Chat) -> None:
    ask = chat.ask("hello")
    chat.stream(ask, 0, "endless")
    chat.page._lanes.stop_requested.emit(0, 0)
    assert chat.hushed == [ask.key]
    rest = chat.asks[-1]
    assert (rest.key != ask.key, rest.lanes, rest.seed) == (True, ("tone",), ask.seed)
    chat.answer(rest, 0, "my turn")
    assert (chat.text(0), chat.text(1)) == ("endless", "my turn")


def test_answering_again_asks_that_lane_alone_with_another_seed(chat: Chat) -> None:
    first = chat.ask("hello")
    chat.finish(first)
    chat.page._lanes.again_requested.emit(0, 1)
    second = chat.asks[-1]
    assert (second.lanes, second.seed) == (("tone",), first.seed + 1)
    assert [turn["content"] for turn in second.turns[0]] == ["hello"]
    chat.answer(first, 1, "too late")
    chat.answer(second, 0, "another")
    assert (chat.text(0), chat.text(1)) == ("answer 0", "another")
    chat.page._lanes.again_requested.emit(0, 1)
    assert chat.asks[-1].seed == first.seed + 2


def test_without_the_same_seed_each_lane_draws_its_own(chat: Chat) -> None:
    chat.press("Same seed")
    chat.ask("hello")
    assert [(ask.lanes, ask.seed) for ask in chat.asks] == [(("",), 0), (("tone",), 1)]
    chat.answer(chat.asks[1], 0, "second")
    assert (chat.text(0), chat.text(1)) == ("", "second")


def test_a_question_can_be_asked_differently(chat: Chat) -> None:
    chat.finish(chat.ask("one"))
    chat.finish(chat.ask("two"))
    chat.page._lanes.edit_requested.emit(0)
    assert chat.named(QPlainTextEdit, "Message").toPlainText() == "one"
    ask = chat.ask("one, but better")
    assert [turn["content"] for turn in ask.turns[0]] == ["one, but better"]
    assert chat.page._lanes.transcript.num_turns() == 1


def test_the_system_prompt_is_told_to_every_lane(chat: Chat) -> None:
    chat.named(QLineEdit, "System prompt").setText("Be brief.")
    ask = chat.ask("hello")
    assert [turns[0] for turns in ask.turns] == [{"role": "system", "content": "Be brief."}] * 2


# --- going wrong ---------------------------------------------------------------------------------------------------


def test_a_failure_says_why_in_each_lane_it_left_open(chat: Chat) -> None:
    ask = chat.ask("hello")
    chat.answer(ask, 0, "fine")
    chat.state.chat_news.emit(AskFailed(ask=ask.key, message="Out of memory.", hint="Ask for less."))
    assert chat.footer(0) == "71 tokens, 44 tok/s"
    assert chat.footer(1) == "No answer: Out of memory."
    assert "Out of memory. Ask for less." in chat.bars()
    assert chat.ask("again").lanes == ("", "tone")


def test_an_engine_that_ends_leaves_nobody_waiting(chat: Chat) -> None:
    chat.ask("hello")
    chat.state.engine = "gone"
    chat.state.engine_changed.emit()
    assert chat.footer(0) == "No answer: the engine has ended"
    assert len(chat.asks) == 1
    chat.ask("again")
    assert chat.footer(0, turn=1) == "Loading qwen\u2026"


def test_unload_gives_the_memory_back(chat: Chat) -> None:
    chat.state.chat_news.emit(BaseLoaded(base=str(chat.state.bases[0].path), bytes=2_000_000_000, seconds=3.0))
    assert "2.0 GB in memory, loaded in 3.0 s" in [label.text() for label in chat.page.findChildren(QLabel)]
    chat.press("Unload")
    assert chat.released == [True]
    chat.ask("hello")
    assert chat.footer(0) == "Loading qwen\u2026"


def test_an_overlay_that_leaves_the_library_leaves_its_lane(chat: Chat) -> None:
    chat.state.adapters = [each for each in chat.state.adapters if each.name != "tone"]
    chat.state.adapters_changed.emit()
    assert any("tone is no longer in the library" in bar for bar in chat.bars())
    assert chat.ask("hello").lanes == ("", "")


def test_without_a_base_the_page_leads_to_one(qtbot) -> None:
    state, wanted = AppState(), []
    state.is_gathered = True
    state.page_requested.connect(wanted.append)
    page = ChatPage(state)
    qtbot.addWidget(page)
    page.show()
    button = next(each for each in page.findChildren(QAbstractButton) if each.text() == "Get a base model")
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert wanted == ["home"]
    state.bases = [base()]
    state.bases_changed.emit()
    assert not button.isVisible()


# --- foreign text --------------------------------------------------------------------------------------------------


def test_markup_is_shown_as_it_is_wherever_it_comes_from(chat: Chat) -> None:
    chat.state.adapters = [adapter(HOSTILE)]
    chat.state.adapters_changed.emit()
    chat.state.chat_selected.emit(HOSTILE)
    ask = chat.ask(HOSTILE)
    chat.stream(ask, 1, HOSTILE)
    chat.answer(ask, 0, HOSTILE)
    assert (chat.text(0), chat.text(1)) == (HOSTILE, HOSTILE)
    assert any(row.accessibleName() == HOSTILE for row in chat.page.findChildren(PromptRow))


def test_control_characters_never_reach_the_screen(chat: Chat) -> None:
    ask = chat.ask("bell\x07")
    chat.stream(ask, 0, "a\x07b")
    chat.answer(ask, 1, "c\x00d")
    assert (chat.text(0), chat.text(1)) == ("ab", "cd")
    chat.answer(ask, 0, "a\x07bc")
    assert chat.text(0) == "abc"
    assert [row.accessibleName() for row in chat.page.findChildren(PromptRow)] == ["bell"]
    assert visible("a\x1b[31mb\x00c\r\nd\te\x85f\ufffcg") == "a[31mbc\nd\tefg"


@pytest.mark.parametrize("send", [Chat.stream, Chat.answer])
def test_an_endless_line_is_broken_into_bounded_blocks(chat: Chat, send: Callable[..., None]) -> None:
    ask = chat.ask("hello")
    send(chat, ask, 0, "x" * 100_000)
    view = chat.page._lanes.transcript.answer(0, "0")
    view.flush()
    block, longest, num_blocks = view.text.document().begin(), 0, 0
    while block.isValid():
        longest, num_blocks = max(longest, block.length()), num_blocks + 1
        block = block.next()
    assert longest <= MAX_LINE + 1
    assert num_blocks == 100_000 / MAX_LINE
    assert view.text.raw_text() == "x" * 100_000


def test_the_chat_can_be_taken_away_as_markdown(chat: Chat) -> None:
    chat.finish(chat.ask("hello"))
    chat.press("Copy as Markdown")
    text = QGuiApplication.clipboard().text()
    assert "hello" in text
    assert text.index("### Base alone") < text.index("answer 0") < text.index("### tone") < text.index("answer 1")


def test_everything_that_can_be_used_has_a_name(chat: Chat) -> None:
    chat.finish(chat.ask("hello"))
    chat.page._sampling.open_below(chat.page._open_sampling)
    chat.qtbot.waitUntil(chat.page._lanes.transcript.answer(0, "0").isVisible)
    kinds = (QAbstractButton, QComboBox, QLineEdit, QPlainTextEdit, QTextEdit)
    seen = [each for kind in kinds for each in chat.page.findChildren(kind) if each.isVisible()]
    assert len(seen) > 20
    assert not [each for each in seen if not each.accessibleName()]
    chat.page._sampling.close()


# --- votes ---------------------------------------------------------------------------------------------------------


def test_a_vote_for_the_better_answer_becomes_a_preference_row_and_is_taken_back(chat: Chat, tmp_path: Path) -> None:
    voting, workspace = Voting(Workspace(tmp_path), chat.state), Workspace(tmp_path)

    def kept() -> list[tuple[str, str, str]]:
        found = [(row["chosen"], row["rejected"], row["chosen_by"]) for row in rows(workspace)]
        return [(chosen[0]["content"], rejected[0]["content"], by) for chosen, rejected, by in found]

    ask = chat.ask("hello")
    chat.answer(ask, 0, "plain")
    chat.qtbot.waitUntil(lambda: len(chat.named_all("Answer again")) == 1)
    assert not chat.votes()
    chat.answer(ask, 1, HOSTILE)
    chat.qtbot.waitUntil(lambda: len(chat.votes()) == 2)
    better = chat.votes()
    chat.qtbot.mouseClick(better[1], Qt.MouseButton.LeftButton)
    chat.qtbot.waitUntil(lambda: kept() == [(HOSTILE, "plain", "tone")])
    chat.qtbot.mouseClick(better[0], Qt.MouseButton.LeftButton)
    chat.qtbot.waitUntil(lambda: kept() == [("plain", HOSTILE, "")])
    assert [button.isChecked() for button in better] == [True, False]
    chat.press("Undo")
    chat.qtbot.waitUntil(lambda: kept() == [])
    assert [button.isChecked() for button in better] == [False, False]
    del voting


def test_answers_to_different_conversations_are_not_compared(chat: Chat) -> None:
    chat.finish(chat.ask("one"))
    chat.qtbot.waitUntil(lambda: len(chat.votes()) == 2)
    chat.finish(chat.ask("two"))  # each lane has read its own first answer
    chat.qtbot.waitUntil(lambda: len(chat.named_all("Answer again")) == 4)
    assert len(chat.votes()) == 2
    chat.press("New chat")
    same = chat.ask("three")
    for lane in (0, 1):
        chat.answer(same, lane, "the same")
    chat.qtbot.waitUntil(lambda: len(chat.named_all("Answer again")) == 2)
    assert not chat.votes()
