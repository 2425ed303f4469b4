"""Rows that are no file yet, in the window: a set on the hub and pasted rows, over real workers and a hub on this computer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtWidgets import QLabel, QWidget

from tests.studio.data.hub_rows import NAME, served
from tests.studio.models.fake_hub import FakeHub
from tests.ui.pages.dataset_bench import Bench
from tests.ui.test_form import choose
from ui.dataset_view import RowLine


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with served(monkeypatch) as made:
        yield made


def is_read(bench: Bench, num_rows: int) -> bool:
    survey = bench.view.survey if bench.view is not None else None
    return survey is not None and survey.num_good == num_rows


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
    bench.wait(lambda: is_read(bench, 3))
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
    bench.wait(lambda: is_read(bench, 2))
    (kept,) = bench.workspace.pasted.iterdir()
    assert kept.read_text().startswith("question,answer\n")
