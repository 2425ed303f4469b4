"""The only one that answers wishes: it owns the training thread, and brings the facts back to the pages."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from PySide6.QtCore import QObject, QThreadPool

from studio.chat.sampling import Sampling
from studio.errors import ChangedError, NotFoundError, StudioError
from studio.places import Workspace
from studio.recipe.presets import STARTER, tour
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import create_run
from studio.runs.folder import RunFolder
from studio.runs.state import RunState, Status
from studio.runs.watchdog import Silence
from ui import facts
from ui.bridge import every, in_background
from ui.drafting import Drafting
from ui.fit_testing import FitTesting
from ui.keep_awake import KeepAwake
from ui.queueing import Queueing
from ui.settings import Settings, save
from ui.shelving import Shelving
from ui.starting import Starting
from ui.state import AppState, Ask, RunView
from ui.surveying import Surveying
from ui.training_thread import TrainingThread

REFRESH_MS = 4000
POOL_MS = 5000
MOST_RESTARTS = 3
Wisher = Callable[[str], w.Wish]
WISHES: dict[str, Wisher] = {
    "stop": lambda run: w.Stop(run=run, save=True),
    "discard": lambda run: w.Stop(run=run, save=False),
    "pause": lambda run: w.Pause(run=run),
    "save": lambda run: w.SaveNow(run=run),
    "evaluate": lambda run: w.EvaluateNow(run=run),
    "sample": lambda run: w.SampleNow(run=run),
}
OPTIONS = ("keep_awake", "notify")


class Conductor(QObject):
    """Answers the wishes of `state` until `close`. Nothing here blocks: disk work goes to the pool, waiting to the thread."""

    def __init__(
        self,
        workspace: Workspace,
        state: AppState,
        device: str = "cpu",
        settings: Settings | None = None,
        parent: QObject | None = None,
    ) -> None:
        super().__init__(parent)
        self._workspace, self._state, self._device = workspace, state, device
        self._settings = settings or Settings()
        self._followed: set[str] = set()
        # Open questions, and from how many lanes an answer is still to come.
        self._asks: dict[str, int] = {}
        self._num_restarts = 0
        self._is_looking = self._is_creating = self._tour_waits = self._is_closed = False
        self.thread_ = TrainingThread(workspace, device, self)
        self.drafting = Drafting(workspace, state, self)
        self.shelving = Shelving(workspace, state, self.thread_, self)
        self.fit_testing = FitTesting(workspace, state, self.thread_, self)
        self.keep_awake = KeepAwake(state, self._settings, self)
        self.starting = Starting(workspace, state, device, self)
        state.keep_awake, state.notify = self._settings.keep_awake, self._settings.notify
        self.queueing = Queueing(workspace, state, self.thread_, device, self)
        self.surveying = Surveying(workspace, state, self.thread_, self)
        self._listen_to_wishes()
        self._listen_to_thread()
        self._timer = every(self, REFRESH_MS, self.refresh)

    def start(self) -> None:
        """Begin: gather what is there, and find again what went on while no window was open."""
        self.thread_.start()
        in_background(partial(facts.look_at_workspace, self._workspace), self._gathered, self._tell)
        self.refresh()

    def close(self) -> None:
        """Let go of everything. A run in progress goes on, in a process of its own; a job ends with us."""
        self._is_closed = True
        self._timer.stop()
        self.queueing.close()
        try:
            self.drafting.flush()
        except StudioError as error:
            self._tell(error)
        self.fit_testing.close()
        self.keep_awake.close(self.thread_.wish)
        self.surveying.close()
        self.thread_.finish()
        QThreadPool.globalInstance().waitForDone(POOL_MS)

    def _listen_to_wishes(self) -> None:
        state = self._state
        state.train_requested.connect(self._train)
        state.run_requested.connect(self._run)
        state.tour_requested.connect(self._tour)
        state.chat_requested.connect(self._ask)
        state.hush_requested.connect(self._hush)
        state.release_requested.connect(self.thread_.release)
        state.prompt_requested.connect(lambda run, prompt: self.thread_.wish(w.AskToo(run=run, prompt=prompt)))
        state.option_requested.connect(self._set_option)

    def _listen_to_thread(self) -> None:
        thread = self.thread_
        thread.run_followed.connect(self._on_followed)
        thread.run_event.connect(self._on_run_event)
        thread.run_watched.connect(self._on_watched)
        thread.engine_news.connect(self._on_engine_news)
        thread.engine_changed.connect(self._on_engine_changed)
        thread.refused.connect(self._on_refused)
        thread.finished.connect(self._on_thread_finished)
        self.fit_testing.answered.connect(self.drafting.judge_again)
        self.shelving.base_added.connect(self._go_on_with_tour)
        self.starting.created.connect(self._created)
        self.shelving.milestone.connect(self._reached)

    def _tell(self, error: StudioError) -> None:
        self._state.noticed.emit("bad", error.message, error.hint)

    def _reached(self, name: str) -> None:
        """Remember a step of the way for good, so that the path on Home shows it."""
        state = self._state
        state.has_chatted |= name == "chat"
        state.has_exported |= name == "export"
        if name not in self._settings.milestones:
            self._settings.milestones.append(name)
            in_background(partial(save, self._workspace, self._settings.values()), lambda _: None, self._tell)
            state.machine_changed.emit()

    def _set_option(self, name: str, wanted: bool) -> None:
        """Remember for good what the user wants of the desktop while a run is at work."""
        assert name in OPTIONS
        setattr(self._settings, name, wanted)
        setattr(self._state, name, wanted)
        in_background(partial(save, self._workspace, self._settings.values()), lambda _: None, self._tell)
        self._state.options_changed.emit()

    # --- facts -----------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look at what changes by itself; one look at a time."""
        if self._is_looking or self._is_closed:
            return
        self._is_looking = True
        in_background(partial(facts.look_at_machine, self._workspace), self._machine_seen, self._machine_failed)
        self.drafting.look_again_at_data()

    def _machine_failed(self, error: StudioError) -> None:
        self._is_looking = False
        self._tell(error)

    def _machine_seen(self, found: facts.Machine) -> None:
        self._is_looking = False
        state = self._state
        if self._is_closed:
            return
        before = state.limits
        if (found.gpus, found.loads, found.disk_free_bytes) != (state.gpus, state.card_loads, state.disk_free_bytes):
            state.gpus, state.card_loads, state.disk_free_bytes = found.gpus, found.loads, found.disk_free_bytes
            if found.gpus:
                state.card_bytes = found.gpus[0].total_bytes
            state.machine_changed.emit()
        state.correction = found.correction
        if state.limits != before:
            self.drafting.judge_again()
        if state.is_gathered:
            self._find_strangers(found.run_ids)

    def _find_strangers(self, run_ids: frozenset[str]) -> None:
        """Runs that a command has begun or removed since we looked last."""
        state = self._state
        gone = [
            run_id for run_id, view in state.runs.items() if run_id not in run_ids and not view.state.status.is_live
        ]
        for run_id in gone:
            del state.runs[run_id]
        for run_id in sorted(run_ids - state.runs.keys() - self._followed):
            self._followed.add(run_id)
            self.thread_.follow(RunFolder(self._workspace.runs / run_id))
        if gone:
            state.runs_changed.emit()

    def _gathered(self, found: facts.Workshop) -> None:
        state = self._state
        state.bases, state.adapters = found.bases, found.adapters
        state.engine_installed = found.engine_installed
        state.has_chatted = found.has_chatted or "chat" in self._settings.milestones
        state.has_exported = found.has_exported or "export" in self._settings.milestones
        listed = {view.folder.id: view for view in found.runs}
        # What the thread follows is newer than what was read from the disk meanwhile.
        listed |= {run_id: view for run_id, view in state.runs.items() if run_id in self._followed}
        self._set_runs(listed)
        for run_id, view in listed.items():
            if view.state.status.is_live and run_id not in self._followed:
                self.thread_.follow(view.folder)
        state.is_gathered = True
        self.queueing.look()
        self.drafting.start_from(found.recipe)
        if found.num_damaged:
            sentence = self.tr("Some run folders cannot be read: {0}.").format(found.num_damaged)
            state.noticed.emit("warn", sentence, self.tr("`overlay runs` tells which."))
        for changed in (state.bases_changed, state.adapters_changed, state.runs_changed, state.machine_changed):
            changed.emit()

    def _set_runs(self, views: dict[str, RunView]) -> None:
        self._state.runs = dict(sorted(views.items(), reverse=True))

    # --- runs ------------------------------------------------------------------------------------------------------

    def _train(self) -> None:
        state = self._state
        if self._is_creating:
            return
        if state.live_run is not None:
            sentence = self.tr("{0} is still training.").format(state.live_run.folder.name)
            state.noticed.emit("warn", sentence, self.tr("Stop or pause it first, then start this one."))
            return
        self._is_creating = True
        in_background(partial(_new_run, self._workspace, state.recipe, self._device), self._created, self._not_created)

    def _not_created(self, error: StudioError) -> None:
        self._is_creating = False
        self._tell(error)

    def _created(self, run: RunFolder) -> None:
        self._is_creating = False
        self._begin(RunView(run, RunState()))

    def _begin(self, view: RunView) -> None:
        state = self._state
        self._followed.add(view.folder.id)
        self._set_runs({**state.runs, view.folder.id: view})
        self.thread_.start_run(view.folder)
        state.runs_changed.emit()
        state.run_selected.emit(view.folder.id)
        state.page_requested.emit("train")

    def _run(self, run_id: str, verb: str) -> None:
        view = self._state.runs.get(run_id)
        if view is None:
            self._tell(NotFoundError(self.tr("That run is gone."), ""))
        elif verb == "force":
            self.thread_.force_stop(run_id)
        elif verb != "resume":
            self.thread_.wish(WISHES[verb](run_id))
        elif view.state.status.is_live or view.state.status is Status.FINISHED:
            self._state.noticed.emit("info", self.tr("{0} has nothing to resume.").format(view.folder.name), "")
        else:
            self._begin(view)

    def _on_followed(self, run: RunFolder, run_state: RunState) -> None:
        state = self._state
        self._followed.add(run.id)
        if run.is_readable:
            self._set_runs({**state.runs, run.id: RunView(run, run_state)})
            state.runs_changed.emit()

    def _on_run_event(self, run_id: str, event: e.Event) -> None:
        state = self._state
        view = state.runs.get(run_id)
        if view is None:
            return
        before = view.state.status
        view.state.advance(event)
        state.run_event.emit(run_id, event)
        if view.state.status is not before:
            state.runs_changed.emit()
        if isinstance(event, e.Finished | e.Stopped):
            self.shelving.list_adapters()
        self._tell_ending(view, event)

    def _on_watched(self, run_id: str, silence: Silence | None) -> None:
        view = self._state.runs.get(run_id)
        if view is not None:
            view.silence = silence
            self._state.run_watched.emit(run_id)

    def _tell_ending(self, view: RunView, event: e.Event) -> None:
        """Say wherever the user is that a run has ended, if he might want to do something about it."""
        ending = view.state.ending
        if isinstance(event, e.Finished):
            sentence = self.tr("{0} is done. Its adapter is {1}.").format(view.folder.name, event.adapter)
            self._state.noticed.emit("ok", sentence, self.tr("Chat with it beside its base."))
        elif isinstance(event, e.Failed | e.Died) and ending is not None:
            self._state.noticed.emit("bad", f"{view.folder.name}: {ending.message}", ending.hint)
        elif ending is not None and (ending.cause or isinstance(event, e.MicroBatchHalved)):
            self._state.noticed.emit("warn", f"{view.folder.name}: {ending.message}", ending.hint)

    # --- the tour --------------------------------------------------------------------------------------------------

    def _tour(self) -> None:
        state = self._state
        if state.live_run is not None:
            self._train()  # which tells why not
            return
        self.drafting.edit(tour())
        state.page_requested.emit("train")
        if any(base.id == STARTER for base in state.bases):
            self._train()
        else:
            self._tour_waits = True
            state.base_requested.emit(STARTER)

    def _go_on_with_tour(self, base_id: str) -> None:
        if self._tour_waits:
            self._tour_waits = False
            if base_id == STARTER:
                self._train()

    # --- chat ------------------------------------------------------------------------------------------------------

    def _ask(self, ask: Ask) -> None:
        try:
            wish = self._say(ask)
        except StudioError as error:
            self._state.chat_news.emit(e.AskFailed(ask=ask.key, message=error.message, hint=error.hint))
            return
        self._asks[ask.key] = len(ask.lanes)
        self.thread_.wish(wish)

    def _say(self, ask: Ask) -> w.Say:
        sampling = Sampling(ask.max_tokens, ask.temperature, ask.top_p, ask.seed)
        return w.Say(
            ask=ask.key,
            base=str(ask.base.path),
            quantisation="nf4",
            lanes=[self._lane(name) for name in ask.lanes],
            turns=[list(turns) for turns in ask.turns],
            sampling=sampling.to_dict(),
        )

    def _lane(self, name: str) -> str | None:
        """None for the base alone; "" for the overlay in training, which goes by its run's id; else the adapter's folder."""
        if not name:
            return None
        live = self._state.live_run
        if live is not None and live.folder.id == name:
            return ""
        adapter = self._state.adapter(name)
        if adapter is None:
            raise NotFoundError(self.tr("There is no adapter called {0}.").format(name), self.tr("Choose another one."))
        return str(adapter.path)

    def _hush(self, key: str) -> None:
        self._asks.pop(key, None)
        self.thread_.wish(w.Hush(ask=key))

    def _on_engine_news(self, event: e.Event) -> None:
        if isinstance(event, e.TextStreamed | e.Answered | e.AskFailed | e.BaseLoaded):
            self._state.chat_news.emit(event)
        if isinstance(event, e.AskFailed):
            self._asks.pop(event.ask, None)
        elif isinstance(event, e.Answered):
            self._asks[event.ask] = self._asks.get(event.ask, 1) - 1
            if self._asks[event.ask] <= 0:
                del self._asks[event.ask]
            self._reached("chat")

    def _on_engine_changed(self, word: str) -> None:
        self._state.engine = word
        if word == "gone":
            self._fail_asks(self.tr("The engine has ended."), self.tr("Ask again: it is started anew."))
        self._state.engine_changed.emit()

    def _fail_asks(self, message: str, hint: str) -> None:
        """Every open question is over without an answer."""
        keys, self._asks = list(self._asks), {}
        for key in keys:
            self._state.chat_news.emit(e.AskFailed(ask=key, message=message, hint=hint))

    def _on_refused(self, what: str, error: StudioError) -> None:
        if what == "ask" and self._asks:
            self._fail_asks(error.message, error.hint)
        elif isinstance(error, ChangedError) and error.run in self._state.runs:
            self._state.input_changed.emit(error.run, error)
        elif what != "test":
            self._tell(error)

    def _on_thread_finished(self) -> None:
        """A mistake of ours has ended the thread (the log has it): what is left to do is done by it started again."""
        if self._is_closed or self._num_restarts >= MOST_RESTARTS:
            return
        self._num_restarts += 1
        self.thread_.start()


def _new_run(workspace: Workspace, recipe: Recipe, device: str) -> RunFolder:
    run = create_run(workspace, recipe, device=device)
    assert run.job, "read here, so that the window need not"
    return run
