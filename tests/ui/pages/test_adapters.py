"""Overlays under their bases; nothing is lost by a click; and a merge is judged by what was measured."""

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import QObject, Qt, QUrl, Slot
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QAbstractButton, QComboBox, QLabel, QLineEdit, QProgressBar, QTableView, QWidget

from studio.library.adapter import Adapter
from tests.ui.pages.library import LLAMA, adapter, base, on_disk
from ui.pages.adapter_details import recipe_rows
from ui.pages.adapter_merge import merged_bytes
from ui.pages.adapter_receipt import findings
from ui.pages.adapter_shelf import group, matches, worth
from ui.pages.adapters import AdaptersPage
from ui.state import AppState, JobView
from ui.widgets.controls import Choice
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import MessageBar

HOSTILE = "<b>x</b>"
MEASURED = {"kl_mean": 0.0009, "top1_agreement": 0.996, "delta_lost": 0.006, "seconds": 112.0, "peak_rss_bytes": 3.4e9}


class Library:
    """A page over some adapters, and what it wishes."""

    def __init__(self, qtbot, adapters: list[Adapter]) -> None:
        self.qtbot = qtbot
        self.state = AppState()
        self.state.bases = [base(), base("llama", LLAMA, num_parameters=8_000_000_000)]
        self.state.adapters = adapters
        self.wishes: list[tuple[str, ...]] = []
        self.state.adapter_requested.connect(lambda *wish: self.wishes.append(wish))
        self.state.merge_requested.connect(lambda *wish: self.wishes.append(("merge", *wish)))
        self.state.export_requested.connect(lambda *wish: self.wishes.append(("export", *wish)))
        self.state.job_cancel_requested.connect(lambda key: self.wishes.append(("cancel", key)))
        self.page = AdaptersPage(self.state)
        qtbot.addWidget(self.page)
        self.page.resize(1300, 800)
        self.page.show()
        self.settle()

    def settle(self) -> None:
        """Until the files of the chosen adapter have been read."""
        files = self.page._details._figures["files"]
        self.qtbot.waitUntil(lambda: not self.page._right.isVisible() or "checking" not in files.accessibleName())

    def named(self, kind: type[QWidget], name: str) -> QWidget:
        found = [each for each in self.page.findChildren(kind) if each.accessibleName() == name and each.isVisible()]
        assert len(found) == 1, f"{len(found)} are called {name}"
        return found[0]

    def press(self, name: str) -> None:
        self.qtbot.mouseClick(self.named(QAbstractButton, name), Qt.MouseButton.LeftButton)

    def menu(self, text: str) -> None:
        next(action for action in self.page._details._menu.actions() if action.text() == text).trigger()

    def write(self, name: str, text: str, key: Qt.Key = Qt.Key.Key_Return) -> None:
        field = self.named(QLineEdit, name)
        field.setText(text)
        self.qtbot.keyClick(field, key)

    def rows(self) -> list[str]:
        model = self.page._table.model()
        return [model.index(row, 0).data() for row in range(model.rowCount())]

    def list_again(self, adapters: list[Adapter]) -> None:
        self.state.adapters = adapters
        self.state.adapters_changed.emit()
        self.settle()

    def texts(self) -> list[str]:
        return [label.text() for label in self.page.findChildren(QLabel) if label.isVisible()]

    def figure(self, name: str) -> str:
        return self.page._details._figures[name].accessibleName()


@pytest.fixture
def adapters(tmp_path: Path) -> list[Adapter]:
    metrics = {"steps": 1200.0, "first_evaluation_loss": 2.31, "evaluation_loss": 1.18}
    tone = adapter("tone", tags=("work", "best"), note="Friendly and short.", metrics=metrics)
    return [
        on_disk(tmp_path, tone, {"recipe": {"name": "tone", "training": {"epochs": 3, "learning_rate": 2e-4}}}),
        on_disk(tmp_path, adapter("format", tags=("work",))),
        on_disk(tmp_path, adapter("far", "llama", LLAMA)),
        on_disk(tmp_path, adapter("lost", "mistral", "sha256:m")),
    ]


@pytest.fixture
def library(qtbot, adapters: list[Adapter], tmp_path: Path, monkeypatch) -> Library:
    monkeypatch.setenv("OVERLAY_HOME", str(tmp_path / "home"))
    return Library(qtbot, adapters)


# --- the list ------------------------------------------------------------------------------------------------------


def test_overlays_stand_under_their_bases_and_those_without_one_last(library: Library) -> None:
    assert library.rows() == ["qwen", "tone", "format", "llama", "far", "mistral", "lost"]
    model = library.page._table.model()
    spoken = model.index(6, 0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert spoken == "lost, needs its base"
    assert "not on this computer" in model.index(5, 0).data(Qt.ItemDataRole.AccessibleTextRole)
    assert not model.index(0, 0).flags() & Qt.ItemFlag.ItemIsSelectable


def test_the_same_name_with_other_weights_is_another_base() -> None:
    (found,) = group([adapter("twin", "qwen", "sha256:other")], [base()])
    assert found.base is None
    assert found.why == "the one here has other weights"
    (found,) = group([adapter("from elsewhere", "qwen", "")], [base()])
    assert found.base is not None


def test_words_base_and_tag_narrow_the_list(library: Library) -> None:
    words = library.named(QLineEdit, "Search adapters")
    library.qtbot.keyClicks(words, "friendly")
    assert library.rows() == ["qwen", "tone"]
    library.qtbot.keyClicks(words, " nothing")
    assert library.rows() == []
    library.press("Show all")
    assert len(library.rows()) == 7
    assert matches(library.state.adapters[1], "FORMAT", "work")
    assert not matches(library.state.adapters[2], "", "work")


def test_the_footer_says_what_full_copies_would_take(library: Library) -> None:
    shown = [adapter("a"), adapter("b"), adapter("c", "llama", LLAMA)]
    assert worth(group(shown, library.state.bases)) == (
        "3 overlays, 30 MB. As full copies of their bases they would take 20 GB."
    )
    shown.append(adapter("lost", "mistral", "sha256:m"))
    assert "would take more than 20 GB" in worth(group(shown, library.state.bases))


def test_figures_come_from_the_run_and_from_the_files(library: Library) -> None:
    assert library.figure("loss").startswith("Eval loss: 2.31 \u2192 1.18")
    assert library.figure("steps") == "Steps: 1,200"
    assert library.figure("learned") == "Learned: 384"
    assert library.figure("files") == "Files: checked"
    assert "Learning rate" in library.texts()
    assert "2e-4" in library.texts()


def test_damaged_files_are_told(library: Library, adapters: list[Adapter]) -> None:
    (adapters[1].path / "adapter_model.safetensors").write_bytes(b"torn")
    library.page.select("format")
    library.settle()
    assert library.figure("files") == "Files: damaged"
    assert any(bar.isVisible() for bar in library.page._details.findChildren(MessageBar))


def test_a_recipe_from_elsewhere_cannot_break_the_page() -> None:
    assert recipe_rows({"training": "nonsense", "adapter": {"rank": [1, "x"]}, "unknown": 1}) == [("Rank", "1, x")]


# --- wishes --------------------------------------------------------------------------------------------------------


def test_use_in_chat_opens_chat_with_it(library: Library) -> None:
    chosen, pages = [], []
    library.state.chat_selected.connect(chosen.append)
    library.state.page_requested.connect(pages.append)
    library.press("Use in Chat")
    assert (chosen, pages) == (["tone"], ["chat"])


def test_an_overlay_without_its_base_says_so_instead(library: Library) -> None:
    library.state.adapter_selected.emit("lost")
    library.settle()
    button = library.named(QAbstractButton, "Use in Chat")
    assert (button.isEnabled(), button.text()) == (False, "Needs its base")
    assert not library.page._details._merge.isVisible()


def test_what_goes_to_the_trash_can_be_brought_back(library: Library, adapters: list[Adapter]) -> None:
    library.menu("Move to trash")
    assert library.wishes == [("remove", "tone", "")]
    library.list_again(adapters)
    assert not library.page._undo.isVisible(), "nothing is gone yet"
    library.list_again(adapters[1:])
    assert library.page._undo.accessibleName() == "tone is in the trash."
    library.press("Undo")
    assert library.wishes[-1] == ("restore", "tone", "")
    library.list_again(adapters)
    assert not library.page._undo.isVisible()


def test_the_last_overlay_can_be_brought_back_too(library: Library, adapters: list[Adapter]) -> None:
    library.list_again(adapters[:1])
    library.menu("Move to trash")
    library.list_again([])
    library.press("Undo")
    assert library.wishes[-1] == ("restore", "tone", "")


def test_name_and_note_are_changed_where_they_stand(library: Library) -> None:
    library.press("Change: Name")
    library.write("Name", "given up", Qt.Key.Key_Escape)
    assert library.wishes == []
    library.press("Change: Name")
    library.write("Name", " tone v2 ")
    library.press("Change: Note")
    library.write("Note", "")
    assert library.wishes == [("rename", "tone", "tone v2"), ("note", "tone", "")]


def test_tags_are_added_and_removed(library: Library) -> None:
    library.press("Add a tag")
    library.write("New tag", "fun")
    library.press("Remove the tag best")
    assert library.wishes == [("tag", "tone", "fun"), ("untag", "tone", "best")]


def test_checking_asks_for_it_and_looks_again(library: Library, adapters: list[Adapter]) -> None:
    (adapters[0].path / "adapter_model.safetensors").unlink()
    library.menu("Check files")
    library.settle()
    assert library.wishes == [("check", "tone", "")]
    assert library.figure("files") == "Files: damaged"


def test_open_folder_opens_the_folder(library: Library, adapters: list[Adapter]) -> None:
    class Opener(QObject):
        opened: list[QUrl] = []  # noqa: RUF012 - one test, one list

        @Slot(QUrl)
        def open(self, url: QUrl) -> None:
            self.opened.append(url)

    opener = Opener()
    QDesktopServices.setUrlHandler("file", opener, "open")
    library.menu("Open folder")
    QDesktopServices.unsetUrlHandler("file")
    assert [url.toLocalFile() for url in opener.opened] == [str(adapters[0].path)]


def test_a_folder_is_imported_and_then_shown(library: Library, adapters: list[Adapter], tmp_path: Path) -> None:
    library.page.import_folder(str(tmp_path / "theirs"))
    assert library.wishes == [("import", str(tmp_path / "theirs"), "")]
    library.state.adapter_selected.emit("theirs")
    (tmp_path / "new").mkdir()
    library.list_again([*adapters, on_disk(tmp_path / "new", adapter("theirs"))])
    assert library.page._details.accessibleName() == "theirs"


def test_markup_in_names_notes_and_tags_is_shown_as_it_is(library: Library, tmp_path: Path) -> None:
    (tmp_path / "hostile").mkdir()
    real = on_disk(tmp_path / "hostile", adapter("plain", tags=(HOSTILE,), note=HOSTILE))
    library.list_again([replace(real, name=HOSTILE)])
    assert library.rows() == ["qwen", HOSTILE]
    shown = [label for label in library.page.findChildren(QLabel) if label.text() == HOSTILE]
    assert len([label for label in shown if label.isVisible()]) == 2
    assert all(isinstance(label, PlainLabel) for label in library.page.findChildren(QLabel))


# --- merging and exporting -----------------------------------------------------------------------------------------


def ready(library: Library, button: str) -> QAbstractButton:
    """The button once the disk has been looked at."""
    found = library.named(QAbstractButton, button)
    library.qtbot.waitUntil(found.isEnabled)
    return found


def begin_merge(library: Library) -> JobView:
    library.press("Merge\u2026")
    library.qtbot.mouseClick(ready(library, "Merge"), Qt.MouseButton.LeftButton)
    job = JobView("this", "merge", "Merging tone")
    library.state.jobs[job.key] = job
    library.state.job_changed.emit(job)
    return job


def test_a_merge_is_asked_for_with_folder_and_format(library: Library, tmp_path: Path) -> None:
    library.press("Merge\u2026")
    library.press("fp32")
    library.qtbot.mouseClick(ready(library, "Merge"), Qt.MouseButton.LeftButton)
    assert library.wishes == [("merge", "tone", str(tmp_path / "home/exports/qwen-tone"), "float32")]
    assert merged_bytes(base(), "") == 2_000_000_000
    assert merged_bytes(base(), "float32") == 4_000_000_000


def test_nothing_is_ever_replaced(library: Library, tmp_path: Path) -> None:
    library.press("Merge\u2026")
    ready(library, "Merge")
    library.qtbot.keyClicks(library.named(QLineEdit, "New folder"), "x")
    button = library.named(QAbstractButton, "Merge")
    library.named(QLineEdit, "New folder").setText(str(tmp_path))
    library.page._merge._target._look()
    library.qtbot.waitUntil(lambda: button.text() == "Choose a new folder")
    assert not button.isEnabled()


def test_a_merge_that_does_not_fit_the_disk_cannot_begin(library: Library) -> None:
    library.state.bases = [base(num_parameters=10**18)]
    library.state.bases_changed.emit()
    library.settle()
    library.press("Merge\u2026")
    button = library.named(QAbstractButton, "Merge")
    library.qtbot.waitUntil(lambda: button.text() == "Not enough room")
    assert not button.isEnabled()


def test_a_merge_is_followed_and_can_be_cancelled(library: Library) -> None:
    job = begin_merge(library)
    job.what, job.done, job.total = "layer", 3, 12
    library.state.job_changed.emit(job)
    library.state.job_changed.emit(JobView("other", "merge", "Another", done=9, total=9, what="no"))
    bar = library.named(QProgressBar, "Progress of the merge")
    assert (bar.value(), bar.maximum()) == (3, 12)
    library.press("Cancel the merge")
    assert library.wishes[-1] == ("cancel", "this")
    job.is_over, job.error = True, "Merging tone was cancelled."
    library.state.job_changed.emit(job)
    assert library.named(QAbstractButton, "Merge")
    assert "Merging tone was cancelled." in library.texts()


def test_the_receipt_says_what_was_measured(library: Library) -> None:
    job = begin_merge(library)
    job.is_over, job.result = True, {"path": "/out/x", "bytes": 2_000_000_000, "receipt": MEASURED}
    library.state.job_changed.emit(job)
    texts = library.texts()
    assert "Merged and checked" in texts
    assert "/out/x, 2.0 GB" in texts
    assert "the same next word in 99.6 % of places, KL 0.0009" in texts
    assert "0.6 % of the change was lost to rounding" in texts
    library.press("Copy receipt")
    assert "99.6 %" in QGuiApplication.clipboard().text()


def test_what_was_not_compared_is_not_called_checked(library: Library) -> None:
    job = begin_merge(library)
    receipt = {**MEASURED, "kl_mean": None, "top1_agreement": None}
    job.is_over, job.result = True, {"path": "/out/x", "bytes": 1, "receipt": receipt}
    library.state.job_changed.emit(job)
    assert "Merged" in library.texts()
    assert "Merged and checked" not in library.texts()
    assert "not compared: too large for this computer's memory" in library.texts()


@pytest.mark.parametrize(
    ("changes", "verdicts"),
    [
        ({}, [True, True]),
        ({"top1_agreement": 0.8}, [False, True]),
        ({"kl_mean": 0.5}, [False, True]),
        ({"delta_lost": 0.4}, [True, False]),
        ({"delta_lost": None, "kl_mean": None}, [None, None]),
        ({"kl_mean": float("nan"), "delta_lost": "odd"}, [None, None]),
    ],
)
def test_a_receipt_judges_only_what_was_measured(changes: dict[str, object], verdicts: list[bool | None]) -> None:
    assert [good for good, _, _ in findings({**MEASURED, **changes})] == verdicts


def test_an_export_goes_to_a_new_folder(library: Library, tmp_path: Path) -> None:
    library.press("Export\u2026")
    ready(library, "Export")
    library.page._export._target.choose(str(tmp_path))
    library.qtbot.waitUntil(lambda: library.named(QAbstractButton, "Export").text() == "Choose a new folder")
    (tmp_path / "elsewhere").mkdir()
    library.page._export._target.choose(str(tmp_path / "elsewhere"))
    library.qtbot.mouseClick(ready(library, "Export"), Qt.MouseButton.LeftButton)
    assert library.wishes == [("export", "tone", str(tmp_path / "elsewhere" / "tone"))]
    assert library.page._details.isVisible()


def test_everything_that_can_be_used_has_a_name(library: Library) -> None:
    kinds = (QAbstractButton, QComboBox, QLineEdit, QTableView, QProgressBar, Choice)
    for opener in ("Merge\u2026", "Export\u2026"):
        for kind in kinds:
            seen = [each for each in library.page.findChildren(kind) if each.isVisible()]
            assert not [each for each in seen if not each.accessibleName() and each.parent() is not None]
        library.press(opener)
        library.press("Back")


def test_an_empty_library_says_how_to_fill_it(qtbot) -> None:
    state, pages = AppState(), []
    state.is_gathered = True
    state.page_requested.connect(pages.append)
    page = AdaptersPage(state)
    qtbot.addWidget(page)
    page.show()
    button = next(each for each in page.findChildren(QAbstractButton) if each.text() == "Train one")
    qtbot.mouseClick(button, Qt.MouseButton.LeftButton)
    assert pages == ["train"]
