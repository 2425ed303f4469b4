"""Home: what this computer can do, how to begin, and later what to go on with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from PySide6.QtGui import QPainter, QPaintEvent
from PySide6.QtWidgets import QHBoxLayout, QVBoxLayout, QWidget

from studio.library.adapter import Adapter
from studio.recipe.fields import replaced
from ui import fits, theme, wording
from ui.bridge import soon
from ui.choosing import choose_file, choose_folder
from ui.state import AppState, RunView
from ui.widgets.buttons import Button
from ui.widgets.labels import Divider, IconLabel, PlainLabel
from ui.widgets.memory_choice import FitNote
from ui.widgets.messages import StatusPill
from ui.widgets.page import Card, Page, ScrollColumn
from ui.widgets.path_strip import PathStrip, Step
from ui.widgets.plan_picture import PlanPicture

STARTER = "starter"
LOW_DISK_BYTES = 5 * 1000**3
MOST_RUNS, MOST_ADAPTERS = 4, 2
MOST_RUNS_LOW, MOST_ADAPTERS_LOW = 2, 1  # where the window is not high
REDRAW_MS = 250
LEFT_WIDTH = 536
DATASETS = "Datasets (*.jsonl *.json *.csv *.tsv);;All files (*)"


@dataclass(frozen=True)
class Check:
    """One row of the machine's checks: `kind` is ok or warn."""

    kind: str
    title: str
    text: str


class CheckRow(QWidget):
    """An icon that judges, a title, what was found, and at most one button."""

    def __init__(self, action: str = "", *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._icon = IconLabel("spinner", "text3", 16)
        self._title = PlainLabel("", "medium")
        self._title.setMinimumWidth(theme.px(128))
        self._text = PlainLabel("", "body", "text2", elide=True)
        self.button = Button(action)
        self.button.setVisible(bool(action))
        self.fit = FitNote(self.tr("Memory for training"))
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.px(4), 0, theme.px(4), 0)
        row.setSpacing(theme.px(12))
        for widget in (self._icon, self._title):
            row.addWidget(widget)
        row.addWidget(self._text, 1)
        row.addWidget(self.fit)
        row.addWidget(self.button)
        self.setFixedHeight(theme.px(46))

    def show_check(self, check: Check | None) -> None:
        """Show what was found; None while it is still being looked for."""
        if check is None:
            self._icon.set_icon("spinner", "text3")
            self._text.setText(self.tr("Looking\u2026"))
            return
        icon = "check-circle" if check.kind == "ok" else "warning"
        self._icon.set_icon(icon, check.kind, filled=True)
        self._title.setText(check.title)
        self._text.setText(check.text)
        self.setAccessibleName(f"{check.title}: {check.text}")

    def paintEvent(self, _event: QPaintEvent) -> None:
        """Draw a line above, but for the first row that is shown."""
        if self.y() > theme.px(8):
            painter = QPainter(self)
            painter.fillRect(0, 0, self.width(), 1, theme.current().colour("line"))
            painter.end()


class RecentRow(QWidget):
    """A run or an adapter to go on with."""

    def __init__(self, lead: QWidget, name: str, text: str, button: Button, *, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.px(4), 0, theme.px(4), 0)
        row.setSpacing(theme.px(12))
        slot = QHBoxLayout()
        slot.setContentsMargins(0, 0, 0, 0)
        slot.addWidget(lead)
        slot.addStretch(1)
        holder = QWidget()
        holder.setFixedWidth(theme.px(96))
        holder.setLayout(slot)
        row.addWidget(holder)
        row.addWidget(PlainLabel(name, "medium", elide=True), 2)
        self.text = PlainLabel(text, "small", "text2", elide=True)
        row.addWidget(self.text, 3)
        row.addWidget(button)
        self.setFixedHeight(theme.px(42))
        button.setFixedWidth(button.sizeHint().width() + theme.px(8))


class HomePage(Page):
    """First run: the machine's checks and three ways to begin. Later: what is going on, and the newest runs and adapters."""

    def __init__(self, state: AppState) -> None:
        super().__init__("Home")
        self._state = state
        self._is_due = False
        self._shown: tuple[object, ...] = ()
        self._texts: dict[str, PlainLabel] = {}
        self.header.hide()
        self._heading = PlainLabel("", "display")
        self._lead = PlainLabel("", "lead", "text2", wrap=True)
        self._checks = {name: CheckRow() for name in ("card", "disk", "engine")}
        self._checks["base"] = CheckRow(self.tr("Add starter base"))
        self._picture = PlanPicture()
        self._strip = PathStrip()
        self._recent = Card(self.tr("Continue"), compact=True)
        self._build()
        self.narrow_changed.connect(self.refresh)
        for changed in (state.machine_changed, state.bases_changed, state.adapters_changed, state.runs_changed):
            changed.connect(self._refresh_soon)
        for changed in (state.recipe_changed, state.job_changed, state.run_event):
            changed.connect(self._refresh_soon)
        self.refresh()

    # --- building --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        left = QVBoxLayout()
        left.setSpacing(theme.px(12))
        left.addStretch(1)
        left.addWidget(self._heading)
        left.addWidget(self._lead)
        left.addSpacing(theme.px(8))
        left.addWidget(self._recent)
        self._card = self._check_card()
        left.addWidget(self._card)
        left.addSpacing(theme.px(12))
        left.addLayout(self._buttons())
        self._hint = PlainLabel("", "small", "text2", wrap=True)
        left.addWidget(self._hint)
        left.addStretch(1)
        content = QWidget()
        content.setLayout(left)
        content.setMinimumWidth(theme.px(LEFT_WIDTH))
        left.setContentsMargins(0, 0, theme.px(8), 0)
        halves = QHBoxLayout()
        halves.setSpacing(theme.px(theme.GUTTER))
        scroll = ScrollColumn(content)
        scroll.setMinimumWidth(theme.px(LEFT_WIDTH))
        halves.addWidget(scroll, 1)
        halves.addWidget(self._picture, 1)
        self.body.addLayout(halves, 1)
        way = Card()
        way.setAccessibleName(self.tr("The way"))
        way.add(self._strip)
        self.body.addWidget(way)
        self.body.addSpacing(theme.px(8))

    def _check_card(self) -> Card:
        card = Card(compact=True)
        card.setAccessibleName(self.tr("This computer"))
        card.body.setSpacing(0)
        inset = theme.px(16)
        if (column := card.layout()) is not None:
            column.setContentsMargins(inset, theme.px(4), inset, theme.px(4))
        for row in self._checks.values():
            card.add(row)
        self._checks["base"].button.clicked.connect(lambda: self._state.base_requested.emit(STARTER))
        return card

    def _buttons(self) -> QHBoxLayout:
        self._primary = Button("", "primary", "play", size="action", filled=True)
        self._primary.clicked.connect(self._begin)
        self._data = Button(self.tr("Start with my data\u2026"), size="action")
        self._data.clicked.connect(self._choose_data)
        self._open = Button(self.tr("Open existing adapter\u2026"), size="action")
        self._open.clicked.connect(self._choose_adapter)
        row = QHBoxLayout()
        row.setSpacing(theme.px(12))
        for button in (self._primary, self._data, self._open):
            row.addWidget(button)
        row.addStretch(1)
        return row

    # --- wishes ----------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        live = self._state.live_run
        if live is not None:
            self._state.run_selected.emit(live.folder.id)
        elif self._state.runs:
            self._state.page_requested.emit("train")
        else:
            self._state.tour_requested.emit()

    def _choose_data(self) -> None:
        choose_file(self, self.tr("Choose a dataset"), DATASETS, self._start_with)

    def _start_with(self, path: str) -> None:
        self._state.recipe_edited.emit(replaced(self._state.recipe, "data.path", path))
        self._state.page_requested.emit("train")

    def _choose_adapter(self) -> None:
        title = self.tr("Choose an adapter folder")
        choose_folder(self, title, lambda path: self._state.adapter_requested.emit("import", path, ""))

    # --- facts -----------------------------------------------------------------------------------------------------

    def _refresh_soon(self, *_: object) -> None:
        if not self._is_due:
            self._is_due = True
            soon(self, self.refresh, REDRAW_MS)

    def refresh(self) -> None:
        """Show the facts as they are."""
        self._is_due = False
        for name, check in self.checks().items():
            self._checks[name].show_check(check)
            # Once there are runs, only what can be mended is worth the room.
            is_amiss = check is not None and check.kind != "ok" and name != "card"
            self._checks[name].setVisible(not self._state.runs or is_amiss)
        self._card.setVisible(any(not row.isHidden() for row in self._checks.values()))
        self._show_starter_button()
        base = self._checks["base"]
        base.fit.show_fit(fits.recipe_fit(self._state), brief=not base.button.isHidden())
        self._strip.set_steps(self.steps())
        self._show_sizes()
        self._show_words()
        self._show_recent()

    def checks(self) -> dict[str, Check | None]:
        """What the machine has, by row; None while nobody has looked."""
        state = self._state
        if not state.is_gathered:
            return dict.fromkeys(self._checks)
        return {
            "card": self._card_check(),
            "disk": self._disk_check(),
            "engine": Check("ok", self.tr("Training engine"), self.tr("Installed"))
            if state.engine_installed
            else Check("warn", self.tr("Training engine"), self.tr("Missing: run packaging/bootstrap.py once")),
            "base": self._base_check(),
        }

    def _card_check(self) -> Check:
        title = self.tr("Graphics card")
        if not self._state.gpus:
            return Check("warn", title, self.tr("None: training runs on the CPU, slowly"))
        card = self._state.gpus[0]
        name = card.name.removeprefix("NVIDIA ").removeprefix("GeForce ")
        words = self.tr("{0}, {1}, driver {2}")
        return Check("ok", title, words.format(name, wording.gigabytes(card.total_bytes), card.driver.split(".")[0]))

    def _disk_check(self) -> Check:
        free = self._state.disk_free_bytes
        text = self.tr("{0} free").format(wording.gigabytes(free))
        if free < LOW_DISK_BYTES:
            return Check("warn", self.tr("Disk"), self.tr("Only {0}: a merged model may not fit").format(text))
        return Check("ok", self.tr("Disk"), text)

    def _base_check(self) -> Check:
        title, bases = self.tr("Base model"), self._state.bases
        job = next((job for job in self._state.live_jobs if job.kind == "import"), None)
        if job is not None:
            done = f" {100 * job.done // job.total} %" if job.total else "\u2026"
            return Check("warn", title, f"{job.title}{done}")
        if not bases:
            return Check("warn", title, self.tr("None yet"))
        rest = self.tr(" and {0} more").format(len(bases) - 1) if len(bases) > 1 else ""
        chosen = self._state.base or bases[0]
        return Check("ok", title, f"{chosen.id}{rest}")

    def _show_starter_button(self) -> None:
        state = self._state
        has_starter = any(base.id == STARTER for base in state.bases)
        is_adding = any(job.kind == "import" for job in state.live_jobs)
        self._checks["base"].button.setVisible(state.is_gathered and not has_starter and not is_adding)

    def steps(self) -> list[Step]:
        """The five steps, with ticks for those that are done."""
        state = self._state
        steps = [
            Step(self.tr("Model"), self.tr("Pick it; it stays frozen."), bool(state.bases)),
            Step(self.tr("Data"), self.tr("Show it how to answer."), state.data.num_good > 0),
            Step(self.tr("Train"), self.tr("Draw the overlay."), any(view.state.step for view in state.runs.values())),
            Step(self.tr("Chat and compare"), self.tr("See what changed."), state.has_chatted),
            Step(self.tr("Export"), self.tr("Take it to other programs."), state.has_exported),
        ]
        return steps if state.is_gathered else [replace(step, is_done=False) for step in steps]

    def _show_sizes(self) -> None:
        budget = self._state.budget
        sizes = {term.name: term.bytes for term in budget.terms} if budget is not None else {}
        about = {name: wording.size(num_bytes) for name, num_bytes in sizes.items()}
        self._picture.set_notes(
            self.tr("learns, about {0}").format(about["adapter"]) if about else self.tr("learns, a few MB"),
            self.tr("frozen, about {0}").format(about["weights"]) if about else self.tr("stays frozen"),
        )

    def _show_words(self) -> None:
        state = self._state
        live = state.live_run
        if live is not None:
            self._primary.set_label(self.tr("Show the run"))
            self._hint.setText(self.tr("It goes on when you close the window, if you choose so."))
        elif state.runs:
            self._primary.set_label(self.tr("Train an overlay"))
            self._hint.setText(self.tr("Your last recipe is still there."))
        else:
            self._primary.set_label(self.tr("Try the 2-minute tour"))
            self._hint.setText(self.tr("The tour needs no download and no graphics card."))
        is_ready = state.is_gathered and state.engine_installed
        self._primary.set_reason(
            None if is_ready else self.tr("Looking\u2026") if not state.is_gathered else self.tr("Set up the engine")
        )
        heading = (
            self.tr("Teach a language model\nyour style, on your PC.") if not state.runs else self.tr("Welcome back.")
        )
        self._heading.setText(heading)
        self._lead.setText(self.tr("Nothing leaves this computer."))

    # --- what to go on with ----------------------------------------------------------------------------------------

    def _show_recent(self) -> None:
        state = self._state
        most = (MOST_RUNS_LOW, MOST_ADAPTERS_LOW) if self.narrow else (MOST_RUNS, MOST_ADAPTERS)
        views, adapters = list(state.runs.values())[: most[0]], state.adapters[: most[1]]
        shown = (tuple((view.folder.id, view.state.status) for view in views), tuple(one.name for one in adapters))
        self._recent.setVisible(bool(views))
        for view in views:
            if view.folder.id in self._texts:
                self._texts[view.folder.id].setText(_run_text(view))
        if shown == self._shown:
            return  # a row that is replaced under the mouse would lose its click
        self._shown = shown
        self._texts.clear()
        while (item := self._recent.body.takeAt(0)) is not None:
            if (widget := item.widget()) is not None:
                widget.hide()
                widget.deleteLater()
        self._recent.body.setSpacing(0)
        self._fill([*map(self._run_row, views), *map(self._adapter_row, adapters)])

    def _fill(self, rows: Sequence[QWidget]) -> None:
        for index, row in enumerate(rows):
            if index:
                self._recent.add(Divider())
            self._recent.add(row)

    def _run_row(self, view: RunView) -> RecentRow:
        name = view.folder.name
        button = Button(self.tr("Open"), "link")
        button.setAccessibleName(self.tr("Open {0}").format(name))
        button.clicked.connect(lambda: self._state.run_selected.emit(view.folder.id))
        row = RecentRow(StatusPill(wording.WORDS[view.state.status]), name, _run_text(view), button)
        self._texts[view.folder.id] = row.text
        return row

    def _adapter_row(self, adapter: Adapter) -> RecentRow:
        button = Button(self.tr("Chat"), "link")
        button.setAccessibleName(self.tr("Chat with {0}").format(adapter.name))
        button.clicked.connect(lambda: self._state.chat_selected.emit(adapter.name))
        text = self.tr("adapter, made {0}").format(wording.moment(adapter.created))
        return RecentRow(IconLabel("stack-simple", "atext", 16), adapter.name, text, button)


def _run_text(view: RunView) -> str:
    if view.state.status.is_live:
        return wording.brief(view.state)
    return wording.moment(view.state.began) if view.state.began is not None else ""
