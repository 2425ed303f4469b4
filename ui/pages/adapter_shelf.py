"""The list of adapters: grouped under their bases, filtered by words, base and tag."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from PySide6.QtCore import QCoreApplication, QRect, QRectF, QSize, Qt
from PySide6.QtGui import QFontMetrics, QPainter
from PySide6.QtWidgets import QStyle, QStyleOptionViewItem, QWidget

from studio import files
from studio.library.adapter import Adapter
from studio.models.bases import Base
from ui import theme
from ui.pages.adapter_bases import base_of, has_namesake, stated_base
from ui.widgets import paint
from ui.widgets.labels import plain_tip
from ui.widgets.numbers import locale
from ui.widgets.tables import ICON_ROLE, ROLE_ROLE, Column, Index, RowDelegate, Rows

NAME, RANK, SIZE, LOSS, MADE = range(5)
GROUP_ROLE = Qt.ItemDataRole.UserRole + 30  # a Group on the row of a base
ADAPTER_ROLE = Qt.ItemDataRole.UserRole + 31  # an Adapter on all others
BYTES_PER_PARAMETER = 2  # a full copy, in 16 bit
_MAX_TAGS = 3


def _tr(text: str) -> str:
    return QCoreApplication.translate("AdaptersPage", text)


@dataclass(frozen=True)
class Group:
    """The adapters of one base. `base` is None where it is not on this computer; `why` then says so."""

    title: str
    base: Base | None
    why: str
    adapters: tuple[Adapter, ...]


def group(adapters: Iterable[Adapter], bases: Sequence[Base]) -> list[Group]:
    """The adapters under their bases: those that can be used first, each group in the order given."""
    here: dict[str, list[Adapter]] = {}
    away: dict[tuple[str, str], list[Adapter]] = {}
    found: dict[str, Base] = {}
    for adapter in adapters:
        base = base_of(adapter, bases)
        if base is not None:
            found[base.id] = base
            here.setdefault(base.id, []).append(adapter)
        else:
            title = stated_base(adapter) or _tr("Base unknown")
            away.setdefault((title, why_away(adapter, bases)), []).append(adapter)
    groups = [Group(name, found[name], "", tuple(each)) for name, each in here.items()]
    return groups + [Group(title, None, why, tuple(each)) for (title, why), each in away.items()]


def why_away(adapter: Adapter, bases: Sequence[Base]) -> str:
    """Why an adapter cannot be laid on anything here, in a few words."""
    if has_namesake(adapter, bases):
        return _tr("the one here has other weights")
    return _tr("not on this computer") if stated_base(adapter) else _tr("the adapter does not name it")


def matches(adapter: Adapter, words: str, tag: str) -> bool:
    """Whether all `words` occur in name, note, base or tags, and `tag` ("": any) is among the tags."""
    text = " ".join([adapter.name, adapter.note, adapter.base, *adapter.tags]).casefold()
    return (not tag or tag in adapter.tags) and all(word in text for word in words.casefold().split())


def size_of(count: float) -> str:
    """A number of bytes without a needless `.0`: `132 MB`, `1.8 GB`."""
    return files.readable_bytes(count).replace(".0 ", " ")


def loss_of(adapter: Adapter) -> float | None:
    """The loss on held-out rows at the end of training, if it was measured."""
    return adapter.metrics.get("evaluation_loss")


def made(created: float) -> str:
    """A time, as short as it can be told: `today 14:05`, `18 Nov`, `3 Aug 2024`."""
    when, now = datetime.fromtimestamp(created), datetime.now()
    day = locale()
    if when.date() == now.date():
        return _tr("today {0}").format(f"{when:%H:%M}")
    text = f"{when.day} {day.monthName(when.month, day.FormatType.ShortFormat)}"
    return text if when.year == now.year else f"{text} {when.year}"


def worth(groups: Iterable[Group]) -> str:
    """What the overlays take, and what full copies of their bases would: the reason to keep overlays."""
    adapters = [(adapter, each.base) for each in groups for adapter in each.adapters]
    size = size_of(sum(adapter.bytes for adapter, _ in adapters))
    if not adapters:
        return ""
    count = _tr("{0} overlays, {1}.") if len(adapters) > 1 else _tr("{0} overlay, {1}.")
    known = [base.num_parameters * BYTES_PER_PARAMETER for _, base in adapters if base is not None]
    if not known:
        return count.format(len(adapters), size)
    copies = _tr("As full copies of their bases they would take {0}.")
    if len(known) < len(adapters):
        copies = _tr("As full copies of their bases they would take more than {0}.")
    return f"{count.format(len(adapters), size)} {copies.format(size_of(sum(known)))}"


class Shelf(Rows):
    """The rows: one for each base, below it one for each of its adapters, whose key is its name."""

    def __init__(self, parent: QWidget | None = None) -> None:
        columns = [
            Column(_tr("Name"), stretch=True),
            Column(_tr("Rank"), True),
            Column(_tr("Size"), True),
            Column(_tr("Eval loss"), True),
            Column(_tr("Made"), True),
        ]
        super().__init__(columns, parent)
        self._entries: list[tuple[Group, Adapter | None]] = []

    def set_groups(self, groups: Sequence[Group]) -> None:
        """Show these."""
        entries: list[tuple[Group, Adapter | None]] = []
        for each in groups:
            entries.append((each, None))
            entries += [(each, adapter) for adapter in each.adapters]
        self._entries = entries
        self.set_rows([_cells(each, adapter) for each, adapter in entries], [_icon(*entry) for entry in entries])

    def first(self) -> str:
        """The name of the first adapter, or nothing."""
        return next((adapter.name for _, adapter in self._entries if adapter is not None), "")

    def is_group(self, row: int) -> bool:
        """Whether a row stands for a base."""
        return self._entries[row][1] is None

    def flags(self, index: Index) -> Qt.ItemFlag:
        """A base's row cannot be chosen."""
        if index.isValid() and self.is_group(index.row()):
            return Qt.ItemFlag.ItemIsEnabled
        return super().flags(index)

    def data(self, index: Index, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """As of any row; the group or the adapter itself for the delegate."""
        entry, adapter = self._entries[index.row()]
        if role == GROUP_ROLE:
            return entry if adapter is None else None
        if role == ADAPTER_ROLE:
            return adapter
        if role == ROLE_ROLE and adapter is not None:
            if entry.base is None:
                return "text3"
            return "text" if index.column() == LOSS else None
        if role == Qt.ItemDataRole.ToolTipRole and adapter is not None and entry.base is None:
            return plain_tip(_tr("Needs {0}: {1}").format(entry.title, entry.why))
        if role == Qt.ItemDataRole.AccessibleTextRole and index.column() == NAME:
            return _spoken(entry, adapter)
        return super().data(index, role)


def _spoken(entry: Group, adapter: Adapter | None) -> str:
    if adapter is None:
        return f"{entry.title}, {entry.why}" if entry.why else entry.title
    parts = [adapter.name, *adapter.tags]
    return ", ".join([*parts, _tr("needs its base")] if entry.base is None else parts)


def _cells(entry: Group, adapter: Adapter | None) -> tuple[object, Sequence[str]]:
    if adapter is None:
        return None, (entry.title, "", "", "", "")
    loss = loss_of(adapter)
    cells = (
        adapter.name,
        str(adapter.rank),
        size_of(adapter.bytes),
        "" if loss is None else f"{loss:.2f}",
        made(adapter.created),
    )
    return adapter.name, cells


def _count(entry: Group) -> str:
    words = _tr("{0} overlays") if len(entry.adapters) > 1 else _tr("{0} overlay")
    return words.format(len(entry.adapters))


def _icon(entry: Group, adapter: Adapter | None) -> tuple[str, str, bool]:
    if adapter is None:
        return "cube", "text2", False
    return "stack-simple", "atext" if entry.base is not None else "text3", False


class ShelfDelegate(RowDelegate):
    """Draws bases as headings over the whole width, and tags at the right of a name."""

    def sizeHint(self, option: QStyleOptionViewItem, index: Index) -> QSize:
        """A heading spreads over all columns and widens none."""
        if index.data(GROUP_ROLE) is not None:
            return QSize(0, theme.px(theme.ROW))
        return super().sizeHint(option, index)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: Index) -> None:
        """Draw the cell."""
        entry = index.data(GROUP_ROLE)
        if entry is not None:
            self._heading(painter, option.rect, index, entry)
            return
        if index.column() != NAME:
            super().paint(painter, option, index)
            return
        rect: QRect = option.rect
        adapter: Adapter = index.data(ADAPTER_ROLE)
        is_chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        super().paint(painter, option, index)
        right = self._tags(painter, rect, adapter, is_chosen)
        if index.data(ROLE_ROLE) == "text3":
            self._needs(painter, rect, adapter, right)

    @staticmethod
    def _name_width(adapter: Adapter) -> int:
        return QFontMetrics(theme.font("medium", adapter.name)).horizontalAdvance(adapter.name)

    def _tags(self, painter: QPainter, rect: QRect, adapter: Adapter, chosen: bool) -> int:
        """Draw as many tags as there is room for beside the name; returns where they begin."""
        look, font = theme.current(), theme.font("pill")
        left_end = rect.left() + theme.px(16 + 26 + 8) + self._name_width(adapter)
        right = rect.right() - theme.px(8)
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(font)
        for tag in reversed(adapter.tags[:_MAX_TAGS]):
            width = QFontMetrics(font).horizontalAdvance(tag) + theme.px(16)
            if right - width < left_end:
                continue
            height = theme.px(20)
            pill = QRectF(right - width, rect.center().y() - height / 2 + 0.5, width, height)
            edge = look.colour("outline") if look.name == "contrast" else None
            paint.box(painter, pill, theme.px(theme.RADIUS_PILL), look.colour("surface" if chosen else "sunken"), edge)
            painter.setPen(look.colour("text2"))
            painter.drawText(pill, Qt.AlignmentFlag.AlignCenter, tag)
            right -= width + theme.px(6)
        painter.restore()
        return right

    def _needs(self, painter: QPainter, rect: QRect, adapter: Adapter, right: int) -> None:
        left = rect.left() + theme.px(16 + 26 + 8) + self._name_width(adapter)
        text, font = _tr("needs its base"), theme.font("small")
        if left + QFontMetrics(font).horizontalAdvance(text) > right:
            return
        painter.save()
        painter.setFont(font)
        painter.setPen(theme.current().colour("text3"))
        room = QRect(left, rect.top(), right - left, rect.height())
        painter.drawText(room, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, text)
        painter.restore()

    @staticmethod
    def _heading(painter: QPainter, rect: QRect, index: Index, entry: Group) -> None:
        look = theme.current()
        painter.save()
        painter.fillRect(rect, look.colour("canvas"))
        painter.fillRect(rect.left(), rect.bottom(), rect.width(), 1, look.colour("line"))
        left, right = rect.left() + theme.px(16), rect.right() - theme.px(8)
        count, small = _count(entry), theme.font("small")
        painter.setFont(small)
        painter.setPen(look.colour("text2"))
        painter.drawText(
            QRect(left, rect.top(), right - left, rect.height()),
            int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter),
            count,
        )
        right -= QFontMetrics(small).horizontalAdvance(count) + theme.px(12)
        name, role, _ = index.data(ICON_ROLE)
        size = theme.px(16)
        theme.draw_icon(painter, QRectF(left, rect.center().y() - size / 2 + 0.5, size, size), name, role)
        left += theme.px(26)
        for text, kind, role in ((entry.title, "strong", "text"), (_beside(entry), "small", "text2")):
            font = theme.font(kind, text)
            painter.setFont(font)
            painter.setPen(look.colour(role))
            shown = QFontMetrics(font).elidedText(text, Qt.TextElideMode.ElideRight, max(0, right - left))
            room = QRect(left, rect.top(), max(0, right - left), rect.height())
            painter.drawText(room, int(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter), shown)
            left += QFontMetrics(font).horizontalAdvance(shown) + theme.px(8)
        painter.restore()


def _beside(entry: Group) -> str:
    if entry.base is None:
        return entry.why
    size = size_of(entry.base.num_parameters * BYTES_PER_PARAMETER)
    return _tr("{0} in 16 bit").format(size)
