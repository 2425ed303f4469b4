"""Inputs: the wheel changes nothing by accident, the keyboard reaches everything, and errors stand in the hint's place."""

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import QApplication, QVBoxLayout, QWidget

from ui.widgets.buttons import Button
from ui.widgets.controls import Choice, NumberField, TextField
from ui.widgets.fields import Field
from ui.widgets.sliders import Slider, SliderField
from ui.widgets.tabs import Tabs
from ui.widgets.toggles import CheckBox, Segmented


def wheel(widget: QWidget) -> bool:
    """Turn the wheel over a widget; whether it took the event."""
    centre = QPointF(widget.rect().center())
    event = QWheelEvent(
        centre,
        widget.mapToGlobal(centre),
        QPoint(0, 0),
        QPoint(0, -120),
        Qt.MouseButton.NoButton,
        Qt.KeyboardModifier.NoModifier,
        Qt.ScrollPhase.NoScrollPhase,
        False,
    )
    QApplication.sendEvent(widget, event)
    return event.isAccepted()


def control(kind: str) -> QWidget:
    if kind == "whole":
        return NumberField(16, minimum=1, maximum=64)
    if kind == "float":
        return NumberField(2e-4, whole=False)
    if kind == "choice":
        return Choice([(1, "one"), (2, "two"), (3, "three")], 2)
    return Slider(0, 10, 5)


@pytest.mark.parametrize("kind", ["whole", "float", "choice", "slider"])
def test_the_wheel_changes_a_control_only_while_it_has_the_focus(kind: str, qtbot) -> None:
    window = QWidget()
    column = QVBoxLayout(window)
    other, under = Button("Other"), control(kind)
    column.addWidget(other)
    column.addWidget(under)
    qtbot.addWidget(window)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    other.setFocus()
    before = under.value()
    assert not wheel(under)
    assert under.value() == before
    under.setFocus()
    wheel(under)
    assert under.value() != before


def test_setting_a_value_is_silent_and_the_users_hand_is_not(qtbot) -> None:
    heard: list[object] = []
    number, choice, check = NumberField(1), Choice([("a", "A"), ("b", "B")]), CheckBox("c")
    segmented = Segmented([("a", "A"), ("b", "B")])
    for widget in (number, choice, check, segmented):
        qtbot.addWidget(widget)
        widget.show()
        widget.value_changed.connect(heard.append)
    number.set_value(7)
    choice.set_value("b")
    check.set_value(True)
    segmented.set_value("b")
    assert heard == []
    qtbot.keyClick(number, Qt.Key.Key_Up)
    qtbot.keyClick(choice, Qt.Key.Key_Up)
    qtbot.mouseClick(check, Qt.MouseButton.LeftButton)
    assert heard == [8, "a", False]


def test_a_number_out_of_range_is_told_and_does_not_arrive(qtbot) -> None:
    field = NumberField(16, minimum=1, maximum=2048)
    framed = Field("Rank", field, hint="Usual: 8 to 64")
    qtbot.addWidget(framed)
    framed.show()
    height = framed.sizeHint().height()
    field.selectAll()
    qtbot.keyClicks(field, "4096")
    assert field.value() == 409, "the last good number on the way"
    assert "2,048" in framed.error()
    assert framed.sizeHint().height() == height, "nothing jumps"
    qtbot.keyClick(field, Qt.Key.Key_Backspace)
    assert framed.error() == ""


def test_stepping_stops_at_the_ends_of_the_range(qtbot) -> None:
    field = NumberField(2, minimum=1, maximum=3)
    qtbot.addWidget(field)
    for _ in range(5):
        qtbot.keyClick(field, Qt.Key.Key_Up)
    assert field.value() == 3
    qtbot.keyClick(field, Qt.Key.Key_PageDown)
    assert field.value() == 1


def test_a_field_names_its_control_and_tells_hint_or_error(qtbot) -> None:
    text = TextField()
    field = Field("Name", text, hint="Letters and figures")
    qtbot.addWidget(field)
    assert text.accessibleName() == "Name"
    assert text.accessibleDescription() == "Letters and figures"
    field.set_error("Taken")
    assert text.accessibleDescription() == "Taken"
    field.set_error(None)
    assert text.accessibleDescription() == "Letters and figures"


def test_reset_is_offered_once_a_value_was_changed(qtbot) -> None:
    field = Field("Rank", NumberField(16))
    qtbot.addWidget(field)
    field.show()
    icon = field._reset
    assert not icon.isVisible()
    field.set_changed(True)
    with qtbot.waitSignal(field.reset_requested):
        qtbot.mouseClick(icon, Qt.MouseButton.LeftButton)


def test_segments_are_radio_buttons_to_the_arrow_keys(qtbot) -> None:
    level = Segmented([("basic", "Basic"), ("expert", "Expert")])
    qtbot.addWidget(level)
    level.show()
    level.activateWindow()
    qtbot.waitUntil(level.isActiveWindow)
    level._segments["basic"].setFocus()
    with qtbot.waitSignal(level.value_changed) as told:
        qtbot.keyClick(level._segments["basic"], Qt.Key.Key_Right)
    assert told.args == ["expert"]


def test_tabs_tell_the_key_of_the_view_chosen(qtbot) -> None:
    tabs = Tabs([("charts", "Charts"), ("log", "Log")])
    qtbot.addWidget(tabs)
    tabs.show()
    with qtbot.waitSignal(tabs.value_changed) as told:
        qtbot.keyClick(tabs, Qt.Key.Key_Right)
    assert told.args == ["log"]
    tabs.set_value("charts")
    assert tabs.value() == "charts"


def test_named_stops_tell_their_value(qtbot) -> None:
    field = SliderField([("quick", "Quick"), ("balanced", "Balanced")], "quick", name="Quality")
    qtbot.addWidget(field)
    with qtbot.waitSignal(field.value_changed) as told:
        qtbot.keyClick(field.slider, Qt.Key.Key_Right)
    assert told.args == ["balanced"]
    assert field.slider.accessibleDescription() == "Balanced"


def test_a_disabled_button_says_why_and_takes_its_label_back(qtbot) -> None:
    button = Button("Start training", "primary")
    qtbot.addWidget(button)
    button.set_reason("Choose a dataset")
    assert (button.isEnabled(), button.text()) == (False, "Choose a dataset")
    assert button.accessibleName() == "Start training"
    button.set_reason(None)
    assert (button.isEnabled(), button.text()) == (True, "Start training")


def test_the_focus_ring_shows_for_the_keyboard_and_not_for_the_mouse(qtbot) -> None:
    window = QWidget()
    column = QVBoxLayout(window)
    first, second = Button("First"), Button("Second")
    column.addWidget(first)
    column.addWidget(second)
    qtbot.addWidget(window)
    window.show()
    window.activateWindow()
    qtbot.waitUntil(window.isActiveWindow)
    quiet = window.grab().toImage()
    second.setFocus(Qt.FocusReason.MouseFocusReason)
    first.setFocus(Qt.FocusReason.MouseFocusReason)
    assert window.grab().toImage() == quiet or first.hasFocus()
    by_mouse = window.grab().toImage()
    second.setFocus(Qt.FocusReason.TabFocusReason)
    assert window.grab().toImage() != by_mouse
    place = second.geometry().adjusted(-3, 0, 0, 0).topLeft() + QPoint(0, 16)
    assert window.grab().toImage().pixelColor(place).blue() > 150
