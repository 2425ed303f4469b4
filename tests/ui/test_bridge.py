import threading

import pytest
from PySide6.QtCore import QObject
from pytestqt.qtbot import QtBot

from studio.errors import StudioError
from ui.bridge import UNFORESEEN, every, in_background, soon


def refuse() -> None:
    raise StudioError("No.", "Do not ask.")


def stumble() -> None:
    raise ZeroDivisionError("planted")


def test_work_is_done_elsewhere_and_its_answer_comes_back_here(qtbot: QtBot) -> None:
    heard: list[tuple[str, threading.Thread]] = []

    def work() -> threading.Thread:
        return threading.current_thread()

    in_background(work, lambda thread: heard.append((thread.name, threading.current_thread())), pytest.fail)
    qtbot.waitUntil(lambda: bool(heard))
    assert heard[0][0] != threading.current_thread().name
    assert heard[0][1] is threading.current_thread()


def test_what_the_user_can_mend_is_told_in_its_own_words(qtbot: QtBot) -> None:
    errors: list[StudioError] = []
    in_background(refuse, pytest.fail, errors.append)
    qtbot.waitUntil(lambda: bool(errors))
    assert (errors[0].message, errors[0].hint) == ("No.", "Do not ask.")


def test_our_own_mistake_is_logged_and_owned_up_to(qtbot: QtBot, expected_warnings: list[str]) -> None:
    expected_warnings.append("unforeseen")
    errors: list[StudioError] = []
    in_background(stumble, pytest.fail, errors.append)
    qtbot.waitUntil(lambda: bool(errors))
    assert "planted" in errors[0].message
    assert errors[0].hint == UNFORESEEN


def test_timers_end_with_their_owner(qtbot: QtBot) -> None:
    owner, other, heard = QObject(), QObject(), []
    every(owner, 1, lambda: heard.append("every"))
    soon(owner, lambda: heard.append("soon"), 60_000)
    qtbot.waitUntil(lambda: heard.count("every") > 2)
    owner.deleteLater()
    with qtbot.waitSignal(owner.destroyed):
        pass
    seen = len(heard)
    soon(other, lambda: heard.append("last"), 20)
    qtbot.waitUntil(lambda: heard[-1] == "last")
    assert heard[seen:] == ["last"]
