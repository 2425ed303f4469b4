"""Foreign text is shown as it is; streams arrive whole; and the language binding drops no references."""

import sys

import pytest
from PySide6.QtCore import QObject, QPoint, Qt, Signal
from PySide6.QtGui import QFont, QGuiApplication
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QSlider, QTextEdit, QVBoxLayout, QWidget

from tests.ui import gallery
from ui import theme
from ui.widgets.answer import AnswerText, AnswerView
from ui.widgets.labels import MAX_LINE, PlainLabel, hard_broken, plain_tip
from ui.widgets.messages import MessageBar
from ui.widgets.sidebar import Sidebar
from ui.widgets.tables import Column, Rows, table_view
from ui.widgets.transcript import Lane, Transcript

HOSTILE = "<b>x</b><img src='file:///etc/passwd'>"


def test_a_label_shows_markup_as_it_is_whatever_is_asked_of_it(qtbot) -> None:
    label = PlainLabel(HOSTILE)
    reference = PlainLabel("x")
    qtbot.addWidget(label)
    qtbot.addWidget(reference)
    label.setTextFormat(Qt.TextFormat.RichText)
    assert label.textFormat() == Qt.TextFormat.PlainText
    assert label.sizeHint().width() > 5 * reference.sizeHint().width()


@pytest.mark.parametrize("elide", [False, True])
def test_a_label_keeps_font_and_colour_when_it_moves_to_another_window(elide: bool, qtbot) -> None:
    first, second = QWidget(), QWidget()
    label = PlainLabel("", "title", elide=elide)
    for window in (first, second):
        qtbot.addWidget(window)
        QVBoxLayout(window)
    first.layout().addWidget(label)
    first.show()
    label.setText("held-out")
    label.set_role("bad")
    second.layout().addWidget(label)
    second.show()
    assert label.font().featureValue(QFont.Tag("tnum")) == 0
    assert label.palette().color(label.foregroundRole()) == theme.current().colour("bad")


def test_a_tooltip_of_foreign_text_is_escaped(qtbot) -> None:
    assert "<b>" not in plain_tip(HOSTILE)
    label = PlainLabel(HOSTILE, elide=True)
    qtbot.addWidget(label)
    assert "<img" not in label.toolTip()
    assert plain_tip("") == ""


def test_no_label_of_ours_interprets_markup(qtbot) -> None:
    for make in gallery.PAGES.values():
        page = make()
        qtbot.addWidget(page)
        for label in page.findChildren(QLabel):
            assert label.textFormat() == Qt.TextFormat.PlainText, label.text()


def test_endless_lines_are_broken_and_nothing_is_lost() -> None:
    text = "a" * (2 * MAX_LINE + 1) + "\nshort\n"
    broken = hard_broken(text)
    assert max(map(len, broken.split("\n"))) == MAX_LINE
    assert broken.replace("\n", "") == text.replace("\n", "")
    assert hard_broken("short") == "short"


def test_an_answer_is_plain_and_keeps_what_came(qtbot) -> None:
    text = AnswerText()
    qtbot.addWidget(text)
    for piece in ("<b>one</b>\n", "tw", "o\n", "y" * (MAX_LINE + 5), "z"):
        text.add(piece)
    assert text.toPlainText().startswith("<b>one</b>\ntwo\n")
    assert max(map(len, text.toPlainText().split("\n"))) == MAX_LINE
    assert text.raw_text() == "<b>one</b>\ntwo\n" + "y" * (MAX_LINE + 5) + "z"


def test_tints_lie_on_the_words_meant_even_behind_wide_characters_and_breaks(qtbot) -> None:
    text = AnswerText("a")
    qtbot.addWidget(text)
    raw = "\U0001f600 " + "x" * MAX_LINE + " word"
    text.set_text(raw)
    text.set_marks([(raw.index("word"), len(raw), 2)])
    (selection,) = text.extraSelections()
    assert selection.cursor.selectedText() == "word"
    assert selection.format.fontUnderline()


def test_an_answer_grows_with_its_text(qtbot) -> None:
    text = AnswerText()
    qtbot.addWidget(text)
    text.resize(200, 20)
    text.show()
    low = text.height()
    text.set_text("line\n" * 10)
    assert text.height() >= low + 9 * 20


def test_tokens_arrive_together_and_whole(qtbot) -> None:
    view = AnswerView("a")
    qtbot.addWidget(view)
    view.show()
    for index in range(100):
        view.append(f"{index} ")
    assert view.text.raw_text() == "", "put off, not painted a hundred times"
    qtbot.waitUntil(lambda: view.text.raw_text() != "")
    assert view.text.raw_text() == "".join(f"{index} " for index in range(100))
    view.append("end")
    view.finish(101, 40.2)
    assert view.text.raw_text().endswith("end")
    view._copy.click()
    assert QGuiApplication.clipboard().text() == view.text.raw_text()


def test_a_transcript_tells_which_answer_of_which_turn_is_meant(qtbot) -> None:
    talk = Transcript([Lane("base", "base", "Base"), Lane("a", "a", HOSTILE)])
    qtbot.addWidget(talk)
    talk.resize(800, 500)
    talk.show()
    talk.add_turn("first")
    turn = talk.add_turn({"base": "one", "a": "two"})
    for key in ("base", "a"):
        talk.answer(turn, key).set_text("done")
    with qtbot.waitSignal(talk.better_changed) as told:
        talk.answer(turn, "a")._better.click()
    assert told.args == [1, "a", True]
    with qtbot.waitSignal(talk.regenerate_requested) as told:
        talk.answer(turn, "base")._again.click()
    assert told.args == [1, "base"]
    talk.clear()
    assert talk.num_turns() == 0


def test_a_table_shows_names_as_they_are_and_figures_at_the_right(qtbot) -> None:
    table = table_view("Adapters")
    qtbot.addWidget(table)
    model = Rows([Column("Name", stretch=True), Column("Rank", numeric=True)], table)
    model.set_rows([("k1", (HOSTILE, "16")), ("k2", ("plain", "8"))])
    table.setModel(model)
    assert model.index(0, 0).data() == HOSTILE
    assert "<b>" not in model.index(0, 0).data(Qt.ItemDataRole.ToolTipRole)
    assert model.index(0, 1).data(Qt.ItemDataRole.TextAlignmentRole) & Qt.AlignmentFlag.AlignRight
    assert (model.key(1), model.row_of("k2"), model.row_of("none")) == ("k2", 1, -1)


def test_the_sidebar_is_walked_by_keyboard_and_tells_the_page(qtbot) -> None:
    bar = Sidebar(gallery.NAV)
    qtbot.addWidget(bar)
    bar.show()
    bar.set_current("home")
    home = bar._rows["home"]
    home.setFocus()
    qtbot.keyClick(home, Qt.Key.Key_Down)
    with qtbot.waitSignal(bar.page_requested) as told:
        qtbot.keyClick(bar._rows["bases"], Qt.Key.Key_Return)
    assert told.args == ["bases"]
    bar.set_badge("runs", "34 %")
    assert bar._rows["runs"].accessibleName() == "Runs, 34 %"
    bar.set_narrow(True)
    assert bar.width() == 64
    assert bar._rows["chat"].toolTip() == "Chat"


def test_a_message_tells_its_action(qtbot) -> None:
    message = MessageBar("bad", HOSTILE, "Try again")
    qtbot.addWidget(message)
    message.show()
    with qtbot.waitSignal(message.action_triggered):
        message._link.click()
    message.show_message("ok", "Fine")
    assert not message._link.isVisible()


@pytest.mark.parametrize("title", list(gallery.PAGES))
def test_everything_interactive_has_a_name(title: str, qtbot) -> None:
    page = gallery.PAGES[title]()
    qtbot.addWidget(page)
    kinds = (QAbstractButton, QComboBox, QLineEdit, QSlider, QTextEdit)
    interactive = [each for kind in kinds for each in page.findChildren(kind)]
    interactive += [
        each for each in page.findChildren(QWidget) if type(each).__name__ in ("MemoryBar", "TableView", "Canvas")
    ]
    assert interactive
    shown = [each for each in interactive if each.isVisibleTo(page) and not _internal(each)]
    nameless = [each for each in shown if not each.accessibleName()]
    assert nameless == []


def _internal(widget: QWidget) -> bool:
    """Qt's own parts: the corner of a table, the list that a combo box opens."""
    return type(widget).__module__.startswith("PySide6")


class _Emitter(QObject):
    said = Signal(bool)


def test_the_binding_keeps_its_references_to_none_and_true(qtbot) -> None:
    label, emitter = PlainLabel("x"), _Emitter()
    qtbot.addWidget(label)
    before = sys.getrefcount(None), sys.getrefcount(True)
    for index in range(500):
        label.setText(str(index))
        emitter.said.emit(True)
    after = sys.getrefcount(None), sys.getrefcount(True)
    assert after[0] > before[0] - 100
    assert after[1] > before[1] - 100


def test_a_narrow_window_switches_the_page_and_nothing_is_cut(qtbot) -> None:
    page = gallery.Running()
    qtbot.addWidget(page)
    page.resize(1024, 680)
    page.show()
    assert page.width() == 1024
    bar = page.findChild(Sidebar)
    qtbot.waitUntil(lambda: bar.width() == 64)
    page.resize(1440, 900)
    qtbot.waitUntil(lambda: bar.width() == 200)
    assert page.childAt(QPoint(5, 5)) is not None
