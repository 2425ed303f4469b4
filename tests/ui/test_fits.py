"""Which bases fit the card, and what runs on it have taught: the facts behind the small bars and the mark of a past peak."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from studio.memory.budget import budget
from studio.memory.correction import Measurement, keep
from studio.memory.device import Gpu
from studio.models import catalogue
from studio.models.facts import ModelFacts
from studio.places import Workspace
from studio.recipe.fields import replaced, to_dict
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs.folder import RunFolder
from studio.runs.state import RunState
from tests.studio.models.folders import CONFIG as TINY
from tests.studio.models.folders import write_base
from tests.ui.desk import Desk, make_desk
from tests.ui.pages import library
from tests.ui.pages.train_facts import BASE, CONFIG, GB, ready_state
from ui import facts, fits
from ui.pages.chat import ChatPage
from ui.pages.home import HomePage
from ui.state import AppState, RunView
from ui.widgets.memory_choice import FIT_ROLE, Fit, FitNote

CARD = "NVIDIA GeForce RTX 4090"
LARGE = ModelFacts.from_config({**CONFIG, "hidden_size": 8192, "intermediate_size": 28_672, "num_hidden_layers": 80})


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield from make_desk(tmp_path, qtbot, monkeypatch)


# --- what runs have taught -----------------------------------------------------------------------------------------


def past_run(
    root: Path, name: str, *, base: str = "starter", card: str = CARD, total: int, peaks: list[int]
) -> RunView:
    recipe = replaced(replaced(Recipe(), "base.id", base), "name", name)
    folder = RunFolder(root / name)
    folder.path.mkdir(parents=True)
    (folder.path / "job.json").write_text(json.dumps({"schema": 1, "name": name, "recipe": to_dict(recipe)}), "utf-8")
    estimate = e.Estimated(
        total_bytes=total, process_bytes=total + GB, context_bytes=GB, terms={"weights": total}, card=card
    )
    measured = [e.MemoryMeasured(step=step, process_bytes=peak) for step, peak in enumerate(peaks, start=1)]
    return RunView(folder, RunState.replay([estimate, *measured]))


def test_the_peak_is_that_of_the_run_most_like_this_one(tmp_path: Path) -> None:
    needed = budget(ModelFacts.from_config(CONFIG), Recipe())
    near, far = needed.total_bytes + GB // 4, needed.total_bytes + 4 * GB
    runs = [
        past_run(tmp_path, "far", total=far, peaks=[9 * GB]),
        past_run(tmp_path, "near", total=near, peaks=[5 * GB, 6 * GB, 4 * GB]),
        past_run(tmp_path, "other base", base="other", total=needed.total_bytes, peaks=[1 * GB]),
        past_run(tmp_path, "other card", card="NVIDIA A100", total=needed.total_bytes, peaks=[1 * GB]),
        past_run(tmp_path, "not measured", total=needed.total_bytes, peaks=[]),
    ]
    found = facts.past_peak(runs, "starter", needed, CARD)
    assert found is not None
    assert (found.name, found.process_bytes) == ("near", 6 * GB)
    assert facts.past_peak(runs[2:], "starter", needed, CARD) is None


def test_a_damaged_job_marks_nothing(tmp_path: Path) -> None:
    needed = budget(ModelFacts.from_config(CONFIG), Recipe())
    view = past_run(tmp_path, "odd", total=needed.total_bytes, peaks=[GB])
    for text in ("[]", '{"recipe": 3}', '{"recipe": {"base": []}}', "nonsense"):
        (view.folder.path / "job.json").write_text(text, "utf-8")
        assert facts.past_peak([RunView(RunFolder(view.folder.path), view.state)], "starter", needed, CARD) is None


def test_what_the_card_has_taught_comes_with_the_look_at_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = Workspace(tmp_path)
    keep(
        workspace,
        Measurement(
            run="r",
            card=CARD,
            driver="580",
            total_estimated_bytes=4 * GB,
            context_estimated_bytes=GB,
            allocated_bytes=4 * GB,
            reserved_bytes=5 * GB,
            process_bytes=6 * GB,
            micro_batch_tokens=4096,
            num_steps=9,
            time=1.0,
        ),
    )
    assert facts.look_at_machine(workspace).correction is None, "this computer has no such card"
    monkeypatch.setattr(facts, "survey", lambda: [Gpu(CARD, 24 * GB, 23 * GB, "580", 0)])
    found = facts.look_at_machine(workspace).correction
    assert found is not None
    assert found.num_runs == 1
    recipe, known = Recipe(), ModelFacts.from_config(CONFIG)
    raw = facts.judge(recipe, facts.BaseFacts(known), AppState().data, (24 * GB, 0, 0)).budget
    learnt = facts.judge(recipe, facts.BaseFacts(known), AppState().data, (24 * GB, 0, found.bytes)).budget
    assert raw is not None
    assert learnt is not None
    assert learnt.process_bytes - raw.process_bytes == found.bytes


# --- bases ---------------------------------------------------------------------------------------------------------


def test_each_base_on_this_computer_is_known_and_a_broken_one_is_told_by_its_field(desk: Desk) -> None:
    write_base(desk.workspace.bases / "absurd", config={**TINY, "num_hidden_layers": 10**9})
    with desk.open() as state:
        desk.wait(lambda: "tiny" in state.base_facts)
        assert "absurd" not in state.base_facts
        state.recipe_edited.emit(replaced(state.recipe, "base.id", "absurd"))
        desk.wait(lambda: any(problem.field == "base.id" for problem in state.problems))
        problem = next(problem for problem in state.problems if problem.field == "base.id")
        assert "num_hidden_layers" in problem.message
        assert state.budget is None


def test_well_known_bases_are_those_that_fit_and_are_not_here() -> None:
    card = fits.Card(24 * GB, GB, 0)
    known = fits.known_bases([], Recipe(), card)
    assert known
    assert all(each.fit.judgement in ("fits", "tight") for each in known)
    first = known[0].hub_id
    assert first not in [each.hub_id for each in fits.known_bases([first.upper()], Recipe(), card)]
    assert {each.hub_id for each in known} <= {entry.hub_id for entry in catalogue.entries()}
    assert fits.known_bases([], Recipe(), fits.Card(GB // 4, 0, 0)) == []


def test_a_base_that_is_over_as_the_recipe_stands_says_what_it_would_take() -> None:
    recipe = replaced(replaced(Recipe(), "training.micro_batch_tokens", 32_768), "data.max_tokens", 4096)
    pairs = {"small": ModelFacts.from_config(CONFIG), "large": LARGE}
    found = fits.training_fits(pairs.items(), recipe, fits.Card(12 * GB, 0, 0))
    assert (found["small"].judgement, found["small"].word) == ("tight", "slower")
    assert "time" in found["small"].note
    assert (found["large"].judgement, found["large"].word) == ("over", "over")
    assert found["small"].num_bytes > 12 * GB, "the bar shows the recipe as it stands"


def test_home_shows_whether_the_recipe_fits_this_computers_own_card(qtbot: QtBot) -> None:
    for gpu_gb, shown in ((24, "fits"), (2, "over"), (None, "")):
        state = ready_state(gpu_gb=gpu_gb)
        state.is_gathered = True
        page = HomePage(state)
        qtbot.addWidget(page)
        page.show()
        note = page._checks["base"].findChild(FitNote)
        assert note.isVisible() == bool(shown)
        assert note.accessibleName().endswith(shown)


def test_chat_says_what_each_base_needs_beside_it_and_in_the_list(qtbot: QtBot) -> None:
    state = ready_state()
    state.is_gathered = True
    state.bases = [BASE, type(BASE)(**{**vars(BASE), "id": "large"})]
    state.base_facts = {"starter": ModelFacts.from_config(CONFIG), "large": LARGE}
    page = ChatPage(state)
    qtbot.addWidget(page)
    page.show()
    row = page._base_row
    note = row.findChild(FitNote)
    assert note.isVisible()
    assert note.accessibleName().endswith("fits")
    of = {row._base.itemData(index): row._base.itemData(index, FIT_ROLE) for index in range(row._base.count())}
    assert isinstance(of["large"], Fit)
    assert (of["starter"].judgement, of["large"].judgement) == ("fits", "over")
    row.show_memory("in memory", may_unload=True)
    assert not note.isVisible(), "what is there needs no estimate"


def test_more_lanes_with_overlays_need_more() -> None:
    state = ready_state()
    state.base_facts = {"starter": ModelFacts.from_config(CONFIG)}
    state.adapters = [library.adapter("a", "starter", bytes=200_000_000)]
    alone = fits.chat_fits(state, [""])["starter"]
    beside = fits.chat_fits(state, ["", "a"])["starter"]
    assert beside.num_bytes > alone.num_bytes
    state.gpus = []
    assert fits.chat_fits(state, [""]) == {}
