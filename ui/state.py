"""What all pages share: facts, and wishes. No widgets, no files, no processes.

A page reads the facts it shows, connects to the signals that tell of changes (past tense) and emits wishes (`..._requested`).
It never does anything itself: the conductor (`ui.conductor`) answers wishes and brings facts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from PySide6.QtCore import QObject, Signal

from studio.errors import Problem
from studio.library.adapter import Adapter
from studio.memory.budget import Budget
from studio.memory.correction import Correction
from studio.memory.device import CardLoad, Gpu
from studio.models.bases import Base
from studio.models.facts import ModelFacts
from studio.recipe.recipe import Recipe
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from studio.runs.watchdog import Silence
from ui.dataset_view import DatasetView, WritingView
from ui.fit_view import FitTestView
from ui.queue_view import QueueView
from ui.source_view import SourceView


@dataclass
class RunView:
    """A run and its picture. `state` grows in place as events come; `silence` is what is to be said of one that says nothing."""

    folder: RunFolder
    state: RunState
    silence: Silence | None = None


@dataclass(frozen=True)
class PastPeak:
    """What a finished or stopped run reached on this card: the driver's view of its process at its peak."""

    run_id: str
    name: str
    process_bytes: int


@dataclass(frozen=True)
class DataView:
    """What is known about the recipe's dataset."""

    path: str
    num_rows: int = 0
    num_good: int = 0
    num_duplicates: int = 0
    problems: tuple[str, ...] = ()
    longest_tokens: int = 0
    """About the most that any row can have, reckoned from its characters; 0 if it is not known."""
    is_whole: bool = True
    """Whether the counts are exact: of a large dataset the beginning alone is read."""
    error: str = ""
    hint: str = ""


@dataclass
class JobView:
    """An import or a merge: how far it is, and how it ended."""

    key: str
    kind: str
    title: str
    done: int = 0
    total: int = 0
    what: str = ""
    result: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    hint: str = ""
    is_over: bool = False


@dataclass(frozen=True)
class Ask:
    """One question down some lanes. A lane is an adapter's name, "" for the base alone, or the id of the live
    run for the overlay in training; `turns` are each lane's own."""

    key: str
    base: Base
    lanes: tuple[str, ...]
    turns: tuple[tuple[dict[str, str], ...], ...]
    max_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.95
    seed: int = 0


class AppState(QObject):
    """The facts, and the signals around them."""

    # --- facts have changed ----------------------------------------------------------------------------------------
    bare_bases: frozenset[str] = frozenset()
    """Ids of the bases that have no chat template of their own."""

    bases_changed = Signal()
    adapters_changed = Signal()
    runs_changed = Signal()
    """The list of runs, or the status of one."""
    run_event = Signal(str, object)
    """(run id, Event): `runs[run id].state` has just taken this event in."""
    run_watched = Signal(str)
    """run id: `runs[run id].silence` is another one, None when the run has spoken again."""
    base_facts_changed = Signal()
    """What the bases are made of is known."""
    recipe_changed = Signal()
    """The recipe, or what follows from it: problems, budget, data."""
    engine_changed = Signal()
    fit_test_changed = Signal()
    """How far the fit test is, or how it ended."""
    queue_changed = Signal()
    """Which runs wait, who works through them, or what was done."""
    chat_news = Signal(object)
    """TextStreamed, Answered, AskFailed or BaseLoaded."""
    job_changed = Signal(object)
    """JobView: progress or end of an import or a merge."""
    noticed = Signal(str, str, str)
    """(kind: info, ok, warn or bad; sentence; hint): something to tell the user, wherever he is."""
    machine_changed = Signal()
    input_changed = Signal(str, object)
    """(run id, ChangedError): a run was to go on, and one of its inputs is not what it was."""
    options_changed = Signal()
    """`keep_awake` or `notify`."""

    dataset_changed = Signal()
    """What is known of the dataset that is looked at."""
    writing_changed = Signal()
    """What is kept of the set that is written by hand, or which sets there are."""
    source_changed = Signal()
    """What is known of a set on the hub, or of rows that were pasted."""

    # --- wishes ----------------------------------------------------------------------------------------------------
    writing_requested = Signal(str, object)
    """(verb, value): what to do with the set that is written by hand; `ui.handwriting` has the verbs."""
    vote_requested = Signal(str, object)
    """(`add` or `withdraw`, votes): which answer was the better one; `ui.voting` keeps them."""
    dataset_requested = Signal(str, object)
    """(verb, value): what to do with the dataset that is looked at; `ui.surveying` has the verbs."""
    source_requested = Signal(str, object)
    """(verb, value): look for rows on the hub, fetch them, or keep what was pasted; `ui.fetching` has the verbs."""
    recipe_edited = Signal(object)
    """Recipe: the form has a new one."""
    train_requested = Signal()
    fit_test_requested = Signal()
    """Try three steps of the recipe."""
    fit_test_stop_requested = Signal()
    run_requested = Signal(str, str)
    """(run id, verb): stop, discard, pause, resume, save, evaluate, sample; `force` ends its engine without asking it."""
    prompt_requested = Signal(str, str)
    """(run id, prompt): ask this one too, from the next sample on."""
    again_with_requested = Signal(str, object)
    """(run id, {setting's path: value}): a new run by its recipe with these settings, from its last good checkpoint if there is
    one."""
    promote_requested = Signal(str, int)
    """(run id, step): make that checkpoint's adapter one of the library."""
    option_requested = Signal(str, bool)
    """(keep_awake or notify, whether)."""
    queue_requested = Signal(str, str, object)
    """(verb, run id, value): add (the recipe as it is), edit, save (the recipe into the run), cancel, move (to the position
    `value`, from 1), remove, start, stop, seen, report (open it)."""
    tour_requested = Signal()
    """Train the example on the starter base, which is added first where it is missing."""
    recipe_open_requested = Signal(str)
    """The recipe in this .toml file."""
    recipe_save_requested = Signal(str)
    """Write the recipe to this .toml file."""
    command_requested = Signal()
    """Put the command that trains by the recipe, on all cards of this computer, into the clipboard."""
    base_requested = Signal(str)
    """Source of a base to add: `starter`, a folder, a .gguf file."""
    chat_requested = Signal(object)
    """Ask."""
    hush_requested = Signal(str)
    release_requested = Signal()
    merge_requested = Signal(str, str, str)
    """(adapter's name, new folder, dtype: bfloat16, float16 or float32)."""
    export_requested = Signal(str, str)
    """(adapter's name, new folder): a copy of the plain PEFT folder for other programs."""
    job_cancel_requested = Signal(str)
    """Key of an import or a merge: end it, and nothing of it remains."""
    folder_requested = Signal(str)
    """Show this folder in the desktop's file manager."""
    adapter_requested = Signal(str, str, str)
    """(verb, adapter's name or a folder, value): rename, tag, untag, note, remove, restore, import, check."""
    page_requested = Signal(str)
    """home, datasets, train, runs, adapters or chat."""
    run_selected = Signal(str)
    """Show this run on the Train page."""
    adapter_selected = Signal(str)
    """Show this adapter on the Adapters page."""
    chat_selected = Signal(str)
    """Open Chat with this adapter beside its base."""

    writing = WritingView()
    """The set that is written by hand on the Datasets page."""
    privacy = False
    """Whether secrets and e-mail addresses are looked for in datasets, as the user wants it."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self.bases: list[Base] = []
        self.adapters: list[Adapter] = []
        self.runs: dict[str, RunView] = {}  # newest first
        self.recipe = Recipe()
        self.problems: list[Problem] = []
        """What keeps the recipe from being trained, each with its field and remedy."""
        self.data = DataView("")
        self.dataset: DatasetView | None = None  # the one that is looked at on the Datasets page
        self.source = SourceView()  # where other rows might come from
        self.facts: ModelFacts | None = None
        """Of the recipe's base; None while there is none of that name on this computer."""
        self.budget: Budget | None = None
        """Of the recipe on the card, with as many layers recomputed as that takes if the recipe leaves it to us."""
        self.base_facts: dict[str, ModelFacts] = {}
        """Of each base on this computer, as far as its config.json could be read."""
        self.past_peak: PastPeak | None = None
        """Of the run on the recipe's base that was most like the recipe; None if none was measured on a card."""
        self.queue = QueueView()
        self.edited_run = ""  # id of the waiting run whose recipe is being edited
        self.fit_test: FitTestView | None = None
        """The one in progress, else the last one that had an answer."""
        self.trainable: tuple[int, int] | None = None
        """(parameters that learn, parameters in all) of the recipe on its base."""
        self._gpus: list[Gpu] = []
        self.card_loads: tuple[CardLoad, ...] = ()  # how hard each card works, by index
        self.card_bytes = 24 * 2**30
        """The card that the estimate is held against: the real one, else the one the user picked."""
        self.correction: Correction | None = None
        """What earlier runs on this card have taught; it is part of the budget."""
        self._other_bytes = self.disk_free_bytes = 0
        self.engine = "off"  # or starting, ready, gone
        self.jobs: dict[str, JobView] = {}
        self.is_gathered = False
        """Whether bases, adapters and runs have been looked for yet: before that, an empty list means nothing."""
        self.engine_installed = True
        """Whether the libraries that train are there."""
        # Whether the computer stays awake during a run, and the desktop is told how it ended: as the user wants it.
        self.keep_awake = self.notify = True
        self.has_chatted = self.has_exported = False
        """Whether a model ever answered here, and whether an adapter was ever merged or exported."""

    @property
    def base(self) -> Base | None:
        """The recipe's base, if it is on this computer."""
        return next((base for base in self.bases if base.id == self.recipe.base.id), None)

    @property
    def gpus(self) -> list[Gpu]:
        """The cards of this computer; the studio uses the first."""
        return self._gpus

    @gpus.setter
    def gpus(self, found: list[Gpu]) -> None:
        self._gpus = found
        if not found or self.engine in ("off", "gone"):
            self._other_bytes = found[0].total_bytes - found[0].free_bytes if found else 0

    @property
    def other_bytes(self) -> int:
        """What other programs hold of the card; while an engine of ours is up, as it was before."""
        return self._other_bytes

    @property
    def limits(self) -> tuple[int, int, int]:
        """Bytes of the card, what others hold of it, and what it has taught: as the functions of `studio.memory` take them."""
        return self.card_bytes, self.other_bytes, self.correction.bytes if self.correction else 0

    @property
    def live_run(self) -> RunView | None:
        """The run in progress, if any."""
        return next((view for view in self.runs.values() if view.state.status.is_live), None)

    @property
    def live_jobs(self) -> list[JobView]:
        """Imports and merges in progress."""
        return [job for job in self.jobs.values() if not job.is_over]

    def adapter(self, name: str) -> Adapter | None:
        """The adapter of that name."""
        return next((adapter for adapter in self.adapters if adapter.name == name), None)
