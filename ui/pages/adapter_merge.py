"""Bake an overlay into its base: what comes out, where it goes, how far it is, and the receipt."""

from __future__ import annotations

from PySide6.QtCore import QCoreApplication, Signal
from PySide6.QtWidgets import QButtonGroup, QHBoxLayout, QProgressBar, QStackedWidget, QVBoxLayout, QWidget

from studio.library.adapter import Adapter
from studio.library.soundness import origin_warning
from studio.models.bases import Base
from ui import theme
from ui.pages.adapter_receipt import Receipt
from ui.pages.adapter_target import TargetField, button_row
from ui.state import JobView
from ui.widgets.buttons import Button
from ui.widgets.labels import PlainLabel
from ui.widgets.messages import MessageBar
from ui.widgets.page import Card, ScrollColumn
from ui.widgets.toggles import RadioButton

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
SHORT = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
FORM, RUNNING, RECEIPT = range(3)


def _tr(text: str) -> str:
    return QCoreApplication.translate("AdaptersPage", text)


def merged_bytes(base: Base, dtype: str) -> int:
    """About how large the merged model becomes; `dtype` "" keeps the base's own."""
    return base.num_parameters * BYTES.get(dtype or base.dtype, 2)


class MergePanel(Card):
    """The panel. One merge at a time; it goes on while the user is elsewhere."""

    left = Signal()
    merge_requested = Signal(str, str, str)
    cancel_requested = Signal(str)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(_tr("Merge"), parent=parent)
        self._adapter: Adapter | None = None
        self._base: Base | None = None
        self._job = ""
        self._known: set[str] = set()
        self._is_waiting = False
        self._stack = QStackedWidget()
        self._receipt = Receipt()
        self._receipt.left.connect(self._leave)
        for page in (self._build_form(), self._build_running(), self._receipt):
            self._stack.addWidget(page)
        self.add(self._stack, 1)

    # --- building --------------------------------------------------------------------------------------------------

    def _build_form(self) -> QWidget:
        what = self.tr(
            "The overlay is added to the 16-bit base and the sum is saved as an ordinary model: any program can load it, and "
            "it runs at full speed. It can no longer be swapped; the overlay itself stays here. Nothing is ever merged into "
            "4-bit weights: rounding them again would lose more than the overlay adds."
        )
        self._error = MessageBar("bad", "")
        self._warning = MessageBar("warn", "")
        self._target = TargetField()
        self._target.judged.connect(self._judge)
        content = QWidget()
        column = QVBoxLayout(content)
        column.setContentsMargins(0, 0, theme.px(4), 0)
        column.setSpacing(theme.px(12))
        column.addWidget(self._error)
        column.addWidget(self._warning)
        column.addWidget(PlainLabel(what, "body", "text2", wrap=True))
        column.addWidget(PlainLabel(self.tr("Number format"), "strong"))
        column.addLayout(self._build_formats())
        column.addWidget(PlainLabel(self.tr("Where"), "strong"))
        column.addWidget(self._target)
        column.addStretch(1)
        self._go = Button(self.tr("Merge"), "primary", size="action")
        self._go.clicked.connect(self._merge)
        back = Button(self.tr("Back"), size="action")
        back.clicked.connect(self._leave)
        form = QWidget()
        whole = QVBoxLayout(form)
        whole.setContentsMargins(0, 0, 0, 0)
        whole.addWidget(ScrollColumn(content), 1)
        whole.addLayout(button_row(back, self._go))
        return form

    def _build_formats(self) -> QVBoxLayout:
        words = {
            "": (self.tr("As the base"), self.tr("Same size and format as the original.")),
            "bfloat16": ("bf16", self.tr("What most models of today come in.")),
            "float16": ("fp16", self.tr("Finer steps, smaller range; for older cards and programs.")),
            "float32": ("fp32", self.tr("Nothing is rounded; twice the size.")),
        }
        self._formats = QButtonGroup(self)
        self._radios: dict[str, RadioButton] = {}
        self._hints: dict[str, PlainLabel] = {}
        column = QVBoxLayout()
        column.setSpacing(theme.px(4))
        for dtype, (label, line) in words.items():
            radio = RadioButton(label)
            hint = PlainLabel(line, "small", "text2", wrap=True)
            radio.setAccessibleDescription(line)
            self._radios[dtype], self._hints[dtype] = radio, hint
            self._formats.addButton(radio)
            hint.setContentsMargins(theme.px(24), 0, 0, theme.px(4))
            column.addWidget(radio)
            column.addWidget(hint)
        self._radios[""].setChecked(True)
        self._formats.buttonClicked.connect(lambda _button: self._format_chosen())
        return column

    def _build_running(self) -> QWidget:
        self._doing = PlainLabel("", "body", "text2", elide=True)
        self._bar = QProgressBar()
        self._bar.setAccessibleName(self.tr("Progress of the merge"))
        self._bar.setTextVisible(False)
        self._bar.setFixedHeight(theme.px(8))
        cancel = Button(self.tr("Cancel"))
        cancel.setAccessibleName(self.tr("Cancel the merge"))
        cancel.clicked.connect(self._cancel)
        page = QWidget()
        column = QVBoxLayout(page)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(12))
        column.addWidget(self._doing)
        column.addWidget(self._bar)
        hint = self.tr("It works on in the background: the rest of the studio can be used.")
        column.addWidget(PlainLabel(hint, "small", "text3", wrap=True))
        row = QHBoxLayout()
        row.addWidget(cancel)
        row.addStretch(1)
        column.addLayout(row)
        column.addStretch(1)
        return page

    # --- the form --------------------------------------------------------------------------------------------------

    def show_adapter(self, adapter: Adapter, base: Base) -> None:
        """Offer to merge `adapter` into `base`; a merge in progress is shown instead."""
        if self._is_busy():
            return
        self._adapter, self._base = adapter, base
        self.set_title(self.tr("Merge {0}").format(adapter.name))
        own = SHORT.get(base.dtype, base.dtype)
        self._radios[""].setText(self.tr("As the base ({0})").format(own) if own else self.tr("As the base"))
        for dtype in BYTES:
            for widget in (self._radios[dtype], self._hints[dtype]):
                widget.setVisible(dtype != base.dtype)  # it is what "as the base" means
        self._radios[""].setChecked(True)
        self._error.hide()
        warning = origin_warning(adapter, base)
        self._warning.setVisible(warning is not None)
        if warning is not None:
            self._warning.show_message("warn", warning)
        self._stack.setCurrentIndex(FORM)
        self._target.ask_for(f"{base.id}-{adapter.name}", merged_bytes(base, self._dtype()))

    def _dtype(self) -> str:
        return next(dtype for dtype, radio in self._radios.items() if radio.isChecked())

    def _format_chosen(self) -> None:
        assert self._base is not None
        self._target.set_needs(merged_bytes(self._base, self._dtype()))

    def _judge(self) -> None:
        self._go.set_reason(self._target.problem())

    def _is_busy(self) -> bool:
        return self._is_waiting or bool(self._job)

    def _leave(self) -> None:
        if self._stack.currentIndex() == RECEIPT:
            self._stack.setCurrentIndex(FORM)
        self.left.emit()

    # --- the work --------------------------------------------------------------------------------------------------

    def know(self, jobs: set[str]) -> None:
        """Keys of jobs that were there before: none of them is the next merge."""
        self._known = set(jobs)

    def _merge(self) -> None:
        assert self._adapter is not None
        self._is_waiting = True
        self._error.hide()
        self.merge_requested.emit(self._adapter.name, str(self._target.path()), self._dtype())

    def refused(self) -> None:
        """The merge was not begun; why is told elsewhere."""
        self._is_waiting = False

    def take_job(self, job: JobView) -> None:
        """Follow the merge that was asked for; other jobs are passed over."""
        if job.kind == "merge" and self._is_waiting and job.key not in self._known:
            self._job, self._is_waiting = job.key, False
        if job.key != self._job:
            return
        if not job.is_over:
            self._show_progress(job)
            return
        self._job = ""
        if job.error:
            self._error.show_message("bad", f"{job.error} {job.hint}".strip())
            self._error.show()
            self._stack.setCurrentIndex(FORM)
            self._target.set_needs(merged_bytes(self._base, self._dtype()) if self._base is not None else 0)
        else:
            self._receipt.show_result(job.result)
            self._stack.setCurrentIndex(RECEIPT)

    def _show_progress(self, job: JobView) -> None:
        self._stack.setCurrentIndex(RUNNING)
        self._bar.setRange(0, job.total)
        self._bar.setValue(job.done)
        if job.total:
            self._doing.setText(self.tr("{0}: {1} of {2}").format(job.what, job.done, job.total))
        else:
            self._doing.setText(self.tr("Beginning\u2026"))

    def _cancel(self) -> None:
        self.cancel_requested.emit(self._job)
        self._doing.setText(self.tr("Cancelling\u2026"))
