"""Renders every component in each theme into a folder: `python -m tests.ui.gallery FOLDER [WIDTH HEIGHT [RATIO]]`.

For the eye, beside the design's own `0-components` pictures; the tests use the same pages as a supply of widgets.
"""

import math
import os
import sys
from collections.abc import Callable
from pathlib import Path

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import (
    QApplication,
    QGridLayout,
    QHBoxLayout,
    QMenu,
    QProgressBar,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from ui import theme
from ui.widgets import paint
from ui.widgets.buttons import Button, IconButton
from ui.widgets.controls import Choice, NumberField, TextField
from ui.widgets.fields import Field
from ui.widgets.labels import Divider, PlainLabel
from ui.widgets.loss_plot import LossPlot
from ui.widgets.memory_bar import MemoryBar
from ui.widgets.memory_layout import BYTES_PER_GB
from ui.widgets.memory_list import MemoryList, Verdict
from ui.widgets.messages import EmptyState, MessageBar, StatTile, StatusPill
from ui.widgets.page import Card, Page, PageHeader, column
from ui.widgets.sidebar import NavItem, Sidebar
from ui.widgets.sliders import SliderField
from ui.widgets.small_plot import SmallPlot
from ui.widgets.tables import Column, Rows, table_view
from ui.widgets.tabs import Tabs
from ui.widgets.toggles import CheckBox, RadioButton, Segmented
from ui.widgets.transcript import Lane, Transcript

LABELS = {
    "other": ("Other apps", "Browser, desktop"),
    "weights": ("Base weights", "4-bit NF4"),
    "adapter": ("Adapter", "Rank 16, all linear"),
    "gradients": ("Gradients", "Same size as the adapter"),
    "optimizer": ("Optimiser", "Paged AdamW, 8-bit"),
    "activations": ("Activations", "2 rows \u00d7 2,048 tokens"),
    "logits": ("Logits", "2 rows \u00d7 2,048 tokens"),
    "overhead": ("CUDA and overhead", "Fixed cost"),
}
FITS = (0.9, 2.9, 0.13, 0.13, 0.07, 6.4, 2.1, 1.1)
TIGHT = (0.9, 6.1, 0.4, 0.4, 0.1, 10.4, 2.4, 1.2)
OVER = (0.9, 18.4, 0.5, 0.5, 0.3, 4.4, 1.3, 0.8)


def budget(gigabytes: tuple[float, ...]) -> list[tuple[str, str, int, str]]:
    """Parts for a memory bar or list."""
    return [
        (name, label, int(size * BYTES_PER_GB), driver)
        for (name, (label, driver)), size in zip(LABELS.items(), gigabytes, strict=True)
    ]


def row(*widgets: QWidget, spacing: int = 8) -> QHBoxLayout:
    """Widgets side by side, the rest of the width empty."""
    layout = QHBoxLayout()
    layout.setSpacing(spacing)
    for widget in widgets:
        layout.addWidget(widget)
    layout.addStretch(1)
    return layout


def bars() -> Card:
    card = Card("Segmented bar")
    card.body.setSpacing(4)
    kinds = (("fits", "Fits", FITS, 13.2), ("tight", "Tight", TIGHT, 21.3), ("over", "Over by 3.1 GB", OVER, None))
    for judgement, word, sizes, measured in kinds:
        verdict, bar = Verdict(), MemoryBar()
        verdict.set_verdict(judgement, word, f"\u2248 {sum(sizes):.1f} of 24.0 GB")
        bar.set_limit(24 * BYTES_PER_GB)
        bar.set_budget(budget(sizes))
        bar.set_measured(None if measured is None else int(measured * BYTES_PER_GB))
        card.add(verdict)
        card.add(bar)
    small = [MemoryBar("small", name=f"Small bar {index}") for index in range(2)]
    for bar, sizes in zip(small, (FITS, TIGHT), strict=True):
        bar.set_limit(24 * BYTES_PER_GB)
        bar.set_budget(budget(sizes))
        bar.setFixedWidth(128)
    card.add(row(PlainLabel("Small:", "body", "text2"), *small, spacing=16))
    return card


def parts() -> Card:
    card = Card("Parts, always in this order")
    listing = MemoryList()
    listing.set_parts(budget(FITS))
    card.add(listing)
    card.body.addStretch(1)
    return card


def buttons() -> tuple[Card, QWidget]:
    card = Card("Buttons")
    card.body.setSpacing(16)
    chosen = Button("Better", icon="thumbs-up")
    chosen.setCheckable(True)
    chosen.setChecked(True)
    stop = Button("Stop", icon="stop")
    stop.setMenu(QMenu(stop))
    waiting = Button("Start training", "primary")
    waiting.set_reason("Choose a dataset")
    focused = Button("Focused")
    quiet = row(Button("Primary", "primary"), Button("Default"), Button("Quiet", "quiet"), Button("Link", "link"))
    quiet.insertWidget(4, IconButton("dots-three-bold", "More"))
    card.add(quiet)
    card.add(row(waiting, chosen, stop))
    card.add(
        row(
            Button("Move to trash", "danger"),
            focused,
            PlainLabel("A disabled button says why.", "small", "text3"),
            spacing=12,
        )
    )
    return card, focused


def fields() -> Card:
    card = Card("Fields")
    card.body.setSpacing(12)
    grid = QGridLayout()
    grid.setHorizontalSpacing(24)
    grid.setVerticalSpacing(8)
    wrong = NumberField(2e-4, minimum=1e-5, maximum=1e-2, whole=False)
    wrong.setText("2")
    disabled = NumberField(0.05, whole=False)
    disabled.setEnabled(False)
    error = Field("Out of range", wrong, hint="Usual: 1e-4 to 3e-4")
    error.set_error("Usual: 1e-4 to 3e-4")
    changed = Field("Changed", NumberField(2048, minimum=1, unit="tokens"), hint="Cuts 0.9 % of rows")
    changed.set_changed(True)
    grid.addWidget(changed, 0, 0)
    grid.addWidget(Field("Rest", NumberField(2e-4, whole=False), hint="Usual: 1e-4 to 3e-4"), 0, 1)
    grid.addWidget(error, 1, 0)
    grid.addWidget(Field("Disabled", disabled, hint="Only with dropout on"), 1, 1)
    card.add(grid)
    checked, one = CheckBox("Checked"), RadioButton("One")
    checked.setChecked(True)
    one.setChecked(True)
    card.add(row(checked, CheckBox("Not checked"), one, RadioButton("Other"), spacing=20))
    level = Segmented([("basic", "Basic"), ("expert", "Expert")], name="Level")
    stops = SliderField(
        [("quick", "Quick"), ("balanced", "Balanced"), ("thorough", "Thorough")], "balanced", labels=False
    )
    stops.slider.setAccessibleName("Quality")
    line = QHBoxLayout()
    line.setSpacing(28)
    line.addWidget(level)
    line.addWidget(stops, 1)
    card.add(line)
    return card


def messages() -> Card:
    card = Card("Messages")
    card.body.setSpacing(8)
    card.add(MessageBar("info", "10 GB are left over.", "Use them"))
    card.add(MessageBar("ok", "Merged and checked.", "Open folder"))
    card.add(MessageBar("warn", "Evaluation loss rose 3 times.", "Go back to step 600"))
    card.add(MessageBar("bad", "Out of memory at step 3.", "Try 1 row at a time"))
    card.body.addStretch(1)
    return card


def types() -> Card:
    card = Card("Type")
    card.body.setSpacing(8)
    first = row(PlainLabel("Display 28", "display"))
    first.addWidget(PlainLabel("Title 20", "title"))
    second = row(PlainLabel("Heading 15", "heading"), PlainLabel("Lead 15", "lead", "text2"), spacing=16)
    second.addWidget(PlainLabel("1.16", "number"))
    card.add(first)
    card.add(second)
    third = (PlainLabel("Body 13"), PlainLabel("Medium 13", "medium"), PlainLabel("Strong 13", "strong"))
    card.add(row(*third, spacing=16))
    fourth = [("Small 12", "small", "text2"), ("Hint 12", "small", "text3"), ("Caption 11", "caption", "text2")]
    card.add(row(*[PlainLabel(*each) for each in [*fourth, ("Mono 12", "mono", "text2")]], spacing=16))
    return card


def pills() -> Card:
    card = Card("Status words")
    card.body.setSpacing(8)
    for words in (
        ("Ready", "Loading...", "Running", "Paused"),
        ("Stopping...", "Done", "Stopped"),
        ("Failed", "Interrupted"),
    ):
        card.add(row(*[StatusPill(word) for word in words]))
    return card


class Swatch(QWidget):
    """One colour role with its name."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self.role = role
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def sizeHint(self) -> QSize:
        return QSize(43, 44)

    def paintEvent(self, _event: object) -> None:
        look = theme.current()
        painter = paint.start(self)
        edge = look.colour("outline")
        paint.box(painter, self.rect().adjusted(0, 0, 0, -20), 4, look.colour(self.role), edge)
        painter.setFont(theme.font("caption"))
        painter.setPen(look.colour("text2"))
        painter.drawText(self.rect(), Qt.AlignmentFlag.AlignBottom, self.role)
        painter.end()


def roles() -> Card:
    card = Card("Colour roles")
    grid = QGridLayout()
    grid.setSpacing(8)
    names = ["canvas", "surface", "sunken", "line", "outline", "text", "text2", "text3", "accent", "atext", "soft"]
    names += ["ok", "warn", "bad", "lane_a", "lane_b"]
    for index, name in enumerate(names):
        grid.addWidget(Swatch(name), index // 8, index % 8)
    card.add(grid)
    return card


def empty() -> Card:
    card = Card()
    buttons = (Button("Use the example", "primary"), Button("Import file\u2026"))
    card.add(EmptyState("database", "No datasets yet", "Drop a file here, or start with the example.", buttons), 1)
    return card


class Components(QWidget):
    """All components on one page of 1440 x 900."""

    def __init__(self) -> None:
        super().__init__()
        outer = QVBoxLayout(self)
        outer.setContentsMargins(32, 24, 32, 24)
        outer.setSpacing(16)
        outer.addWidget(PageHeader("Overlay Studio components", theme.current().name))
        columns = QHBoxLayout()
        columns.setSpacing(16)
        outer.addLayout(columns, 1)
        card, self.focused = buttons()
        for cards, last in (
            ((bars(), parts()), True),
            ((card, fields(), messages()), True),
            ((types(), pills(), roles(), empty()), True),
        ):
            column = QVBoxLayout()
            column.setSpacing(16)
            for index, each in enumerate(cards):
                column.addWidget(each, 1 if last and index == len(cards) - 1 else 0)
            columns.addLayout(column, 1)
        for card in self.findChildren(Card):
            card.layout().setSpacing(12)
            card.layout().setContentsMargins(24, 16, 24, 20)


NAV = (
    (NavItem("home", "Home", "house", "Ctrl+1"),),
    (NavItem("bases", "Base models", "cube"), NavItem("data", "Datasets", "database")),
    (NavItem("train", "Train", "play-circle"), NavItem("runs", "Runs", "chart-line-up")),
    (
        NavItem("adapters", "Adapters", "stack-simple"),
        NavItem("chat", "Chat", "chats-circle"),
        NavItem("merge", "Merge & Export", "export"),
    ),
)


def losses(num_steps: int = 412) -> tuple[list[int], list[float]]:
    """A curve that falls, with noise that is the same each time, and one step without a value."""
    steps = list(range(1, num_steps + 1))
    values = [
        1.2 + 1.3 * math.exp(-step / 60) + 0.12 * math.sin(step * 12.9898) * math.cos(step * 4.1) for step in steps
    ]
    values[300] = math.nan
    return steps, values


def charts() -> tuple[LossPlot, QGridLayout]:
    """The plots of a run."""
    steps, values = losses()
    loss = LossPlot()
    loss.set_series(steps, values)
    loss.set_evaluations([(step, values[step - 1] + 0.02) for step in range(50, 412, 50)])
    loss.set_checkpoints([100, 200, 300, 400])
    loss.set_marks([(400, "epoch 2 begins")])
    loss.set_total_steps(450)
    rate = SmallPlot("Learning rate", "pale: planned", width=2)
    rate.set_series(steps, [2e-4 * min(1, step / 36) * (1 + math.cos(step / 1200)) / 2 for step in steps])
    rate.set_planned([412, 460], [1.9e-4 * 0.88, 1.85e-4 * 0.86])
    norm = SmallPlot("Gradient norm", "1 step clipped")
    norm.set_series(
        steps, [1.35 if step == 230 else 0.5 + value * 0.02 for step, value in zip(steps, values, strict=True)]
    )
    norm.set_lines([(1.0, "clip", "clip")])
    memory = SmallPlot("Graphics memory, GB", "peak 13.2, 4 % under the estimate", fill=True)
    memory.set_series(steps, [11.5 + 0.3 * (step % 60 == 0) for step in steps])
    memory.set_lines([(13.7, "estimate 13.7", "estimate"), (24, "card 24", "limit")])
    speed = SmallPlot("Tokens per second", "dips: evaluation")
    speed.set_series(steps, [2200 if step % 50 == 0 else 3100 + 60 * math.sin(step) for step in steps])
    grid = QGridLayout()
    grid.setSpacing(16)
    for index, plot in enumerate((rate, norm, speed, memory)):
        plot.setFixedHeight(150)
        grid.addWidget(plot, index // 2, index % 2)
    return loss, grid


class Running(QWidget):
    """A run in progress: sidebar, header, charts."""

    def __init__(self) -> None:
        super().__init__()
        row_ = QHBoxLayout(self)
        row_.setContentsMargins(0, 0, 0, 0)
        row_.setSpacing(0)
        bar = Sidebar(NAV, (NavItem("settings", "Settings", "gear-six"),))
        bar.set_current("train")
        bar.set_badge("runs", "34 %")
        row_.addWidget(bar)
        actions = [Button("Sample now", "quiet"), Button("Stop", icon="stop"), Button("Pause", icon="pause")]
        page = Page("support-bot v3", "Qwen3-4B-Instruct with support-bot", actions)
        page.header.insert(StatusPill("Training"))
        page.narrow_changed.connect(bar.set_narrow)
        row_.addWidget(page, 1)
        views = (("charts", "Charts"), ("samples", "Samples"), ("batch", "First batch"), ("log", "Log"))
        progress = QProgressBar()
        progress.setValue(34)
        progress.setTextVisible(False)
        progress.setFixedHeight(8)
        page.add(progress)
        page.add(Tabs(views))
        loss, grid = charts()
        left = column([loss, grid])
        loss.setMinimumHeight(340)
        now = Card("Now")
        pair = QHBoxLayout()
        pair.addWidget(StatTile("Loss, smoothed", "1.16", "\u22120.04 in 50 steps", large=True))
        pair.addWidget(StatTile("Evaluation", "1.20", "best so far", large=True))
        now.add(pair)
        now.add(Divider())
        page.columns(left, column([now]), 296, gutter=16)


class Chatting(QWidget):
    """Three lanes, and a table of adapters whose names are hostile."""

    def __init__(self) -> None:
        super().__init__()
        row_ = QHBoxLayout(self)
        row_.setContentsMargins(32, 16, 32, 16)
        row_.setSpacing(16)
        lanes = [Lane("base", "base", "Base alone"), Lane("a", "a", "support-bot v3"), Lane("b", "b", "support-bot v2")]
        talk = Transcript(lanes)
        for lane in lanes[1:]:
            chooser = Choice([(1, lane.name), (2, "other")], name=f"Adapter of lane {lane.key}")
            talk.head(lane.key).set_slot(chooser)
            talk.head(lane.key).set_note("9 votes")
        turn = talk.add_turn("I was charged twice for order 4471. What should I do?")
        texts = {
            "base": "I'm sorry to hear that you were charged twice. Here are some steps you can take:\n1. Check your bank "
            "statement to confirm that both charges are complete and not pending.\n2. Contact customer support.",
            "a": "Sorry about that! One of the two is usually a card check that drops off within 3 working days.",
            "b": "Sorry about that. <b>Please</b> wait 3 days, one of the charges is a hold.",
        }
        for key, text in texts.items():
            talk.answer(turn, key).set_text(text)
            talk.answer(turn, key).set_progress(71, 44)
        talk.answer(turn, "a").set_marks([(6, 17, 1), (36, 56, 2)])
        talk.answer(turn, "a").set_better(True)
        talk.answer(turn, "b").set_marks([(6, 17, 1)])
        talk.set_note(turn, "A is better: saved as a preference row in support-votes (15 rows).", "Undo")
        turn = talk.add_turn("And can I still change the address?")
        talk.answer(turn, "base").append("Whether you can still change the address depends on the company's policy.")
        talk.answer(turn, "a").append("Yes, until it leaves our warehouse. Open Orders, then tap Edit")
        talk.answer(turn, "b").set_waiting("B is next")
        talk.answer(turn, "base").finish(46, 44)
        talk.answer(turn, "a").flush()
        row_.addWidget(talk, 3)
        table = table_view("Adapters")
        model = Rows(
            [Column("Name", stretch=True), Column("Rank", True), Column("Size", True), Column("Made", True)], table
        )
        names = ("support-bot v3", "<b>x</b>", "json-invoices", "pirate")
        look = ("stack-simple", "atext", False)
        model.set_rows([(name, (name, "16", "132 MB", "18 Nov")) for name in names], [look] * len(names))
        table.setModel(model)
        table.selectRow(0)
        card = Card("Adapters", note="4 overlays")
        card.add(table)
        card.add(Choice([(1, "Qwen3-4B-Instruct"), (2, "<b>not bold</b>")], icon="cube", name="Base model"))
        card.add(TextField(placeholder="Find a setting", icon="magnifying-glass"))
        card.add(SliderField([(1, "Quick"), (2, "Balanced"), (3, "Thorough")], 2, name="Quality"))
        row_.addWidget(card, 2)


PAGES: dict[str, Callable[[], QWidget]] = {"components": Components, "running": Running, "chatting": Chatting}


def main() -> None:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    width, height = (int(sys.argv[2]), int(sys.argv[3])) if len(sys.argv) > 3 else (1440, 900)
    if len(sys.argv) > 4:
        os.environ["QT_SCALE_FACTOR"] = sys.argv[4]
    app = QApplication([])
    for name in theme.NAMES:
        theme.apply(app, name)  # type: ignore[arg-type]
        for title, make in PAGES.items():
            page = make()
            page.resize(width, height)
            page.show()
            app.processEvents()
            if isinstance(page, Components):
                page.focused.setFocus(Qt.FocusReason.TabFocusReason)
            for _ in range(5):
                app.processEvents()
            page.grab().save(str(folder / f"{title}-{name}.png"))
            page.close()
            page.deleteLater()


if __name__ == "__main__":
    main()
