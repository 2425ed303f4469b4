"""Where a question is written, and how its answers are drawn: the prompt field and the sampling panel."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QObject, QPoint, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics, QKeyEvent, QPaintEvent, QPalette
from PySide6.QtWidgets import QFrame, QPlainTextEdit, QSizePolicy, QVBoxLayout, QWidget

from studio.chat.sampling import MAX_SEED, MAX_TEMPERATURE, MAX_TOKENS, Sampling
from ui import theme
from ui.widgets import paint
from ui.widgets.controls import NumberField
from ui.widgets.fields import Field, FieldGrid
from ui.widgets.labels import PlainLabel

MAX_LINES = 6
PADDING = 10


class _Edit(QPlainTextEdit):
    """The text itself; the frame around it is the field's."""

    submitted = Signal()

    def __init__(self, name: str, parent: QWidget) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setTabChangesFocus(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.document().setDocumentMargin(0)
        self.viewport().setAutoFillBackground(False)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Ctrl+Return sends; Return alone begins a new line."""
        is_return = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if is_return and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.submitted.emit()
        else:
            super().keyPressEvent(event)


class PromptField(QFrame):
    """A text field that grows from one line to six. `submitted` is told on Ctrl+Return, `changed` on each edit."""

    submitted = Signal()
    changed = Signal()

    def __init__(self, name: str, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._edit = _Edit(name, self)
        self._edit.submitted.connect(self.submitted)
        self._edit.textChanged.connect(self.changed)
        self._edit.installEventFilter(self)
        self._edit.document().documentLayout().documentSizeChanged.connect(self._fit)
        self.setFocusProxy(self._edit)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        column = QVBoxLayout(self)
        column.setContentsMargins(theme.px(12), theme.px(PADDING), theme.px(8), theme.px(PADDING))
        column.addWidget(self._edit)
        theme.changed.connect(self._restyle)
        self._restyle()

    def text(self) -> str:
        """What is written."""
        return self._edit.toPlainText()

    def set_text(self, text: str) -> None:
        """Write something else, with the cursor at its end."""
        self._edit.setPlainText(text)
        self._edit.moveCursor(self._edit.textCursor().MoveOperation.End)

    def set_placeholder(self, text: str) -> None:
        """What stands in the empty field."""
        self._edit.setPlaceholderText(text)

    def eventFilter(self, _watched: QObject, event: QEvent) -> bool:
        """The frame shows the focus of the text in it."""
        if event.type() in (QEvent.Type.FocusIn, QEvent.Type.FocusOut):
            self.update()
        return False

    def _restyle(self) -> None:
        self._edit.setFont(theme.font("body", "-"))
        look = QPalette(self._edit.palette())
        look.setColor(QPalette.ColorRole.Base, Qt.GlobalColor.transparent)
        look.setColor(QPalette.ColorRole.Text, theme.current().colour("text"))
        look.setColor(QPalette.ColorRole.PlaceholderText, theme.current().colour("text3"))
        self._edit.setPalette(look)
        self._fit()

    def _fit(self) -> None:
        # The layout of a plain-text document counts its height in lines.
        num_lines = max(1, round(self._edit.document().size().height()))
        line = QFontMetrics(self._edit.font()).lineSpacing()
        height = min(num_lines, MAX_LINES) * line + 2 * theme.px(PADDING) + 2
        self.setFixedHeight(max(theme.px(theme.ACTION), height))
        policy = Qt.ScrollBarPolicy
        self._edit.setVerticalScrollBarPolicy(
            policy.ScrollBarAsNeeded if num_lines > MAX_LINES else policy.ScrollBarAlwaysOff
        )

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw the frame."""
        painter = paint.start(self)
        paint.field_box(painter, self, focused=self._edit.hasFocus(), invalid=False)
        painter.end()


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
