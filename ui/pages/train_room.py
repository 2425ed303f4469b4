"""Below the parts: what the memory to spare can buy, and what other ways to train would take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from ui import theme
from ui.pages.train_fixes import Offer
from ui.pages.train_words import tr
from ui.widgets.buttons import Button
from ui.widgets.labels import IconLabel, PlainLabel, plain_tip
from ui.widgets.memory_layout import BYTES_PER_GB
from ui.widgets.memory_list import JUDGEMENTS, Judgement
from ui.widgets.messages import MessageBar

MOST_OTHERS = 2


class RoomOffers(QWidget):
    """Offers, each one press away; `taken(index)` tells which one was pressed."""

    taken = Signal(int)

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._first = MessageBar("info", "", tr("Apply"), icon="arrows-out-line-horizontal")
        self._first.action_triggered.connect(lambda: self.taken.emit(0))
        self._others = [Button("", "link") for _ in range(MOST_OTHERS)]
        self._row = QWidget()
        row = QHBoxLayout(self._row)
        row.setContentsMargins(theme.px(14), 0, 0, 0)
        row.setSpacing(theme.px(12))
        row.addWidget(PlainLabel(tr("or"), "body", "text2"))
        for index, button in enumerate(self._others, start=1):
            button.clicked.connect(lambda _=False, index=index: self.taken.emit(index))
            row.addWidget(button)
        row.addStretch(1)
        # Rather cut than wider than the card.
        self._row.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(theme.px(6))
        column.addWidget(self._first)
        column.addWidget(self._row)

    def show_offers(self, offers: Sequence[Offer]) -> None:
        """Show these; without any there is nothing to see."""
        self.setVisible(bool(offers))
        self._row.setVisible(len(offers) > 1)
        for index, button in enumerate(self._others, start=1):
            button.setVisible(index < len(offers))
        if not offers:
            return
        self._first.show_message("info", offers[0].text, tr("Apply"))
        self._first.setToolTip(plain_tip(offers[0].price))
        for button in self._first.findChildren(Button):
            button.setAccessibleName(tr("Use the spare: {0}").format(offers[0].short))
        for button, offer in zip(self._others, offers[1:], strict=False):
            button.set_label(offer.short)
            button.setAccessibleName(tr("Use the spare: {0}").format(offer.short))
            button.setToolTip(plain_tip(f"{offer.text}\n{offer.price}".strip()))


class _Way(QWidget):
    """One way to train: its name, and below it what it takes with icon and word."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name
        self._size = PlainLabel("", "medium")
        self._icon = IconLabel("check-circle", "ok", 14, filled=True)
        self._word = PlainLabel("", "small")
        row = QHBoxLayout()
        row.setSpacing(theme.px(4))
        for widget in (self._size, self._icon, self._word):
            row.addWidget(widget)
        row.addStretch(1)
        column = QVBoxLayout(self)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(PlainLabel(name, "small", "text2", elide=True))
        column.addLayout(row)

    def show_way(self, num_bytes: int, judgement: Judgement, word: str) -> None:
        """Take new values."""
        icon, role = JUDGEMENTS[judgement]
        digits = 1 if num_bytes < 100 * BYTES_PER_GB else 0
        size = tr("\u2248 {0} GB").format(f"{num_bytes / BYTES_PER_GB:.{digits}f}")
        self._size.setText(size)
        self._icon.set_icon(icon, role, filled=True)
        self._word.setText(word)
        self._word.set_role(role)
        self.setAccessibleName(f"{self._name}: {size}, {word}")


class Ways(QWidget):
    """The recipe as QLoRA, as LoRA on 16-bit weights, and as training of all weights, side by side."""

    def __init__(self, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        names = {"qlora": tr("QLoRA"), "lora": tr("As 16-bit LoRA"), "full": tr("All weights")}
        self._ways = {key: _Way(name) for key, name in names.items()}
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(theme.px(8))
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Preferred)
        for way in self._ways.values():
            row.addWidget(way, 1)

    def show_ways(self, found: Mapping[str, tuple[int, Judgement, str]]) -> None:
        """Show bytes, verdict and word of each."""
        self.setVisible(bool(found))
        for key, (num_bytes, judgement, word) in found.items():
            self._ways[key].show_way(num_bytes, judgement, word)
