"""Wishes in, facts out: the conductor with the real rooms behind it, and an engine that only lacks the model."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtGui import QGuiApplication
from pytestqt.qtbot import QtBot

from studio.cli import build_parser
from studio.library.adapter import CONFIG
from studio.memory.device import Gpu
from studio.places import Workspace
from studio.recipe import toml
from studio.recipe.fields import replaced
from studio.recipe.presets import tour
from studio.recipe.recipe import Recipe
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import create_run
from studio.runs.engine import start_engine
from studio.runs.state import Status
from tests.studio.library import folders
from tests.studio.library.folders import make_adapter
from tests.studio.library.test_promote import checkpoint
from tests.studio.models.folders import write_base
from tests.ui.desk import ROWS, WAIT_MS, Desk, make_desk
from ui import facts
from ui.settings import Settings
from ui.state import AppState, Ask


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield from make_desk(tmp_path, qtbot, monkeypatch)


def notices(state: AppState) -> list[tuple[str, str, str]]:
    heard: list[tuple[str, str, str]] = []
    state.noticed.connect(lambda *words: heard.append(words))
    return heard


def test_what_the_user_wants_of_the_desktop_is_remembered(desk: Desk) -> None:
    settings = Settings(notify=False)
    with desk.open(settings) as state:
        assert (state.keep_awake, state.notify) == (True, False)
        changed: list[bool] = []
        state.options_changed.connect(lambda: changed.append(state.keep_awake))
        state.option_requested.emit("keep_awake", False)
        assert changed == [False]
        assert settings.keep_awake is False
        desk.wait(lambda: Settings.load(desk.workspace).keep_awake is False)
        assert Settings.load(desk.workspace).notify is False


def test_a_prompt_that_is_added_reaches_the_engine(desk: Desk) -> None:
    with desk.open() as state:
        run_id = desk.begin(state, "dawdles").folder.id
        state.prompt_requested.emit(run_id, "Who are you?")
        wished = w.AskToo(run=run_id, prompt="Who are you?")
        (engine,) = desk.workspace.engine("cpu").glob("*/wishes.jsonl")
        desk.wait(lambda: wished in w.wish_file(engine).read())


def test_a_checkpoint_becomes_an_adapter_by_a_wish(desk: Desk) -> None:
    with desk.open() as state:
        run = desk.begin(state, "short").folder
        desk.wait(lambda: state.runs[run.id].state.status is Status.FINISHED)
        heard = notices(state)
        state.promote_requested.emit(run.id, 2)
        desk.wait(lambda: heard)
        assert heard[0][0] == "bad"
        assert "no checkpoint of step 2" in heard[0][1]
        (run.path / CONFIG).write_text(json.dumps(folders.CONFIG), "utf-8")
        checkpoint(run, 2)
        state.promote_requested.emit(run.id, 2)
        desk.wait(lambda: [adapter.name for adapter in state.adapters] == ["short-step-2"])
        assert [kind for kind, _, _ in heard] == ["bad", "ok"]


# --- runs ------------------------------------------------------------------------------------------------------------


def test_a_run_is_shown_while_it_runs_and_looks_the_same_when_replayed(desk: Desk) -> None:
    with desk.open() as state:
        selected: list[str] = []
        state.run_selected.connect(selected.append)
        view = desk.begin(state, "short")
        desk.wait(lambda: state.runs[view.folder.id].state.status is Status.FINISHED)
        assert selected == [view.folder.id]
        assert state.runs[view.folder.id].state == view.folder.state()
        assert state.live_run is None


def test_a_run_whose_engine_is_killed_shows_as_interrupted_with_its_cause(desk: Desk) -> None:
    with desk.open() as state:
        heard = notices(state)
        view = desk.begin(state, "dies")
        desk.wait(lambda: heard)
        found = state.runs[view.folder.id].state
        assert found.status is Status.INTERRUPTED
        assert found.step == 3
        assert heard[0][0] == "bad"
        assert "killed" in heard[0][1]


def test_a_window_that_opens_later_finds_the_run_with_its_whole_curve(desk: Desk) -> None:
    with desk.open() as state:
        view = desk.begin(state, "long")
        desk.wait(lambda: state.runs[view.folder.id].state.step > 5)
    with desk.open() as state:
        desk.wait(lambda: state.live_run is not None and state.live_run.state.step > 12)
        live = state.live_run
        assert live is not None
        state.run_requested.emit(live.folder.id, "stop")
        desk.wait(lambda: state.live_run is None)
        found = state.runs[live.folder.id].state
        assert [taken.step for taken in found.steps] == list(range(1, found.step + 1))
        assert found == live.folder.state()


def test_a_run_that_died_while_no_window_was_open_is_told_so(desk: Desk) -> None:
    with desk.open() as state:
        view = desk.begin(state, "long")
        folder = view.folder
    desk.release()
    folder.events.post(e.Started(pid=2**22 + 1, process_started=1.0, device="cpu"))
    with desk.open() as state:
        assert state.runs[folder.id].state.status is Status.INTERRUPTED
        assert folder.state().status is Status.INTERRUPTED


def test_pause_and_resume_go_on_with_the_same_run(desk: Desk) -> None:
    with desk.open() as state:
        run_id = desk.begin(state, "long").folder.id
        desk.wait(lambda: state.runs[run_id].state.step > 2)
        state.run_requested.emit(run_id, "pause")
        desk.wait(lambda: state.runs[run_id].state.status is Status.PAUSED)
        at = state.runs[run_id].state.step
        state.run_requested.emit(run_id, "resume")
        desk.wait(lambda: state.runs[run_id].state.step > at)
        assert len(state.runs) == 1


def test_a_second_run_is_refused_while_one_is_going_on(desk: Desk) -> None:
    with desk.open() as state:
        desk.begin(state, "long")
        heard = notices(state)
        state.train_requested.emit()
        assert [kind for kind, _, _ in heard] == ["warn"]
        assert len(state.runs) == 1


def test_a_run_begun_elsewhere_appears_by_itself(desk: Desk) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "theirs")
        run = facts.RunFolder.create(desk.workspace, "theirs", {"recipe": toml.to_dict(state.recipe)})
        run.events.post(e.Failed(kind="data", message="No rows.", hint="Add some."))
        desk.wait(lambda: run.id in state.runs)
        assert state.runs[run.id].state.status is Status.FAILED


def test_a_run_begun_by_a_command_hears_the_window(desk: Desk) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "long")
        run = create_run(desk.workspace, state.recipe, device="cpu")
        start_engine(desk.workspace, "cpu").post(w.Train(folder=str(run.path)))
        desk.wait(lambda: run.id in state.runs and state.live_run is not None)
        state.run_requested.emit(run.id, "stop")
        desk.wait(lambda: state.runs[run.id].state.status is Status.STOPPED)


def test_a_mistake_of_ours_on_the_thread_does_not_end_the_service(desk: Desk) -> None:
    def stumble() -> None:
        raise ZeroDivisionError("planted")

    with desk.open() as state, desk.bot.captureExceptions() as exceptions:
        conductor = desk.conductors[-1]
        with desk.bot.waitSignal(conductor.thread_.finished, timeout=WAIT_MS):
            conductor.thread_._tasks.put(("stumble", stumble))
        view = desk.begin(state, "short")
        desk.wait(lambda: state.runs[view.folder.id].state.status is Status.FINISHED)
    assert [str(error) for _, error, _ in exceptions] == ["planted"]


# --- the recipe ------------------------------------------------------------------------------------------------------


def test_the_draft_comes_back(desk: Desk) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "mine")
        wanted = state.recipe
    with desk.open() as state:
        assert state.recipe == wanted
        desk.wait(lambda: state.data.num_good == len(ROWS))


def test_a_missing_base_and_a_missing_dataset_are_problems_with_a_remedy(desk: Desk) -> None:
    with desk.open() as state:
        recipe = replaced(replaced(state.recipe, "base.id", "nowhere"), "data.path", "nothing.jsonl")
        state.recipe_edited.emit(recipe)
        desk.wait(lambda: {"base.id", "data.path"} <= {problem.field for problem in state.problems})
        assert state.budget is None
        assert all(problem.fix for problem in state.problems)
        heard = notices(state)
        state.train_requested.emit()
        desk.wait(lambda: heard)
        assert heard[0][0] == "bad"
        assert state.runs == {}


def test_a_base_that_arrives_makes_the_recipe_sound(desk: Desk, tmp_path: Path) -> None:
    source = write_base(tmp_path / "elsewhere" / "new")
    with desk.open() as state:
        desk.set_recipe(state, "mine")
        state.recipe_edited.emit(replaced(state.recipe, "base.id", "new"))
        desk.wait(lambda: state.problems)
        state.base_requested.emit(str(source))
        desk.wait(lambda: any(job.is_over for job in state.jobs.values()))
        desk.wait(lambda: not state.problems and state.budget is not None)
        assert state.base is not None
        assert state.base.id == "new"


def test_an_import_that_is_cancelled_leaves_no_base(desk: Desk, tmp_path: Path) -> None:
    source = write_base(tmp_path / "elsewhere" / "slow")
    with desk.open() as state:
        heard = notices(state)
        state.base_requested.emit(str(source))
        desk.wait(lambda: any(job.total for job in state.jobs.values()))
        (job,) = state.live_jobs
        state.job_cancel_requested.emit(job.key)
        desk.wait(lambda: job.is_over)
        assert state.live_jobs == []
        assert heard[0][0] == "info"
        assert [base.id for base in state.bases] == ["tiny"]


def test_edited_rows_are_counted_anew(desk: Desk) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "mine")
        with open(desk.data, "a", encoding="utf-8") as file:
            file.write(json.dumps(ROWS[0]) + "\n")
        desk.wait(lambda: state.data.num_good == len(ROWS) + 1)
        assert state.data.num_duplicates == 1


def test_a_recipe_file_is_opened_with_its_dataset_and_saved_with_its_comments(desk: Desk, tmp_path: Path) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "mine")
        path = tmp_path / "kept.toml"
        text = toml.dump(replaced(state.recipe, "data.path", desk.data.name))
        path.write_text("# mine\n" + text, encoding="utf-8")
        state.recipe_edited.emit(replaced(state.recipe, "name", "other"))
        state.recipe_open_requested.emit(str(path))
        desk.wait(lambda: state.recipe.name == "mine")
        assert state.recipe.data.path == str(desk.data)
        state.recipe_edited.emit(replaced(state.recipe, "name", "changed"))
        heard = notices(state)
        state.recipe_save_requested.emit(str(path))
        desk.wait(lambda: heard)
        assert heard[0][0] == "ok"
        saved = path.read_text(encoding="utf-8")
        assert saved.startswith("# mine\n")
        assert toml.load(path).name == "changed"


def test_the_command_for_all_cards_is_put_into_the_clipboard_and_parses(desk: Desk) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "mine")
        heard = notices(state)
        state.gpus = [Gpu("RTX", 24 << 30, 20 << 30, "580", index) for index in range(2)]
        state.command_requested.emit()
        desk.wait(lambda: heard)
        words = shlex.split(QGuiApplication.clipboard().text())
        options = build_parser().parse_args(words[words.index("train") :])
        assert options.processes == 2
        assert toml.load(options.recipe) == state.recipe
        assert (heard[0][0], "all 2 cards" in heard[0][2]) == ("ok", True)


def test_a_command_that_could_not_work_is_not_copied(desk: Desk) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "mine")
        heard = notices(state)
        desk.data.unlink()
        QGuiApplication.clipboard().setText("before")
        state.command_requested.emit()
        desk.wait(lambda: heard)
        assert (heard[0][0], QGuiApplication.clipboard().text()) == ("bad", "before")


# --- chat and library ------------------------------------------------------------------------------------------------


def test_lanes_are_the_base_alone_and_adapters_by_name(desk: Desk) -> None:
    folder = make_adapter(desk.workspace.adapters / "arr")
    with desk.open() as state:
        news: list[e.Event] = []
        state.chat_news.connect(news.append)
        turns = (({"role": "user", "content": "Hi"},),) * 2
        state.chat_requested.emit(Ask("k", state.bases[0], ("", "arr"), turns))
        desk.wait(lambda: len([one for one in news if isinstance(one, e.Answered)]) == 2)
        assert [one.text for one in news if isinstance(one, e.Answered)] == ["None", str(folder)]
        assert state.has_chatted
        state.chat_requested.emit(Ask("l", state.bases[0], ("nobody",), turns[:1]))
        assert isinstance(news[-1], e.AskFailed)
        assert "nobody" in news[-1].message
        # Both questions are over: the end of the engine concerns nobody.
        seen = len(news)
        state.release_requested.emit()
        desk.wait(lambda: state.engine == "gone")
        assert len(news) == seen


def test_an_adapter_is_taken_in_renamed_tagged_exported_and_thrown_away(desk: Desk, tmp_path: Path) -> None:
    source = make_adapter(tmp_path / "from-elsewhere")
    settings = Settings()
    with desk.open(settings) as state:
        state.adapter_requested.emit("import", str(source), "")
        desk.wait(lambda: state.adapter("from-elsewhere"))
        state.adapter_requested.emit("rename", "from-elsewhere", "mine")
        desk.wait(lambda: state.adapter("mine"))
        state.adapter_requested.emit("tag", "mine", "good")
        desk.wait(lambda: (found := state.adapter("mine")) is not None and found.tags == ("good",))
        state.export_requested.emit("mine", str(tmp_path / "out"))
        desk.wait(lambda: state.has_exported)
        names = {path.name for path in (tmp_path / "out").iterdir()}
        assert {"adapter_config.json", "adapter_model.safetensors"} <= names
        state.adapter_requested.emit("remove", "mine", "")
        desk.wait(lambda: not state.adapters)
    assert settings.milestones == ["export"]
    assert Settings.load(desk.workspace).milestones == ["export"]


def test_undo_brings_back_the_adapter_that_was_just_thrown_away(desk: Desk, tmp_path: Path) -> None:
    with desk.open() as state:
        for seed in (1, 2):
            source = make_adapter(tmp_path / str(seed) / "mine", seed=seed)
            state.adapter_requested.emit("import", str(source), "")
            desk.wait(lambda: state.adapter("mine"))
            latest = state.adapters
            state.adapter_requested.emit("remove", "mine", "")
            desk.wait(lambda: not state.adapters)
        state.adapter_requested.emit("restore", "mine", "")
        desk.wait(lambda: state.adapters)
        assert state.adapters == latest


def test_what_the_library_refuses_is_told(desk: Desk, tmp_path: Path) -> None:
    with desk.open() as state:
        heard = notices(state)
        state.adapter_requested.emit("import", str(tmp_path / "nothing"), "")
        desk.wait(lambda: heard)
        assert heard[0][0] == "bad"
        assert "nothing" in heard[0][1]


def test_a_new_workspace_starts_with_a_recipe_that_shows_something(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    workspace = Workspace(tmp_path / "new")
    assert facts.look_at_workspace(workspace).recipe == tour()
    write_base(workspace.bases / "large")
    found = facts.look_at_workspace(workspace).recipe
    assert (found.base.id, found.training.learning_rate) == ("large", Recipe().training.learning_rate)
    write_base(workspace.bases / "starter")
    assert facts.look_at_workspace(workspace).recipe == tour()


# --- the tour --------------------------------------------------------------------------------------------------------


def test_the_tour_adds_the_starter_and_trains_on_it(desk: Desk) -> None:
    with desk.open() as state:
        pages: list[str] = []
        state.page_requested.connect(pages.append)
        # The fake worker copies what it is told to import; the starter lies beside it under that name.
        write_base(desk.workspace.root / "starter")
        state.tour_requested.emit()
        desk.wait(lambda: state.live_run is not None)
        assert state.live_run is not None
        assert state.live_run.folder.job["base"]["id"] == "starter"
        assert state.recipe == tour()
        assert pages[0] == "train"
