"""The program as it is started: in an interpreter of its own."""

import configparser
import json
import logging
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PySide6.QtWidgets import QMessageBox
from pytestqt.qtbot import QtBot

from studio.errors import BusyError
from studio.places import Workspace
from ui.app import DESKTOP_ID, Mishaps, start_log, take_lock
from ui.settings import Settings, save

ROOT = Path(__file__).resolve().parents[2]
OPEN = """
import json, sys
from PySide6.QtCore import QTimer
from PySide6.QtWidgets import QApplication
from ui import app
heavy = ("torch", "transformers", "peft", "bitsandbytes", "datasets", "accelerate")
opened = []
class Studio(app.Studio):
    def open(self):
        super().open()
        opened.append(self)
        for page in ("datasets", "train", "runs", "adapters", "chat", "home"):
            self.state.page_requested.emit(page)
        self.timer = QTimer()
        self.timer.timeout.connect(self.look)
        self.timer.start(20)
    def look(self):
        if self.state.is_gathered:
            self.timer.stop()
            self.window.close()
app.Studio = Studio
code = app.main([])
print(json.dumps({
    "code": code,
    "heavy": [name for name in heavy if name in sys.modules],
    "pages": list(opened[0].window._stack.built),
    "visible": opened[0].window.isVisible(),
}))
"""


def in_fresh_interpreter(code: str, home: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OVERLAY_HOME": str(home), "QT_QPA_PLATFORM": "offscreen", **changes}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def test_the_window_opens_shows_every_page_and_closes_without_a_heavy_library(tmp_path: Path) -> None:
    done = in_fresh_interpreter(OPEN, tmp_path / "home")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["heavy"] == []
    assert told["code"] == 0
    assert set(told["pages"]) == {"home", "datasets", "train", "runs", "adapters", "chat"}
    assert not told["visible"]
    assert "Traceback" not in done.stderr
    assert Settings.load(Workspace(tmp_path / "home")).page == "home"


COMMA = """
import ctypes, json, locale
real = locale.setlocale
calls = []
locale.setlocale = lambda category, name=None: calls.append((category, name)) or real(category, name)
from ui.app import make_application
app = make_application([])
strtod = ctypes.CDLL(None).strtod
strtod.restype, strtod.argtypes = ctypes.c_double, [ctypes.c_char_p, ctypes.c_void_p]
print(json.dumps({"numeric": real(locale.LC_NUMERIC), "value": strtod(b"0.9995", None),
    "was_set": (locale.LC_NUMERIC, "C") in calls}))
"""


def test_c_code_reads_a_decimal_point_under_a_comma_locale(tmp_path: Path) -> None:
    """Where no comma locale is installed Qt cannot switch to it; then this still sees that "C" is set after Qt."""
    done = in_fresh_interpreter(COMMA, tmp_path, LC_ALL="de_DE.UTF-8")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"numeric": "C", "value": 0.9995, "was_set": True}


def test_a_workspace_has_one_window(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "home")
    lock = take_lock(workspace)
    try:
        second = "from studio.places import Workspace; from ui.app import take_lock; take_lock(Workspace.default())"
        done = in_fresh_interpreter(second, workspace.root)
        assert "BusyError" in done.stderr
        with pytest.raises(BusyError, match="open already"):
            take_lock(Workspace(tmp_path / "home"))
    finally:
        lock.release()
    assert in_fresh_interpreter(second, workspace.root).returncode == 0


def test_a_mishap_is_logged_and_told_once(qtbot: QtBot, tmp_path: Path, expected_warnings: list[str]) -> None:
    expected_warnings.append("not caught")
    handler = start_log(tmp_path)
    mishaps = Mishaps(tmp_path)
    try:
        for _ in range(3):
            try:
                raise ZeroDivisionError("planted")
            except ZeroDivisionError as error:
                mishaps.hear(type(error), error, error.__traceback__)
        box = mishaps._box
        assert isinstance(box, QMessageBox)
        qtbot.addWidget(box)
        assert "planted" in box.text()
        assert str(tmp_path) in box.informativeText()
        log = (tmp_path / "window.log").read_text(encoding="utf-8")
        assert log.count("ZeroDivisionError: planted") == 3
        box.close()
        assert mishaps._box is None
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()


def test_the_desktop_entry_names_what_the_program_calls_itself() -> None:
    """A Wayland desktop finds the icon by this name alone."""
    entry = configparser.ConfigParser(interpolation=None)
    entry.read(ROOT / "packaging" / "desktop" / f"{DESKTOP_ID}.desktop", encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert entry["Desktop Entry"]["Icon"] == DESKTOP_ID
    assert entry["Desktop Entry"]["Exec"] in project["gui-scripts"]


def test_settings_survive_and_damage_does_not_matter(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    wanted = Settings("dark", "runs", "abc", ["chat"], {"train": {"level": "expert"}})
    save(workspace, wanted.values())
    assert Settings.load(workspace) == wanted
    workspace.settings.write_text('{"theme": 3, "page": "chat", "more": 1}', encoding="utf-8")
    assert Settings.load(workspace) == Settings(page="chat")
    workspace.settings.write_text("{", encoding="utf-8")
    assert Settings.load(workspace) == Settings()
