"""Chat: one question down up to three lanes, on one loaded base, with an overlay on each lane or none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QStackedWidget, QWidget

from studio import files
from studio.chat.transcript import markdown
from studio.library.adapter import Adapter
from studio.library.soundness import origin_warning
from studio.models.bases import Base
from studio.runs.events import Answered, AskFailed, BaseLoaded, TextStreamed
from ui import fits
from ui.bridge import soon
from ui.pages.adapter_bases import base_of, belongs, why_baseless
from ui.pages.chat_bars import AskBar, BaseRow
from ui.pages.chat_lanes import MAX_LANES, LanesView
from ui.pages.chat_record import Conversation, Place
from ui.pages.chat_sampling import SamplingPanel
from ui.state import AppState, Ask
from ui.widgets.buttons import Button
from ui.widgets.messages import EmptyState, MessageBar, MessageKind
from ui.widgets.page import Card, Page, column


class ChatPage(Page):
    """The page. `base_loads` counts how often a base had to be loaded: changing an overlay never adds to it."""

    def __init__(self, state: AppState, *, parent: QWidget | None = None) -> None:
        super().__init__("", parent=parent)
        self.setAccessibleName(self.tr("Chat"))
        self.header.set_title(self.tr("Chat"))
        self.header.set_purpose(self.tr("One prompt, one base in memory, every overlay side by side."))
        self._state = state
        self._talk: Conversation | None = None
        self._previous: Conversation | None = None
        self._loaded = ""
        self._loaded_note = ""
        self._awaited = ""
        self._editing: int | None = None
        self._bar_action: Callable[[], None] = self._hide_bar
        self.base_loads = 0
        self._build()
        self._connect()
        self._take_facts()
        self._show_run()

    # --- building --------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        self._copy = Button(self.tr("Copy as Markdown"), "quiet", "copy")
        self._open_sampling = Button(self.tr("Sampling\u2026"), icon="sliders-horizontal")
        self._new = Button(self.tr("New chat"), icon="plus")
        for button in (self._copy, self._open_sampling, self._new):
            self.header.row.addWidget(button)
        self._sampling = SamplingPanel(parent=self)
        self._base_row, self._ask_bar, self._lanes = BaseRow(), AskBar(), LanesView()
        self._bar = MessageBar("info", "")
        self._bar.hide()
        self._run_bar = MessageBar("info", self.tr("A run is in progress: answers come between its steps."))
        talk = column([self._base_row, self._run_bar, self._bar, self._lanes, self._ask_bar])
        layout = talk.layout()
        assert layout is not None
        layout.setStretch(3, 1)  # type: ignore[attr-defined]
        layout.setStretch(layout.count() - 1, 0)  # type: ignore[attr-defined]
        self._stack = QStackedWidget()
        self._stack.addWidget(self._build_nothing())
        self._stack.addWidget(talk)
        self._stack.addWidget(QWidget())  # until the disk has been looked at, nobody knows what is missing
        self.add(self._stack, 1)
        self.setFocusProxy(self._ask_bar)

    def _build_nothing(self) -> Card:
        get = Button(self.tr("Get a base model"), "primary")
        get.clicked.connect(lambda: self._state.page_requested.emit("home"))
        card = Card()
        sentence = self.tr("Chat needs a base model on this computer. Home has one that comes with the studio.")
        card.add(EmptyState("cube", self.tr("No base model yet"), sentence, [get]), 1)
        return card

    def _connect(self) -> None:
        state = self._state
        for signal in (state.bases_changed, state.adapters_changed, state.base_facts_changed):
            signal.connect(self._take_facts)
        state.adapters_changed.connect(self._take_awaited)
        state.runs_changed.connect(self._show_run)
        state.engine_changed.connect(self._engine_changed)
        state.chat_news.connect(self._take_news)
        state.chat_selected.connect(self.compare_with)
        self._copy.clicked.connect(self._copy_markdown)
        self._new.clicked.connect(self._begin_anew)
        self._open_sampling.clicked.connect(lambda: self._sampling.open_below(self._open_sampling))
        self._bar.action_triggered.connect(lambda: self._bar_action())
        self._base_row.base_chosen.connect(self._base_chosen)
        self._base_row.unload_requested.connect(self._unload)
        self._base_row.num_lanes_changed.connect(self._set_num_lanes)
        self._ask_bar.sent.connect(self._send)
        self._ask_bar.stop_requested.connect(self._stop)
        self._lanes.lane_changed.connect(self._set_lane)
        self._lanes.again_requested.connect(self._ask_again)
        self._lanes.stop_requested.connect(self._stop_lane)
        self._lanes.edit_requested.connect(self._edit)
        self._lanes.voted.connect(state.vote_requested)

    # --- facts -----------------------------------------------------------------------------------------------------

    def _take_facts(self) -> None:
        """Bases or adapters have come, gone or changed their names."""
        bases = self._state.bases
        self._stack.setCurrentIndex(1 if bases else 0 if self._state.is_gathered else 2)
        for button in (self._copy, self._open_sampling, self._new):
            button.setVisible(bool(bases))
        if not bases:
            return
        if self._talk is None:
            base = self._state.base or bases[0]
            self._talk = Conversation(base, self._usual_lanes(base))
        elif self._talk.base.id not in [base.id for base in bases]:
            self._give_up()
            self._talk = Conversation(bases[0], self._usual_lanes(bases[0]))
        self._drop_missing_adapters(self._talk)
        self._show_all()

    def _usual_lanes(self, base: Base) -> list[str]:
        names = [adapter.name for adapter in self._fitting(base)]
        return ["", names[0]] if names else [""]

    def _fitting(self, base: Base) -> list[Adapter]:
        return [adapter for adapter in self._state.adapters if belongs(adapter, base)]

    def _drop_missing_adapters(self, talk: Conversation) -> None:
        names = {adapter.name for adapter in self._fitting(talk.base)}
        missing = [lane for lane in talk.lanes if lane and lane not in names]
        if missing and not talk.is_open:
            talk.set_lanes([lane if lane in names else "" for lane in talk.lanes])
            self._say("info", self.tr("{0} is no longer in the library: the base answers there.").format(missing[0]))

    def _show_run(self) -> None:
        self._run_bar.setVisible(self._state.live_run is not None)
        self._show_memory()

    def _engine_changed(self) -> None:
        if self._state.engine in ("off", "gone"):
            self._loaded = ""
            if self._talk is not None:
                self._ended(self._talk.fail_all(self.tr("the engine has ended")))
        self._show_memory()

    # --- the whole page --------------------------------------------------------------------------------------------

    def _show_all(self) -> None:
        talk = self._talk
        assert talk is not None
        self._base_row.show_bases([base.id for base in self._state.bases], talk.base.id)
        self._base_row.show_fits(fits.chat_fits(self._state, talk.lanes))
        self._base_row.show_lanes(len(talk.lanes))
        self._ask_bar.show_lanes(len(talk.lanes))
        self._lanes.show_conversation(talk, [adapter.name for adapter in self._fitting(talk.base)])
        self._show_progress()

    def _show_progress(self) -> None:
        """Who answers, who waits, and what can be pressed."""
        assert self._talk is not None
        is_open = self._talk.is_open
        self._ask_bar.set_answering(is_open)
        self._base_row.set_choosable(not is_open)
        self._lanes.set_choosable(not is_open)
        self._copy.set_reason(None if self._talk.exchanges else self.tr("Nothing to copy yet"))
        self._show_memory()

    def _show_memory(self) -> None:
        if self._talk is None:
            return
        base = self._talk.base.id
        is_loaded, is_live = self._loaded == base, self._state.live_run is not None
        is_loading = self._talk.is_open and not is_loaded and not is_live
        loading = self.tr("Loading {0}\u2026").format(base) if is_loading else ""
        self._lanes.set_busy_text(loading)
        note = self._loaded_note if is_loaded else loading
        self._base_row.show_memory(note, may_unload=is_loaded and not is_live)

    def _say(self, kind: MessageKind, text: str, action: str = "", do: Callable[[], None] | None = None) -> None:
        self._bar_action = do or self._hide_bar
        self._bar.show_message(kind, text, action or self.tr("Close"))
        self._bar.show()

    def _hide_bar(self) -> None:
        self._bar.hide()

    # --- which base, which lanes -----------------------------------------------------------------------------------

    def compare_with(self, name: str) -> None:
        """Put the adapter `name` beside its base, in two lanes."""
        adapter = self._state.adapter(name)
        # One that was finished a moment ago is on disk, but the library has not been read again yet.
        self._awaited = "" if adapter else name
        if adapter is None:
            self._say("info", self.tr("Looking for the adapter {0}...").format(name))
            return
        base = base_of(adapter, self._state.bases)
        if base is None:
            self._say("bad", why_baseless(adapter, self._state.bases))
            return
        self._start(Conversation(base, ["", name]))
        warning = origin_warning(adapter, base)
        if warning:
            self._say("warn", warning)

    def _take_awaited(self) -> None:
        """The library was read again: the adapter that was asked for is in it now, or nowhere."""
        name, self._awaited = self._awaited, ""
        if name and self._state.adapter(name):
            self._hide_bar()
            self.compare_with(name)
        elif name:
            self._say("bad", self.tr("There is no adapter called {0} any more.").format(name))

    def _base_chosen(self, name: str) -> None:
        base = next(base for base in self._state.bases if base.id == name)
        self._start(Conversation(base, self._usual_lanes(base)))

    def _begin_anew(self) -> None:
        if self._talk is not None:
            self._start(Conversation(self._talk.base, list(self._talk.lanes)))

    def _start(self, talk: Conversation) -> None:
        """Begin another chat; the one before can be brought back."""
        self._give_up()
        old, self._talk = self._talk, talk
        self._hide_bar()
        if old is not None and old.exchanges:
            self._previous = old
            self._say("info", self.tr("A new chat has begun."), self.tr("Bring the last one back"), self._bring_back)
        self._show_all()

    def _bring_back(self) -> None:
        self._give_up()
        if self._previous is not None and self._previous.base in self._state.bases:
            self._talk, self._previous = self._previous, None
            self._drop_missing_adapters(self._talk)
            self._ask_bar.set_system(self._talk.system)
            self._show_all()
        self._hide_bar()

    def _set_num_lanes(self, number: int) -> None:
        assert self._talk is not None
        lanes = self._talk.lanes[:number]
        names = [adapter.name for adapter in self._fitting(self._talk.base)]
        while len(lanes) < number:
            lanes.append(next((name for name in names if name not in lanes), ""))
        if number == MAX_LANES and lanes[0]:
            # The first of three lanes is the base; who was there moves on if nobody is in the way.
            lanes = ["", *[lane for lane in lanes if lane]][:MAX_LANES]
            lanes += [""] * (MAX_LANES - len(lanes))
        self._talk.set_lanes(lanes)
        self._show_all()

    def _set_lane(self, lane: int, adapter: str) -> None:
        assert self._talk is not None
        lanes = list(self._talk.lanes)
        lanes[lane] = adapter
        self._talk.set_lanes(lanes)
        # The choice that told this is about to be drawn anew: not while it is still speaking.
        soon(self, partial(self._redraw, lane))

    def _redraw(self, lane: int) -> None:
        self._show_all()
        self._lanes.focus_lane(lane)

    # --- asking ----------------------------------------------------------------------------------------------------

    def _send(self, prompt: str) -> None:
        talk = self._talk
        assert talk is not None
        if self._editing is not None:
            talk.cut(self._editing)
            self._editing = None
            self._show_all()
        self._hide_bar()
        self._prepare(talk)
        asks = talk.ask(prompt)
        self._lanes.add_turn(len(talk.exchanges) - 1)
        self._emit(asks)

    def _ask_again(self, turn: int, lane: int) -> None:
        talk = self._talk
        assert talk is not None
        self._hide_bar()
        self._prepare(talk)
        if talk.sampling.is_greedy and talk.reply((turn, lane)).text:
            self._say(
                "info",
                self.tr("At temperature 0 the answer is always the likeliest one: another seed changes nothing."),
            )
        ask = talk.ask_again((turn, lane))
        self._lanes.refresh([(turn, lane)])
        self._emit([ask])

    def _prepare(self, talk: Conversation) -> None:
        talk.system, talk.sampling = self._ask_bar.system(), self._sampling.sampling()
        talk.same_seed = self._base_row.same_seed()

    def _emit(self, asks: list[Ask]) -> None:
        self._show_progress()
        for ask in asks:
            self._state.chat_requested.emit(ask)

    def _edit(self, turn: int) -> None:
        """Let a question be written differently; what followed it goes when it is sent."""
        assert self._talk is not None
        self._stop()
        self._editing = turn
        self._ask_bar.set_question(self._talk.exchanges[turn].prompt)
        text = self.tr("Sending replaces this question and what came after it.")
        self._say("info", text, self.tr("Keep them"), self._keep)

    def _keep(self) -> None:
        self._editing = None
        self._ask_bar.set_question("")
        self._hide_bar()

    def _stop(self) -> None:
        assert self._talk is not None
        keys, changed = self._talk.stop()
        self._hush(keys)
        self._ended(changed)

    def _stop_lane(self, turn: int, lane: int) -> None:
        assert self._talk is not None
        keys, asks = self._talk.stop_lane((turn, lane))
        self._hush(keys)
        self._ended([(turn, lane)])
        self._emit(asks)

    def _give_up(self) -> None:
        """Leave this chat: nothing that still comes for it is of interest."""
        self._editing = None
        if self._talk is not None:
            self._hush(self._talk.stop()[0])

    def _hush(self, keys: list[str]) -> None:
        for key in keys:
            self._state.hush_requested.emit(key)

    def _unload(self) -> None:
        self._stop()
        self._loaded = ""
        self._show_memory()
        self._state.release_requested.emit()

    # --- answers ---------------------------------------------------------------------------------------------------

    def _take_news(self, event: object) -> None:
        talk = self._talk
        if isinstance(event, BaseLoaded):
            self._base_loaded(event)
        if talk is None:
            return
        if isinstance(event, TextStreamed):
            self._take_text(talk, event)
        elif isinstance(event, Answered):
            place = talk.take_answer(event)
            self._ended([] if place is None else [place])
        elif isinstance(event, AskFailed):
            places = talk.take_failure(event)
            if places:
                self._say("bad", f"{event.message} {event.hint}".strip())
            self._ended(places)

    def _take_text(self, talk: Conversation, event: TextStreamed) -> None:
        place = talk.take_text(event)
        if place is None:
            return
        if self._loaded != talk.base.id:
            # A run had loaded it: nobody told us its size.
            self._loaded, self._loaded_note = talk.base.id, self.tr("in memory")
            self._show_memory()
        self._lanes.stream(place, event.text)

    def _base_loaded(self, event: BaseLoaded) -> None:
        self.base_loads += 1
        size = files.readable_bytes(event.bytes)
        # The engine knows a base by its folder, the window by its id.
        self._loaded = next((b.id for b in self._state.bases if event.base in (b.id, str(b.path))), event.base)
        self._loaded_note = self.tr("{0} in memory, loaded in {1:.1f} s").format(size, event.seconds)
        self._show_memory()

    def _ended(self, places: list[Place]) -> None:
        if places:
            self._lanes.refresh(places)
            self._show_progress()

    def _copy_markdown(self) -> None:
        assert self._talk is not None
        QGuiApplication.clipboard().setText(markdown(self._talk.session(self.tr("Base alone"))))
        self._say("ok", self.tr("The chat is in the clipboard, as Markdown."))
