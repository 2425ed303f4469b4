from __future__ import annotations

import io
import json
from typing import Any

import pytest

from studio.cli.follow import RunReporter
from studio.cli.output import Output, ProgressBar, table
from studio.files import readable_seconds
from studio.runs import events as e


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_with_json_stdout_carries_json_only() -> None:
    out, err = io.StringIO(), io.StringIO()
    output = Output(out, err, as_json=True)
    output.say("A sentence.")
    output.note("A note.")
    output.stream("A piece.")
    output.event({"event": "Started", "what": "\u2620"})
    output.result([1], "text")
    assert [json.loads(line) for line in out.getvalue().splitlines()] == [{"event": "Started", "what": "\u2620"}, [1]]
    assert out.getvalue().isascii()
    assert err.getvalue() == "A sentence.\nA note.\n"


def test_without_json_people_read_text() -> None:
    out, err = io.StringIO(), io.StringIO()
    output = Output(out, err)
    output.say("A sentence.")
    output.event({"event": "Started"})
    output.result([1], "text")
    assert (out.getvalue(), err.getvalue()) == ("A sentence.\ntext\n", "")


def test_the_bar_fills_and_makes_room() -> None:
    stream = Terminal()
    bar = ProgressBar(stream)
    bar.update(1, 4, "loss 2")
    bar.update(4, 4, "loss 1")
    first, last = (line.rstrip() for line in stream.getvalue().split("\r") if line)
    assert first == "[######..................] 1/4  loss 2"
    assert last == "[########################] 4/4  loss 1"
    bar.clear()
    assert stream.getvalue().rsplit("\r", 2)[1].strip() == ""


def test_a_file_gets_a_line_at_every_twentieth_and_no_control_characters() -> None:
    stream = io.StringIO()
    bar = ProgressBar(stream)
    for done in range(1, 1001):
        bar.update(done, 1000, "loss")
    lines = stream.getvalue().splitlines()
    assert len(lines) == 21
    assert lines[-1] == "1000/1000  loss"
    assert "\r" not in stream.getvalue()


def test_a_run_shows_step_loss_speed_and_the_time_that_is_left() -> None:
    err = Terminal()
    report = RunReporter(Output(io.StringIO(), err))
    report(
        e.Prepared(
            num_steps=10, num_rows=4, num_held_out=1, tokens_per_epoch=40, supervised_tokens_per_epoch=20,
            num_cut=0, num_dropped=0, num_trainable=10, num_parameters=100,
        )
    )  # fmt: skip
    for step in (1, 2, 3, 4):
        report(
            e.StepTaken(
                step=step, epoch=0.1, loss=2.5, learning_rate=1e-3, grad_norm=1.0, num_tokens=300, num_supervised=5, seconds=2.0
            )
        )  # fmt: skip
    last = err.getvalue().split("\r")[-1]
    for part in ("4/10", "loss 2.500", "150 tokens/s", "12 s left"):
        assert part in last


def test_a_run_shows_how_far_the_reading_of_its_data_is() -> None:
    err = Terminal()
    report = RunReporter(Output(io.StringIO(), err))
    report(e.PhaseEntered(name="tokenising"))
    report(e.Progressed(what="lines", done=50, total=200))
    assert "50/200  lines of the data" in err.getvalue().split("\r")[-1]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ({"num_checkpointed": 18, "card_bytes": 24_000_000_000}, "18 of 32 layers are recomputed: the 24.0 GB"),
        ({"num_checkpointed": 0}, "No layer has to be recomputed: this computer's memory"),
        ({"num_checkpointed": 18, "is_auto": False}, ""),
    ],
)
def test_what_auto_has_decided_is_told(found: dict[str, Any], words: str) -> None:
    out = io.StringIO()
    RunReporter(Output(out, io.StringIO()))(
        e.Estimated(
            **{
                "total_bytes": 1,
                "process_bytes": 2,
                "context_bytes": 1,
                "terms": {},
                "num_layers": 32,
                "is_auto": True,
                **found,
            }
        )
    )
    assert words in out.getvalue()
    assert bool(words) == bool(out.getvalue())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59.4, "59 s"), (75.2, "1 min 15 s"), (3599.9, "1 h 00 min"), (7384, "2 h 03 min")],
)
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert readable_seconds(seconds) == text


def test_columns_stand_under_their_headings() -> None:
    lines = table(("NAME", "SIZE"), [("a", "1"), ("longer", "2")]).splitlines()
    assert [line.index(end) for line, end in zip(lines, ("SIZE", "1", "2"), strict=True)] == [8, 8, 8]
