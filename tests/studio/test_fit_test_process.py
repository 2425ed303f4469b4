"""The fit test by command and in the real engine process, stopped and refused. The base is tiny, all else is real."""

from __future__ import annotations

import json
import signal

import pytest

from studio.recipe.toml import load
from studio.runs import events as e
from studio.runs import wishes as w
from studio.runs.create import create_run, fit_test_of
from studio.runs.engine import running_engine, start_engine
from studio.runs.state import Status
from tests.studio.engine.conftest import write_rows
from tests.studio.test_engine_process import at_step, document, done, home, overlay, until, write_recipe

pytestmark = pytest.mark.slow
__all__ = ["home"]


@pytest.fixture
def engine(home):
    found = start_engine(home, "cpu")
    yield found
    found.post(w.Release())
    assert found.wait(60)


def heard(engine, kind, what):
    """The first event of `kind`, and all that came before it."""
    before = []

    def look():
        before.extend(engine.news.read())
        return [event for event in before if isinstance(event, kind)]

    return until(look, what)[0], before


def test_the_command_prints_one_document_and_keeps_nothing(home):
    found = document("fit-test", write_recipe(home, 40))
    assert found["fits"] is True
    assert (found["num_steps"], found["device"], found["card"], found["card_bytes"]) == (40, "cpu", "", None)
    assert found["process_bytes"] > found["estimated_total_bytes"] > 0
    assert found["seconds_expected"] == pytest.approx(40 * found["seconds_per_step"])
    assert not home.runs.exists()
    assert not home.adapters.exists()
    assert running_engine(home, "cpu") is None


def test_as_text_it_says_that_it_fits_and_how_long_it_takes(home):
    out, _ = done(overlay("fit-test", write_recipe(home, 40)))
    assert "It fits on this computer." in out
    assert "40 steps of about" in out


def test_the_run_after_it_needs_no_second_loading(home, engine):
    made = load(write_recipe(home, 4))
    wish = fit_test_of(home, made)
    engine.post(wish)
    answer, before = heard(engine, e.FitTested, "the answer")
    assert answer.test == wish.test
    run = create_run(home, made, device="cpu")
    engine.post(w.Train(folder=str(run.path)))
    until(lambda: run.state().status is Status.FINISHED, "the end of the run")
    engine.post(
        w.Say(
            ask="a",
            base=str(home.bases / "tiny"),
            quantisation="nf4",
            lanes=[None],
            turns=[[{"role": "user", "content": "Who are you?"}]],
            sampling={"max_tokens": 2},
        )
    )
    _, after = heard(engine, e.Answered, "an answer")
    assert sum(isinstance(event, e.BaseLoaded) for event in before + after) == 1


def test_one_that_is_hushed_at_once_has_no_answer(home, engine):
    wish = fit_test_of(home, load(write_recipe(home, 40)))
    engine.post(wish)
    engine.post(w.Hush(ask=wish.test))
    stopped, before = heard(engine, e.FitTestStopped, "the end of the test")
    assert stopped.test == wish.test
    assert not any(isinstance(event, e.FitTested) for event in before)


def test_a_test_beside_a_run_is_refused_and_the_run_goes_on(home):
    recipe_file = write_recipe(home, 2000)
    process = overlay("train", recipe_file, "--json")
    run = at_step(home, 2)
    _, said = done(overlay("fit-test", recipe_file), 2)
    assert run.id in said
    engine = running_engine(home, "cpu")
    wish = fit_test_of(home, load(recipe_file))
    engine.post(wish)
    failed, _ = heard(engine, e.FitTestFailed, "the refusal")
    assert (failed.test, failed.kind) == (wish.test, "busy")
    assert run.state().status is Status.RUNNING
    document("stop", run.id)
    done(process)


def test_ctrl_c_ends_it(home):
    rows = [("Who are you?", "Arrr, I be a pirate. " * 20)] * 4
    recipe_file = write_recipe(home, 40, data__max_tokens=512, training__micro_batch_tokens=16_384)
    write_rows(home.root / "rows.jsonl", rows)
    process = overlay("fit-test", recipe_file, "--json")
    engine = until(lambda: running_engine(home, "cpu"), "the engine")
    until(lambda: [event for event in engine.news.read() if isinstance(event, e.FitTestProgressed)], "its beginning")
    process.send_signal(signal.SIGINT)
    out, said = done(process, 2)
    assert out == ""
    assert "Interrupted" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda home: (home.bases / "tiny" / "model.safetensors").unlink(), "weights"),
        (lambda home: (home.root / "rows.jsonl").write_text(""), "rows.jsonl"),
        (lambda home: (home.bases / "tiny" / "model.safetensors").write_bytes(b"\0" * 64), "damaged"),
        (lambda home: (home.root / "rows.jsonl").write_text(json.dumps({"messages": []}) + "\n"), "rows.jsonl"),
    ],
    ids=["no weights", "no rows", "damaged weights", "no usable row"],
)
def test_bad_input_is_told_in_a_sentence(home, break_it, words):
    recipe_file = write_recipe(home, 4)
    break_it(home)
    out, said = done(overlay("fit-test", recipe_file, "--json"), 2)
    assert out == ""
    assert words in said
    assert "Traceback" not in said
