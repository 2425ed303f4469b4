"""What a merge left behind: where, how large, and how much of the overlay survived, as measured."""

from __future__ import annotations

import math
from typing import Any

from PySide6.QtCore import QCoreApplication, Qt, QUrl, Signal
from PySide6.QtGui import QDesktopServices, QGuiApplication
from PySide6.QtWidgets import QGridLayout, QHBoxLayout, QVBoxLayout, QWidget

from studio.files import readable_bytes
from ui import theme
from ui.widgets.buttons import Button
from ui.widgets.labels import Divider, IconLabel, PlainLabel

SAME_WORDS, DISTANCE, LOST = 0.99, 0.01, 0.05  # what a merge should reach at least, and at most


def _tr(text: str) -> str:
    return QCoreApplication.translate("AdaptersPage", text)


def _number(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def findings(receipt: dict[str, Any]) -> list[tuple[bool | None, str, str]]:
    """(good, what, sentence) for each thing measured; good is None where nothing was."""
    same, distance, lost = (_number(receipt.get(key)) for key in ("top1_agreement", "kl_mean", "delta_lost"))
    name, missing = _tr("Answers like base and overlay?"), _tr("not compared: too large for this computer's memory")
    if same is None or distance is None:
        rows: list[tuple[bool | None, str, str]] = [(None, name, missing)]
    else:
        text = _tr("the same next word in {0:.1f} % of places, KL {1:.2g}").format(100 * same, distance)
        rows = [(same >= SAME_WORDS and distance <= DISTANCE, name, text)]
    name = _tr("Is the change all there?")
    if lost is None:
        return [*rows, (None, name, _tr("not measured"))]
    return [*rows, (lost <= LOST, name, _tr("{0:.2g} % of the change was lost to rounding").format(100 * lost))]


def costs(receipt: dict[str, Any]) -> list[tuple[str, str]]:
    """(what, how much) of what the merge took."""
    rows = []
    seconds, peak = _number(receipt.get("seconds")), _number(receipt.get("peak_rss_bytes"))
    if seconds is not None:
        minutes = _tr("{0} min {1} s").format(int(seconds) // 60, int(seconds) % 60)
        rows.append((_tr("Time"), minutes if seconds >= 60 else _tr("{0:.1f} s").format(seconds)))
    if peak is not None:
        rows.append((_tr("Main memory, peak"), readable_bytes(peak)))
    rows.append((_tr("Merged onto"), _tr("original 16-bit weights")))
    return rows


class Receipt(QWidget):
    """The receipt of one merge."""

    left = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._path = ""
        self._plain = ""
        self._rows = QVBoxLayout()
        self._rows.setSpacing(theme.px(12))
        open_folder = Button(self.tr("Open folder"), icon="folder-open", size="action")
        copy = Button(self.tr("Copy receipt"), size="action")
        done = Button(self.tr("Done"), "primary", size="action")
        open_folder.clicked.connect(lambda: QDesktopServices.openUrl(QUrl.fromLocalFile(self._path)))
        copy.clicked.connect(lambda: QGuiApplication.clipboard().setText(self._plain))
        done.clicked.connect(self.left)
        row = QHBoxLayout()
        row.setSpacing(theme.px(8))
        row.addWidget(open_folder)
        row.addWidget(copy)
        row.addStretch(1)
        row.addWidget(done)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.addLayout(self._rows)
        column.addStretch(1)
        column.addLayout(row)

    def show_result(self, result: dict[str, Any]) -> None:
        """Show what a merge reports: `path`, `bytes` and `receipt`."""
        while (item := self._rows.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self._path = str(result.get("path", ""))
        found = result.get("receipt")
        receipt = found if isinstance(found, dict) else {}
        size = readable_bytes(_number(result.get("bytes")) or 0)
        measured = findings(receipt)
        self._rows.addWidget(self._headline(measured))
        self._rows.addWidget(PlainLabel(f"{self._path}, {size}", "body", "text2", wrap=True, selectable=True))
        self._rows.addWidget(Divider())
        for good, what, text in measured:
            self._rows.addWidget(self._finding(good, what, text))
        self._rows.addWidget(Divider())
        self._rows.addWidget(self._costs(costs(receipt)))
        sentence = self.tr(
            "QLoRA learned on 4-bit weights. On the 16-bit originals small differences are expected; these are the measured ones."
        )
        self._rows.addWidget(PlainLabel(sentence, "small", "text2", wrap=True))
        lines = [self._path, size, *(f"{what} {text}" for _, what, text in measured)]
        self._plain = "\n".join([*lines, *(f"{what}: {value}" for what, value in costs(receipt))])

    def _headline(self, measured: list[tuple[bool | None, str, str]]) -> QWidget:
        verdicts = [good for good, _, _ in measured]
        if False in verdicts:
            icon, role, text = "warning", "warn", self.tr("Merged, with differences")
        elif None in verdicts:
            icon, role, text = "check-circle", "ok", self.tr("Merged")
        else:
            icon, role, text = "check-circle", "ok", self.tr("Merged and checked")
        line = QWidget()
        row = QHBoxLayout(line)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        row.addWidget(IconLabel(icon, role, 24, filled=True))
        row.addWidget(PlainLabel(text, "title", role), 1)
        return line

    @staticmethod
    def _finding(good: bool | None, what: str, text: str) -> QWidget:
        icon, role = {True: ("check-circle", "ok"), False: ("warning", "warn"), None: ("info", "text3")}[good]
        line = QWidget()
        line.setAccessibleName(f"{what} {text}")
        grid = QGridLayout(line)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setHorizontalSpacing(theme.px(8))
        grid.setVerticalSpacing(theme.px(2))
        grid.setColumnStretch(1, 1)
        grid.addWidget(IconLabel(icon, role, 16, filled=True), 0, 0)
        grid.addWidget(PlainLabel(what, "medium"), 0, 1)
        grid.addWidget(PlainLabel(text, "body", "text2", wrap=True, selectable=True), 1, 1)
        return line

    @staticmethod
    def _costs(rows: list[tuple[str, str]]) -> QWidget:
        table = QWidget()
        grid = QGridLayout(table)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.setVerticalSpacing(theme.px(6))
        grid.setColumnStretch(1, 1)
        for number, (what, value) in enumerate(rows):
            grid.addWidget(PlainLabel(what, "body", "text2"), number, 0)
            grid.addWidget(PlainLabel(value), number, 2, Qt.AlignmentFlag.AlignRight)
        return table
