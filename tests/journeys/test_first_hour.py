"""What a new user does first: pick the starter base and an example, train, watch, and talk to the result."""

from __future__ import annotations

import pytest

from studio.recipe.recipe import Training
from studio.runs.state import Status
from tests.journeys.hand import Hand

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
STEPS = 12


def test_from_an_empty_workspace_to_a_chat_with_the_result(open_window, workspace):
    studio, hand = open_window()
    state = studio.state
    hand.shot("1-home")

    hand.press("Add starter base")
    hand.until(lambda: state.bases, "the starter base", 180)
    hand.press("Train")
    hand.choose("Base model", "starter")
    hand.choose("Dataset", "Pirate")
    hand.press("Expert")
    hand.write("Find a setting", "steps")
    hand.write("Steps", str(STEPS))
    hand.write("Find a setting", "")
    hand.press("Basic")
    hand.write("Learning rate", "1e-3")
    hand.write("Batch", "8")
    wanted = (STEPS, 8, 1e-3)
    hand.until(lambda: said(state.recipe.training) == wanted, f"{wanted} instead of {said(state.recipe.training)}")
    hand.until(lambda: not state.problems and state.budget is not None, "the estimate")
    assert hand.sees("Fits")
    hand.shot("2-train")

    hand.press("Start training")
    hand.until(lambda: state.live_run is not None, "the run to begin")
    run = state.live_run
    hand.until(lambda: len(run.state.steps) >= 3, "the curve to grow", 300)
    hand.shot("3-running")
    grown = len(run.state.steps)
    hand.until(lambda: len(run.state.steps) > grown, "the curve to grow on", 120)
    hand.until(lambda: run.state.status is Status.FINISHED, "the end of the run", 600)
    losses = run.state.losses
    assert [step for step, _ in losses] == list(range(1, STEPS + 1))
    assert losses[-1][1] < losses[0][1]
    hand.shot("4-finished")

    hand.press("Compare with base")
    hand.until(lambda: state.adapter("pirate"), "the library to have the adapter")
    ask(hand, "Why is the sky blue?")
    hand.until(lambda: len(answers(hand)) == 2, "two answers", 240)
    base, overlaid = answers(hand)
    assert base != overlaid
    hand.shot("5-chat")
    studio.window.close()
    assert list(workspace.adapters.iterdir())


def said(training: Training) -> tuple[int | None, int, float]:
    return training.steps, training.batch_rows, training.learning_rate


def ask(hand: Hand, question: str) -> None:
    hand.write("Message", question)
    hand.press("Send")


def answers(hand: Hand) -> list[str]:
    """Finished answers on screen, left to right: those that tell their speed."""
    from ui.widgets.answer import AnswerView

    found = [view for view in hand.all(AnswerView) if hand.sees_in(view, "tok/s")]
    return [
        view.text.raw_text() for view in sorted(found, key=lambda view: view.mapToGlobal(view.rect().topLeft()).x())
    ]
