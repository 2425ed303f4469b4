import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.runs import events as e
from studio.runs.events import EVENTS, event_file
from studio.runs.wishes import WISHES, Release, Say, Stop

plain = st.text(max_size=40)
numbers = st.floats(allow_nan=False, allow_infinity=False)
BY_TYPE = {
    "int": st.integers(0, 2**40),
    "float": numbers,
    "str": plain,
    "bool": st.booleans(),
    "float | None": st.none() | numbers,
    "int | None": st.none() | st.integers(-64, 255),
    "str | None": st.none() | plain,
    "list[str]": st.lists(plain, max_size=3),
    "list[float]": st.lists(numbers, max_size=3),
    "dict[str, int]": st.dictionaries(plain, st.integers(0, 2**40), max_size=3),
    "dict[str, Any]": st.dictionaries(plain, plain | numbers, max_size=3),
    "list[dict[str, Any]]": st.lists(st.dictionaries(plain, plain | numbers, max_size=3), max_size=2),
}


def events_of(kind):
    return st.builds(kind, **{field.name: BY_TYPE[field.type] for field in dataclasses.fields(kind)})


any_event = st.one_of([events_of(kind) for kind in e.Event.__subclasses__()])


@given(any_event)
def test_an_event_written_is_the_event_read(event):
    assert EVENTS.from_line(EVENTS.to_line(event)) == event
    assert "\n" not in EVENTS.to_line(event)


@given(st.text())
def test_any_text_is_an_event_or_none(text):
    EVENTS.from_line(text)


@pytest.mark.parametrize(
    "line", ["", "{}", "[]", '{"event":"Finished","seco', '{"event":"Levitated"}', '{"event":"StepTaken"}', "[" * 9999]
)
def test_what_is_not_understood_is_skipped(line):
    assert EVENTS.from_line(line) is None


def test_a_newer_engine_may_say_more():
    line = json.dumps({"event": "Paused", "time": 1.0, "step": 3, "mood": "good"})
    assert EVENTS.from_line(line) == e.Paused(time=1.0, step=3)


def test_nan_never_reaches_a_file():
    with pytest.raises(ValueError, match="JSON"):
        EVENTS.to_line(e.Evaluated(step=1, loss=math.nan, num_supervised=1))


def test_a_follower_sees_each_line_once_and_waits_for_the_end_of_the_last(tmp_path):
    path = tmp_path / "events.jsonl"
    writer, reader = event_file(path), event_file(path)
    assert reader.read() == []
    writer.post(e.Paused(time=1.0, step=1))
    assert [event.step for event in reader.read()] == [1]
    whole = EVENTS.to_line(e.Paused(time=2.0, step=2)) + "\n"
    with open(path, "ab") as file:
        file.write(whole[:20].encode())
    assert reader.read() == []
    with open(path, "ab") as file:
        file.write(whole[20:].encode())
    assert [event.step for event in reader.read()] == [2]
    assert reader.read() == []


def test_a_torn_last_line_does_not_swallow_the_next_event(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"event":"Paused","ti')
    event_file(path).post(e.Paused(time=2.0, step=2))
    assert event_file(path).read() == [e.Paused(time=2.0, step=2)]


def test_wishes_survive_the_trip():
    say = Say(ask="a", base="/b", quantisation="nf4", lanes=[None, "/x"], turns=[[], []], sampling={"seed": 1})
    for wish in (say, Stop(run="r", save=False), Release()):
        assert WISHES.from_line(WISHES.to_line(wish)) == wish
