"""A fit test from the wish to its answer, with the real thread and mailboxes and an engine that only lacks the model."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytestqt.qtbot import QtBot

from studio.memory.device import Gpu
from studio.recipe.fields import replaced
from studio.runs import wishes as w
from studio.runs.create import fit_test_of
from studio.runs.engine import running_engine
from tests.ui.desk import Desk, make_desk
from ui.state import AppState

GB = 1 << 30


@pytest.fixture
def desk(tmp_path: Path, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    yield from make_desk(tmp_path, qtbot, monkeypatch)


def phases(state: AppState) -> list[str]:
    """The phases as the pages hear of them, each once."""
    heard: list[str] = []

    def hear() -> None:
        view = state.fit_test
        if view is not None and view.phase not in heard:
            heard.append(view.phase)

    state.fit_test_changed.connect(hear)
    return heard


def ask(desk: Desk, state: AppState, name: str) -> None:
    desk.set_recipe(state, name)
    state.fit_test_requested.emit()


def is_over(state: AppState) -> bool:
    return state.fit_test is not None and state.fit_test.is_over


def test_it_starts_an_engine_tells_how_far_it_is_and_ends_with_figures(desk: Desk) -> None:
    with desk.open() as state:
        heard = phases(state)
        ask(desk, state, "some")
        desk.wait(lambda: is_over(state))
        view = state.fit_test
        assert view is not None
        assert view.result is not None
        assert (view.result.process_bytes, view.result.num_steps) == (3 * GB, 40)
        assert heard == ["waiting", "checking", "loading", "tokenising", "training"]
        assert view.holds_for(state.recipe, state.data.num_good)
        assert state.runs == {}


def test_stopped_it_leaves_the_answer_of_the_one_before(desk: Desk) -> None:
    with desk.open() as state:
        ask(desk, state, "long")
        desk.wait(lambda: state.fit_test is not None and state.fit_test.step > 0)
        state.fit_test_stop_requested.emit()
        assert state.fit_test is not None
        assert state.fit_test.is_stopping
        desk.wait(lambda: state.fit_test is None)
        ask(desk, state, "some")
        desk.wait(lambda: is_over(state))
        answer = state.fit_test
        ask(desk, state, "long")
        state.fit_test_stop_requested.emit()
        desk.wait(lambda: state.fit_test is not None and not state.fit_test.is_stopping)
        assert state.fit_test == answer


def test_what_the_engine_cannot_do_is_told_with_what_to_do(desk: Desk) -> None:
    with desk.open() as state:
        ask(desk, state, "broken")
        desk.wait(lambda: is_over(state))
        assert state.fit_test is not None
        assert (state.fit_test.error, state.fit_test.hint) == ("No row is whole.", "Mend one.")


def test_what_is_missing_is_told_before_an_engine_is_started(desk: Desk) -> None:
    with desk.open() as state:
        desk.set_recipe(state, "some")
        desk.data.unlink()
        state.fit_test_requested.emit()
        desk.wait(lambda: is_over(state))
        assert state.fit_test is not None
        assert "rows.jsonl" in state.fit_test.error
        assert running_engine(desk.workspace, "cpu") is None


def test_an_engine_that_is_killed_is_an_answer_too_and_the_next_test_works(desk: Desk) -> None:
    with desk.open() as state:
        ask(desk, state, "dies")
        desk.wait(lambda: is_over(state))
        assert state.fit_test is not None
        assert "memory ran out" in state.fit_test.error
        ask(desk, state, "some")
        desk.wait(lambda: is_over(state))
        assert state.fit_test.result is not None


def test_the_test_of_somebody_else_is_not_shown_as_ours(desk: Desk) -> None:
    with desk.open() as state:
        ask(desk, state, "some")
        desk.wait(lambda: is_over(state))
        mine = state.fit_test
        engine = running_engine(desk.workspace, "cpu")
        assert engine is not None
        news: list[object] = []
        desk.conductors[-1].thread_.engine_news.connect(news.append)
        engine.post(fit_test_of(desk.workspace, replaced(state.recipe, "name", "theirs")))
        desk.wait(lambda: any(type(event).__name__ == "FitTested" for event in news))
        assert state.fit_test is mine


def test_it_is_refused_beside_a_run(desk: Desk) -> None:
    with desk.open() as state:
        desk.begin(state, "endless")
        with desk.bot.waitSignal(state.noticed) as told:
            state.fit_test_requested.emit()
        assert told.args[0] == "warn"
        assert "endless" in told.args[1]
        assert state.fit_test is None


def test_a_closed_window_ends_its_test(desk: Desk) -> None:
    with desk.open() as state:
        ask(desk, state, "long")
        desk.wait(lambda: state.fit_test is not None and state.fit_test.step > 0)
        engine = running_engine(desk.workspace, "cpu")
        assert engine is not None
    inbox = w.wish_file(engine.session / "wishes.jsonl")
    assert any(isinstance(wish, w.Hush) for wish in inbox.read())


def test_a_tested_peak_marks_the_bar_until_the_recipe_is_another_one(desk: Desk) -> None:
    with desk.open() as state:
        ask(desk, state, "some")
        desk.wait(lambda: is_over(state))
        assert state.past_peak is None, "without a card there is nothing to mark"
        state.gpus = [Gpu("", 24 * GB, 23 * GB, "580", 0)]
        desk.conductors[-1].drafting.judge_again()
        assert state.past_peak is not None
        assert state.past_peak.process_bytes == 3 * GB
        state.recipe_edited.emit(replaced(state.recipe, "training.learning_rate", 1e-4))
        assert state.past_peak is not None
        state.recipe_edited.emit(replaced(state.recipe, "adapter.rank", 64))
        assert state.past_peak is None
