"""What can be done with a chart besides looking at it: its data as CSV, its picture as PNG, other axes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from PySide6.QtCore import QBuffer, QByteArray, QIODevice, QObject, QPoint, QRect, Qt
from PySide6.QtGui import QGuiApplication, QPainter, QPixmap
from PySide6.QtWidgets import QMenu, QMessageBox

from studio import files
from studio.errors import StudioError
from studio.runs.state import RunState
from ui import theme
from ui.bridge import in_background
from ui.choosing import choose_target
from ui.pages.train_words import tr
from ui.widgets.loss_plot import LossPlot
from ui.widgets.plots import PlotCard

Row = tuple[int, str, float]


def rows_of(state: RunState) -> Iterator[Row]:
    """(step, series, value) of everything that is drawn, as it was measured: nothing smoothed, a missing value as NaN."""
    for taken in state.steps:
        yield taken.step, "loss", taken.loss
        yield taken.step, "learning_rate", taken.learning_rate
        yield taken.step, "grad_norm", taken.grad_norm
        if taken.seconds > 0:
            yield taken.step, "tokens_per_second", taken.num_tokens / taken.seconds
        if taken.delta_norm is not None:
            yield taken.step, "delta_norm", taken.delta_norm
    for found in state.evaluations:
        yield found.step, "evaluation_loss", found.loss
    for measured in state.memories:
        yield measured.step, "process_bytes", measured.process_bytes


def csv_text(rows: Sequence[Row]) -> str:
    """A tidy table with the columns step, series, value; a value that is none is left empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("step", "series", "value"))
    writer.writerows((step, name, repr(value) if math.isfinite(value) else "") for step, name, value in rows)
    return out.getvalue()


class ChartMenu(QObject):
    """The context menu of every plot, by mouse or by the menu key."""

    def __init__(self, plots: Sequence[PlotCard], loss: LossPlot, follow: Callable[[], None], parent: QObject) -> None:
        super().__init__(parent)
        self._loss, self._axis, self._follow, self._name = loss, loss.axis, follow, ""
        self._state = RunState()
        for plot in plots:
            plot.menu_wanted.connect(partial(self._open, plot))

    def set_run(self, name: str) -> None:
        """Files and pictures carry the name of this run."""
        self._name = name

    def set_state(self, state: RunState) -> None:
        """Export what this state holds at that moment."""
        self._state = state

    def _open(self, plot: PlotCard, at: QPoint) -> None:
        self.make(plot).popup(at)

    def make(self, plot: PlotCard) -> QMenu:
        """The menu of a plot."""
        menu = QMenu(plot)
        menu.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        menu.addAction(tr("Save the data of all charts as CSV\u2026"), partial(self._ask_for_csv, plot))
        menu.addAction(tr("Save this picture as PNG\u2026"), partial(self._ask_for_png, plot))
        menu.addAction(tr("Copy this picture"), lambda: QGuiApplication.clipboard().setPixmap(self.picture(plot)))
        menu.addSeparator()
        axes = menu.addMenu(self._axis.accessibleName())
        for index in range(self._axis.count()):
            action = axes.addAction(self._axis.itemText(index), partial(self._choose_axis, index))
            action.setCheckable(True)
            action.setChecked(index == self._axis.currentIndex())
        upright = menu.addAction(tr("Logarithmic loss axis"))
        upright.setCheckable(True)
        upright.setChecked(self._loss.logarithmic())
        upright.toggled.connect(self._loss.set_logarithmic)
        menu.addAction(tr("Show the whole run"), self._follow)
        return menu

    def _choose_axis(self, index: int) -> None:
        """The same as in the head of the loss plot, where there is room for it."""
        self._axis.setCurrentIndex(index)
        self._axis.activated.emit(index)

    def picture(self, plot: PlotCard) -> QPixmap:
        """The plot under the name of its run."""
        card, head = plot.grab(), theme.px(32)
        ratio = card.devicePixelRatio()
        result = QPixmap(card.width(), card.height() + round(head * ratio))
        result.setDevicePixelRatio(ratio)
        result.fill(theme.current().colour("canvas"))
        painter = QPainter(result)
        painter.setFont(theme.font("strong", self._name))
        painter.setPen(theme.current().colour("text"))
        room = QRect(theme.px(16), 0, plot.width() - theme.px(32), head)
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, self._name)
        painter.drawPixmap(0, head, card)
        painter.end()
        return result

    def _ask_for_csv(self, plot: PlotCard) -> None:
        name = files.safe_name(self._name, "run") + ".csv"
        choose_target(plot, tr("Save the data of the charts"), name, "CSV (*.csv)", partial(self.save_csv, plot))

    def _ask_for_png(self, plot: PlotCard) -> None:
        name = files.safe_name(f"{self._name} {plot.accessibleName()}", "run") + ".png"
        choose_target(plot, tr("Save the picture"), name, "PNG (*.png)", partial(self.save_png, plot))

    def save_csv(self, plot: PlotCard, path: str) -> None:
        """Write the data of all curves. The rows are taken now, and written off the window's thread."""
        rows = list(rows_of(self._state))
        in_background(lambda: files.write_text(Path(path), csv_text(rows)), lambda _: None, partial(_failed, plot))

    def save_png(self, plot: PlotCard, path: str) -> None:
        """Write the picture of a plot."""
        data = QByteArray()
        buffer = QBuffer(data)
        buffer.open(QIODevice.OpenModeFlag.WriteOnly)
        self.picture(plot).save(buffer, "PNG")
        content = bytes(data.data())
        in_background(lambda: files.write_bytes(Path(path), content), lambda _: None, partial(_failed, plot))


def _failed(plot: PlotCard, error: StudioError) -> None:
    box = QMessageBox(QMessageBox.Icon.Warning, tr("Not saved"), error.message, QMessageBox.StandardButton.Close, plot)
    box.setTextFormat(Qt.TextFormat.PlainText)
    box.setInformativeText(error.hint)
    box.finished.connect(box.deleteLater)
    box.open()
