"""Rows that are no file yet, in the window: a set on the hub and pasted rows, over real workers and a hub on this computer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QLabel, QWidget

from studio.places import Workspace
from tests.studio.data.hub_rows import NAME, served
from tests.studio.models.fake_hub import FakeHub
from tests.ui.test_form import choose
from ui.conductor import Conductor
from ui.dataset_view import RowLine
from ui.pages.datasets import DatasetsPage
from ui.state import AppState

WAIT_MS = 120_000  # a worker takes half a second, and much more where all cores are busy


class Bench:
    """Workspace, conductor and page, without the window."""

    def __init__(self, folder: Path, qtbot: Any) -> None:
        self.bot = qtbot
        self.workspace, self.state = Workspace(folder / "home"), AppState()
        self.conductor = Conductor(self.workspace, self.state)
        self.conductor.start()
        self.page = DatasetsPage(self.state)
        qtbot.addWidget(self.page)
        self.page.show()

    def close(self) -> None:
        jobs = list(self.conductor.thread_._jobs.values())
        self.conductor.close()
        for job in jobs:
            job.process.wait()

    def wait(self, condition: Callable[[], Any]) -> None:
        self.bot.waitUntil(lambda: bool(condition()), timeout=WAIT_MS)

    def is_read(self, num_rows: int) -> bool:
        survey = self.state.dataset.survey if self.state.dataset is not None else None
        return survey is not None and survey.num_good == num_rows


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with served(monkeypatch) as made:
        yield made


@pytest.fixture
def bench(tmp_path: Path, qtbot: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setenv("OVERLAY_HOME", str(tmp_path / "home"))
    made = Bench(tmp_path, qtbot)
    yield made
    made.close()


def texts(widget: QWidget) -> str:
    return "\n".join(label.text() for label in widget.findChildren(QLabel) if label.isVisible())


def test_a_set_on_the_hub_is_looked_at_chosen_from_and_fetched(bench: Bench, hub: FakeHub) -> None:
    dialog = bench.page.sources.ask_hub()
    assert not dialog.take.isVisible()
    dialog.name.setText("owner/talk")
    dialog.look.click()
    bench.wait(lambda: bench.state.source.look is not None)
    assert "apache-2.0" in texts(dialog)
    assert "42 rows" in texts(dialog)

    def first() -> RowLine | None:
        return dialog.rows.line(0)

    bench.wait(lambda: (line := first()) is not None and line.prompt == "first 0?")
    choose(dialog.split, "test")
    bench.wait(lambda: (line := first()) is not None and line.prompt == "test 0?")
    assert not bench.workspace.fetched.exists()
    dialog.take.click()
    bench.wait(lambda: bench.is_read(3))
    assert bench.state.dataset is not None
    assert Path(bench.state.dataset.path).name == "talk-short-test.jsonl"
    assert "from the hub: owner/talk at 01234567. Licence: apache-2.0" in texts(bench.page)
    again = bench.page.sources.ask_hub()
    again.name.setText("owner/talk:short:test")
    again.look.click()
    bench.wait(lambda: bench.state.source.look is not None)
    assert again.take.text() == "Open"
    again.reject()


def test_a_download_is_stopped_and_goes_on_later(bench: Bench, hub: FakeHub) -> None:
    hub.waits_after = 1_000_000
    dialog = bench.page.sources.ask_hub()
    dialog.name.setText("owner/talk:long")
    dialog.look.click()
    bench.wait(lambda: bench.state.source.look is not None)
    dialog.take.click()
    bench.wait(lambda: bench.state.source.done > 500_000)
    assert "MB" in texts(dialog)
    dialog.stop.click()
    assert dialog.take.isEnabled()
    bench.wait(lambda: not bench.conductor.thread_._jobs)
    hub.goes_on.set()
    hub.heard.clear()
    dialog.take.click()
    bench.wait(lambda: bench.state.dataset is not None)
    ranges = [headers.get("Range") for path, headers in hub.heard if path.endswith(".parquet")]
    assert ranges[0] not in (None, "bytes=0-")


def test_what_the_hub_refuses_is_told_in_the_dialog(bench: Bench, hub: FakeHub) -> None:
    hub.refusals[NAME] = (403, "GatedRepo")
    dialog = bench.page.sources.ask_hub()
    dialog.name.setText("owner/talk")
    dialog.look.click()
    bench.wait(lambda: bench.state.source.error)
    assert "accepted its terms" in texts(dialog)
    assert "HF_TOKEN" in texts(dialog)
    dialog.reject()


def test_pasted_rows_are_named_while_they_are_typed_and_become_a_file(bench: Bench) -> None:
    dialog = bench.page.sources.ask_for_paste()
    assert not dialog.open_.isEnabled()
    dialog.text.setPlainText("question,answer\nWho?,A pirate.\nWhy?,Gold.\n")
    bench.wait(lambda: "2 rows \u00b7 question-answer \u00b7 CSV" in texts(dialog))
    dialog.open_.click()
    bench.wait(lambda: bench.is_read(2))
    (kept,) = bench.workspace.pasted.iterdir()
    assert kept.read_text().startswith("question,answer\n")
