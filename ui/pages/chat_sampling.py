"""How answers are drawn: the sampling panel."""

from __future__ import annotations

from PySide6.QtCore import QPoint, QSize, Qt, Signal
from PySide6.QtGui import QPaintEvent
from PySide6.QtWidgets import QFrame, QVBoxLayout, QWidget

from studio.chat.sampling import MAX_SEED, MAX_TEMPERATURE, MAX_TOKENS, Sampling
from ui import theme
from ui.widgets import paint
from ui.widgets.controls import NumberField
from ui.widgets.fields import Field, FieldGrid
from ui.widgets.labels import PlainLabel


class SamplingPanel(QFrame):
    """How answers are drawn, in a panel that opens below a button and goes when something else is clicked."""

    changed = Signal()

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent, Qt.WindowType.Popup | Qt.WindowType.FramelessWindowHint)
        self.setAccessibleName(self.tr("Sampling"))
        start = Sampling()
        self._max_tokens = NumberField(start.max_tokens, minimum=1, maximum=MAX_TOKENS, step=64)
        self._temperature = NumberField(start.temperature, minimum=0, maximum=MAX_TEMPERATURE, whole=False)
        self._top_p = NumberField(start.top_p, minimum=0.001, maximum=1, whole=False)
        self._seed = NumberField(start.seed, minimum=0, maximum=MAX_SEED)
        fields = [
            Field(self.tr("Longest answer"), self._max_tokens, self.tr("tokens"), self.tr("Then it is cut")),
            Field(self.tr("Temperature"), self._temperature, hint=self.tr("0: always the likeliest word")),
            Field(self.tr("Top p"), self._top_p, hint=self.tr("Share of likely words")),
            Field(self.tr("Seed"), self._seed, hint=self.tr("Same seed, same answer")),
        ]
        for each in (self._max_tokens, self._temperature, self._top_p, self._seed):
            each.value_changed.connect(lambda _value: self.changed.emit())
        column = QVBoxLayout(self)
        column.setContentsMargins(*[theme.px(16)] * 4)
        column.setSpacing(theme.px(12))
        column.addWidget(PlainLabel(self.tr("Sampling"), "heading"))
        column.addWidget(FieldGrid(fields, 2, minimum_width=150))
        self.setFixedWidth(theme.px(400))

    def sampling(self) -> Sampling:
        """The values taken."""
        return Sampling(
            max_tokens=int(self._max_tokens.value()),
            temperature=self._temperature.value(),
            top_p=self._top_p.value(),
            seed=int(self._seed.value()),
        )

    def open_below(self, button: QWidget) -> None:
        """Show the panel under `button`, its right edges aligned."""
        self.adjustSize()
        corner = button.mapToGlobal(QPoint(button.width() - self.width(), button.height() + theme.px(4)))
        self.move(corner)
        self.show()
        self._max_tokens.setFocus(Qt.FocusReason.PopupFocusReason)

    def sizeHint(self) -> QSize:
        """As wide as two fields."""
        return QSize(theme.px(400), super().sizeHint().height())

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the raised sheet."""
        look = theme.current()
        painter = paint.start(self)
        painter.fillRect(self.rect(), look.colour("raised"))
        paint.box(painter, self.rect(), 0, None, look.colour("line"))
        painter.end()
